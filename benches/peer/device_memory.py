#!/usr/bin/env python3
"""Runs a command and prints the most memory that NVIDIA's driver reported in use meanwhile, less what was in use before.

    python device_memory.py [--gpu 0] -- haze bench decoder --device vulkan ...

The same clock for every program, whatever it computes with; nothing else may use the GPU meanwhile. Sampled every 50 ms.
"""

import argparse
import subprocess
import sys
import threading


def used_bytes(gpu: int) -> int:
    query = ["nvidia-smi", f"--id={gpu}", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return int(subprocess.run(query, check=True, capture_output=True, text=True).stdout.strip()) * 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gpu", type=int, default=0)
    parser.add_argument("command", nargs="+", help="after --")
    arguments = parser.parse_args()
    before = peak = used_bytes(arguments.gpu)
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.05):
            peak = max(peak, used_bytes(arguments.gpu))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        code = subprocess.run(arguments.command).returncode
    finally:
        done.set()
        watcher.join()
    print(f"peak device memory {(peak - before) / 2**30:.2f} GiB ({before / 2**30:.2f} GiB were in use before)", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
