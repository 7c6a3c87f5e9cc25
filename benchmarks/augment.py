"""AimCLR's three views: batches on the device against one sample at a time in numpy.

Run by hand: ``python -m benchmarks.augment [--threads 1]``.
"""

from __future__ import annotations

import argparse
import math

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.tables import Table
from benchmarks.timing import best_seconds
from datasets.augment import BASIC, AugmentConfig, augment
from datasets.clips import from_storage
from datasets.layout import NTU25
from methods.aimclr import EXTREME

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
    """Flip, rotate, time flip, noise, blur and axis mask of one clip."""
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
        clip = clip[:, ::-1]
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


def table(threads: int = 1, batch: int = 128) -> Table:
    """Clips per second of both ways to make all three views."""
    torch.set_num_threads(threads)
    stored = torch.randn(batch, 2, 50, 25, 3)
    config, generator, random = AugmentConfig(), torch.Generator().manual_seed(0), np.random.default_rng(0)
    samples = [sample.double().numpy() for sample in from_storage(stored)]

    def batched() -> None:
        for operations in (BASIC + EXTREME, BASIC, BASIC):
            augment(from_storage(stored), operations, config, NTU25, generator)

    def per_sample() -> None:
        for sample in samples:
            numpy_extreme(numpy_basic(sample, random), random)
            numpy_basic(sample, random)
            numpy_basic(sample, random)

    ours, plain = (batch / best_seconds(work) for work in (batched, per_sample))
    return Table(
        f"Three AimCLR views of a clip, batch {batch}, {threads} thread(s)",
        ("", "clips/s", "views/s", "ratio"),
        [
            ("batches on the device", f"{ours:,.0f}", f"{3 * ours:,.0f}", f"{ours / plain:.1f}"),
            ("one clip at a time in numpy", f"{plain:,.0f}", f"{3 * plain:,.0f}", "1.0"),
        ],
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=128)
    table(**vars(parser.parse_args())).show()


if __name__ == "__main__":
    main()
