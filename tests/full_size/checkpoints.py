"""Full-size checkpoints with seeded random weights, in the very folder layout that is published.

`PARTS` names what can be made; `make(part, root, size)` writes its folder below `root` and gives back the
PyTorch model. Configs are those of the published repositories (keys of 2023 included, later keys absent);
`size="tiny"` shrinks every width and depth and keeps the layout, to try the scripts themselves.

Weights are scaled so that activations stay near 1 and mistakes show: no zero biases, no unit norm weights, attention
sharper than uniform, and a residual stream of small variance.
"""

import gzip
import importlib.util
import json
import math
import shutil
from pathlib import Path

import torch
import transformers
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file

SMALL, LARGE = "stable-diffusion-2-1-unclip-small", "stable-diffusion-2-1-unclip"
CLIP_L, CLIP_H = "clip-vit-large-patch14", "CLIP-ViT-H-14-laion2B-s32B-b79K"
DECODERS = (SMALL, LARGE)
NETWORKS = ("text_encoder", "image_encoder", "vae", "unet")
PARTS = {name: name for name in (CLIP_L, CLIP_H)} | {f"{d}/{n}": d for d in DECODERS for n in NETWORKS}
SEED = 20230701


def generator(tag: str) -> torch.Generator:
    """A generator for one purpose."""
    return torch.Generator().manual_seed(SEED * 100003 + sum((i + 1) * ord(c) for i, c in enumerate(tag)))


# ---------------------------------------------------------------------------------------------- configs


def tower(hidden: int, layers: int, heads: int, act: str, size: str, **more) -> dict:
    if size == "tiny":
        hidden, layers, heads = 32 * heads // 16 * 2, 3, heads // 8
    return dict(hidden_size=hidden, intermediate_size=4 * hidden, num_hidden_layers=layers, num_attention_heads=heads,
                hidden_act=act, layer_norm_eps=1e-5, attention_dropout=0.0, dropout=0.0, initializer_range=0.02, **more)


def vision(kind: str, size: str) -> dict:
    image = dict(image_size=224, patch_size=14, num_channels=3, model_type="clip_vision_model")
    if size == "tiny":
        image |= dict(image_size=56)
    if kind == "l":
        return tower(1024, 24, 16, "quick_gelu", size, projection_dim=dims("l", size), **image)
    return tower(1280, 32, 16, "gelu", size, projection_dim=dims("h", size), **image)


def text(kind: str, size: str, layers: int | None = None) -> dict:
    # eos_token_id 2 is what the published files say; it selects the position of the largest id.
    ids = dict(vocab_size=49408, max_position_embeddings=77, bos_token_id=0, pad_token_id=1, eos_token_id=2,
               model_type="clip_text_model")
    if kind == "l":
        return tower(768, 12, 16 if size == "tiny" else 12, "quick_gelu", size, projection_dim=dims("l", size), **ids)
    return tower(1024, layers or 24, 16, "gelu", size, projection_dim=512 if layers else dims("h", size), **ids)


def dims(kind: str, size: str) -> int:
    """Dimension of the image space."""
    return {"l": 768, "h": 1024}[kind] if size == "full" else {"l": 24, "h": 32}[kind]


def clip_config(kind: str, size: str) -> dict:
    config = dict(architectures=["CLIPModel"], initializer_factor=1.0, logit_scale_init_value=2.6592, model_type="clip",
                  projection_dim=dims(kind, size), torch_dtype="float32", text_config=text(kind, size),
                  vision_config=vision(kind, size))
    if kind == "l":
        # Older files say these twice; the second one wins.
        said = ("hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers", "projection_dim", "patch_size")
        for part in ("text_config", "vision_config"):
            config[f"{part}_dict"] = {key: config[part][key] for key in said if key in config[part]}
    return config


def unet_config(kind: str, size: str) -> dict:
    channels, heads, groups, sample = (320, 640, 1280, 1280), (5, 10, 20, 20), 32, 96
    cross = 1024
    if size == "tiny":
        channels, heads, groups, sample, cross = (32, 64, 64, 64), (1, 2, 4, 2), 8, 16, text("h", size, 23)["hidden_size"]
    return dict(
        _class_name="UNet2DConditionModel", _diffusers_version="0.15.0.dev0", act_fn="silu", attention_head_dim=list(heads),
        block_out_channels=list(channels), center_input_sample=False, class_embed_type="projection", conv_in_kernel=3,
        conv_out_kernel=3, cross_attention_dim=cross,
        down_block_types=["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"], downsample_padding=1, dual_cross_attention=False,
        flip_sin_to_cos=True, freq_shift=0, in_channels=4, layers_per_block=2, mid_block_scale_factor=1,
        mid_block_type="UNetMidBlock2DCrossAttn", norm_eps=1e-5, norm_num_groups=groups, num_class_embeds=None,
        only_cross_attention=False, out_channels=4, projection_class_embeddings_input_dim=2 * dims(kind, size),
        resnet_time_scale_shift="default", sample_size=sample, time_cond_proj_dim=None, time_embedding_type="positional",
        timestep_post_act=None, up_block_types=["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3, upcast_attention=True,
        use_linear_projection=True)


def vae_config(size: str) -> dict:
    channels, groups, sample = ([128, 256, 512, 512], 32, 768) if size == "full" else ([16, 32, 32, 32], 8, 128)
    return dict(
        _class_name="AutoencoderKL", _diffusers_version="0.15.0.dev0", act_fn="silu", block_out_channels=channels,
        down_block_types=["DownEncoderBlock2D"] * 4, in_channels=3, latent_channels=4, layers_per_block=2,
        norm_num_groups=groups, out_channels=3, sample_size=sample, scaling_factor=0.18215,
        up_block_types=["UpDecoderBlock2D"] * 4)


SCHEDULER = dict(
    _class_name="PNDMScheduler", _diffusers_version="0.15.0.dev0", beta_end=0.012, beta_schedule="scaled_linear",
    beta_start=0.00085, clip_sample=False, num_train_timesteps=1000, prediction_type="v_prediction",
    set_alpha_to_one=False, skip_prk_steps=True, steps_offset=1, trained_betas=None)
NOISING = dict(
    _class_name="DDPMScheduler", _diffusers_version="0.15.0.dev0", beta_end=0.02, beta_schedule="squaredcos_cap_v2",
    beta_start=0.0001, clip_sample=True, clip_sample_range=1.0, num_train_timesteps=1000, prediction_type="epsilon",
    trained_betas=None, variance_type="fixed_small")
MODEL_INDEX = dict(
    _class_name="StableUnCLIPImg2ImgPipeline", _diffusers_version="0.15.0.dev0",
    feature_extractor=["transformers", "CLIPFeatureExtractor"],
    image_encoder=["transformers", "CLIPVisionModelWithProjection"],
    image_normalizer=["stable_diffusion", "StableUnCLIPImageNormalizer"],
    image_noising_scheduler=["diffusers", "DDPMScheduler"], scheduler=["diffusers", "PNDMScheduler"],
    text_encoder=["transformers", "CLIPTextModel"], tokenizer=["transformers", "CLIPTokenizer"],
    unet=["diffusers", "UNet2DConditionModel"], vae=["diffusers", "AutoencoderKL"])


# ---------------------------------------------------------------------------------------------- weights

# Layers that write to a residual stream.
RESIDUAL = ("out_proj.weight", "conv2.weight", "to_out.0.weight", "proj_in.weight", "proj_out.weight", "conv_in.weight",
            "patch_embedding.weight", "fc2.weight", "ff.net.2.weight")
FEED_FORWARD = ("fc2.weight", "ff.net.2.weight")
QUERY_KEY = ("to_q.weight", "to_k.weight", "q_proj.weight", "k_proj.weight")
STREAM = 0.06


@torch.no_grad()
def initialise(model: torch.nn.Module, tag: str) -> torch.nn.Module:
    """Fills all parameters, in order, from the generator of `tag`."""
    numbers = generator(tag)
    for name, parameter in model.named_parameters():
        parameter.normal_(generator=numbers)
        leaf = name.rsplit(".", 1)[-1]
        if leaf == "logit_scale":
            parameter.fill_(4.6052)
        elif "norm" in name.lower() and parameter.ndim == 1:
            parameter.mul_(0.2).add_(1.0 if leaf == "weight" else 0.0)
        elif leaf == "bias":
            writes = (name[: -len("bias")] + "weight").endswith(RESIDUAL)
            parameter.mul_(0.3 * STREAM if writes else 0.1)
        elif leaf == "class_embedding" or name.endswith(("token_embedding.weight", "position_embedding.weight")):
            parameter.mul_(0.5 * STREAM)
        else:
            gain = STREAM if name.endswith(RESIDUAL) else 1.0
            gain = 0.5 if name.endswith(FEED_FORWARD) else gain
            gain = 1.6 if name.endswith(QUERY_KEY) else gain
            parameter.mul_(gain / math.sqrt(parameter[0].numel()))
    return model.eval()


def build(make, tag: str) -> torch.nn.Module:
    """A module with our weights, without running its own initialisation first."""
    with torch.device("meta"):
        model = make()
    model.to_empty(device="cpu")
    for name, buffer in model.named_buffers():
        if not name.endswith("position_ids"):
            raise RuntimeError(f"{name}: a buffer that this script knows nothing about")
        buffer.copy_(torch.arange(buffer.shape[-1])[None])
    return initialise(model, tag)


# ---------------------------------------------------------------------------------------------- folders


def write_json(value: dict, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def rename_published(key: str, part: str) -> str:
    """The name that a tensor has in the published files."""
    if part.endswith("text_encoder") and not key.startswith("text_model."):
        key = "text_model." + key
    if part.endswith("vae"):
        for new, old in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
            key = key.replace(f".attentions.0.{new}.", f".attentions.0.{old}.")
    return key


def write_weights(model: torch.nn.Module, part: str, folder: Path, half: Path | None) -> None:
    """The weights in float32, and as float16 in the folder `half`, which holds that file alone: what a download of the
    fp16 variant gives."""
    tensors = {rename_published(k, part): v.contiguous() for k, v in model.state_dict().items()}
    if not part.endswith(("vae", "unet")):
        # Buffers that files of 2023 carry.
        for prefix, count in position_counts(model).items():
            tensors[f"{prefix}.embeddings.position_ids"] = torch.arange(count)[None].clone()
    stem = "diffusion_pytorch_model" if part.endswith(("vae", "unet")) else "model"
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / f"{stem}.safetensors", metadata={"format": "pt"})
    if half:
        half.mkdir(parents=True, exist_ok=True)
        halves = {k: v.half() if v.is_floating_point() else v for k, v in tensors.items()}
        save_file(halves, half / f"{stem}.fp16.safetensors", metadata={"format": "pt"})
        shutil.copy(folder / "config.json", half)


def position_counts(model: torch.nn.Module) -> dict[str, int]:
    config = model.config
    texts, visions = getattr(config, "text_config", config), getattr(config, "vision_config", config)
    counts = {}
    if hasattr(texts, "max_position_embeddings"):
        counts["text_model"] = texts.max_position_embeddings
    if hasattr(visions, "patch_size"):
        counts["vision_model"] = (visions.image_size // visions.patch_size) ** 2 + 1
    return counts


def merges() -> list[str]:
    """CLIP's own merges, from the file inside the package `open_clip_torch` (which is not imported)."""
    found = importlib.util.find_spec("open_clip")
    if found is None:
        raise SystemExit("open_clip_torch is not installed: pip install -r requirements-tokenizer.txt --no-deps")
    file = Path(found.origin).parent / "bpe_simple_vocab_16e6.txt.gz"
    return gzip.decompress(file.read_bytes()).decode("utf-8").split("\n")[1 : 49152 - 256 - 2 + 1]


def byte_symbols() -> list[str]:
    """GPT-2's printable character for each byte, printable bytes first."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(b) for b in plain] + [chr(256 + i) for i in range(256 - len(plain))]


def write_tokenizer(folder: Path, pad: str, tokenizer_json: bool) -> None:
    """The published files; the decoders' have no tokenizer.json and pad with "!"."""
    symbols, rules = byte_symbols(), merges()
    vocab = symbols + [s + "</w>" for s in symbols] + ["".join(m.split()) for m in rules]
    vocab += ["<|startoftext|>", "<|endoftext|>"]
    write_json({token: i for i, token in enumerate(vocab)}, folder / "vocab.json")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(rules) + "\n", encoding="utf-8")
    token = lambda c: dict(content=c, lstrip=False, normalized=True, rstrip=False, single_word=False)
    added = lambda c: {"__type": "AddedToken", **token(c)}
    start, end = "<|startoftext|>", "<|endoftext|>"
    write_json(dict(add_prefix_space=False, bos_token=added(start), do_lower_case=True, eos_token=added(end), errors="replace",
                    model_max_length=77, pad_token=end, tokenizer_class="CLIPTokenizer", unk_token=added(end)),
               folder / "tokenizer_config.json")
    write_json(dict(bos_token=token(start), eos_token=token(end), pad_token=pad, unk_token=token(end)),
               folder / "special_tokens_map.json")
    if tokenizer_json:
        transformers.CLIPTokenizer.from_pretrained(folder).backend_tokenizer.save(str(folder / "tokenizer.json"))


def preprocessor(size: str) -> dict:
    side = 224 if size == "full" else 56
    return dict(crop_size=dict(height=side, width=side), do_center_crop=True, do_convert_rgb=True, do_normalize=True,
                do_rescale=True, do_resize=True, feature_extractor_type="CLIPFeatureExtractor",
                image_mean=[0.48145466, 0.4578275, 0.40821073], image_processor_type="CLIPImageProcessor",
                image_std=[0.26862954, 0.26130258, 0.27577711], resample=3, rescale_factor=1 / 255,
                size=dict(shortest_edge=side))


def kind_of(repository: str) -> str:
    """Which image space: of ViT-L/14 or of ViT-H/14."""
    return "l" if repository in (SMALL, CLIP_L) else "h"


def make_common(repository: str, root: Path, size: str) -> None:
    """All files of a repository that are no network."""
    folder = root / repository
    if repository not in DECODERS:
        write_tokenizer(folder, "<|endoftext|>", tokenizer_json=True)
        write_json(preprocessor(size), folder / "preprocessor_config.json")
        return
    write_json(MODEL_INDEX, folder / "model_index.json")
    write_json(SCHEDULER, folder / "scheduler" / "scheduler_config.json")
    write_json(NOISING, folder / "image_noising_scheduler" / "scheduler_config.json")
    write_json(preprocessor(size), folder / "feature_extractor" / "preprocessor_config.json")
    write_tokenizer(folder / "tokenizer", "!", tokenizer_json=False)
    dim = dims(kind_of(repository), size)
    normaliser = folder / "image_normalizer"
    write_json(dict(_class_name="StableUnCLIPImageNormalizer", _diffusers_version="0.15.0.dev0", embedding_dim=dim),
               normaliser / "config.json")
    numbers = generator(f"{repository}/image_normalizer")
    # The large model's statistics are expected to be 0 and 1.
    mean, std = torch.zeros(1, dim), torch.ones(1, dim)
    if repository == SMALL:
        mean, std = 0.3 * torch.randn(1, dim, generator=numbers), 0.3 + 0.3 * torch.rand(1, dim, generator=numbers)
    save_file(dict(mean=mean, std=std), normaliser / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})


def make(part: str, root: Path, size: str, half: bool = True) -> torch.nn.Module:
    """Writes one network (and the small files of its repository) and gives the model back, in float32."""
    repository = PARTS[part]
    kind, folder = kind_of(repository), root / part
    if not (root / repository / "vocab.json").exists() and not (root / repository / "tokenizer").exists():
        make_common(repository, root, size)
    network = part.removeprefix(repository).strip("/")
    # Text encoder and VAE are the same network in both decoders.
    tag = part if network in ("", "unet", "image_encoder") else network
    if network == "":
        config = clip_config(kind, size)
        model = build(lambda: transformers.CLIPModel(transformers.CLIPConfig.from_dict(config)), tag)
    elif network == "text_encoder":
        config = dict(architectures=["CLIPTextModel"], torch_dtype="float32", **text("h", size, layers=23))
        model = build(lambda: transformers.CLIPTextModel(transformers.CLIPTextConfig.from_dict(config)), tag)
    elif network == "image_encoder":
        config = dict(architectures=["CLIPVisionModelWithProjection"], torch_dtype="float32", **vision(kind, size))
        model = build(
            lambda: transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig.from_dict(config)), tag)
    elif network == "vae":
        config = vae_config(size)
        model = build(lambda: AutoencoderKL.from_config(config), tag)
    else:
        config = unet_config(kind, size)
        model = build(lambda: UNet2DConditionModel.from_config(config), tag)
    write_json(config, folder / "config.json")
    write_weights(model, part, folder, root / "fp16" / part if half else None)
    if half and network == "":
        for file in ("vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
                     "preprocessor_config.json"):
            shutil.copy(folder / file, root / "fp16" / part)
    return model
