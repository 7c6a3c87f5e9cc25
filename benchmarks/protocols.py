"""Seconds and peak memory of ``linear`` and ``knn`` on features of the size of NTU RGB+D 60.

Run by hand: ``python -m benchmarks.protocols [--threads 2] [--only linear|knn]``. Features are random clusters: time and memory
depend on their sizes alone. Memory is the largest resident set of a process of its own, torch and the features included.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Mapping

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from protocols.base import EvalContext, Outcome
from protocols.knn import Knn, KnnConfig
from protocols.linear import Linear, LinearConfig

_UNIT = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes


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


def linear() -> Outcome:
    """The headline, its grid of six included: 20 classes, 40,000 features of 256."""
    return Linear(LinearConfig()).run(context(40_000, 16_500, 256, 20))


def knn() -> Outcome:
    """The headline with its extras: a gallery of 40,000 features of 256, 16,500 queries, 60 classes."""
    return Knn(KnnConfig()).run(context(40_000, 16_500, 256, 60))


JOBS: Mapping[str, Callable[[], Outcome]] = {"linear": linear, "knn": knn}


def measure(name: str, threads: int) -> tuple[float, float, float]:
    """Wall-clock seconds, CPU seconds and peak GiB of a job; call it in a process of its own."""
    torch.set_num_threads(threads)
    wall, cpu = time.perf_counter(), time.process_time()
    JOBS[name]()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT
    return time.perf_counter() - wall, time.process_time() - cpu, peak / 2**30


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", choices=tuple(JOBS))
    arguments = parser.parse_args()
    table = Table(
        "protocol", "wall s", "CPU s", "peak GiB", title=f"40,000 x 256 features, {arguments.threads} threads"
    )
    for name in [arguments.only] if arguments.only else JOBS:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            wall, cpu, peak = pool.apply(measure, (name, arguments.threads))
        table.add_row(name, f"{wall:.1f}", f"{cpu:.1f}", f"{peak:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
