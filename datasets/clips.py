"""Clips in memory: what every method, encoder and protocol works on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datasets.layout import Layout


def from_storage(stored: Tensor) -> Tensor:
    """View (N, M, T, V, C) storage as (N, C, T, V, M) clips, without a copy."""
    return stored.permute(0, 4, 2, 3, 1)


def to_storage(clips: Tensor) -> Tensor:
    """View (N, C, T, V, M) clips as (N, M, T, V, C); contiguous when they came from :func:`from_storage`."""
    return clips.permute(0, 4, 2, 3, 1)


def present_persons(clips: Tensor) -> Tensor:
    """Which persons (N, M) of clips (N, C, T, V, M) are there; an absent one is all zero."""
    return (clips != 0).flatten(1, 3).any(dim=1)


@dataclass(frozen=True)
class ClipSet:
    """Prepared clips with everything known about them.

    Attributes:
        clips: (N, C, T, V, M) float32, metres; a view of (N, M, T, V, C) memory, so channels-last encoders need no copy.
            An absent person is all zero.
        labels: (N,) int64, 0-based.
        presence: (N, M) bool, whether a person is in the clip.
        ids: sample names, unique.
        groups: what splits and validation parts are cut by, e.g. ``subject``, ``camera``: (N,) int64 each.
        lengths: (N,) int64, raw frames before resampling.
    """

    clips: Tensor
    labels: Tensor
    presence: Tensor
    ids: tuple[str, ...]
    groups: Mapping[str, NDArray[np.int64]]
    lengths: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: torch.device | str) -> ClipSet:
        """The same clips on another device."""
        return replace(
            self,
            clips=from_storage(to_storage(self.clips).contiguous().to(device)),
            labels=self.labels.to(device),
            presence=self.presence.to(device),
        )

    def subset(self, index: NDArray[np.int64]) -> ClipSet:
        """The clips at ``index``, in that order."""
        rows = torch.as_tensor(index)
        return ClipSet(
            from_storage(to_storage(self.clips)[rows.to(self.clips.device)]),
            self.labels[rows.to(self.labels.device)],
            self.presence[rows.to(self.presence.device)],
            tuple(self.ids[i] for i in index),
            {name: values[index] for name, values in self.groups.items()},
            self.lengths[rows],
        )


@dataclass(frozen=True)
class Split:
    """One dataset under one evaluation.

    Attributes:
        name: ``dataset/split``, e.g. ``ntu60/xsub``.
        layout: skeleton layout of all clips.
        train, test: the two parts.
        classes: class names, index = label.
        group: the entry of ``ClipSet.groups`` along which the split is cut (and the validation part is).
        digest: checksum of the prepared data and the split rule; part of every key.
    """

    name: str
    layout: Layout
    train: ClipSet
    test: ClipSet
    classes: tuple[str, ...]
    group: str
    digest: str

    def validation(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Indices into ``train``: a part to fit on and a part held out for anything that must be chosen.

        A fifth of the clips, see :func:`held_out`.
        """
        return held_out(self.train.groups, self.group, len(self.train), 0.2)


def held_out(
    groups: Mapping[str, NDArray[np.int64]], group: str, count: int, share: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of training samples to fit on, and of those held out for anything that must be chosen.

    Whole groups (subjects, cameras, setups) are held out, the last ones until the share is reached. Samples of a single
    group are cut by subject, and failing that every so many-th one is held out.

    Args:
        groups: what samples may be cut by, (count,) each.
        group: the one that the split is cut by.
        count: number of samples.
        share: of the samples, in (0, 1).
    """
    for name in (group, "subject", "camera"):
        values = groups.get(name)
        if values is None or len(np.unique(values)) < 2:
            continue
        chosen = np.zeros(count, dtype=bool)
        for value in np.unique(values)[:0:-1]:
            chosen |= values == value
            if chosen.sum() >= share * count - 1e-6:
                break
        return np.flatnonzero(~chosen), np.flatnonzero(chosen)
    every, step = np.arange(count), round(1 / share)
    return every[every % step != step - 1], every[every % step == step - 1]
