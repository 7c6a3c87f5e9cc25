"""Rows of an array on the disk, in memory or, where that is scarce, in a mapped file."""

from __future__ import annotations

import math
import os
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

IN_MEMORY = 0.25
"""Share of main memory that the clips of a part of a split may take; a larger part is mapped from a file."""
AT_ONCE = 4096
"""Clips that are looked at together."""


def picked_rows(clips: NDArray[np.float32], rows: NDArray[np.int64], folder: Path) -> NDArray[np.float32]:
    """Some rows of a store's clips, on their own; where memory is scarce they lie in a file that vanishes with the array.

    The system keeps as much of that file in memory as it has room for, and reads the rest when a batch asks for it.
    """
    parts = (clips[rows[start : start + AT_ONCE]] for start in range(0, len(rows), AT_ONCE))
    shape = (len(rows), *clips.shape[1:])
    if 4 * math.prod(shape) <= IN_MEMORY * _main_memory():
        picked = np.empty(shape, np.float32)
        for number, part in enumerate(parts):
            picked[number * AT_ONCE :][: len(part)] = part
        return picked
    with tempfile.TemporaryFile(dir=folder if os.access(folder, os.W_OK) else None) as file:
        for part in parts:  # written, not mapped: a full disk is an error then, and no crash
            file.write(np.ascontiguousarray(part).data)
        file.flush()
        return np.memmap(file, np.float32, "r+", shape=shape)


def _main_memory() -> float:
    """Bytes of main memory."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):  # Windows
        return math.inf
