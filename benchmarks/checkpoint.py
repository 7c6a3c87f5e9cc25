"""How long a checkpoint takes, beside an epoch: ``python -m benchmarks.checkpoint [--methods aimclr,hiclr] [--folder DIR]``.

Sizes are those of the papers' settings; what is written are the weights, the queue and the optimiser's state after a step.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable
from pathlib import Path

import torch

from benchmarks.steps import Case, build, generated
from benchmarks.tables import Table
from benchmarks.timing import best_seconds
from datasets.layout import NTU25
from engine import checkpoints
from engine.train import optimiser

CLIPS = 40_091
"""In an epoch: the training clips of NTU RGB+D 60, x-sub."""
RATES = (20, 10_000)
"""Clips per second of a CPU, and those hoped for of a GPU."""


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
            seconds = best_seconds(lambda path=path, state=state: checkpoints.save(path, state), 3, 1)  # type: ignore[misc]
            size = path.stat().st_size
        shares = (f"{seconds * rate / CLIPS:.3%}" for rate in RATES)
        rows.append([name, f"{size / 1e6:.0f}", f"{1000 * seconds:.0f}", *shares])
    columns = ("", "MB", "ms", *(f"of an epoch at {rate:,} clips/s" for rate in RATES))
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
