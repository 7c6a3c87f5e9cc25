"""``NTU60_CS.npz``, ``NTU120_CSet.npz`` and the like: the form of CTR-GCN and its forks.

``x_train`` and ``x_test`` are (N, 300, 150), per frame two persons of 25 joints of x, y, z, filled up with zeros;
``y_train`` and ``y_test`` are one-hot (N, classes). There are no sample names, so subjects and cameras are not known.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from datasets.archives import look_over
from datasets.interchange import PERSONS, Clips, Interchange, split_name, table
from datasets.layout import NTU25
from engine.config import BenchError

_WIDTH = PERSONS * len(NTU25) * 3
_ROWS = 64
_MOST_CLASSES = 1000


@dataclass(frozen=True)
class _Header:
    """Shape and type of an array inside an npz."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def read_ctrgcn(path: Path) -> Interchange:
    """Read an npz in the form of CTR-GCN; its clips are streamed, not loaded.

    Raises:
        BenchError: not such a file, damaged, or its arrays do not fit each other.
    """
    shapes = {part: _header(path, f"x_{part}") for part in ("train", "test")}
    labels: list[int] = []
    names: list[str] = []
    words: list[str] = []
    for part, header in shapes.items():
        if len(header.shape) != 3 or header.shape[2] != _WIDTH or header.dtype.kind != "f":
            raise BenchError(
                f"{path}: x_{part} is {header.dtype} {header.shape}; expected float (N, frames, {_WIDTH}), that is "
                f"{PERSONS} persons x {len(NTU25)} joints x 3."
            )
        one_hot = _labels(path, part)
        if len(one_hot) != header.shape[0]:
            raise BenchError(f"{path}: y_{part} has {len(one_hot)} rows for {header.shape[0]} clips of x_{part}.")
        single = (one_hot > 0).sum(axis=1) == 1
        labels += np.where(single, (one_hot > 0).argmax(axis=1), -1).tolist()
        names += [f"{part}_{row}" for row in range(len(one_hot))]
        words += [part] * len(one_hot)
    split = split_name(path.stem)
    samples, faults = table(names, labels, {split: words})
    faults = dict.fromkeys(faults, "its row in y is not one-hot")

    def clips() -> Clips:
        for part in shapes:
            yield from _stream(path, f"x_{part}")

    return Interchange("ctrgcn", [path], samples, (split,), clips, faults=faults, named=False)


def _labels(path: Path, part: str) -> NDArray[Any]:
    header = _header(path, f"y_{part}")
    if len(header.shape) != 2 or header.dtype.kind not in "fiub" or not 0 < header.shape[1] <= _MOST_CLASSES:
        raise BenchError(f"{path}: y_{part} is {header.dtype} {header.shape}; expected one-hot (N, classes).")
    with _member(path, f"y_{part}") as (file, found):
        return _rows(file, found, found.shape[0], path)


def _stream(path: Path, key: str) -> Clips:
    with _member(path, key) as (file, header):
        for start in range(0, header.shape[0], _ROWS):
            rows = _rows(file, header, min(_ROWS, header.shape[0] - start), path)
            for clip in rows.reshape(len(rows), header.shape[1], PERSONS, len(NTU25), 3):
                filled = np.flatnonzero(clip.any(axis=(1, 2, 3)))
                yield clip[: filled[-1] + 1 if len(filled) else 1]


def _header(path: Path, key: str) -> _Header:
    with _member(path, key) as (_, header):
        return header


@contextmanager
def _member(path: Path, key: str) -> Iterator[tuple[IO[bytes], _Header]]:
    """An array inside the npz: its header, and the file behind it at the first row."""
    try:
        with zipfile.ZipFile(path) as archive:
            look_over(archive, path)
            if f"{key}.npy" not in archive.namelist():
                found = ", ".join(name.removesuffix(".npy") for name in archive.namelist()[:8]) or "nothing"
                raise BenchError(
                    f"{path}: {key} is missing; the form of CTR-GCN has x_train, y_train, x_test and y_test; found {found}."
                )
            with archive.open(f"{key}.npy") as file:
                version = np.lib.format.read_magic(file)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, by_columns, dtype = read(file)
                if by_columns or dtype.hasobject or dtype.kind not in "fiub":
                    raise BenchError(f"{path}: {key} is no plain array of numbers, stored by rows ({dtype}).")
                yield file, _Header(tuple(shape), dtype)
    except BenchError:
        raise
    except OSError as error:
        raise BenchError(f"{path} cannot be read: {error.strerror or error}.") from None
    except Exception as error:  # whatever zip, zlib and the array headers throw at a damaged or hostile file
        raise BenchError(f"{path}: {key} cannot be read ({error}); downloaded completely?") from None


def _rows(file: IO[bytes], header: _Header, count: int, path: Path) -> NDArray[Any]:
    """The next rows of an array."""
    size = int(np.prod([count, *header.shape[1:]], dtype=object)) * header.dtype.itemsize
    raw = file.read(size)
    if len(raw) != size:
        raise BenchError(f"{path} is cut short: an array of shape {header.shape} ends early; downloaded completely?")
    return np.frombuffer(raw, header.dtype).reshape(count, *header.shape[1:])
