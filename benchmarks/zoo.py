"""Parameters, cost and speed of every encoder of the zoo, published and ``quick``: the table of docs/encoders.md.

Run by hand: ``python -m benchmarks.zoo [--threads 1 --batch 8 --encoders dsta,bigru]``. Speed is in CPU time, so that other
programs on the machine change it little; clips have two persons, 50 frames, 25 joints.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping

import torch

from benchmarks.timing import best_seconds
from datasets.clips import from_storage
from datasets.layout import NTU25
from encoders.base import Encoder, parameter_count
from engine.config import Overrides, resolve
from engine.registry import find, names

FRAMES, PERSONS = 50, 2


def settings(name: str) -> Mapping[str, Overrides]:
    """Changes of an encoder's config by the budget, with what is tuned for the synthetic set."""
    cls = find("encoders", name)
    quick = cls.budgets.get("quick", {})
    return {"full": {}, "quick": quick, "quick, synthetic": {**quick, **cls.tuned.get("quick:synthetic", {})}}


def speeds(encoder: Encoder, batch: int) -> tuple[float, float]:
    """Clips per second of CPU time: forward in evaluation, forward and backward in training."""
    clips = from_storage(torch.randn(batch, PERSONS, FRAMES, len(NTU25), 3))

    def forward() -> None:
        with torch.no_grad():
            encoder(clips)

    def step() -> None:
        encoder(clips).sum().backward()

    encoder.eval()
    seen = batch / best_seconds(forward, 3, 1, time.process_time)
    encoder.train()
    return seen, batch / best_seconds(step, 3, 1, time.process_time)


def main() -> None:
    """Print the table in Markdown, a row as soon as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--precision", choices=("float32", "bf16"), default="float32")
    parser.add_argument("--encoders", default=",".join(name for name in names("encoders") if name != "coordinates"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print("| Encoder | Budget | Parameters | GFLOP | Features | Forward | Training |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for name in arguments.encoders.split(","):
        cls = find("encoders", name)
        before: Overrides | None = None
        for budget, changes in settings(name).items():
            if changes == before:
                continue
            before = changes
            encoder = cls(resolve(cls.Config, changes), NTU25, frames=FRAMES, persons=PERSONS)
            encoder.precision = arguments.precision
            forward, training = speeds(encoder, arguments.batch)
            row = (
                f"`{name}`",
                budget,
                f"{parameter_count(encoder):,}",
                f"{encoder.flops() / 1e9:.2f}",
                f"{encoder.dim:,}",
            )
            print("|", " | ".join([*row, f"{forward:.1f}", f"{training:.1f}"]), "|", flush=True)


if __name__ == "__main__":
    main()
