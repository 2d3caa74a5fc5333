#!/usr/bin/env python3
"""Makes full-size random checkpoints part by part, checks `haze verify` on each, and prints what it measured.

    python run.py --haze ../../target/release/haze --out /tmp/full-size
    python run.py --haze ../../target/release/haze --out /tmp/full-size --part clip-vit-large-patch14 --keep
    python run.py --out /tmp/full-size --size tiny --make-only

README.md says what is checked and what it costs.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
# Threads that spin while they wait make a busy machine many times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# Large buffers go back to the system at once; without it the allocator keeps a multiple of what is in use.
os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", "1048576")

from checkpoints import PARTS


def peak_of(pid: int, before: tuple[int, int]) -> tuple[int, int]:
    """Peak resident bytes of a process, and the most of them that were no file pages; the larger of now and before."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return before
    sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.endswith(" kB")}
    return max(before[0], sizes.get("VmHWM", 0)), max(before[1], sizes.get("RssAnon", 0))


def watched(command: list[str]) -> dict:
    """Runs a command; its exit code, output, seconds by the clock and of processor time, and peak memory (Linux)."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    peak = (0, 0)
    while True:
        peak = peak_of(process.pid, peak)
        try:
            output, _ = process.communicate(timeout=0.1)
            break
        except subprocess.TimeoutExpired:
            pass
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return dict(code=process.returncode, output=output, seconds=time.perf_counter() - start, processor=processor,
                peak=peak[0], anonymous=peak[1])


def verify(haze: Path, case: Path, arguments: argparse.Namespace) -> dict:
    command = [str(haze), "verify", str(case), "--device", arguments.device, "--json", "--quiet"]
    command += ["--threads", str(arguments.threads)] if arguments.threads else []
    command += ["--loosen", str(arguments.loosen)] if arguments.loosen != 1 else []
    command += ["--precision", arguments.precision] if arguments.precision else []
    result = watched(command)
    result["report"] = json.loads(result["output"]) if result["output"].strip() else None
    return result


def line(name: str, reference: dict, result: dict) -> str:
    if result["report"] is None:
        return f"| {name} | FAILED: no report, exit code {result['code']} |"
    [case] = result["report"]["cases"]
    outcome, worst = case["outcome"], case["outcome"].get("worst") or {}
    verdict = "ok" if outcome.get("passed") else "FAILED"
    if "error" in outcome:
        return f"| {name} | FAILED: {outcome['error']} |"
    shown = lambda values, key: f"{values[key]:.1f}" if key in values else "–"
    gib = lambda size: f"{size / 2**30:.1f}"
    return (f"| {name} | {verdict} | {worst.get('tensor')} | {worst.get('error'):.1e} | {worst.get('ratio'):.2f} | "
            f"{shown(reference, 'reference_seconds')} | {shown(reference, 'reference_cpu_seconds')} | {result['seconds']:.1f} | "
            f"{result['processor']:.1f} | {gib(result['anonymous'])} | {gib(result['peak'])} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and cases; up to 8 GB per part")
    parser.add_argument("--haze", type=Path, help="the haze executable")
    parser.add_argument("--part", action="append", choices=list(PARTS), help="only this part; may be given more than once")
    parser.add_argument("--size", choices=["full", "tiny"], default="full", help="tiny: the same layout with small networks")
    parser.add_argument("--no-half", action="store_true", help="without float16 files and half-precision tolerances")
    parser.add_argument("--device", default="cpu", help="device of haze (default: cpu)")
    parser.add_argument("--precision", choices=["f32", "f16", "bf16"], help="precision of haze, where it has that option")
    parser.add_argument("--loosen", type=float, default=1, help="multiply the tolerances, for a GPU")
    parser.add_argument("--threads", type=int, default=0, help="threads of both (default: all)")
    parser.add_argument("--keep", action="store_true", help="keep checkpoints and cases; they are deleted part by part else")
    parser.add_argument("--make-only", action="store_true", help="make everything and keep it; run no haze")
    parser.add_argument("--verify-only", action="store_true", help="run haze on the cases that are there")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    root = arguments.out.absolute()
    if arguments.one:
        make_one(arguments.one, root, arguments)
        return
    if not arguments.make_only and not arguments.haze:
        parser.error("--haze is needed, unless --make-only is given")

    failed, seen = 0, set()
    print("| case | result | worst tensor | error | share of tolerance | PyTorch, s | its CPU, s | haze verify, s | its CPU, s | haze memory, GiB | with file pages |")
    print("| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for part in arguments.part or list(PARTS):
        if not arguments.verify_only:
            # A process of its own, so that its memory is gone before haze runs.
            command = [sys.executable, __file__, "--one", part, "--out", str(root), "--size", arguments.size]
            command += ["--threads", str(arguments.threads)] + (["--no-half"] if arguments.no_half else [])
            made = watched(command)
            print(f"{part}: made in {made['seconds']:.0f} s, peak memory {made['peak'] / 2**30:.1f} GiB", file=sys.stderr)
            if made["code"]:
                sys.exit(f"{part}: could not be made")
        if not arguments.make_only:
            for case in sorted(root.glob("cases/*")):
                name = part.replace("/", ".")
                wanted = (name, f"{name}.fp16", f"{PARTS[part]}.tokenizer")
                if case.name in wanted and case.name not in seen:
                    seen.add(case.name)
                    reference = json.loads((case / "case.json").read_text())
                    result = verify(arguments.haze, case, arguments)
                    failed += result["code"] != 0
                    print(line(case.name, reference, result), flush=True)
        if not (arguments.keep or arguments.make_only or arguments.verify_only):
            for path in (root / PARTS[part], root / "fp16" / PARTS[part], root / "cases"):
                shutil.rmtree(path, ignore_errors=True)
    sys.exit(1 if failed else 0)


def make_one(part: str, root: Path, arguments: argparse.Namespace) -> None:
    import diffusers
    import torch
    import transformers

    import cases

    transformers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.disable_progress_bar()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    log = lambda text: print(text, file=sys.stderr, flush=True)
    cases.make_cases(part, root, arguments.size, not arguments.no_half, log)
    cases.make_tokenizer_case(PARTS[part], root, arguments.size)


if __name__ == "__main__":
    main()
