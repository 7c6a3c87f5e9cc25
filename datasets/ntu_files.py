"""The files of NTU RGB+D: what a name says, where the files are, and the list of samples without skeletons."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from datasets.entries import Entry, files_below, of_file, of_zip
from datasets.prepare import BadClipError
from datasets.store import Finding
from engine.config import BenchError

SUFFIX = ".skeleton"
FORM = "SsssCcccPpppRrrrAaaa.skeleton"
_OTHERS = (
    "What others have prepared is read as well: give the folder with *_position.npy, the .npz or the .pkl itself (or use it "
    "as a dataset of its own: --datasets form:PATH)."
)
SETUPS_60, ACTIONS_60 = 17, 60
"""Setups 1 to 17 record actions 1 to 60, which are NTU RGB+D; setups 18 to 32 record actions 61 to 120."""
PERFORMERS_60 = 40

_NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})")
_LIST = re.compile(r".*missing.*skeleton.*\.txt|.*skeleton.*missing.*\.txt", re.IGNORECASE)
COLUMNS = ("setup", "camera", "subject", "replication")


def numbers(stem: str) -> tuple[int, int, int, int, int]:
    """Setup, camera, performer, replication and action of a name.

    Raises:
        BadClipError: the name is not of the form, or has a number that no recording has.
    """
    found = _NAME.fullmatch(stem)
    if not found:
        raise BadClipError(f"the name is not of the form {FORM}")
    setup, camera, subject, replication, action = map(int, found.groups())
    second = setup > SETUPS_60
    actions = range(1, ACTIONS_60 + 1) if not second else range(ACTIONS_60 + 1, 2 * ACTIONS_60 + 1)
    for what, value, known in (
        ("setup", setup, range(1, 33)),
        ("camera", camera, range(1, 4)),
        ("performer", subject, range(1, 107) if second else range(1, PERFORMERS_60 + 1)),
        ("replication", replication, range(1, 3)),
        ("action", action, actions),
    ):
        if value not in known:
            raise BadClipError(f"{what} {value} of the name; expected {known[0]} to {known[-1]} in setup {setup}")
    return setup, camera, subject, replication, action


def table(stems: Iterable[str]) -> pd.DataFrame:
    """Sample table of names that are in order: ``id``, ``label``, then :data:`COLUMNS`."""
    rows = [
        {"id": stem, "label": action - 1, **dict(zip(COLUMNS, place, strict=True))}
        for stem in stems
        for *place, action in [numbers(stem)]
    ]
    return pd.DataFrame(rows, columns=["id", "label", *COLUMNS])


def find_files(source: Path, setups: int, title: str) -> tuple[list[Entry], list[Finding], int]:
    """Skeleton files below a folder or in a zip (or in the zips of a folder without such files), sorted by name.

    Returns:
        The files of the first ``setups`` setups; files with a bad or repeated name; how many files are of other setups.

    Raises:
        BenchError: nothing there that belongs to the dataset.
    """
    if not source.exists():
        raise BenchError(f"{source} does not exist; give --source the folder or zip with the files {FORM}.")
    if source.is_dir():
        files = files_below(source)
        entries = [of_file(path) for path in files if path.suffix == SUFFIX]
        zips = [path for path in files if path.suffix == ".zip"]
        entries = entries or [entry for path in zips for entry in of_zip(path, SUFFIX, _OTHERS)]
    else:
        files = []
        entries = of_zip(source, SUFFIX, _OTHERS)
    entries.sort(key=lambda entry: (entry.stem, str(entry.path), entry.member))
    good: list[Entry] = []
    bad: list[Finding] = []
    others = 0
    for entry in entries:
        try:
            if numbers(entry.stem)[0] > setups:
                others += 1
                continue
            if good and good[-1].stem == entry.stem:
                raise BadClipError("a file of this name was found in another folder of the source already")
            good.append(entry)
        except BadClipError as error:
            bad.append(Finding(entry.place, str(error)))
    if good:
        return good, bad, others
    if others:
        there = f"only setups {setups + 1} to 32 ({others} files): that is the second part of NTU RGB+D 120, see ntu120"
    elif bad:
        there = f"{len(bad)} skeleton files whose names are of another dataset, e.g. {bad[0]}"
    elif files:
        there = f"{len(files)} other files, e.g. {min(path.relative_to(source).as_posix() for path in files)}"
    else:
        there = "no files at all" if source.is_dir() else "none of that ending"
    raise BenchError(f"{source} holds no file {FORM} of {title}, but {there}. {_OTHERS}")


def missing_lists(source: Path) -> list[Path]:
    """The user's copies of the official lists of samples with missing skeletons: text files in (or beside) the source."""
    folder = source if source.is_dir() else source.parent
    return sorted(path for path in folder.iterdir() if _LIST.fullmatch(path.name) and path.is_file())


def read_missing(path: Path) -> frozenset[str]:
    """The names on such a list; lines before the first name are its heading.

    Raises:
        BenchError: not a list of names.
    """
    names: set[str] = set()
    for number, line in enumerate(path.read_bytes().decode("utf-8", "backslashreplace").splitlines(), 1):
        word = line.strip().removesuffix(SUFFIX)
        if _NAME.fullmatch(word):
            names.add(word)
        elif word and names:
            raise BenchError(
                f"{path}, line {number}: expected a name such as S001C002P005R002A008, found {word[:60]!r}."
            )
    if not names:
        raise BenchError(
            f"{path}: expected a list of names such as S001C002P005R002A008, found none. Mend or rename it."
        )
    return frozenset(names)


def absent_from(stems: Sequence[str]) -> list[str]:
    """Files that other files of the same recording (setup, performer, replication) promise: 3 cameras, 60 actions."""
    present = set(stems)
    recordings = {(setup, subject, replication) for setup, _, subject, replication, _ in map(numbers, present)}
    promised = {
        f"S{setup:03}C{camera:03}P{subject:03}R{replication:03}A{action + (ACTIONS_60 if setup > SETUPS_60 else 0):03}"
        for setup, subject, replication in recordings
        for camera in range(1, 4)
        for action in range(1, ACTIONS_60 + 1)
    }
    return sorted(promised - present)
