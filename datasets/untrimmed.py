"""Untrimmed recordings with a label per frame, in memory and prepared on disk: what segmentation works on.

On disk they lie end to end: ``frames.npy`` (F, M, V, 3) float32, ``labels.npy`` (F,), and in ``samples.csv`` one row per
recording with ``id``, ``length`` and what splits are cut by.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from datasets.layout import Layout
from datasets.prepare import VERSION, Preparation
from datasets.store import Store, group_of, open_arrays, write_arrays
from engine.config import as_dict, digest

if TYPE_CHECKING:  # torch is imported where it is used: processes that read raw files do without it
    from torch import Tensor

BACKGROUND = "background"
"""Class 0 of every untrimmed data set."""
_COLUMNS = ("id", "length")


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
        digest: checksum of the data, the split rule and the rules of preparation; part of every key.
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


@dataclass(frozen=True)
class RecordingStore(Store):
    """An opened store of untrimmed recordings."""

    unit: ClassVar[str] = "recordings"

    @property
    def frames(self) -> NDArray[np.float32]:
        """(F, M, V, 3) float32, metres, recordings end to end, memory-mapped read-only."""
        return self.arrays["frames"]

    @property
    def labels(self) -> NDArray[np.int16]:
        """(F,) class of every frame, 0 = background."""
        return self.arrays["labels"]

    @property
    def offsets(self) -> NDArray[np.int64]:
        """(R + 1,) where each recording begins and the last one ends."""
        return np.cumsum([0, *self.samples["length"]], dtype=np.int64)

    @property
    def fps(self) -> float:
        """Frames per second, ``nan`` where nobody knows."""
        stated = self.manifest.get("fps")
        return float("nan") if stated is None else float(stated)

    def select(self, chosen: NDArray[np.bool_]) -> RecordingSet:
        """Read the chosen recordings (R,) bool into memory."""
        import torch

        rows = self.samples[chosen]
        lengths = self.samples["length"].to_numpy(np.int64)
        here = np.repeat(chosen, lengths)
        offsets = self.offsets
        frames = np.empty((int(lengths[chosen].sum()), *self.frames.shape[1:]), np.float32)
        end = 0
        for row in np.flatnonzero(chosen).tolist():
            start, end = end, end + int(lengths[row])
            frames[start:end] = self.frames[offsets[row] : offsets[row + 1]]
        return RecordingSet(
            frames=torch.from_numpy(frames),
            labels=torch.from_numpy(self.labels[here].astype(np.int64)),
            offsets=np.cumsum([0, *lengths[chosen]], dtype=np.int64),
            ids=tuple(rows["id"]),
            groups={str(name): group_of(self.samples[name])[chosen] for name in rows if name not in _COLUMNS},
        )

    def split(
        self, name: str, train: NDArray[np.bool_], test: NDArray[np.bool_], group: str, frames: int
    ) -> UntrimmedSplit:
        """Cut a split.

        Args:
            name: ``dataset/split``.
            train: (R,) bool, training recordings.
            test: (R,) bool, test recordings; one in neither part is left out.
            group: column along which it is cut.
            frames: T, frames of a prepared window.

        Raises:
            BenchError: a part is empty, or the parts overlap.
        """
        rules = Preparation(frames=frames, length="all")  # a window keeps its frames, because each has a label
        how = {"version": VERSION, **as_dict(rules)}
        del how["frames"]  # windows are as long as the encoder wants them
        cut = self.cut_digest(name, train, test, group)
        return UntrimmedSplit(
            name=name,
            layout=self.layout,
            train=self.select(train),
            test=self.select(test),
            classes=self.classes,
            group=group,
            fps=self.fps,
            rules=rules,
            digest=digest({"cut": cut, "preparation": how}),
        )


def write_recordings(
    folder: Path,
    frames: NDArray[np.float32],
    labels: NDArray[np.integer[Any]],
    samples: pd.DataFrame,
    layout: Layout,
    classes: Sequence[str],
    fps: float | None,
    manifest: Mapping[str, Any],
) -> str:
    """Write untrimmed recordings; the folder appears complete or not at all, and replaces an older one.

    Args:
        folder: where to.
        frames: (F, M, V, 3), metres, recordings end to end.
        labels: (F,), 0 = background.
        samples: one row per recording with the columns ``id`` (unique), ``length`` (frames) and any others.
        layout: skeleton layout.
        classes: class names, index = label, the first is ``background``.
        fps: frames per second, ``None`` where nobody knows.
        manifest: as for :func:`datasets.store.write_store`.

    Returns:
        The digest of the data.

    Raises:
        ValueError: these do not belong together.
    """
    total = int(samples["length"].sum())
    if frames.ndim != 4 or frames.shape[2] != len(layout) or not total == len(frames) == len(labels):
        raise ValueError(f"frames {frames.shape} and {len(labels)} labels do not fit {total} frames in the table")
    if classes[0] != BACKGROUND or (len(labels) and not 0 <= labels.min() <= labels.max() < len(classes)):
        raise ValueError(f"labels outside 0..{len(classes) - 1}, or class 0 is not {BACKGROUND}")
    arrays: dict[str, NDArray[Any]] = {
        "frames": np.ascontiguousarray(frames, np.float32),
        "labels": labels.astype(np.int16),
    }
    return write_arrays(folder, arrays, samples, layout, classes, {"fps": fps, **manifest})


def open_recordings(folder: Path) -> RecordingStore:
    """Open a store of untrimmed recordings; see :func:`datasets.store.open_arrays`."""
    return open_arrays(folder, RecordingStore, ("frames", "labels"))


def segments(labels: NDArray[np.integer[Any]], offsets: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Stretches of one class, background included, none of which crosses the end of a recording.

    Args:
        labels: (F,) class of every frame.
        offsets: (R + 1,) where each recording begins and the last one ends.

    Returns:
        Starts (S + 1,), the last one the end of all; and the class of every stretch (S,).
    """
    change = np.flatnonzero(np.diff(labels)) + 1
    starts = np.unique(np.concatenate([change, offsets]))
    return starts, labels[starts[:-1]]
