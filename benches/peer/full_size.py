#!/usr/bin/env python3
"""The diffusers side of `haze bench decoder`: the same decodes of the same folder, timed the same way.

    python full_size.py --decoder FOLDER --device cuda --dtype f16 --batch-size 1,4 --json eager.json
    python full_size.py --decoder FOLDER --device cuda --dtype f16 --batch-size 1,4 --compile max-autotune --json compiled.json
    python full_size.py --compare haze.json eager.json compiled.json

Goes in: a `StableUnCLIPImg2ImgPipeline` folder. Comes out: one JSON file, or with `--compare` a Markdown table.
Attention is PyTorch's scaled_dot_product_attention. README.md says what each clock covers.
"""

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path

STARTED = time.perf_counter()
# Folders are on disk; a missing file must be an error here, never a download.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
SEED = 0


class Decoder:
    """One pipeline on one device."""

    def __init__(self, arguments: argparse.Namespace):
        import torch
        from diffusers import StableUnCLIPImg2ImgPipeline
        from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

        self.torch, self.arguments = torch, arguments
        dtype = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}[arguments.dtype]
        # Embeddings come in, so the image encoder is not used and Haze does not load it; the pipeline wants one for its dtype.
        nobody = CLIPVisionModelWithProjection(CLIPVisionConfig(
            hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, image_size=14, patch_size=14)).to(dtype)
        pipeline = StableUnCLIPImg2ImgPipeline.from_pretrained(
            arguments.decoder, dtype=dtype, variant=arguments.variant, image_encoder=nobody, local_files_only=True)
        pipeline.set_progress_bar_config(disable=True)
        pipeline.to(arguments.device)
        if arguments.vae_f32:
            pipeline.vae.to(torch.float32)
        if arguments.channels_last:
            pipeline.unet.to(memory_format=torch.channels_last)
            pipeline.vae.to(memory_format=torch.channels_last)
        if arguments.compile:
            mode = None if arguments.compile == "default" else arguments.compile
            pipeline.unet = torch.compile(pipeline.unet, mode=mode, fullgraph=True)
            pipeline.vae.decode = torch.compile(pipeline.vae.decode, mode=mode)
        self.pipeline, self.dtype = pipeline, dtype
        trained = pipeline.unet.config.sample_size * pipeline.vae_scale_factor
        self.width, self.height = arguments.size or (trained, trained)
        self.dim = pipeline.image_normalizer.mean.shape[-1]
        self.wait()

    def wait(self) -> None:
        if self.arguments.device.startswith("cuda"):
            self.torch.cuda.synchronize()

    def decode(self, batch_size: int) -> dict:
        """One batch to 8-bit images; seconds of the whole, of one step, of the VAE."""
        torch, pipeline, arguments = self.torch, self.pipeline, self.arguments
        numbers = torch.Generator().manual_seed(SEED)
        embeddings = torch.randn(batch_size, self.dim, generator=numbers).to(arguments.device, self.dtype)
        shape = (1, pipeline.unet.config.in_channels, self.height // pipeline.vae_scale_factor, self.width // pipeline.vae_scale_factor)
        latents = torch.randn(shape, generator=numbers).to(arguments.device, self.dtype).repeat(batch_size, 1, 1, 1)
        calls, after_first = 0, None

        def on_step(_step, _timestep, _latents):
            nonlocal calls, after_first
            calls += 1
            if calls == 1:
                # The only wait: later steps run into each other, as they do for a user.
                self.wait()
                after_first = time.perf_counter()

        start = time.perf_counter()
        with torch.inference_mode():
            prompt, _ = pipeline.encode_prompt("", arguments.device, 1, do_classifier_free_guidance=False)
            prompt = prompt.expand(batch_size, -1, -1).contiguous()
            latents = pipeline(
                prompt_embeds=prompt, negative_prompt_embeds=prompt, image_embeds=embeddings, noise_level=0,
                num_inference_steps=arguments.steps, guidance_scale=arguments.guidance, height=self.height, width=self.width,
                latents=latents, output_type="latent", callback=on_step, callback_steps=1).images
            self.wait()
            denoised = time.perf_counter()
            pixels = []
            for one in latents.split(arguments.vae_batch or batch_size):
                scaled = (one / pipeline.vae.config.scaling_factor).to(pipeline.vae.dtype)
                decoded = pipeline.vae.decode(scaled, return_dict=False)[0]
                pixels.append((decoded / 2 + 0.5).clamp(0, 1).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu())
        end = time.perf_counter()
        if not torch.isfinite(latents).all() or sum(len(p) for p in pixels) != batch_size:
            sys.exit("the latents are not finite: nothing worth timing")
        return dict(whole=end - start, step=(denoised - after_first) / (calls - 1), vae=end - denoised, calls=calls)


def peak_memory_bytes() -> int | None:
    """The most memory that was resident at once in this process (Linux)."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)


def times(seconds: list[float]) -> dict:
    """As `haze bench` writes them."""
    milliseconds = [1e3 * s for s in seconds]
    return dict(median_ms=statistics.median(milliseconds), min_ms=min(milliseconds), times_ms=milliseconds)


def measure(arguments: argparse.Namespace) -> dict:
    import diffusers
    import torch

    diffusers.utils.logging.disable_progress_bar()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = arguments.tf32
    loading = time.perf_counter()
    decoder = Decoder(arguments)
    load_s, first_image_s, rows, calls = time.perf_counter() - loading, None, [], 0
    on_gpu = arguments.device.startswith("cuda")
    for batch_size in arguments.batch_size:
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        first = decoder.decode(batch_size)
        first_image_s = first_image_s or time.perf_counter() - STARTED
        timed = [decoder.decode(batch_size) for _ in range(arguments.repeat)]
        step, vae = times([t["step"] for t in timed]), times([t["vae"] for t in timed])
        whole = times([t["whole"] for t in timed])
        calls = first["calls"]
        rows.append(dict(
            batch_size=batch_size, first_s=first["whole"], step=step, steps_per_second=1e3 / step["median_ms"], vae=vae,
            images_per_second=batch_size * 1e3 / whole["median_ms"], peak_memory_bytes=peak_memory_bytes(),
            device_memory_allocated_bytes=torch.cuda.max_memory_allocated() if on_gpu else None,
            device_memory_reserved_bytes=torch.cuda.max_memory_reserved() if on_gpu else None))
        print(f"batch {batch_size}: {rows[-1]['steps_per_second']:.3f} steps/s, VAE {vae['median_ms']:.1f} ms", file=sys.stderr)
    return dict(
        peer="diffusers", diffusers=diffusers.__version__, torch=torch.__version__, compile=arguments.compile,
        channels_last=arguments.channels_last, dtype=arguments.dtype, tf32=arguments.tf32,
        device=torch.cuda.get_device_name() if on_gpu else "cpu", threads=torch.get_num_threads(), width=decoder.width,
        height=decoder.height, network_calls=calls, guidance_scale=arguments.guidance, load_s=load_s,
        # With the imports, from the start of this file.
        first_image_s=first_image_s, rows=rows)


def compare(files: list[Path]) -> None:
    """A Markdown table; ratios are to the first file, which is Haze's."""
    reports = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    haze, peers = reports[0], reports[1:]
    if "haze" not in haze or any("peer" not in peer for peer in peers):
        sys.exit("expected the file of `haze bench decoder --json` first, then files of this script")
    what = ("width", "height", "network_calls", "guidance_scale")
    for file, peer in zip(files[1:], peers):
        for key in what:
            if peer[key] != haze[key]:
                sys.exit(f"{file}: {key} is {peer[key]}, but {haze[key]} in {files[0]}: not the same work")
    print(f"{haze['width']} x {haze['height']}, {haze['network_calls']} network calls, guidance {haze['guidance_scale']}; {haze['device']}\n")
    print("| batch | | steps/s | Haze / peer | VAE, ms | images/s | load, s | first image, s |")
    print("| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for row in haze["rows"]:
        size = row["batch_size"]
        lines = [("Haze", haze, row)]
        for peer in peers:
            found = [r for r in peer["rows"] if r["batch_size"] == size]
            label = f"diffusers {peer['dtype']}, {'compiled (' + peer['compile'] + ')' if peer['compile'] else 'eager'}"
            lines += [(label, peer, r) for r in found]
        for label, report, r in lines:
            ratio = "" if r is row else f"{row['steps_per_second'] / r['steps_per_second']:.2f}"
            print(f"| {size} | {label} | {r['steps_per_second']:.3f} | {ratio} | {r['vae']['median_ms']:.1f} | "
                  f"{r['images_per_second']:.3f} | {report['load_s']:.2f} | {report['first_image_s']:.2f} |")


def image_size(text: str) -> tuple[int, int]:
    width, height = text.split("x")
    return int(width), int(height)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decoder", type=Path, help="diffusers folder")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--dtype", choices=["f32", "f16", "bf16"], default="f32")
    parser.add_argument("--variant", help='"fp16" reads the half-precision files')
    parser.add_argument("--size", type=image_size, help="WIDTHxHEIGHT (default: what the decoder was trained on)")
    parser.add_argument("--batch-size", type=lambda t: [int(n) for n in t.split(",")], default=[1, 4])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=5.0)
    parser.add_argument("--repeat", type=int, default=3, help="timed decodes per batch size, after one that is not")
    parser.add_argument("--compile", nargs="?", const="default", choices=["default", "reduce-overhead", "max-autotune"])
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--tf32", action="store_true", help="allow TF32 in float32")
    parser.add_argument("--vae-f32", action="store_true", help="decode in float32, as Haze does")
    parser.add_argument("--vae-batch", type=int, default=0, help="images that go through the VAE together (default: all)")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--json", type=Path, help="where to write (default: standard output)")
    parser.add_argument("--compare", type=Path, nargs="+", metavar="FILE", help="Haze's file, then files of this script")
    arguments = parser.parse_args()
    if arguments.compare:
        compare(arguments.compare)
        return
    if not arguments.decoder or arguments.steps < 2:
        parser.error("--decoder and at least 2 steps are needed")
    text = json.dumps(measure(arguments), indent=1) + "\n"
    if arguments.json:
        arguments.json.write_text(text, encoding="utf-8")
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
