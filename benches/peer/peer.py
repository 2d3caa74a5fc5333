#!/usr/bin/env python3
"""The PyTorch side of `haze bench`: the same stages on the same bundle, timed the same way.

    python peer.py --bundle ../../assets/demo --threads 2 --repeat 20 --json peer.json

Goes in: a bundle folder (`clip/`, `unclip/`, `gallery/`). Comes out: one JSON file that `compare.py` reads.
Nothing is tuned beyond what a careful user of these libraries would do: float32, `inference_mode`, eager mode.
README.md says exactly what each stage's clock covers.
"""

import argparse
import gc
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

# Bundles are folders on disk; a missing file must be an error here, never a download.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import diffusers
import torch
import transformers
from diffusers import StableUnCLIPImg2ImgPipeline
from PIL import Image
# The Pillow backend resizes bit for bit as CLIP was trained; the torchvision one differs by a level.
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from adapter import adapter_training_step

BATCH = 16
STEPS = 20
GUIDANCE_SCALE = 3.0
TOP_K = 10
QUERIES = 64
LARGE_GALLERY_ROWS = 200_000
ROWS_PER_CHUNK = 16_384
ADAPTER_BATCH = 512
SEED = 0


class Bundle:
    """The models of one bundle folder, in float32 on the CPU."""

    def __init__(self, folder: Path):
        # `dtype` is needed: without it transformers keeps the stored f16 while diffusers widens to f32,
        # and the pipeline would mix the two.
        self.clip = CLIPModel.from_pretrained(folder / "clip", dtype=torch.float32).eval()
        self.tokenizer = CLIPTokenizer.from_pretrained(folder / "clip")
        self.image_processor = CLIPImageProcessorPil.from_pretrained(folder / "clip")
        self.unclip = StableUnCLIPImg2ImgPipeline.from_pretrained(folder / "unclip", dtype=torch.float32)
        self.unclip.set_progress_bar_config(disable=True)
        self.embedding_dim = self.clip.config.projection_dim

    def encode_text(self, captions: list[str]) -> torch.Tensor:
        """Raw (not normalised) embeddings `[N, D]`."""
        tokens = self.tokenizer(captions, padding=True, truncation=True, return_tensors="pt")
        return self.clip.get_text_features(**tokens).pooler_output

    def encode_images(self, files: list[Path]) -> torch.Tensor:
        """Raw (not normalised) embeddings `[N, D]` of image files."""
        pixels = self.image_processor([Image.open(file) for file in files], return_tensors="pt")
        return self.clip.get_image_features(**pixels).pooler_output

    def random_latents(self, batch: int) -> torch.Tensor:
        """Initial noise `[batch, C, h, w]`."""
        unet = self.unclip.unet.config
        generator = torch.Generator().manual_seed(SEED)
        shape = (batch, unet.in_channels, unet.sample_size, unet.sample_size)
        return torch.randn(shape, generator=generator)

    def denoising_step(self, guided: bool):
        """A function that denoises 16 samples by one step, and what must run before each call of it."""
        unclip = self.unclip
        latents = self.random_latents(BATCH)
        copies = 2 if guided else 1
        embeddings = torch.randn(copies * BATCH, self.embedding_dim, generator=torch.Generator().manual_seed(SEED))
        class_labels = unclip.noise_image_embeddings(embeddings, noise_level=0)
        if guided:
            class_labels[:BATCH] = 0  # the unconditional half
        prompt, _ = unclip.encode_prompt("", "cpu", 1, do_classifier_free_guidance=False)
        prompt = prompt.expand(copies * BATCH, -1, -1).contiguous()

        def rewind():
            # Multi-step schedulers keep a position and past outputs; every repeat starts from the first step.
            unclip.scheduler.set_timesteps(STEPS)

        def step():
            timestep = unclip.scheduler.timesteps[0]
            network_input = torch.cat([latents] * copies)
            network_input = unclip.scheduler.scale_model_input(network_input, timestep)
            output = unclip.unet(
                network_input, timestep, encoder_hidden_states=prompt, class_labels=class_labels, return_dict=False
            )[0]
            if guided:
                unconditional, conditional = output.chunk(2)
                output = unconditional + GUIDANCE_SCALE * (conditional - unconditional)
            return unclip.scheduler.step(output, timestep, latents, return_dict=False)[0]

        return step, rewind

    def decode(self, embeddings: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        """Images `[N, 3, H, W]` in 0..1 by the library's own pipeline, the prompt encoded once."""
        prompt, _ = self.unclip.encode_prompt("", "cpu", 1, do_classifier_free_guidance=False)
        prompt = prompt.expand(len(embeddings), -1, -1).contiguous()
        return self.unclip(
            prompt_embeds=prompt,
            negative_prompt_embeds=prompt,
            image_embeds=embeddings,
            noise_level=0,
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE_SCALE,
            latents=latents,
            output_type="pt",
        ).images


def normalised(rows: torch.Tensor) -> torch.Tensor:
    return rows / rows.norm(dim=-1, keepdim=True)


def cosine_top_k(queries: torch.Tensor, index: torch.Tensor):
    """The best rows of a normalised `index` `[M, D]` for raw queries `[N, D]`."""
    return (normalised(queries) @ index.T).topk(min(TOP_K, len(index)))


def cosine_top_k_f16(queries: torch.Tensor, index: torch.Tensor):
    """As `cosine_top_k` over f16 rows, widened chunk by chunk so that the scores are f32 and no f32 copy stays."""
    queries = normalised(queries)
    scores, ids = [], []
    for start in range(0, len(index), ROWS_PER_CHUNK):
        chunk = index[start : start + ROWS_PER_CHUNK].float()
        best = (queries @ chunk.T).topk(min(TOP_K, len(chunk)))
        scores.append(best.values)
        ids.append(best.indices + start)
    best = torch.cat(scores, 1).topk(TOP_K)
    return best.values, torch.cat(ids, 1).gather(1, best.indices)


class Stopwatch:
    """Runs stages one after another and keeps their times."""

    def __init__(self, repeat: int):
        self.repeat = repeat
        self.stages = {}

    def measure(self, name: str, work, before=lambda: None, warm_up: int = 2):
        """Times `work()` `repeat` times after `warm_up` untimed calls; `before()` runs outside the clock."""
        times = []
        for index in range(warm_up + self.repeat):
            before()
            start = time.perf_counter()
            work()
            elapsed = (time.perf_counter() - start) * 1e3
            if index >= warm_up:
                times.append(elapsed)
        self.stages[name] = {
            "median_ms": statistics.median(times),
            "min_ms": min(times),
            "times_ms": [round(elapsed, 4) for elapsed in times],
        }
        print(f"{name:28} median {self.stages[name]['median_ms']:10.3f} ms   min {min(times):10.3f} ms", file=sys.stderr)


def read_gallery(folder: Path) -> tuple[list[Path], list[str]]:
    """Image files and captions of a Karpathy-style gallery folder."""
    images = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))["images"]
    files = [folder / "images" / image["filename"] for image in images]
    captions = [sentence["raw"] for image in images for sentence in image["sentences"]]
    return files, captions


def first(rows: list, count: int) -> list:
    """`count` rows, starting over when there are fewer."""
    return [rows[index % len(rows)] for index in range(count)]


def run_stages(bundle_folder: Path, repeat: int) -> dict:
    stopwatch = Stopwatch(repeat)
    files, captions = read_gallery(bundle_folder / "gallery")

    with torch.inference_mode():
        # One warm-up call fills the page cache; each repeat drops the models of the call before.
        stopwatch.measure("load_models", lambda: Bundle(bundle_folder), before=gc.collect, warm_up=1)
        bundle = Bundle(bundle_folder)

        stopwatch.measure("encode_text", lambda: bundle.encode_text(captions[:1]))
        stopwatch.measure("encode_image", lambda: bundle.encode_images(files[:1]))

        stopwatch.measure("unet_step_b16", *bundle.denoising_step(guided=True))
        stopwatch.measure("unet_step_b16_noguidance", *bundle.denoising_step(guided=False))

        latents = bundle.random_latents(BATCH)
        stopwatch.measure("vae_decode_b16", lambda: bundle.unclip.vae.decode(latents, return_dict=False)[0])
        samples = bundle.encode_images(first(files, BATCH))
        stopwatch.measure("decode_16x20", lambda: bundle.decode(samples, latents), warm_up=1)

    # Not in inference mode: its tensors cannot take part in a backward pass.
    with torch.no_grad():
        text_embeddings = normalised(bundle.encode_text(first(captions, ADAPTER_BATCH)))
    stopwatch.measure("adapter_training_step_b512", adapter_training_step(text_embeddings))

    with torch.inference_mode():
        queries = bundle.encode_text(first(captions, QUERIES))
        chunks = [bundle.encode_images(files[start : start + 64]) for start in range(0, len(files), 64)]
        gallery = normalised(torch.cat(chunks))
        stopwatch.measure("search", lambda: cosine_top_k(queries, gallery))

        generator = torch.Generator().manual_seed(SEED)
        large_gallery = torch.empty(LARGE_GALLERY_ROWS, bundle.embedding_dim, dtype=torch.float16)
        for chunk in large_gallery.split(ROWS_PER_CHUNK):
            chunk.copy_(normalised(torch.randn(chunk.shape, generator=generator)))
        stopwatch.measure("search_200k", lambda: cosine_top_k_f16(queries, large_gallery))
        # The quickest way in PyTorch, with f16 scores: too coarse to order near ties, so not the same task.
        half_queries = normalised(queries).half()
        stopwatch.measure("search_200k_f16_scores", lambda: (half_queries @ large_gallery.T).topk(TOP_K))

    return stopwatch.stages


def cpu_model() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    if sys.platform == "darwin":
        return subprocess.check_output(["sysctl", "-n", "machdep.cpu.brand_string"], text=True).strip()
    return platform.processor() or platform.machine()


def peak_memory_bytes() -> int:
    """The most memory that was resident at once in this process."""
    if sys.platform == "linux":
        # Not getrusage: Linux lets its maximum survive exec, so a large parent process would count.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, required=True, help="folder with clip/, unclip/ and gallery/")
    parser.add_argument("--threads", type=int, default=2, help="threads of PyTorch (default: 2)")
    parser.add_argument("--repeat", type=int, default=20, help="timed repeats of each stage (default: 20)")
    parser.add_argument("--json", type=Path, required=True, help="file to write")
    arguments = parser.parse_args()
    if arguments.threads < 1 or arguments.repeat < 1:
        parser.error("--threads and --repeat must be at least 1")
    if not (arguments.bundle / "unclip" / "model_index.json").is_file():
        parser.error(f"{arguments.bundle} is no bundle: unclip/model_index.json is missing")

    torch.set_num_threads(arguments.threads)
    for library in (transformers, diffusers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()

    stages = run_stages(arguments.bundle, arguments.repeat)
    report = {
        "peer": f"PyTorch {torch.__version__} / transformers {transformers.__version__} / diffusers {diffusers.__version__}",
        "device": "cpu",
        "cpu": cpu_model(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "peak_memory_bytes": peak_memory_bytes(),
        "stages": stages,
    }
    arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
