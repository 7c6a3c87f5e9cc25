"""Seconds and peak memory of ``linear`` and ``knn`` on features of the size of NTU RGB+D 60.

Run by hand: ``python -m benchmarks.protocols [--threads 2] [--only linear|knn]``. Features are random clusters: time and memory
depend on their sizes alone. Memory is the largest resident set of a process of its own, torch and the features included.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch

from benchmarks.steps import alone, peak_gib
from benchmarks.tables import Table
from protocols.base import EvalContext, Outcome
from protocols.knn import Knn, KnnConfig
from protocols.linear import Linear, LinearConfig


def context(train: int, test: int, dim: int, classes: int) -> EvalContext:
    """Clusters of features; the last fifth of the training part is held out."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(classes, dim, generator=generator)
    labels = torch.arange(train) % classes
    features = torch.randn(train, dim, generator=generator).mul_(4).add_(centres[labels])
    queries = torch.randn(test, dim, generator=generator).mul_(4).add_(centres[torch.arange(test) % classes])
    rows = np.arange(train)
    return EvalContext(features, labels, queries, classes, rows[: train * 4 // 5], rows[train * 4 // 5 :], 0, _quiet)


def _quiet(*point: object) -> None:
    """Drop a point of the curve."""


def linear(classes: int) -> Outcome:
    """The headline, its grid of six included: 40,000 features of 256."""
    return Linear(LinearConfig()).run(context(40_000, 16_500, 256, classes))


def knn() -> Outcome:
    """The headline with its extras: a gallery of 40,000 features of 256, 16,500 queries, 60 classes."""
    return Knn(KnnConfig()).run(context(40_000, 16_500, 256, 60))


JOBS: Mapping[str, Callable[[], Outcome]] = {
    "linear, 20 classes": partial(linear, 20),
    "linear, 60 classes": partial(linear, 60),
    "knn": knn,
}


def measure(name: str, threads: int) -> tuple[float, float, float]:
    """Wall-clock seconds, CPU seconds and peak GiB of a job; call it in a process of its own."""
    torch.set_num_threads(threads)
    wall, cpu = time.perf_counter(), time.process_time()
    JOBS[name]()
    return time.perf_counter() - wall, time.process_time() - cpu, peak_gib()


def table(threads: int = 2, only: str = "") -> Table:
    """Seconds and memory of both, each in a process of its own."""
    rows = []
    for name in filter(lambda name: name.startswith(only), JOBS):
        wall, cpu, peak = alone(measure, name, threads)
        rows.append((name, f"{wall:.1f}", f"{cpu:.1f}", f"{peak:.2f}"))
    return Table(f"40,000 x 256 features, {threads} thread(s)", ("protocol", "wall s", "CPU s", "peak GiB"), rows)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", choices=("linear", "knn"), default="")
    table(**vars(parser.parse_args())).show()


if __name__ == "__main__":
    main()
