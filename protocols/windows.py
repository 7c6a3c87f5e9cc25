"""Windows over untrimmed recordings: what a frame-wise protocol encodes, and the way back to frames (protocols.md, seg-v1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

IGNORED = -100
"""Label of padding."""


@dataclass(frozen=True)
class Windows:
    """Windows over recordings that lie end to end.

    Attributes:
        index: (W, window) int64, frame behind every place of a window, -1 for padding.
        recording: (W,) int64.
        nearest: (F,) int64, for every frame the nearest one that windows look at (itself unless frames are subsampled).
    """

    index: NDArray[np.int64]
    recording: NDArray[np.int64]
    nearest: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.index)

    def pick(self, rows: NDArray[np.int64]) -> Windows:
        """Some of the windows."""
        return Windows(self.index[rows], self.recording[rows], self.nearest)

    def labels(self, labels: NDArray[np.int64]) -> Tensor:
        """Labels (F,) of the frames in every window (W, window); padding is to be ignored."""
        return torch.from_numpy(np.where(self.index < 0, IGNORED, labels[self.index]))


def cut_windows(offsets: NDArray[np.int64], ids: Sequence[str], size: int, stride: int, step: int = 1) -> Windows:
    """Windows of every recording, a stride apart; the last one ends with the recording, a shorter recording is padded.

    Recordings come in the order of their names, so that theirs in the data does not matter.

    Args:
        offsets: (R + 1,) where each recording begins and the last one ends; none is empty.
        ids: R names.
        size: frames per window.
        stride: frames between the starts of two windows.
        step: only every so many-th frame is used; size and stride count the used ones.
    """
    rows, recordings = [], []
    nearest = np.empty(offsets[-1], np.int64)
    for recording in np.argsort(ids):
        begin, end = offsets[recording], offsets[recording + 1]
        frames = np.arange(begin, end, step)
        nearest[begin:end] = frames[np.minimum((np.arange(end - begin) + step // 2) // step, len(frames) - 1)]
        last = max(len(frames) - size, 0)
        starts = np.append(np.arange(0, last, stride), last)
        padded = np.append(frames, np.full(max(size - len(frames), 0), -1))
        rows.append(padded[starts[:, None] + np.arange(size)])
        recordings.append(np.full(len(starts), recording))
    return Windows(np.concatenate(rows), np.concatenate(recordings), nearest)


def frame_scores(windows: Windows, logits: Tensor) -> Tensor:
    """Logits (W, T', classes) of windows to (F, classes) of all frames, averaged where windows overlap, on the CPU.

    Frames in no window are 0.
    """
    size = windows.index.shape[1]
    stretched = (stretch(logits.shape[1], size).to(logits.device) @ logits).cpu().flatten(0, 1)
    index = torch.from_numpy(windows.index).flatten()
    there = index >= 0
    total = torch.zeros(len(windows.nearest), logits.shape[2])
    total.index_add_(0, index[there], stretched[there])
    count = torch.bincount(index[there], minlength=len(total)).clamp(min=1)
    return (total / count[:, None])[torch.from_numpy(windows.nearest)]


def stretch(steps: int, frames: int) -> Tensor:
    """Linear interpolation from T' steps to the frames of a window, half-pixel centres, edges clamped: (frames, T')."""
    return functional.interpolate(torch.eye(steps)[None], size=frames, mode="linear")[0].T
