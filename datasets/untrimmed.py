"""Untrimmed recordings in memory: what segmentation works on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from datasets.layout import Layout
from datasets.prepare import Preparation

BACKGROUND = "background"
"""Class 0 of every untrimmed data set."""


@dataclass(frozen=True)
class RecordingSet:
    """Untrimmed recordings, end to end, as they were recorded: windows of them are prepared like clips.

    Attributes:
        frames: (F, M, V, 3) float32, metres, y up, neither centred nor turned; an absent person is all zero.
        labels: (F,) int64, class of every frame, 0 = background.
        offsets: (R + 1,) int64, where each recording begins and the last one ends.
        ids: R names, unique.
        groups: what splits are cut by, e.g. ``subject``: (R,) int64 each.
    """

    frames: Tensor
    labels: Tensor
    offsets: NDArray[np.int64]
    ids: tuple[str, ...]
    groups: Mapping[str, NDArray[np.int64]]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class UntrimmedSplit:
    """One set of untrimmed recordings under one split.

    Attributes:
        name: ``dataset/split``.
        layout: skeleton layout.
        train, test: the two parts; no recording is in both.
        classes: class names, the first is ``background``.
        group: the entry of ``RecordingSet.groups`` along which the split is cut.
        fps: frames per second of the recordings; ``nan`` where nobody knows.
        rules: how a window is prepared.
        digest: checksum of the data and the split rule; part of every key.
    """

    name: str
    layout: Layout
    train: RecordingSet
    test: RecordingSet
    classes: tuple[str, ...]
    group: str
    fps: float
    rules: Preparation
    digest: str
