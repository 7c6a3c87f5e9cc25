"""Bring your own skeletons: one ``.npz`` file with all clips end to end, as ``npz:PATH`` or ``npz:PATH#RULE``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from datasets.base import Content, Cut, Dataset, OnBad
from datasets.check import CheckReport
from datasets.npz_file import is_untrimmed, read_recordings
from datasets.prepare import Preparation, as_they_are, prepare_store
from datasets.store import COLUMNS, Prepared, file_sha256
from datasets.untrimmed import RecordingStore, write_recordings
from engine.config import BenchError, suggestion

_NUMBERED = ("subject", "camera", "episode")
"""Columns that need no training values: odd numbers train, even ones test."""


class Npz(Dataset):
    """Your own skeletons; prepared on first use, and again whenever the file's content changes.

    Keys of the file:

    - ``xyz`` float (sum of frames, V, 3), or (sum of frames, M, V, 3) for M persons; y up, an absent person all zero;
    - ``offsets`` int (N + 1): where each clip begins and the last one ends;
    - ``label`` int (N), 0-based; ``label_names`` str (optional);
    - or, for untrimmed recordings, ``frame_label`` int (sum of frames), -1 = background; ``fps`` (optional);
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

    @cached_property
    def contents(self) -> tuple[Content, ...]:
        """Clips, or untrimmed recordings for a file with ``frame_label`` instead of ``label``."""
        return ("recordings",) if is_untrimmed(self.path) else ("clips",)

    @property
    def folder(self) -> Path:
        """One folder per content of the file, version and number of frames."""
        return self.root / "npz" / f"{self.sha256[:16]}-frames{self.frames}-v{self.version}"

    @property
    def untrimmed_folder(self) -> Path:
        """One folder per content of the file and version."""
        return self.root / "npz" / f"{self.sha256[:16]}-untrimmed-v{self.version}"

    def prepared(self) -> Prepared:
        """The store, made on first use; see :meth:`Dataset.prepared`."""
        self._assert_made("clips", self.folder)
        return super().prepared()

    def recordings(self) -> RecordingStore:
        """The store of untrimmed recordings, made on first use; see :meth:`Dataset.recordings`."""
        self._assert_made("recordings", self.untrimmed_folder)
        return super().recordings()

    def _assert_made(self, content: Content, folder: Path) -> None:
        if content in self.contents and not folder.is_dir():
            self._prepare(lambda line: None, "skip")
            store = super().prepared() if content == "clips" else super().recordings()
            store.warn_of_skipped()

    def prepare(self, source: Path | None, tell: Callable[[str], None], on_bad: OnBad = "skip") -> CheckReport:
        """Prepare the named file; see :meth:`Dataset.prepare`."""
        if source is not None and source.resolve() != self.path.resolve():
            raise BenchError(f"npz:{self.path} is its own source; leave --source {source} out.")
        self._prepare(tell, on_bad)
        return self.check()

    def _prepare(self, tell: Callable[[str], None], on_bad: OnBad) -> None:
        tell(f"reading {self.path}")
        found, labels, rate = read_recordings(self.path, self.sha256, on_bad)
        tell(f"preparing {len(found.clips)} {self.contents[0]}, {len(found.skipped)} skipped")
        if self.contents == ("clips",):
            rules = as_they_are(self.frames) if found.source["prepared"] else Preparation(frames=self.frames)
            prepare_store(self.folder, found, rules, self.version)
            return
        samples = found.samples.copy()
        samples.insert(1, "length", [len(frames) for frames in found.clips])
        manifest = {
            "version": self.version,
            "source": found.source,
            "skipped": [asdict(finding) for finding in found.skipped],
            "remarks": [asdict(finding) for finding in found.remarks],
        }
        frames = np.concatenate(found.clips)
        write_recordings(self.untrimmed_folder, frames, labels, samples, found.layout, found.classes, rate, manifest)

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
        span = re.fullmatch(r"\s*(\d{1,6})-(\d{1,6})\s*", part)
        values += [str(value) for value in range(int(span[1]), int(span[2]) + 1)] if span else [part.strip()]
    return values
