"""Writes tests/fixtures/sd_prompt: two tiny random Stable Diffusion pipelines with what diffusers makes of
them, and ProbVLM adapters of a text encoder's hidden states with what PyTorch makes of those.

    python tests/make_prompt_fixtures.py

Needs torch, transformers, diffusers, safetensors and numpy, and tests/fixtures/unclip_image for its
tokenizer. Seeded; nothing is downloaded. Tolerances are five times the distance of the float32 results from
the same computation in float64, at least 1e-5 of the largest value.
"""

import contextlib
import copy
import json
import math
import os
import pathlib
import shutil
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
warnings.filterwarnings("ignore")

import diffusers
import numpy
import safetensors
import torch
import transformers
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

torch.set_num_threads(1)
transformers.logging.set_verbosity_error()
diffusers.logging.set_verbosity_error()
diffusers.utils.logging.disable_progress_bar()

FIXTURES = pathlib.Path(__file__).parent / "fixtures"
OUT = FIXTURES / "sd_prompt"
SEED = 20
VERSIONS = {
    "torch": torch.__version__,
    "transformers": transformers.__version__,
    "diffusers": diffusers.__version__,
    "safetensors": safetensors.__version__,
    "numpy": numpy.__version__,
}
# Published scheduler configs of Stable Diffusion 1.5 and 2.1.
SCHEDULERS = {
    "sd15": {
        "_class_name": "PNDMScheduler",
        "_diffusers_version": "0.6.0",
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "num_train_timesteps": 1000,
        "set_alpha_to_one": False,
        "skip_prk_steps": True,
        "steps_offset": 1,
        "trained_betas": None,
        "clip_sample": False,
    },
    "sd21": {
        "_class_name": "DDIMScheduler",
        "_diffusers_version": "0.8.0",
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "clip_sample": False,
        "num_train_timesteps": 1000,
        "prediction_type": "v_prediction",
        "set_alpha_to_one": False,
        "skip_prk_steps": True,
        "steps_offset": 1,
        "trained_betas": None,
    },
}
# What a published config has of these parts; later keys take their defaults.
UNET_KEYS = [
    "_class_name", "_diffusers_version", "act_fn", "attention_head_dim", "block_out_channels",
    "center_input_sample", "cross_attention_dim", "down_block_types", "downsample_padding",
    "flip_sin_to_cos", "freq_shift", "in_channels", "layers_per_block", "mid_block_scale_factor",
    "norm_eps", "norm_num_groups", "out_channels", "sample_size", "up_block_types",
]  # fmt: skip
VAE_KEYS = [
    "_class_name", "_diffusers_version", "act_fn", "block_out_channels", "down_block_types",
    "in_channels", "latent_channels", "layers_per_block", "norm_num_groups", "out_channels",
    "sample_size", "up_block_types",
]  # fmt: skip
# The last layer of a residual branch: small, so that the eps of a norm counts.
BRANCH_ENDS = ("out_proj.weight", "fc2.weight", "conv2.weight", "to_out.0.weight", "net.2.weight", "proj_out.weight")


def generator(tag):
    return torch.Generator().manual_seed(SEED * 100003 + sum((i + 1) * ord(c) for i, c in enumerate(tag)))


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1) + "\n")


@torch.no_grad()
def randomise(model, tag):
    """Weights that make mistakes visible: no bias of zero, no norm of one, sharp attention."""
    g = generator(tag)
    for name, p in model.named_parameters():
        r = torch.randn(p.shape, generator=g)
        if "norm" in name and p.ndim == 1:
            p.copy_(1 + 0.2 * r if name.endswith("weight") else 0.2 * r)
        elif name.endswith("bias"):
            p.copy_(0.1 * r)
        elif "embedding" in name and p.ndim == 2 and "time" not in name:
            p.copy_(0.05 * r)
        else:
            gain = 0.3 if name.endswith(BRANCH_ENDS) else 1.0
            if name.endswith(("to_q.weight", "to_k.weight", "q_proj.weight", "k_proj.weight")):
                gain = 1.6
            p.copy_(gain * r / math.sqrt(p[0].numel()))
    return model.eval()


def double_time_encoding(timesteps, embedding_dim, flip_sin_to_cos=False, downscale_freq_shift=1, **_):
    half = embedding_dim // 2
    exponent = -math.log(10000) * torch.arange(half, dtype=torch.float64) / (half - downscale_freq_shift)
    angle = timesteps[:, None].double() * torch.exp(exponent)[None]
    parts = [torch.sin(angle), torch.cos(angle)]
    return torch.cat(parts[::-1] if flip_sin_to_cos else parts, -1)


@contextlib.contextmanager
def in_double():
    import diffusers.models.embeddings as embeddings

    old, embeddings.get_timestep_embedding = embeddings.get_timestep_embedding, double_time_encoding
    try:
        yield
    finally:
        embeddings.get_timestep_embedding = old


class Case:
    def __init__(self, name, kind, what):
        self.folder, self.name, self.kind, self.what = OUT / name, name, kind, what
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.inputs, self.expected, self.tolerances, self.extra = {}, {}, {}, {}

    def expect(self, name, value, double=None, doc=None, atol=None, steps=False):
        value = value.detach().contiguous().clone()
        entry = {"shape": list(value.shape), "dtype": {torch.float32: "F32", torch.int64: "I64", torch.uint8: "U8"}[value.dtype]}
        if value.is_floating_point():
            assert torch.isfinite(value).all(), name
            error = (value.double() - double.detach().double()).abs()
            most = float(value.abs().max())
            entry |= {"atol": float(f"{max(1e-5 * most, 5 * float(error.max())):.3g}"), "rtol": 1e-4}
            entry |= {"ref_err_vs_f64": float(f"{float(error.max()):.3g}"), "absmax": float(f"{most:.5g}")}
            if steps:
                rows, wrong = value.reshape(len(value), -1).abs().amax(1), error.reshape(len(value), -1).amax(1)
                each = torch.maximum(1e-5 * rows.double(), 5 * wrong)
                entry["atol_steps"] = [float(f"{v:.3g}") for v in each.tolist()]
        elif atol is None:
            entry["exact"] = True
        else:
            entry |= {"exact": False, "atol": atol, "rtol": 0.0}
        if doc:
            entry["doc"] = doc
        self.expected[name], self.tolerances[name] = value, entry

    def write(self):
        save_file({k: v.contiguous() for k, v in self.inputs.items()}, self.folder / "inputs.safetensors")
        save_file(self.expected, self.folder / "expected.safetensors")
        write_json(
            self.folder / "case.json",
            {
                "case": f"sd_prompt/{self.name}",
                "kind": self.kind,
                "seed": SEED,
                "what": self.what,
                "library": VERSIONS,
                "compare": "pass when |got - expected| <= atol + rtol * |expected| elementwise; with atol_steps "
                "row i of axis 0 uses atol_steps[i] as atol; exact: equal integers",
                "inputs": {k: {"shape": list(v.shape)} for k, v in self.inputs.items()},
                "expected": self.tolerances,
            }
            | self.extra,
        )


def tokenizer_folder(folder, pad, length):
    """The tokenizer of the unCLIP fixture with another padding token and length."""
    shutil.copytree(FIXTURES / "unclip_image" / "pipeline" / "tokenizer", folder)
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        config = json.loads((folder / name).read_text())
        if "pad_token" in config:
            config["pad_token"] = pad
        if "model_max_length" in config:
            config["model_max_length"] = length
        write_json(folder / name, config)
    return CLIPTokenizer.from_pretrained(folder)


def keep_keys(path, keys, **values):
    config = json.loads(path.read_text())
    write_json(path, {k: v for k, v in config.items() if k in keys} | values)


def make_pipeline(name, case, *, length, width, heads, act, pad, unet, vae, linear):
    """A pipeline folder in the published layout."""
    folder = case.folder / "pipeline"
    tokenizer = tokenizer_folder(case.folder / "tokenizer", pad, length)
    text = randomise(
        CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer), hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2,
                num_attention_heads=heads, max_position_embeddings=length, hidden_act=act, projection_dim=8,
                bos_token_id=0, eos_token_id=2, pad_token_id=1,
            )
        ),
        name + " text",
    )  # fmt: skip
    levels = len(unet["block_out_channels"])
    network = randomise(
        UNet2DConditionModel(
            sample_size=8, layers_per_block=1, norm_num_groups=4, cross_attention_dim=width, use_linear_projection=linear,
            down_block_types=("CrossAttnDownBlock2D",) * (levels - 1) + ("DownBlock2D",),
            up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * (levels - 1), **unet,
        ),
        name + " unet",
    )  # fmt: skip
    levels = len(vae)
    coder = randomise(
        AutoencoderKL(
            block_out_channels=vae, layers_per_block=1, norm_num_groups=4, latent_channels=4, sample_size=8 * 2 ** (levels - 1),
            down_block_types=("DownEncoderBlock2D",) * levels, up_block_types=("UpDecoderBlock2D",) * levels,
        ),
        name + " vae",
    )  # fmt: skip
    scheduler = getattr(diffusers, SCHEDULERS[name]["_class_name"]).from_config(SCHEDULERS[name])
    StableDiffusionPipeline(
        vae=coder, text_encoder=text, tokenizer=tokenizer, unet=network, scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    ).save_pretrained(folder)  # fmt: skip
    shutil.rmtree(folder / "tokenizer")
    shutil.move(case.folder / "tokenizer", folder / "tokenizer")
    write_json(folder / "scheduler" / "scheduler_config.json", SCHEDULERS[name])
    keep_keys(folder / "unet" / "config.json", UNET_KEYS, **({"use_linear_projection": True} if linear else {}))
    keep_keys(folder / "vae" / "config.json", VAE_KEYS)
    # Published text encoders have the prefix, and those of 1.5 the position ids.
    file = folder / "text_encoder" / "model.safetensors"
    tensors = {k if k.startswith("text_model.") else "text_model." + k: v for k, v in load_file(file).items()}
    if name == "sd15":
        tensors["text_model.embeddings.position_ids"] = torch.arange(length)[None].clone()
    save_file(tensors, file, metadata={"format": "pt"})
    return folder


@torch.no_grad()
def run_pipeline(pipe, run, inputs, dtype):
    pipe.scheduler = getattr(diffusers, run["scheduler"][1]).from_config(pipe.scheduler.config)
    latents, first, forward = [], {}, pipe.unet.forward

    def spy(sample, t, encoder_hidden_states=None, **keywords):
        output = forward(sample, t, encoder_hidden_states=encoder_hidden_states, **keywords)
        if not first:
            first.update(input=sample.clone(), text=encoder_hidden_states.clone(), output=output[0].clone())
        return output

    def note(_pipe, _step, _timestep, values):
        latents.append(values["latents"].clone())
        return values

    if run["prompt_embeds"]:
        text = {"prompt_embeds": inputs[run["prompt_embeds"]].to(dtype)}
    else:
        text = {"prompt": run["prompt"]}
    pipe.unet.forward = spy
    try:
        image = pipe(
            **text, negative_prompt=run["negative_prompt"], guidance_scale=run["guidance_scale"],
            num_inference_steps=run["num_inference_steps"], latents=inputs[run["latents"]].to(dtype),
            output_type="pt", callback_on_step_end=note,
        ).images  # fmt: skip
    finally:
        pipe.unet.forward = forward
    decoded = pipe.vae.decode(latents[-1] / pipe.vae.config.scaling_factor, return_dict=False)[0]
    return {
        "prompt_embeds_fed": first["text"],
        "first_unet_input": first["input"],
        "first_unet_output": first["output"],
        "latents": torch.stack(latents),
        "decoded": decoded,
        "image": image,
    }


def pipeline_case(name, what, runs, **parts):
    case = Case(name, "sd_prompt", what)
    folder = make_pipeline(name, case, **parts)
    pipe = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    double = copy.deepcopy(pipe)
    for part in (double.unet, double.vae, double.text_encoder):
        part.double()
    # The folder as it is published names parts that are not needed here.
    index = json.loads((folder / "model_index.json").read_text())
    index["feature_extractor"] = ["transformers", "CLIPFeatureExtractor"]
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"] if name == "sd15" else [None, None]
    write_json(folder / "model_index.json", index)

    length, width = parts["length"], parts["width"]
    g = generator(name + " inputs")
    case.inputs["latents"] = torch.randn(1, 4, 8, 8, generator=g)
    case.inputs["latents2"] = torch.randn(2, 4, 8, 8, generator=g)
    case.inputs["embeds2"] = torch.randn(2, length, width, generator=g)
    texts = ["", "a photo of a red cat!", "two dogs in the snow " * 12]
    with torch.no_grad():
        tokens = pipe.tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids
        case.extra["texts"] = texts
        case.expect("prompt_embeds", pipe.text_encoder(tokens)[0], double.text_encoder(tokens)[0], "last_hidden_state of texts, [N, L, E]")
    for run, options in runs.items():
        single = run_pipeline(pipe, options, case.inputs, torch.float32)
        with in_double():
            exact = run_pipeline(double, options, case.inputs, torch.float64)
        for key, value in single.items():
            case.expect(f"{run}/{key}", value, exact[key], steps=key == "latents")
        timesteps = pipe.scheduler.timesteps
        if timesteps.is_floating_point():
            case.expect(f"{run}/timesteps", timesteps.float(), timesteps)
        else:
            case.expect(f"{run}/timesteps", timesteps)
    levels = (single["image"].permute(0, 2, 3, 1) * 255).round().to(torch.uint8)
    case.expect(f"{run}/image_u8", levels, atol=1, doc="[B, H, W, 3], (image * 255).round()")
    case.extra["runs"] = {k: v | {"scheduler": v["scheduler"][0]} for k, v in runs.items()}
    case.write()
    return folder


def a_run(scheduler, guidance, steps, *, embeds=None, prompt=None, negative=None):
    return {
        "scheduler": {"pndm": ("pndm", "PNDMScheduler"), "ddim": ("ddim", "DDIMScheduler"), "euler": ("euler", "EulerDiscreteScheduler")}[scheduler],
        "guidance_scale": guidance,
        "num_inference_steps": steps,
        "prompt_embeds": embeds,
        "prompt": prompt,
        "negative_prompt": negative,
        "latents": "latents2" if embeds else "latents",
    }


class Network(torch.nn.Module):
    """The layers of BayesCap_MLP (heads as wide as the input) and BayesCap_HF_MLP (narrow heads)."""

    def __init__(self, dim, hidden, head):
        super().__init__()
        relu, linear = torch.nn.ReLU, torch.nn.Linear
        self.mod = torch.nn.Sequential(
            linear(dim, hidden), relu(), linear(hidden, hidden), relu(), torch.nn.Dropout(0.1), linear(hidden, dim)
        )
        self.block_mu = torch.nn.Sequential(linear(dim, head), relu(), linear(head, dim))
        self.block_alpha = torch.nn.Sequential(linear(dim, head), relu(), linear(head, dim), relu())
        self.block_beta = torch.nn.Sequential(linear(dim, head), relu(), linear(head, dim), relu())

    def forward(self, x):
        h = self.mod(x) + x
        return self.block_mu(h), self.block_alpha(h), self.block_beta(h)


@torch.no_grad()
def adapter_case(pipeline, length, width):
    case = Case(
        "adapter",
        "sd_prompt_adapter",
        "ProbVLM networks over the hidden states [L, E] of the text encoder of sd15: `flattened` sees all tokens as one "
        "vector of L E numbers with narrow heads (BayesCap_for_HF_CLIP with BayesCap_HF_MLP), `per_token` sees one token "
        "at a time. alpha and beta as the released code computes them: clip(1/(h + 1e-5), 1e-4, 5), clip(h + 0.1, 0.1, 5).",
    )
    text = CLIPTextModel.from_pretrained(pipeline / "text_encoder").eval()
    tokenizer = CLIPTokenizer.from_pretrained(pipeline / "tokenizer")
    prompt = "a photo of a red cat!"
    ids = tokenizer([prompt], padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids
    states = text(ids)[0][0]
    case.extra["prompt"] = prompt
    case.inputs["hidden_states"] = states.clone()
    for name, dim, hidden, head in [("flattened", length * width, 4, 3), ("per_token", width, 12, width)]:
        network = Network(dim, hidden, head).eval()
        g = generator("adapter " + name)
        for p in network.parameters():
            p.copy_(torch.randn(p.shape, generator=g) * (0.7 / math.sqrt(p[0].numel()) if p.ndim == 2 else 0.2))
        # Scales around 1/5 and shapes around 3/2, as of a trained adapter: neither clip bites everywhere.
        network.block_alpha[2].bias += 5
        network.block_beta[2].bias += 1.4
        state = {f"txt_BayesCap.{k}": v.clone() for k, v in network.state_dict().items()}
        save_file(state, case.folder / f"{name}.safetensors", metadata={"format": "pt"})
        if name == "per_token":
            torch.save(state, case.folder / f"{name}.pth")
        rows = states.reshape(-1, dim)
        got = network(rows)
        exact = copy.deepcopy(network).double()(rows.double())
        both = []
        for mu, h, b in (got, exact):
            both.append((mu, (1 / (h + 1e-5)).clamp(1e-4, 5), (b + 0.1).clamp(0.1, 5)))
        for i, key in enumerate(["mu", "alpha", "beta"]):
            case.expect(f"{name}/{key}", both[0][i].reshape(length, width), both[1][i].reshape(length, width))
    case.write()


SD15 = pipeline_case(
    "sd15",
    "StableDiffusionPipeline from tiny random parts in the layout of Stable Diffusion 1.5: quick_gelu text encoder with "
    "position ids, 77 tokens, pad <|endoftext|>, PNDM with epsilon prediction, convolutions as projections, 8 heads at every "
    "level. latents are multiplied by init_noise_sigma first.",
    {
        "prompt-pndm": a_run("pndm", 7.5, 3, prompt="a photo of a red cat!", negative="dark night"),
        "embeds-ddim-unguided": a_run("ddim", 1.0, 3, embeds="embeds2"),
        "embeds-pndm": a_run("pndm", 7.5, 3, embeds="embeds2"),
    },
    length=77, width=16, heads=2, act="quick_gelu", pad="<|endoftext|>", linear=False,
    unet={"block_out_channels": (8, 16), "attention_head_dim": 8}, vae=(4, 8, 8),
)  # fmt: skip
pipeline_case(
    "sd21",
    "StableDiffusionPipeline from tiny random parts in the layout of Stable Diffusion 2.1: gelu text encoder, pad !, DDIM with "
    "v prediction, linear projections, a number of heads per level. latents are multiplied by init_noise_sigma first.",
    {
        "prompt-ddim": a_run("ddim", 5.0, 3, prompt="two dogs!"),
        "embeds-euler": a_run("euler", 3.0, 3, embeds="embeds2", negative=None),
        "embeds-ddim": a_run("ddim", 5.0, 3, embeds="embeds2"),
    },
    length=20, width=12, heads=3, act="gelu", pad="!", linear=True,
    unet={"block_out_channels": (8, 12), "attention_head_dim": (2, 3)}, vae=(4, 8),
)  # fmt: skip
adapter_case(SD15, 77, 16)
