"""``{train,val}_position.npy`` and ``_label.pkl``: the form of CrosSCLR, AimCLR, ActCLR and HiCLR (aimclr.md 1.2 to 1.5).

A folder per split. Clips are (N, 3, T, 25, 2): 300 raw frames filled up with zeros, or 50 (64) prepared ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.interchange import Clips, Interchange, split_name, table
from datasets.layout import NTU25
from datasets.pickles import read_pickle
from engine.config import BenchError

_PARTS = {"train": "train", "val": "test", "test": "test"}
_KINDS = ("position", "data_joint", "data")
_LOOKED_AT = 64
_RAW_FRAMES = 300
_WHAT = "train_position.npy, train_label.pkl, val_position.npy and val_label.pkl"


@dataclass(frozen=True)
class _Part:
    """One part of one split."""

    path: Path
    split: str
    part: str
    clips: NDArray[np.floating]
    ids: Sequence[str]
    labels: Sequence[int]


def is_aimclr(folder: Path) -> bool:
    """Whether a folder, or a folder in it, holds such files."""
    names = [f"{word}_{kind}.npy" for word in _PARTS for kind in _KINDS]
    return any((place / name).is_file() for place in (folder, *folder.iterdir()) for name in names)


def read_aimclr(folder: Path) -> Interchange:
    """Read a folder with the four files of a split, or one with a folder per split (``xsub``, ``xview`` ...).

    A sample that is in several splits is taken once, by its name.

    Raises:
        BenchError: files are missing, damaged, of another shape, or contradict each other.
    """
    folders = [folder] if _files(folder) else [sub for sub in sorted(folder.iterdir()) if sub.is_dir() and _files(sub)]
    if not folders:
        inside = ", ".join(sorted(path.name for path in folder.iterdir())[:6]) or "nothing"
        raise BenchError(f"{folder} holds no {_WHAT}, nor do folders in it; found {inside}.")
    parts = [_read(path, split_name(sub.name), part) for sub in folders for part, path in _files(sub).items()]
    splits = tuple(dict.fromkeys(part.split for part in parts))
    if len(splits) < len(folders):
        raise BenchError(
            f"{folder}: {', '.join(sub.name for sub in folders)} are not different splits; name one of them."
        )
    shapes = {(each.clips.shape[2], _is_prepared(each.clips)) for each in parts}
    if len(shapes) > 1:
        raise BenchError(f"{folder}: its files hold clips of different frames or preparation; name one folder of it.")
    place: dict[str, int] = {}
    chosen: list[tuple[int, int]] = []
    columns = {split: dict[int, str]() for split in splits}
    labels: list[int] = []
    for number, each in enumerate(parts):
        for row, (name, label) in enumerate(zip(each.ids, each.labels, strict=True)):
            sample = place.setdefault(name, len(place))
            if sample == len(chosen):
                chosen.append((number, row))
                labels.append(label)
            if sample in columns[each.split] or labels[sample] != label:
                raise BenchError(
                    f"{each.path}, sample {row}: {name} is there twice in {each.split}, or has label {labels[sample]} "
                    "elsewhere. Is the label file that of another part or split?"
                )
            columns[each.split][sample] = each.part
    words = {split: [column.get(sample, "") for sample in range(len(chosen))] for split, column in columns.items()}
    samples, faults = table(list(place), labels, words)
    frames, prepared = shapes.pop()
    files = [path for each in parts for path in (each.path, _label_path(each.path))]

    def clips() -> Clips:
        for number, row in chosen:
            clip = parts[number].clips[row].transpose(1, 3, 2, 0)
            filled = np.flatnonzero(clip.any(axis=(1, 2, 3)))
            yield clip if prepared else clip[: filled[-1] + 1 if len(filled) else 1]

    return Interchange(f"aimclr, {frames} frames", files, samples, splits, clips, prepared, faults)


def _files(folder: Path) -> dict[str, Path]:
    """Part -> file with its clips."""
    found: dict[str, Path] = {}
    for kind in _KINDS:
        for word, part in _PARTS.items():
            path = folder / f"{word}_{kind}.npy"
            if path.is_file():
                found.setdefault(part, path)
    if len(found) == 1:
        raise BenchError(f"{folder} holds {next(iter(found.values())).name} only; a split needs {_WHAT}.")
    return found


def _label_path(path: Path) -> Path:
    return path.with_name(f"{path.name.partition('_')[0]}_label.pkl")


def _read(path: Path, split: str, part: str) -> _Part:
    clips = _open(path)
    labels = _label_path(path)
    if not labels.is_file():
        raise BenchError(f"{labels} is missing; it names the clips of {path.name} (copy it beside them).")
    content = read_pickle(labels)
    names, values = (
        (_plain(each) for each in content) if isinstance(content, tuple | list) and len(content) == 2 else ([], [])
    )
    if not names or not all(isinstance(name, str) for name in names) or not all(type(value) is int for value in values):
        raise BenchError(f"{labels}: expected a pair of lists, sample names and whole-number labels.")
    ids = [name.removesuffix(".skeleton") for name in names]
    if not len(ids) == len(values) == len(clips):
        raise BenchError(
            f"{labels} has {len(ids)} names and {len(values)} labels for the {len(clips)} clips of {path.name}."
        )
    return _Part(path, split, part, clips, ids, values)


def _plain(values: Any) -> list[Any]:
    """A list, of what may be a tuple or an array of numbers or words."""
    if isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype.kind != "S":
        return np.asarray(values).tolist() if values.dtype.kind != "U" else [str(each) for each in values]
    return list(values) if isinstance(values, list | tuple) else []


def _open(path: Path) -> NDArray[np.floating]:
    try:
        clips: Any = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(clips, np.ndarray):
            raise ValueError("it is an archive, not one array")
    except Exception as error:  # whatever a damaged or hostile header comes to
        raise BenchError(f"{path} cannot be read as one plain array: {error}") from None
    if clips.ndim != 5 or clips.dtype.kind != "f" or clips.shape[1] != 3 or not clips.shape[0] or not clips.shape[2]:
        raise BenchError(f"{path} is {clips.dtype} {clips.shape}; expected float (N, 3, T, {len(NTU25)}, 2).")
    if clips.shape[3] != len(NTU25) or clips.shape[4] not in (1, 2):
        raise BenchError(
            f"{path} has {clips.shape[3]} joints and {clips.shape[4]} persons; expected {len(NTU25)} and 2."
        )
    return clips


def _is_prepared(clips: NDArray[np.floating]) -> bool:
    """Whether clips are resampled and the centre joint is the origin throughout, as preparation makes it; looks at some."""
    if clips.shape[2] >= _RAW_FRAMES:
        return False
    some = np.linspace(0, len(clips) - 1, min(len(clips), _LOOKED_AT)).astype(int)
    return not any(clips[row][:, :, NTU25.centre].any() for row in some)
