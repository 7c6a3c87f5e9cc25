"""NTU RGB+D and NTU RGB+D 120 from the forms that others have prepared (``datasets/form.py``) instead of the raw files."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from itertools import compress
from pathlib import Path

import numpy as np
import pandas as pd

from datasets.base import Dataset, OnBad
from datasets.form import form_of, read_form
from datasets.interchange import Interchange, is_name, prepare
from datasets.ntu_bodies import SELECTIONS
from datasets.ntu_release import Release
from datasets.prepare import Preparation
from datasets.store import Finding
from engine.config import BenchError


def is_form(source: Path) -> bool:
    """Whether a source is one of these forms, told by its name or by ``FORM=`` before it."""
    return bool(form_of(source)[0])


def prepare_form(
    dataset: Dataset, release: Release, rules: Preparation, source: Path, tell: Callable[[str], None], on_bad: OnBad
) -> None:
    """Prepare a form into the dataset's own store.

    Where the form names its clips, their names give all official splits; the form's own ones must be the same. A form
    without names gives the split that its file is called after.

    Raises:
        BenchError: not such a form, damaged, or of another dataset.
    """
    found = read_form(source)
    if set(dataset.argument.split("+")) & set(SELECTIONS):
        raise BenchError(
            f"{source}: who is in a clip was chosen by those who made it; {dataset.name} needs the raw files."
        )
    if dataset.argument and found.prepared:
        raise BenchError(f"{source} holds clips that are prepared already; {dataset.name} needs raw ones.")
    tell(f"{source}: form {found.form}, {len(found.samples)} clips")
    reason = f"prepared by others (form {found.form}): the clips and bodies are those that they kept"
    remarks = [Finding(source.name, reason)]
    if found.named:
        found, others = _own(found, release, source)
        if others:
            remarks.append(Finding(source.name, f"{others} clips of setups above {release.setups} left alone"))
    else:
        _assert_told(found, release, source)
    prepare(dataset.folder, found, rules, dataset.version, on_bad, release.classes, remarks)


def _own(found: Interchange, release: Release, source: Path) -> tuple[Interchange, int]:
    """The clips of this release, without the form's own split columns, and how many are of the other one."""
    samples = found.samples
    if "setup" not in samples:
        stranger = next(name for name in samples["id"] if not is_name(name))
        raise BenchError(
            f"{source}: a clip is called {stranger}, which is no name of {release.title} (S001C002P003R002A013). Read the "
            "file as form:PATH."
        )
    for split in set(found.splits) & set(release.training):
        _assert_official(samples, release, split, source)
    keep = (samples["setup"] <= release.setups).to_numpy()
    if not keep.any():
        raise BenchError(
            f"{source} holds setups above {release.setups} only, which are not of {release.title}; see ntu120."
        )
    place = {int(row): number for number, row in enumerate(np.flatnonzero(keep))}
    own = replace(
        found,
        samples=samples[keep].drop(columns=list(found.splits)).reset_index(drop=True),
        splits=(),
        clips=lambda: compress(found.clips(), keep.tolist()),
        faults={place[row]: fault for row, fault in found.faults.items() if row in place},
    )
    return own, int((~keep).sum())


def _assert_official(samples: pd.DataFrame, release: Release, split: str, source: Path) -> None:
    words = samples[split].to_numpy(str)
    other = (words != "") & ((words == "train") != release.trains(samples, split))
    if other.any():
        row = int(other.argmax())
        raise BenchError(
            f"{source}: its {split} is not the official split: {samples['id'].iloc[row]} is in the {words[row]} part "
            f"({other.sum()} clips differ). Read the file as form:PATH to keep its own split."
        )


def _assert_told(found: Interchange, release: Release, source: Path) -> None:
    """Of a form without names: its classes and its split are those of the release."""
    told = re.search(r"ntu[-_ ]?(60|120)(?!\d)", source.name.lower())
    if told and int(told[1]) != len(release.classes):
        raise BenchError(
            f"{source} is NTU RGB+D {told[1]} by its name, not {release.title}: prepare it as ntu{told[1]}, or rename it."
        )
    classes, most = len(release.classes), int(found.samples["label"].max()) + 1
    if most > classes:
        raise BenchError(f"{source} has a clip of class {most}, {release.title} has {classes} classes; is it ntu120?")
    if not set(found.splits) & set(release.training):
        raise BenchError(
            f"{source} does not name its clips, so the file's name must tell the split: {' or '.join(release.training)} as a "
            "word of it (or as in NTU60_CS.npz). Rename it, or read it as form:PATH."
        )
