#!/usr/bin/env python3
"""Prints a Markdown table of two benchmark files.

    python compare.py haze.json peer.json

Ratio = Haze's median / the peer's median: below 1 Haze is faster. Needs nothing but Python.
"""

import argparse
import json
import sys
from pathlib import Path


def read_report(file: Path, name_key: str) -> dict:
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        sys.exit(f"{file}: cannot be read as a benchmark report: {error}")
    if not isinstance(report, dict) or name_key not in report or not isinstance(report.get("stages"), dict):
        sys.exit(f'{file}: expected a JSON object with "{name_key}" and "stages"; are the two files in the right order?')
    for stage, times in report["stages"].items():
        if not isinstance(times, dict) or not isinstance(times.get("median_ms"), (int, float)):
            sys.exit(f'{file}: stage "{stage}" has no number "median_ms"')
    return report


def number(value: float | None) -> str:
    """Three significant digits, or all digits before the point."""
    if value is None:
        return "–"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def row(name: str, haze: float | None, peer: float | None) -> str:
    ratio = haze / peer if haze is not None and peer else None
    return f"| {name} | {number(haze)} | {number(peer)} | {number(ratio)} |"


def table(haze: dict, peer: dict) -> str:
    def median(report: dict, stage: str) -> float | None:
        return report["stages"].get(stage, {}).get("median_ms")

    def mebibytes(report: dict) -> float | None:
        size = report.get("peak_memory_bytes")
        return size / 2**20 if isinstance(size, (int, float)) else None

    lines = [
        f"Haze {haze['haze']} on {haze.get('device', '?')} ({haze.get('threads', '?')} threads); "
        f"peer: {peer['peer']} on {peer.get('cpu', peer.get('device', '?'))} ({peer.get('threads', '?')} threads).",
        "",
        "| stage | Haze, ms | peer, ms | Haze / peer |",
        "| --- | ---: | ---: | ---: |",
    ]
    # A dict keeps its order: the peer's stages first, then those that only Haze has.
    for stage in peer["stages"] | haze["stages"]:
        lines.append(row(stage, median(haze, stage), median(peer, stage)))
    lines.append(row("peak memory, MiB", mebibytes(haze), mebibytes(peer)))
    lines += ["", "Medians. A ratio below 1 means that Haze is faster (or smaller)."]
    if haze.get("threads") != peer.get("threads"):
        lines.append("**The two runs used different numbers of threads: the ratios do not compare like with like.**")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("haze", type=Path, help="the file that `haze bench --json` wrote")
    parser.add_argument("peer", type=Path, help="the file that `peer.py --json` wrote")
    arguments = parser.parse_args()
    print(table(read_report(arguments.haze, "haze"), read_report(arguments.peer, "peer")))


if __name__ == "__main__":
    main()
