#!/usr/bin/env python3
"""The PyTorch side of `haze bench training`: Adam steps of the ProbVLM adapter on random embeddings.

    python training.py --dim 512 --batch-size 64 256 1024 --threads 2 --json training.json

Every step takes another batch of float16 rows by a random index, as a `DataLoader` over a cached matrix would, widens
and normalises it, and does forward, backward and Adam. Needs torch and numpy only.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch
from adapter import SEED, ProbVlmAdapter, generalised_gaussian_nll

WARM_UP = 5


def measure(rows: torch.Tensor, hidden: int, batch_size: int, steps: int) -> dict:
    """Milliseconds of `steps` training steps over random batches of `rows` `[N, D]` (float16)."""
    torch.manual_seed(SEED)
    adapter = ProbVlmAdapter(rows.shape[1], hidden).train()
    optimizer = torch.optim.Adam(adapter.parameters(), lr=1e-4)
    order = torch.randperm(len(rows))
    times = []
    for step in range(WARM_UP + steps):
        start = time.perf_counter()
        at = step * batch_size % (len(rows) - batch_size + 1)
        batch = rows[order[at : at + batch_size]].float()
        batch = batch / batch.norm(dim=-1, keepdim=True)
        optimizer.zero_grad(set_to_none=True)
        loss = generalised_gaussian_nll(*adapter(batch), batch)
        loss.backward()
        optimizer.step()
        loss.item()
        if step >= WARM_UP:
            times.append((time.perf_counter() - start) * 1e3)
    median = statistics.median(times)
    return {"batch_size": batch_size, "median_ms": median, "min_ms": min(times), "steps_per_second": 1e3 / median}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=20_000, help="rows of the matrix (default: 20000)")
    parser.add_argument("--dim", type=int, default=512, help="dimension of the embeddings (default: 512)")
    parser.add_argument("--hidden", type=int, default=256, help="width of the hidden layers (default: 256)")
    parser.add_argument("--batch-size", type=int, nargs="+", default=[64, 256, 1024], help="rows per step")
    parser.add_argument("--steps", type=int, default=100, help="timed steps (default: 100)")
    parser.add_argument("--threads", type=int, default=2, help="threads of PyTorch (default: 2)")
    parser.add_argument("--json", type=Path, help="file to write; without it the report is printed")
    arguments = parser.parse_args()
    if min(arguments.pairs, arguments.dim, arguments.hidden, arguments.steps, arguments.threads) < 1:
        parser.error("all numbers must be at least 1")
    if not all(1 <= size <= arguments.pairs for size in arguments.batch_size):
        parser.error("a batch needs 1 row at least and --pairs rows at most")
    torch.set_num_threads(arguments.threads)
    rows = torch.randn(arguments.pairs, arguments.dim, generator=torch.Generator().manual_seed(SEED)).half()
    report = {
        "peer": f"PyTorch {torch.__version__}",
        "threads": torch.get_num_threads(),
        "dim": arguments.dim,
        "hidden": arguments.hidden,
        "rows": [measure(rows, arguments.hidden, size, arguments.steps) for size in arguments.batch_size],
    }
    text = json.dumps(report, indent=1) + "\n"
    if arguments.json:
        arguments.json.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
