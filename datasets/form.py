"""NTU RGB+D and PKU-MMD as others have prepared them: ``form:PATH`` or ``form:PATH#SPLIT``, the form told by its content."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd

from datasets.base import Cut, Dataset, OnBad
from datasets.check import CheckReport
from datasets.forms_aimclr import is_aimclr, read_aimclr
from datasets.forms_ctrgcn import read_ctrgcn
from datasets.forms_pyskl import read_pyskl
from datasets.interchange import GROUPS, Interchange, prepare
from datasets.prepare import Preparation
from datasets.store import COLUMNS, Prepared
from engine.config import BenchError, suggestion

FORMS: Mapping[str, Callable[[Path], Interchange]] = {
    "aimclr": read_aimclr,
    "ctrgcn": read_ctrgcn,
    "pyskl": read_pyskl,
}
_SUFFIXES = {".npz": "ctrgcn", ".pkl": "pyskl", ".pickle": "pyskl"}


def form_of(path: Path) -> tuple[str, Path]:
    """Which form a path is in, and the path itself; the form is empty where nothing tells it.

    A folder with the files of AimCLR is ``aimclr``, ``.npz`` is ``ctrgcn``, ``.pkl`` is ``pyskl``; ``FORM=PATH`` says it.

    Raises:
        BenchError: ``FORM=`` names none of them.
    """
    word, equals, rest = str(path).partition("=")
    if equals and word.isidentifier() and not path.exists():
        if word not in FORMS:
            raise BenchError(f"There is no form {word!r}.{suggestion(word, FORMS)} Known: {', '.join(FORMS)}.")
        return word, Path(rest)
    if path.is_dir():
        return "aimclr" if is_aimclr(path) else "", path
    return _SUFFIXES.get(path.suffix.lower(), ""), path


def read_form(path: Path) -> Interchange:
    """Read an interchange form, told as by :func:`form_of`.

    Raises:
        BenchError: not there, none of the forms, or damaged.
    """
    form, path = form_of(path)
    if not path.exists():
        raise BenchError(f"{path} does not exist; give a folder with *_position.npy, a .npz or a .pkl.")
    if not form and path.is_dir():
        form = "aimclr"  # whose reader says what is missing
    if not form or (form == "aimclr") != path.is_dir():
        raise BenchError(
            f"{path}: a folder with *_position.npy and *_label.pkl (AimCLR), a .npz (CTR-GCN) or a .pkl (PYSKL) is read; "
            "of an .npy give its folder. Files with other endings: ctrgcn=PATH or pyskl=PATH."
        )
    return FORMS[form](path)


class Form(Dataset):
    """Files that the field passes around; prepared on first use, and again when they change.

    - a folder with ``{train,val}_position.npy`` and ``_label.pkl``, or a folder of such folders per split (CrosSCLR,
      AimCLR, ActCLR, HiCLR); 300 raw frames are prepared, 50 prepared ones kept as they are;
    - ``NTU60_CS.npz``, ``NTU120_CSet.npz`` ... (CTR-GCN);
    - ``ntu60_3danno.pkl`` ... (PYSKL, MMAction2).

    ``form:aimclr=PATH``, ``form:ctrgcn=PATH`` and ``form:pyskl=PATH`` say which it is.
    """

    title: ClassVar[str] = "NTU RGB+D or PKU-MMD as AimCLR, CTR-GCN or PYSKL prepared it (form:PATH#SPLIT)"
    version: ClassVar[int] = 1
    splits: ClassVar[Mapping[str, str]] = {"auto": "the first split that the files hold; form:PATH#xview names another"}

    @property
    def path(self) -> Path:
        """The file or folder.

        Raises:
            BenchError: none is named, or it is not there.
        """
        if not self.argument:
            raise BenchError("form needs a file or folder: form:PATH, or form:PATH#SPLIT, e.g. form:NTU60_CS.npz.")
        path = form_of(Path(self.argument))[1]
        if not path.exists():
            raise BenchError(f"form:{path}: there is no such file or folder.")
        return path

    @property
    def name(self) -> str:
        """``form:`` and the name of file or folder."""
        path = self.path.resolve()
        return f"form:{re.sub(r'[^A-Za-z0-9_.-]+', '_', path.name if path.is_dir() else path.stem)}"

    @cached_property
    def folder(self) -> Path:
        """One folder per state of the files (place, size and time: their checksums would take minutes)."""
        path = self.path.resolve()
        files = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
        states = [f"{each} {each.stat().st_size} {each.stat().st_mtime_ns}" for each in files]
        states += [form] if (form := form_of(Path(self.argument))[0]) != form_of(path)[0] else []
        key = hashlib.sha256("\n".join(states).encode(errors="surrogateescape")).hexdigest()[:16]
        return self.root / "form" / f"{key}-frames{self.frames}-v{self.version}"

    def prepare(self, source: Path | None, tell: Callable[[str], None], on_bad: OnBad = "skip") -> CheckReport:
        """Prepare the named files; see :meth:`Dataset.prepare`."""
        if source is not None and source.resolve() != self.path.resolve():
            raise BenchError(f"form:{self.path} is its own source; leave --source {source} out.")
        self._prepare(tell, on_bad)
        return self.check()

    def prepared(self) -> Prepared:
        """The store, made on first use; see :meth:`Dataset.prepared`."""
        if not self.folder.is_dir():
            self._prepare(lambda line: None, "skip")
            super().prepared().warn_of_skipped()
        return super().prepared()

    def _prepare(self, tell: Callable[[str], None], on_bad: OnBad) -> None:
        found = read_form(Path(self.argument))
        tell(f"{self.path}: form {found.form}, {len(found.samples)} clips, splits {', '.join(found.splits) or 'none'}")
        prepare(self.folder, found, Preparation(frames=self.frames), self.version, on_bad)

    def split_names(self, samples: pd.DataFrame) -> tuple[str, ...]:
        """The splits that the files hold."""
        words = {"train", "test", ""}
        return tuple(
            str(name)
            for name in samples
            if name not in COLUMNS and samples[name].dtype.kind == "O" and set(samples[name].unique()) <= words
        )

    def cut(self, samples: pd.DataFrame, split: str) -> Cut:
        """Cut as the files say."""
        known = self.split_names(samples)
        name = known[0] if split == "auto" and known else split
        if name not in known:
            has = f"It has {', '.join(known)}" if known else "The files hold no split"
            raise BenchError(f"{self.name} has no split {split!r}.{suggestion(split, known)} {has}.")
        words = samples[name].to_numpy(str)
        group = GROUPS.get(name, name)
        return Cut(name, np.asarray(words == "train"), np.asarray(words == "test"), group if group in samples else name)
