"""How long a checkpoint takes, beside an epoch: ``python -m benchmarks.checkpoint [--methods aimclr,hiclr] [--folder DIR]``.

Sizes are those of the papers' settings; what is written are the weights, the queue and the optimiser's state after a step.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.steps import Case, build, generated
from benchmarks.tables import Table
from datasets.layout import NTU25
from engine import checkpoints
from engine.train import optimiser

CLIPS = 40_091
"""In an epoch: the training clips of NTU RGB+D 60, x-sub."""
RATES = (20, 10_000)
"""Clips per second of a CPU, and those hoped for of a GPU."""


def seconds(path: Path, state: Mapping[str, Any]) -> tuple[float, float]:
    """What the training waits for, and all until the checkpoint is on the disk."""
    start = time.perf_counter()
    with checkpoints.Writer(path) as writer:
        writer.save(state)
        waited = time.perf_counter() - start
    return waited, time.perf_counter() - start


def table(methods: Iterable[str] = ("aimclr", "hiclr", "crossclr", "mamp"), folder: Path | None = None) -> Table:
    """One row per method."""
    rows = []
    for name in methods:
        method = build(Case(name), generated(4, NTU25))
        optim, _ = optimiser(method, method.config.train, lambda name: 1.0)
        for parameter in method.parameters():
            parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
        optim.step()
        state = {"network": method.state_dict(), "optimiser": optim.state_dict(), "curve": []}
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            path = Path(scratch) / "checkpoint.pt"
            waited, whole = map(min, zip(*(seconds(path, state) for _ in range(4)), strict=True))
            size = path.stat().st_size
        shares = (f"{waited * rate / CLIPS:.3%}" for rate in RATES)
        rows.append([name, f"{size / 1e6:.0f}", f"{1000 * waited:.0f}", f"{1000 * (whole - waited):.0f}", *shares])
    columns = ("", "MB", "ms waited", "ms beside", *(f"waited, of an epoch at {rate:,} clips/s" for rate in RATES))
    return Table(f"A checkpoint, written after every epoch of {CLIPS:,} clips", columns, rows)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", default="aimclr,hiclr,crossclr,mamp")
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    table(given.methods.split(","), given.folder).show()


if __name__ == "__main__":
    main()
