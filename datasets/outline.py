"""Embedded data before they are generated: every sample by name, shapes, and no content; what a plan needs of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from datasets.layout import Layout
from datasets.store import Prepared
from datasets.untrimmed import RecordingSet, RecordingStore
from engine.config import digest

if TYPE_CHECKING:
    from datasets.clips import ClipSet


@dataclass(frozen=True)
class ClipOutline(Prepared):
    """Clips of a known number and shape; the numbers in them are on no device."""

    def select(self, chosen: NDArray[np.bool_]) -> ClipSet:
        """The chosen samples; their clips are ``meta`` tensors, which have a shape and refuse to be computed with."""
        found = super().select(chosen)
        return replace(found, clips=found.clips.to("meta"))


@dataclass(frozen=True)
class RecordingOutline(RecordingStore):
    """Untrimmed recordings of known lengths; the numbers in them are on no device."""

    def select(self, chosen: NDArray[np.bool_]) -> RecordingSet:
        """The chosen recordings; their frames are ``meta`` tensors."""
        found = super().select(chosen)
        return replace(found, frames=found.frames.to("meta"))


def outline_clips(
    folder: Path, row: tuple[int, ...], samples: pd.DataFrame, layout: Layout, classes: Sequence[str]
) -> ClipOutline:
    """Outline clips.

    Args:
        folder: where they would be; names them in the digest, which is that of no content.
        row: shape of one clip, (M, T, V, C).
        samples: as for :func:`datasets.store.write_store`.
        layout: skeleton layout.
        classes: class names, index = label.
    """
    arrays = {"clips": _nothing(np.float32, len(samples), *row)}
    return ClipOutline(folder, samples, layout, tuple(classes), {"sha256": {}}, arrays, _digest(folder))


def outline_recordings(
    folder: Path, row: tuple[int, ...], samples: pd.DataFrame, layout: Layout, classes: Sequence[str], fps: float
) -> RecordingOutline:
    """Outline untrimmed recordings; see :func:`outline_clips` and :func:`datasets.untrimmed.write_recordings`.

    Args:
        folder: where they would be.
        row: shape of one frame, (M, V, 3).
        samples: one row per recording.
        layout: skeleton layout.
        classes: class names, index = label.
        fps: frames per second.
    """
    total = int(samples["length"].sum())
    arrays = {"frames": _nothing(np.float32, total, *row), "labels": _nothing(np.int16, total)}
    return RecordingOutline(
        folder, samples, layout, tuple(classes), {"fps": fps, "sha256": {}}, arrays, _digest(folder)
    )


def _nothing(kind: type, *shape: int) -> NDArray[Any]:
    """Zeros that take no memory."""
    return np.broadcast_to(kind(0), shape)


def _digest(folder: Path) -> str:
    return digest({"not generated": [folder.parent.name, folder.name]})
