"""Golden cases for the full-size checkpoints: inputs, the reference's outputs, and tolerances.

The expected values are those of transformers and diffusers in float32. A tolerance is five times the distance of that run from
a float64 run of the same weights, at least 1e-5 of the largest value (plus 1e-4 relative), as in the small fixtures.

Half precision has two more tolerances, `atol_f16` and `atol_bf16`: twice the distance from the float64 run of a run in which weights,
inputs and outputs of every layer are rounded to the format while sums stay in float32, which is what matrix units do.
"""

import contextlib
import json
import os
import time
from pathlib import Path

import diffusers.models.embeddings
import torch
from safetensors.torch import save_file

import checkpoints
from checkpoints import DECODERS, generator, kind_of

LEAVES = (torch.nn.Linear, torch.nn.Conv2d, torch.nn.GroupNorm, torch.nn.LayerNorm, torch.nn.Embedding)
NORMS = (torch.nn.GroupNorm, torch.nn.LayerNorm)


# ---------------------------------------------------------------------------------------------- precision


@contextlib.contextmanager
def layers_in(model: torch.nn.Module, precision: str):
    """Runs `model`, whose weights are float32, in `precision`; one layer at a time, so that no second copy of the
    weights is needed."""
    handles, kept = [], {}
    half = {"f16": torch.float16, "bf16": torch.bfloat16}.get(precision)

    def as_wanted(x):
        if not torch.is_tensor(x) or not x.is_floating_point():
            return x
        return x.to(half).float() if half else x.double()

    def before(module, inputs):
        kept[module] = [p.data for p in module.parameters(recurse=False)]
        if not half or not isinstance(module, NORMS):
            for p in module.parameters(recurse=False):
                p.data = as_wanted(p.data)
        return tuple(as_wanted(x) for x in inputs)

    def after(module, _inputs, output):
        for p, data in zip(module.parameters(recurse=False), kept.pop(module)):
            p.data = data
        return as_wanted(output)

    if precision != "f32":
        for module in model.modules():
            if isinstance(module, LEAVES):
                handles += [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
    embeddings = diffusers.models.embeddings
    library_sinusoids = embeddings.get_timestep_embedding
    if precision == "f64":
        embeddings.get_timestep_embedding = sinusoids_in_f64
    try:
        yield
    finally:
        embeddings.get_timestep_embedding = library_sinusoids
        for handle in handles:
            handle.remove()


def sinusoids_in_f64(timesteps, embedding_dim, flip_sin_to_cos=False, downscale_freq_shift=1, scale=1, max_period=10000):
    half = embedding_dim // 2
    exponents = torch.arange(half, dtype=torch.float64) / (half - downscale_freq_shift)
    angles = scale * timesteps[:, None].double() * torch.tensor(max_period, dtype=torch.float64) ** -exponents[None]
    parts = [torch.cos(angles), torch.sin(angles)] if flip_sin_to_cos else [torch.sin(angles), torch.cos(angles)]
    return torch.cat(parts, -1)


# ---------------------------------------------------------------------------------------------- runs


def text_ids(rows: int) -> torch.Tensor:
    """Rows of token ids `[rows, 77]`: start, words, end, padding with the end."""
    numbers = generator("ids")
    ids = torch.full((rows, 77), 49407)
    for row in range(rows):
        words = 5 + 70 * row // max(rows - 1, 1)
        ids[row, 0] = 49406
        ids[row, 1 : 1 + words] = torch.randint(1, 49406, (words,), generator=numbers)
    return ids


def clip_model(model, inputs):
    vision = model.vision_model(inputs["pixel_values"], output_hidden_states=True)
    text = model.text_model(inputs["input_ids"], output_hidden_states=True)
    images, texts = model.visual_projection(vision.pooler_output), model.text_projection(text.pooler_output)
    unit = lambda x: x / x.norm(dim=-1, keepdim=True)
    return dict(
        vision_last_hidden_state=vision.last_hidden_state, vision_pooler_output=vision.pooler_output,
        vision_hidden_states=torch.stack([h.to(vision.last_hidden_state) for h in vision.hidden_states]),
        image_features=images, image_embeds=unit(images),
        text_last_hidden_state=text.last_hidden_state, text_pooler_output=text.pooler_output,
        text_hidden_states=torch.stack([h.to(text.last_hidden_state) for h in text.hidden_states]),
        text_features=texts, text_embeds=unit(texts),
        logits_per_image=model.logit_scale.to(images).exp() * unit(images) @ unit(texts).T)


def image_encoder(model, inputs):
    out = model(inputs["pixel_values"])
    pooled = model.vision_model(inputs["pixel_values"]).pooler_output
    return dict(image_embeds=out.image_embeds, last_hidden_state=out.last_hidden_state, pooler_output=pooled)


def text_encoder(model, inputs):
    return dict(last_hidden_state=model(inputs["input_ids"]).last_hidden_state)


def vae(model, inputs):
    seen = {}
    hooks = [part.mid_block.register_forward_hook(lambda _m, _i, o, name=name: seen.update({name: o}))
             for name, part in (("encoder_mid", model.encoder), ("decoder_mid", model.decoder))]
    posterior = model.encode(inputs["image"]).latent_dist
    decoded = model.decode(inputs["latent"]).sample
    for hook in hooks:
        hook.remove()
    return dict(moments=posterior.parameters, mean=posterior.mean, logvar=posterior.logvar, std=posterior.std,
                sample=posterior.mean + posterior.std * inputs["posterior_noise"], decoded=decoded, **seen)


def unet(model, inputs):
    seen, hooks = {}, []

    def watch(name, module):
        first = lambda o: o[0] if isinstance(o, tuple) else getattr(o, "sample", o)
        hooks.append(module.register_forward_hook(lambda _m, _i, o: seen.update({name: first(o).clone()})))

    watch("time_embedding", model.time_embedding)
    watch("class_embedding", model.class_embedding)
    watch("down_0_attention_0", model.down_blocks[0].attentions[0])
    watch("down_3", model.down_blocks[3])
    watch("mid", model.mid_block)
    watch("up_1", model.up_blocks[1])
    out = model(inputs["sample"], inputs["timestep"], encoder_hidden_states=inputs["encoder_hidden_states"],
                class_labels=inputs["class_labels"]).sample
    for hook in hooks:
        hook.remove()
    return dict(seen, out=out)


def inputs_of(run, model, part: str) -> dict[str, torch.Tensor]:
    numbers = generator(f"{part}/inputs")
    normal = lambda *shape: torch.randn(*shape, generator=numbers)
    config = model.config
    if run in (clip_model, image_encoder):
        side = getattr(config, "vision_config", config).image_size
        pixels = dict(pixel_values=normal(2, 3, side, side))
        return pixels | (dict(input_ids=text_ids(3)) if run is clip_model else {})
    if run is text_encoder:
        return dict(input_ids=text_ids(2))
    if run is vae:
        side = config.sample_size // 8
        return dict(image=torch.rand(1, 3, config.sample_size // 3 // 8 * 8, config.sample_size // 3 // 8 * 8, generator=numbers) * 2 - 1,
                    posterior_noise=normal(1, 4, config.sample_size // 3 // 8, config.sample_size // 3 // 8),
                    latent=normal(1, 4, side, side))
    # Both halves of guidance for one image: the negative one has a class vector of zeros. 951 is the first
    # time step of the published scheduler with 20 steps.
    side = config.sample_size
    sample, text = normal(1, 4, side, side), normal(1, 77, config.cross_attention_dim)
    label = normal(1, config.projection_class_embeddings_input_dim)
    return dict(sample=sample.repeat(2, 1, 1, 1), timestep=torch.tensor([951, 951]),
                encoder_hidden_states=text.repeat(2, 1, 1), class_labels=torch.cat([torch.zeros_like(label), label]))


RUNS = {"": (clip_model, "clip_model"), "image_encoder": (image_encoder, "clip_vision"),
        "text_encoder": (text_encoder, "clip_text_sd2"), "vae": (vae, "vae"), "unet": (unet, "unet")}


# ---------------------------------------------------------------------------------------------- cases


def reference(run, model, inputs, precision: str):
    """Outputs, and seconds taken by the clock and of processor time."""
    if precision == "f64":
        inputs = {k: v.double() if v.is_floating_point() else v for k, v in inputs.items()}
    with torch.inference_mode(), layers_in(model, precision):
        start, processor = time.perf_counter(), time.process_time()
        outputs = run(model, inputs)
        seconds = round(time.perf_counter() - start, 2), round(time.process_time() - processor, 2)
        return {k: v.clone(memory_format=torch.contiguous_format) for k, v in outputs.items()}, seconds


def tolerances(expected, exact, halves) -> dict:
    distance = lambda got: {k: float((v.double() - exact[k]).abs().max()) for k, v in got.items()}
    error, half = distance(expected), {name: distance(got) for name, got in halves.items()}
    short = lambda x: float(f"{x:.3g}")
    table = {}
    for name, value in expected.items():
        largest = float(value.abs().max())
        table[name] = dict(atol=short(max(1e-5 * largest, 5 * error[name], 1e-8)), rtol=1e-4,
                           ref_err_vs_f64=short(error[name]), absmax=short(largest), std=short(float(value.std())))
        for precision in half:
            table[name][f"atol_{precision}"] = short(2 * half[precision][name])
    return table


def write_case(folder: Path, part: str, model_folder: Path, kind: str, inputs, expected, table, more) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(inputs, folder / "inputs.safetensors")
    save_file(expected, folder / "expected.safetensors")
    relative = os.path.relpath(model_folder, folder)
    case = dict(case=folder.name, kind=kind, what=f"{part} at full size, random weights", model=relative, **more,
                expected={k: dict(shape=list(v.shape), **table[k]) for k, v in expected.items()})
    (folder / "case.json").write_text(json.dumps(case, indent=1) + "\n", encoding="utf-8")


def case_name(part: str) -> str:
    return part.replace("/", ".")


def make_cases(part: str, root: Path, size: str, half: bool, log=print) -> None:
    """Writes the checkpoint of `part` and its cases: `cases/NAME` and, with `half`, `cases/NAME.fp16`."""
    network = part.removeprefix(checkpoints.PARTS[part]).strip("/")
    run, kind = RUNS[network]
    start = time.perf_counter()
    model = checkpoints.make(part, root, size, half)
    log(f"{part}: {sum(p.numel() for p in model.parameters()) / 1e6:.0f} M parameters written in {time.perf_counter() - start:.0f} s")
    inputs = inputs_of(run, model, part)
    expected, seconds = reference(run, model, inputs, "f32")
    log(f"{part}: float32 {seconds} s")
    exact, seconds64 = reference(run, model, inputs, "f64")
    log(f"{part}: float64 {seconds64} s")
    halves = {}
    for precision in ("f16", "bf16") if half else ():
        halves[precision], seconds_half = reference(run, model, inputs, precision)
        log(f"{part}: rounded to {precision} {seconds_half} s")
    more = dict(torch=torch.__version__, threads=torch.get_num_threads(), reference_seconds=seconds[0], reference_cpu_seconds=seconds[1])
    table = tolerances(expected, exact, halves)
    cases = root / "cases"
    write_case(cases / case_name(part), part, root / part, kind, inputs, expected, table, more)
    if half:
        # The float16 file widened to float32, which is what a CPU computes with.
        del exact, halves
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(parameter.half())
        widened, seconds = reference(run, model, inputs, "f32")
        more.update(reference_seconds=seconds[0], reference_cpu_seconds=seconds[1])
        # Rounded weights differ from the others, but rounding errors of the arithmetic are the same.
        write_case(cases / f"{case_name(part)}.fp16", part, root / "fp16" / part, kind, inputs, widened, table, more)
        log(f"{part}: float16 weights in float32 {seconds} s")


def make_tokenizer_case(repository: str, root: Path, size: str) -> None:
    """CLIP's real vocabulary, on texts in several scripts."""
    from transformers import CLIPTokenizer

    checkpoints.make_common(repository, root, size)
    model = root / repository / ("tokenizer" if repository in DECODERS else "")
    folder = root / "cases" / f"{repository}.tokenizer"
    tokenizer = CLIPTokenizer.from_pretrained(model)
    texts = ["", "a photo of a cat", "A PHOTO of a CaT!", "wow!!! what?!", "it's they've don't isn't", "  tabs\tand\nlines  ",
             "café naïve übermäßig", "привет мир, красивый кот", "日本の写真 東京", "한국어 텍스트", "हिन्दी नमस्ते", "العربية", "😀👍🏽👩‍👩‍👧 🇩🇪",
             "3.14159 in 2024, 50% off #1 @home", "a_b-c/d\\e <angle> {curly}", "antidisestablishmentarianism",
             "the quick brown fox " * 30, "x" * 300]
    batch = tokenizer(texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt")
    expected = dict(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
    table = {name: dict(exact=True) for name in expected}
    write_case(folder, repository, model, "clip_tokenizer", dict(count=torch.tensor([len(texts)])), expected, table, {})
    checkpoints.write_json(dict(texts=texts), folder / "texts.json")
    checkpoints.write_json(dict(ids=[tokenizer(text).input_ids for text in texts]), folder / "ids.json")
