"""A prepared split as a generic npz, for other code and for ``npz:PATH#split`` (keys: :mod:`datasets.npz`)."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.base import Dataset
from datasets.layout import Layout
from datasets.store import COLUMNS
from engine.config import BenchError


def export(dataset: Dataset, split: str, path: Path) -> tuple[int, int]:
    """Write the clips of a split, as prepared, with everything that is known about them; the column ``split`` says which train.

    Args:
        dataset: prepared, or made on first use.
        split: one of its splits.
        path: the file, ``.npz``; it appears whole or not at all.

    Returns:
        Numbers of training and test clips.

    Raises:
        BenchError: unknown split, data not prepared or damaged, a name that does not end in ``.npz``, or a folder
            that is not there.
    """
    if path.suffix != ".npz" or not path.parent.is_dir():
        raise BenchError(f"{path}: write a file in a folder that exists, with a name that ends in .npz.")
    prepared = dataset.prepared().intact()
    cut = dataset.cut(prepared.samples, split)
    chosen = cut.train | cut.test
    layout, frames = prepared.layout, prepared.clips.shape[2]
    parents = _parents(layout)
    arrays: dict[str, NDArray[Any]] = {
        str(name): np.asarray(column.astype(str), str) if column.dtype.kind == "O" else column.to_numpy()
        for name, column in prepared.samples[chosen].items()
        if name not in (*COLUMNS, "split")
    }
    rows = prepared.samples[chosen]
    clips = np.moveaxis(prepared.clips[chosen], 1, 2)  # (N, T, M, V, C)
    arrays |= {
        "xyz": clips.reshape(-1, *clips.shape[2:]),
        "offsets": np.arange(len(rows) + 1, dtype=np.int64) * frames,
        "label": rows["label"].to_numpy(np.int64),
        "label_names": np.array(prepared.classes, str),
        "name": np.asarray(rows["id"].astype(str), str),
        "joint_names": np.array(layout.joints, str),
        "parents": np.array(parents, np.int64),
        "unit": np.array("m"),
        "split": np.where(cut.train[chosen], "train", "test"),
        "prepared": np.array(True),
        "source": np.array(f"{dataset.name}/{cut.name}, digest {prepared.digest}"),
    }
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return int(cut.train.sum()), int(cut.test.sum())


def _parents(layout: Layout) -> list[int]:
    parents = [-1 if parent == joint else parent for joint, parent in enumerate(layout.bones)]
    read = Layout.from_parents(layout.name, layout.joints, parents)
    if (read.bones, read.centre, read.shoulders) != (layout.bones, layout.centre, layout.shoulders):
        raise BenchError(
            f"Layout {layout.name} cannot be told from joint names and parents, which is all an npz holds."
        )
    return parents
