"""AimCLR's three views: batches on the device against one sample at a time in numpy.

Run by hand: ``python -m benchmarks.augment [--threads 1]``.
"""

from __future__ import annotations

import argparse
import math

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.timing import best_seconds
from datasets.augment import BASIC, NORMAL, AugmentConfig, augment
from datasets.clips import from_storage
from datasets.layout import NTU25

Array = NDArray[np.float64]


def numpy_basic(clip: Array, random: np.random.Generator) -> Array:
    """Crop and shear one clip (C, T, V, M), as a data loader would."""
    frames = clip.shape[1]
    pad = frames // 6
    start = random.integers(2 * pad + 1)
    padded = np.concatenate([clip[:, :pad][:, ::-1], clip, clip[:, frames - pad :][:, ::-1]], axis=1)
    matrix = np.eye(3) + random.uniform(-0.5, 0.5, (3, 3)) * (1 - np.eye(3))
    return np.tensordot(matrix, padded[:, start : start + frames], axes=1)


def numpy_extreme(clip: Array, random: np.random.Generator) -> Array:
    """Flip, rotate, noise, blur and axis mask of one clip."""
    if random.random() < 0.5:
        clip = clip[:, :, list(NTU25.flip)]
    main = random.integers(3)
    for axis in range(3):
        angle = math.radians(random.uniform(0, 30 if axis == main else 1))
        matrix = np.eye(3)
        first, second = [a for a in range(3) if a != axis]
        matrix[[first, second], [first, second]] = math.cos(angle)
        matrix[first, second], matrix[second, first] = math.sin(angle), -math.sin(angle)
        clip = np.tensordot(matrix, clip, axes=1)
    if random.random() < 0.5:
        clip = clip + random.normal(0, 0.01, clip.shape)
    sigma = random.uniform(0.1, 2)
    if random.random() < 0.5:
        taps = np.exp(-(np.arange(-7, 8) ** 2) / (2 * sigma**2))
        padded = np.pad(clip, ((0, 0), (7, 7), (0, 0), (0, 0)))
        clip = sum((w * padded[:, i : i + clip.shape[1]] for i, w in enumerate(taps)), np.zeros_like(clip))
    if random.random() < 0.5:
        clip = clip.copy()
        clip[random.integers(3)] = 0
    return clip


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=128)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    stored = torch.randn(arguments.batch, 2, 50, 25, 3)
    config, generator, random = AugmentConfig(), torch.Generator().manual_seed(0), np.random.default_rng(0)
    samples = [sample.double().numpy() for sample in from_storage(stored)]

    def batched() -> None:
        for operations in (BASIC + NORMAL, BASIC, BASIC):
            augment(from_storage(stored), operations, config, NTU25, generator)

    def per_sample() -> None:
        for sample in samples:
            numpy_extreme(numpy_basic(sample, random), random)
            numpy_basic(sample, random)
            numpy_basic(sample, random)

    rates = [arguments.batch / best_seconds(work) for work in (batched, per_sample)]
    table = Table("three AimCLR views of a clip", "clips/s", title=f"{arguments.threads} thread(s)")
    table.add_row("batches", f"{rates[0]:,.0f}")
    table.add_row("per-sample numpy", f"{rates[1]:,.0f}")
    table.add_row("ratio", f"{rates[0] / rates[1]:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
