"""Bring your own skeletons: one ``.npz`` file with all clips end to end, as ``npz:PATH`` or ``npz:PATH#RULE``."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from datasets.base import Cut, Dataset, OnBad
from datasets.check import CheckReport
from datasets.layout import LAYOUTS, Layout
from datasets.prepare import BadClipError, Preparation, Recordings, as_they_are, inspect, prepare_store
from datasets.store import COLUMNS, Finding, Prepared, file_sha256
from engine.config import BenchError, suggestion

Arrays = Mapping[str, NDArray[Any]]
_METRES = {
    **dict.fromkeys(("m", "metre", "meter"), 1.0),
    **dict.fromkeys(("cm", "centimetre", "centimeter"), 0.01),
    **dict.fromkeys(("mm", "millimetre", "millimeter"), 0.001),
}
_NUMBERED = ("subject", "camera", "episode")
"""Columns that need no training values: odd numbers train, even ones test."""
_RESERVED = ("name", "joint_names", "parents", "label_names", "frame_label", "prepared", *COLUMNS)


class Npz(Dataset):
    """Your own skeletons; prepared on first use, and again whenever the file's content changes.

    Keys of the file:

    - ``xyz`` float (sum of frames, V, 3), or (sum of frames, M, V, 3) for M persons; y up, an absent person all zero;
    - ``offsets`` int (N + 1): where each clip begins and the last one ends;
    - ``label`` int (N), 0-based; ``label_names`` str (optional);
    - ``joint_names`` str (V), ``parents`` int (V), -1 = root: the layout;
    - ``unit``: m, cm or mm (optional, metres if absent); ``name`` str (N): sample names (optional);
    - ``prepared``: true for clips that are centred and turned already, as ``data export`` writes them (optional);
    - ``subject``, ``view`` or ``camera``, ``episode``, ``split`` and any other array (N,) of numbers or words: columns.

    RULE is a column, with the training values unless its own are ``train`` and ``test`` or true (= train) and false:
    ``#subject=1-5,7``, ``#split``, ``#column=my_column``. Without values, odd subjects, cameras and episodes train.
    """

    title: ClassVar[str] = "any skeletons in one npz file (npz:PATH#RULE)"
    version: ClassVar[int] = 1
    splits: ClassVar[Mapping[str, str]] = {
        "auto": "the stored column 'split' if there is one, else subject",
        "subject": "odd subjects train, even ones test; subject=1-5,7 lists those that train",
        "camera": "odd cameras train, even ones test; camera=1,2 (or view=1,2) lists those that train",
        "episode": "odd episodes train, even ones test; episode=1-3 lists those that train",
        "split": "a stored column of train and test, or of true (train) and false; column=NAME for one of another name",
    }

    @property
    def name(self) -> str:
        """``npz:`` and the file's name without folders."""
        return f"npz:{re.sub(r'[^A-Za-z0-9_.-]+', '_', self.path.stem)}"

    @property
    def path(self) -> Path:
        """The npz file.

        Raises:
            BenchError: none is named.
        """
        if not self.argument:
            raise BenchError("npz needs a file: npz:PATH, or npz:PATH#RULE, e.g. npz:clips.npz#subject=1-5.")
        return Path(self.argument)

    @cached_property
    def sha256(self) -> str:
        """Checksum of the file.

        Raises:
            BenchError: there is no such file.
        """
        if not self.path.is_file():
            raise BenchError(f"npz:{self.path}: there is no such file.")
        return file_sha256(self.path)

    @property
    def folder(self) -> Path:
        """One folder per content of the file, version and number of frames."""
        return self.root / "npz" / f"{self.sha256[:16]}-frames{self.frames}-v{self.version}"

    def prepared(self) -> Prepared:
        """The store, made on first use; see :meth:`Dataset.prepared`."""
        if not self.folder.is_dir():
            self._prepare(lambda line: None, "skip")
            if skipped := super().prepared().findings("skipped"):
                warnings.warn(
                    f"{len(skipped)} clips were skipped, the first: {skipped[0]}. See data check.", stacklevel=2
                )
        return super().prepared()

    def prepare(self, source: Path | None, tell: Callable[[str], None], on_bad: OnBad = "skip") -> CheckReport:
        """Prepare the named file; see :meth:`Dataset.prepare`."""
        if source is not None and source.resolve() != self.path.resolve():
            raise BenchError(f"npz:{self.path} is its own source; leave --source {source} out.")
        self._prepare(tell, on_bad)
        return self.check()

    def _prepare(self, tell: Callable[[str], None], on_bad: OnBad) -> None:
        tell(f"reading {self.path}")
        recordings = read_recordings(self.path, self.sha256, on_bad)
        tell(f"preparing {len(recordings.clips)} clips, {len(recordings.skipped)} skipped")
        rules = as_they_are(self.frames) if recordings.source["prepared"] else Preparation(frames=self.frames)
        prepare_store(self.folder, recordings, rules, self.version)

    def split_names(self, samples: pd.DataFrame) -> tuple[str, ...]:
        """Splits for which there is a column whose values say what trains."""
        names = []
        for name in self.splits:
            with suppress(BenchError):
                if name in samples and self.cut(samples, name):
                    names.append(name)
        return tuple(names)

    def cut(self, samples: pd.DataFrame, split: str) -> Cut:
        """Cut by a rule; see the class."""
        rule = re.sub(r"^view\b", "camera", split.removeprefix("column="))
        if rule == "auto":
            rule = next((name for name in ("split", "subject") if name in samples), "")
        column, _, listed = rule.partition("=")
        known = [str(name) for name in samples if name not in COLUMNS]
        if column not in known:
            found = f"The file has the columns {', '.join(known)}" if known else "The file has no column to cut by"
            close = suggestion(column, known)
            raise BenchError(
                f"{self.name}: no column {column or 'split or subject'!r}.{close} {found}; see npz:PATH#RULE."
            )
        train, test = _parts(samples[column], listed, f"{self.name}#{rule}")
        return Cut(rule, train, test, column)


def _parts(values: pd.Series[Any], listed: str, where: str) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Training and test samples, (N,) bool each, by a column's values and the training values listed."""
    words = values.astype(str).to_numpy(str)
    if listed:
        train = np.isin(words, _expand(listed, where))
        return train, ~train
    unique = set(np.unique(np.char.lower(words)).tolist())
    if unique <= {"train", "test"} or unique <= {"true", "false"}:
        train = np.isin(np.char.lower(words), ("train", "true"))
        return train, ~train
    if values.name in _NUMBERED and values.dtype.kind in "iu":
        train = values.to_numpy(np.int64) % 2 == 1
        return train, ~train
    if unique <= {"0", "1"}:
        return words == "1", words == "0"
    some = ", ".join(sorted(unique)[:8])
    raise BenchError(f"{where}: the values {some} do not say what trains; list those that do: {where}=VALUE,VALUE")


def _expand(listed: str, where: str) -> list[str]:
    """The values ``1,2,3,7`` of the list ``1-3,7``."""
    values: list[str] = []
    for part in listed.split(","):
        if not part.strip():
            raise BenchError(f"{where}: an empty value in the list; write for example 1-5,7.")
        span = re.fullmatch(r"\s*(\d+)-(\d+)\s*", part)
        values += [str(value) for value in range(int(span[1]), int(span[2]) + 1)] if span else [part.strip()]
    return values


def read_recordings(path: Path, sha256: str, on_bad: OnBad) -> Recordings:
    """Read an npz file.

    Raises:
        BenchError: not an npz, keys missing or not fitting each other, or a bad clip under ``on_bad="stop"``.
    """
    arrays = _load(path)
    xyz, offsets, label = _clips(arrays, path)
    layout = _layout(arrays, path, xyz.shape[2])
    classes = _classes(arrays, path, label)
    ids = arrays.get("name", np.array([f"clip{i:06d}" for i in range(len(label))], str))
    if ids.shape != label.shape or ids.dtype.kind != "U":
        raise BenchError(f"{path}: name must be {len(label)} words; it is {ids.dtype} {ids.shape}.")
    columns = {key: values for key, values in arrays.items() if _is_column(key, values, len(label))}
    if "view" in columns:
        columns.setdefault("camera", columns["view"])
        del columns["view"]
    scale = _scale(arrays, path)
    prepared = _prepared(arrays, path)
    clips, rows, skipped, remarks = [], [], [], []
    seen: dict[str, int] = {}
    for index, name in enumerate(map(str, ids)):
        place = f"{path.name}, clip {index} ({name})"
        clip = xyz[offsets[index] : offsets[index + 1]] * scale
        try:
            if name in seen:
                raise BadClipError(f"clip {seen[name]} has the same name")
            if not 0 <= label[index] < len(classes):
                raise BadClipError(f"label {label[index]} is not in 0..{len(classes) - 1}")
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
        rows.append(index)
    table = {"id": ids, "label": label, **columns}
    samples = pd.DataFrame({key: values[rows] for key, values in table.items()})
    source = {"name": path.name, "sha256": sha256, "files": 1, "prepared": prepared}
    return Recordings(clips, samples, layout, classes, source, skipped, remarks)


def _load(path: Path) -> Arrays:
    """All arrays of the file; each is read once, because an open npz decompresses at every access."""
    try:
        with path.open("rb") as file, zipfile.ZipFile(file):  # a plain message for what is no npz at all
            file.seek(0)
            return dict(np.load(file, allow_pickle=False))
    except Exception as error:  # whatever zip, zlib and the array headers throw at a damaged or hostile file
        raise BenchError(f"{path} cannot be read as an npz of plain arrays: {error}") from None


def _need(arrays: Arrays, path: Path, *keys: str) -> None:
    missing = [key for key in keys if key not in arrays]
    if missing == ["label"] and "frame_label" in arrays:
        raise BenchError(
            f"{path} holds untrimmed recordings (frame_label instead of label); trimmed clips are needed here, "
            "with one label each."
        )
    if missing:
        raise BenchError(f"{path}: {', '.join(missing)} missing; found {', '.join(arrays) or 'nothing'}.")


def _clips(arrays: Arrays, path: Path) -> tuple[NDArray[np.floating], NDArray[np.int64], NDArray[np.int64]]:
    """Coordinates (F, M, V, 3), offsets (N + 1,) and labels (N,)."""
    _need(arrays, path, "xyz", "offsets", "label")
    xyz, offsets, label = arrays["xyz"], arrays["offsets"], arrays["label"]
    xyz = xyz[:, None] if xyz.ndim == 3 else xyz
    if xyz.ndim != 4 or xyz.shape[-1] != 3 or xyz.dtype.kind != "f":
        raise BenchError(f"{path}: xyz is {xyz.dtype} {arrays['xyz'].shape}; expected float (F, V, 3) or (F, M, V, 3).")
    if offsets.dtype.kind not in "iu" or label.dtype.kind not in "iu" or offsets.ndim != 1 or label.ndim != 1:
        raise BenchError(f"{path}: offsets and label must be lists of whole numbers.")
    if len(offsets) != len(label) + 1:
        raise BenchError(f"{path}: {len(offsets)} offsets for {len(label)} labels; expected one more than labels.")
    offsets = offsets.astype(np.int64)
    if offsets[0] != 0 or offsets[-1] != len(xyz) or (np.diff(offsets) < 0).any():
        raise BenchError(
            f"{path}: offsets must rise from 0 to the {len(xyz)} frames of xyz; they end at {offsets[-1]}."
        )
    return xyz.astype(np.promote_types(xyz.dtype, np.float32)), offsets, label.astype(np.int64)


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


def _is_column(key: str, values: NDArray[Any], count: int) -> bool:
    return values.shape == (count,) and values.dtype.kind in "iubU" and key not in _RESERVED
