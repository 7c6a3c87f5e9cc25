"""The file behind ``npz:PATH``: its keys, checked against each other, as clips or as untrimmed recordings."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from datasets.archives import check_sizes
from datasets.base import OnBad
from datasets.layout import LAYOUTS, Layout
from datasets.prepare import BadClipError, Recordings, inspect
from datasets.store import COLUMNS, Finding, first_of
from datasets.untrimmed import BACKGROUND
from engine.config import BenchError

Arrays = Mapping[str, NDArray[Any]]
_METRES = {
    **dict.fromkeys(("m", "metre", "meter"), 1.0),
    **dict.fromkeys(("cm", "centimetre", "centimeter"), 0.01),
    **dict.fromkeys(("mm", "millimetre", "millimeter"), 0.001),
}
_RESERVED = ("name", "joint_names", "parents", "label_names", "frame_label", "prepared", *COLUMNS)


def is_untrimmed(path: Path) -> bool:
    """Whether a file has a label per frame instead of one per clip; false for what cannot be read."""
    try:
        with zipfile.ZipFile(path) as file:
            keys = {name.removesuffix(".npy") for name in file.namelist()}
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return False
    return "frame_label" in keys and "label" not in keys


def read_recordings(path: Path, sha256: str, on_bad: OnBad) -> tuple[Recordings, NDArray[np.int64], float | None]:
    """Read an npz file.

    Returns:
        Clips, or untrimmed recordings, whose sample table has no column ``label``; and the labels: one per clip, or one per
        frame of all recordings, counted from 1 with 0 for the background; and the frames per second of recordings, ``None``
        where the file does not tell.

    Raises:
        BenchError: not an npz, keys missing or not fitting each other, or a bad clip under ``on_bad="stop"``.
    """
    arrays = _load(path)
    untrimmed = "frame_label" in arrays and "label" not in arrays
    unit = "recording" if untrimmed else "clip"
    xyz, offsets = _frames(arrays, path)
    label = _labels(arrays, path, offsets, untrimmed)
    layout = _layout(arrays, path, xyz.shape[2])
    classes = _classes(arrays, path, label)
    count = len(offsets) - 1
    ids = arrays.get("name", np.array([f"{unit}{i:06d}" for i in range(count)], str))
    if ids.shape != (count,) or ids.dtype.kind != "U":
        raise BenchError(f"{path}: name must be {count} words; it is {ids.dtype} {ids.shape}.")
    columns = {key: values for key, values in arrays.items() if _is_column(key, values, count)}
    if "view" in columns:
        columns.setdefault("camera", columns["view"])
        del columns["view"]
    scale = _scale(arrays, path)
    prepared = _prepared(arrays, path)
    rate = _frame_rate(arrays, path) if untrimmed else None
    if prepared and untrimmed:
        raise BenchError(f"{path}: prepared is for clips; recordings are taken as they were recorded. Leave it out.")
    clips, labels, rows, skipped, remarks = [], [], [], [], []
    seen: dict[str, int] = {}
    for index, name in enumerate(map(str, ids)):
        place = f"{path.name}, {unit} {index} ({name})"
        stretch = slice(offsets[index], offsets[index + 1])
        clip, its = xyz[stretch] * scale, label[stretch] if untrimmed else label[[index]]
        try:
            if name in seen:
                raise BadClipError(f"{unit} {seen[name]} has the same name")
            wrong = np.flatnonzero((its < -untrimmed) | (its >= len(classes)))
            if len(wrong):
                frame = f"frame {wrong[0]}: " if untrimmed else ""
                lowest = "-1 (background)" if untrimmed else "0"
                raise BadClipError(f"{frame}label {its[wrong[0]]} is not in {lowest}..{len(classes) - 1}")
            remark = inspect(clip, layout)
        except BadClipError as error:
            skipped.append(Finding(place, str(error)))
            if on_bad == "stop":
                raise BenchError(f"{skipped[-1]}. Mend the file, or skip bad clips.") from None
            continue
        if remark and not prepared:
            remarks.append(Finding(place, remark))
        seen[name] = index
        clips.append(clip)
        labels.append(its + untrimmed)
        rows.append(index)
    table = {"id": ids, **({} if untrimmed else {"label": label}), **columns}
    samples = pd.DataFrame({key: values[rows] for key, values in table.items()})
    classes = (BACKGROUND, *classes) if untrimmed else classes
    source = {"name": path.name, "sha256": sha256, "files": 1, "prepared": prepared}
    if not clips:
        raise BenchError(f"{path}: none of {len(skipped)} {unit}s is usable.{first_of(skipped)}")
    return Recordings(clips, samples, layout, classes, source, skipped, remarks), np.concatenate(labels), rate


def _load(path: Path) -> Arrays:
    """All arrays of the file; each is read once, because an open npz decompresses at every access."""
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            check_sizes(archive, path)
            file.seek(0)
            return dict(np.load(file, allow_pickle=False))
    except BenchError:
        raise
    except Exception as error:  # whatever zip, zlib and the array headers throw at a damaged or hostile file
        raise BenchError(f"{path} cannot be read as an npz of plain arrays: {error}") from None


def _need(arrays: Arrays, path: Path, *keys: str) -> None:
    if missing := [key for key in keys if key not in arrays]:
        raise BenchError(f"{path}: {', '.join(missing)} missing; found {', '.join(arrays) or 'nothing'}.")


def _frames(arrays: Arrays, path: Path) -> tuple[NDArray[np.floating], NDArray[np.int64]]:
    """Coordinates (F, M, V, 3) and offsets (N + 1,)."""
    _need(arrays, path, "xyz", "offsets")
    xyz, offsets = arrays["xyz"], arrays["offsets"]
    xyz = xyz[:, None] if xyz.ndim == 3 else xyz
    if xyz.ndim != 4 or xyz.shape[-1] != 3 or xyz.dtype.kind != "f":
        raise BenchError(f"{path}: xyz is {xyz.dtype} {arrays['xyz'].shape}; expected float (F, V, 3) or (F, M, V, 3).")
    if offsets.dtype.kind not in "iu" or offsets.ndim != 1 or not len(offsets):
        raise BenchError(f"{path}: offsets must be a list of whole numbers; it is {offsets.dtype} {offsets.shape}.")
    offsets = offsets.astype(np.int64)
    if offsets[0] != 0 or offsets[-1] != len(xyz):
        raise BenchError(
            f"{path}: offsets must rise from 0 to the {len(xyz)} frames of xyz; they go from {offsets[0]} to {offsets[-1]}."
        )
    if len(falls := np.flatnonzero(np.diff(offsets) < 0)):
        at = int(falls[0])
        raise BenchError(
            f"{path}: offsets must rise; offsets[{at}] is {offsets[at]}, offsets[{at + 1}] {offsets[at + 1]}."
        )
    return xyz.astype(np.promote_types(xyz.dtype, np.float32)), offsets


def _labels(arrays: Arrays, path: Path, offsets: NDArray[np.int64], untrimmed: bool) -> NDArray[np.int64]:
    """One label per clip, or per frame of all recordings."""
    key = "frame_label" if untrimmed else "label"
    _need(arrays, path, key)
    label = arrays[key]
    if label.dtype.kind not in "iu" or label.ndim != 1:
        raise BenchError(f"{path}: {key} must be a list of whole numbers; it is {label.dtype} {label.shape}.")
    if untrimmed and len(label) != offsets[-1]:
        raise BenchError(f"{path}: {len(label)} frame labels for {offsets[-1]} frames.")
    if not untrimmed and len(label) != len(offsets) - 1:
        raise BenchError(f"{path}: {len(offsets)} offsets for {len(label)} labels; expected one more than labels.")
    return label.astype(np.int64)


def _layout(arrays: Arrays, path: Path, joints: int) -> Layout:
    _need(arrays, path, "joint_names", "parents")
    names, parents = arrays["joint_names"], arrays["parents"]
    if (
        names.shape != (joints,)
        or parents.shape != (joints,)
        or names.dtype.kind != "U"
        or parents.dtype.kind not in "iu"
    ):
        raise BenchError(
            f"{path}: xyz has {joints} joints, so joint_names must be {joints} words and parents {joints} whole "
            f"numbers (-1 = root); they are {names.dtype} {names.shape} and {parents.dtype} {parents.shape}."
        )
    layout = Layout.from_parents(path.stem, [str(name) for name in names], [int(parent) for parent in parents])
    for known in LAYOUTS.values():
        if (known.joints, known.bones, known.centre) == (layout.joints, layout.bones, layout.centre):
            return known
    return layout


def _classes(arrays: Arrays, path: Path, label: NDArray[np.int64]) -> tuple[str, ...]:
    if "label_names" not in arrays:
        return tuple(f"class {number}" for number in range(int(label.max(initial=-1)) + 1))
    if arrays["label_names"].ndim != 1:
        raise BenchError(f"{path}: label_names must be a list of words.")
    return tuple(str(name) for name in arrays["label_names"])


def _scale(arrays: Arrays, path: Path) -> float:
    unit = str(arrays["unit"]).strip().lower() if "unit" in arrays else "m"
    unit = unit if unit in _METRES else unit.removesuffix("s")
    if unit not in _METRES:
        raise BenchError(
            f"{path}: unit {str(arrays['unit'])!r} is unknown; known: m, cm, mm (or leave unit out for metres)."
        )
    return _METRES[unit]


def _prepared(arrays: Arrays, path: Path) -> bool:
    stated = arrays.get("prepared", np.array(False))
    if stated.shape != () or stated.dtype.kind != "b":
        raise BenchError(f"{path}: prepared must be true or false; it is {stated.dtype} {stated.shape}.")
    return bool(stated)


def _frame_rate(arrays: Arrays, path: Path) -> float | None:
    fps = arrays.get("fps")
    if fps is None:
        return None
    if fps.shape != () or fps.dtype.kind not in "iuf" or not 0 < fps < np.inf:
        raise BenchError(f"{path}: fps must be one positive number; it is {fps.dtype} {fps.shape}.")
    return float(fps)


def _is_column(key: str, values: NDArray[Any], count: int) -> bool:
    return values.shape == (count,) and values.dtype.kind in "iubU" and key not in _RESERVED
