"""The files of PKU-MMD: what names say, which files hold skeletons and which labels, and the official split files."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets.entries import Entry, files_below, of_file, of_zip
from datasets.prepare import BadClipError
from datasets.store import Finding
from engine.config import BenchError

CAMERAS = {"L": 1, "M": 2, "R": 3}
"""Views by the letter that ends a name."""
_STEMS = {
    1: re.compile(r"(?P<video>\d{4})-(?P<view>[LMR])"),
    2: re.compile(r"A(?P<video>\d\d)N(?P<subject>\d\d)-(?P<view>[LMR])"),
}
FORMS = {1: "0002-L.txt", 2: "A01N01-L.txt"}
"""What names of both parts look like."""
_SPLIT = re.compile(r"cross[-_ ]?(?P<kind>subject|view)(?:[-_ ]?v\d)?", re.IGNORECASE)
_HINT = "A .7z archive must be unpacked first."


@dataclass(frozen=True)
class Source:
    """What a source holds of one part of PKU-MMD.

    Attributes:
        pairs: skeleton file and label file of every recording, sorted by name.
        skipped: recordings that lack one of the two, files with a name that no recording has, repeated names.
        splits: ``xsub`` or ``xview`` -> its official split files.
        others: how many files are of recordings of the other part.
    """

    pairs: Sequence[tuple[Entry, Entry]]
    skipped: Sequence[Finding]
    splits: Mapping[str, Sequence[Entry]]
    others: int


def place_of(stem: str, part: int) -> dict[str, int]:
    """``video``, ``camera`` and, in part II, ``subject`` of a recording; nothing for a name that is not of this part."""
    found = _STEMS[part].fullmatch(stem)
    if not found:
        return {}
    numbers = {key: int(value) for key, value in found.groupdict().items() if key != "view"}
    return {**numbers, "camera": CAMERAS[found["view"]]}


def find_files(source: Path, part: int, title: str, recordings: Collection[str]) -> Source:
    """Look for the recordings of a part below a folder, in the zips there, or in one zip.

    A folder (or zip) with ``label`` in its name holds labels, one with ``skeleton`` skeletons; of any other a file is looked
    at: lines of labels have commas.

    Args:
        source: folder or zip.
        part: 1 or 2.
        title: its name.
        recordings: names of all recordings that there are.

    Raises:
        BenchError: nothing there that belongs to the part.
    """
    entries = _list(source)
    splits: dict[str, list[Entry]] = {"xsub": [], "xview": []}
    files: dict[bool, dict[str, Entry]] = {False: {}, True: {}}  # by whether they hold labels
    skipped: list[Finding] = []
    others = 0
    known: dict[tuple[Path, str], bool] = {}
    for entry in entries:
        if found := _SPLIT.fullmatch(entry.stem):
            splits["xsub" if found["kind"].lower() == "subject" else "xview"].append(entry)
        elif place_of(entry.stem, 3 - part):
            others += 1
        elif place_of(entry.stem, part):
            folder = (entry.path, str(Path(entry.member).parent)) if entry.member else (entry.path.parent, "")
            if folder not in known:
                known[folder] = _has_labels(entry, source)
            same = files[known[folder]]
            if entry.stem not in recordings:
                skipped.append(Finding(entry.place, f"{title} has no recording of this name"))
            elif entry.stem in same:
                skipped.append(Finding(_named(entry, source), f"the same as {_named(same[entry.stem], source)}"))
            else:
                same[entry.stem] = entry
    skeletons, labels = files[False], files[True]
    for stem in sorted({*skeletons, *labels}):
        if stem not in labels:
            skipped.append(Finding(_named(skeletons[stem], source), "no label file of this name in the source"))
        elif stem not in skeletons:
            skipped.append(Finding(_named(labels[stem], source), "no skeleton file of this name in the source"))
    pairs = [(skeletons[stem], labels[stem]) for stem in sorted(skeletons.keys() & labels.keys())]
    if not pairs:
        raise BenchError(_nothing(source, part, title, skipped, others, entries))
    return Source(pairs, skipped, splits, others)


def _list(source: Path) -> list[Entry]:
    if not source.exists():
        raise BenchError(
            f"{source} does not exist; give --source the folder with the skeletons, labels and split files."
        )
    if not source.is_dir():
        return of_zip(source, ".txt", _HINT)
    files = files_below(source)
    entries = [of_file(path) for path in files if path.suffix == ".txt"]
    return entries + [entry for path in files if path.suffix == ".zip" for entry in of_zip(path, ".txt", _HINT)]


def _has_labels(entry: Entry, source: Path) -> bool:
    folders = _named(entry, source).lower().split("/")[:-1]
    for name in reversed(folders):
        if "label" in name or "skel" in name:
            return "label" in name
    try:
        return b"," in entry.read()[:60]
    except BadClipError:
        return False


def _named(entry: Entry, source: Path) -> str:
    """A file as messages name it: where both kinds have the same name, the folder tells."""
    inside = entry.path.relative_to(source).as_posix() if source.is_dir() else entry.path.name
    return f"{inside}/{entry.member}" if entry.member else inside


def _nothing(
    source: Path, part: int, title: str, skipped: Sequence[Finding], others: int, entries: Sequence[Entry]
) -> str:
    files = [path.relative_to(source).as_posix() for path in files_below(source)] if source.is_dir() else []
    if skipped:
        there = f"{len(skipped)} files of no use, e.g. {skipped[0]}"
    elif others:
        there = f"{others} files of the other part, named as {FORMS[3 - part]}: see pku_mmd{3 - part}"
    elif packed := [name for name in files if name.endswith((".7z", ".rar"))]:
        there = f"the archive {packed[0]}, which must be unpacked first"
    elif files or entries:
        there = f"{len(files or entries)} other files, e.g. {files[0] if files else entries[0].place}"
    else:
        there = "no files at all"
    wanted = f"a skeleton file and a label file, both named as {FORMS[part]}"
    return f"{source} holds no recording of {title} ({wanted}), but {there}."


def read_split(entry: Entry, part: int, title: str) -> tuple[list[str], list[str]]:
    """Training and test recordings of an official split file: a heading and a line of names separated by commas, twice.

    Raises:
        BenchError: the file is not of that form, or is one of the other part.
    """
    try:
        lines = entry.read().decode("utf-8", "backslashreplace").splitlines()
    except BadClipError as error:
        raise BenchError(f"{entry.place}: {error}") from None
    parts = []
    for number in (2, 4):
        words = [word.strip() for word in (lines[number - 1] if len(lines) >= number else "").split(",")]
        names = [word.removesuffix(".txt") for word in words if word]
        if not names:
            raise BenchError(
                f"{entry.place}, line {number}: expected names such as {FORMS[part][:-4]}, separated by commas, found none. A "
                "split file has four lines: a heading, the training names, a heading, the test names."
            )
        if wrong := next((name for name in names if not place_of(name, part)), ""):
            other = f": the split file of the other part, see pku_mmd{3 - part}" if place_of(wrong, 3 - part) else ""
            raise BenchError(
                f"{entry.place}, line {number}: expected names of {title} such as {FORMS[part][:-4]}, "
                f"found {wrong[:40]!r}{other}."
            )
        parts.append(names)
    train, test = parts
    if both := sorted({*train} & {*test}):
        raise BenchError(f"{entry.place}: {both[0]} is in both parts ({len(both)} such names).")
    return train, test


def split_parts(
    name: str, entries: Sequence[Entry], part: int, title: str, trains: Callable[[str], bool], stems: Sequence[str]
) -> tuple[list[str], str, list[Finding]]:
    """Which recordings train: by the official file where the source has it, else by the rule.

    Args:
        name: of the split.
        entries: its split files; of several, those of the other part are left alone.
        part: 1 or 2.
        title: name of the part.
        trains: the rule, for the name of a recording.
        stems: names of the recordings.

    Returns:
        ``train`` or ``test`` per recording; what decided; remarks.

    Raises:
        BenchError: no file is a split file of this part.
    """
    by_rule = ["train" if trains(stem) else "test" for stem in stems]
    errors = []
    for entry in entries:
        try:
            train, test = read_split(entry, part, title)
        except BenchError as error:
            errors.append(error)
            continue
        training = {*train}
        words = ["train" if stem in training else "test" for stem in stems]
        remarks = []
        if unlisted := [stem for stem in stems if stem not in {*train, *test}]:
            what = f"{len(unlisted)} recordings are in neither list and test, as in the released code: {unlisted[0]}"
            remarks.append(Finding(entry.place, what))
        if other := [stem for stem, word, rule in zip(stems, words, by_rule, strict=True) if word != rule]:
            what = f"differs from the known rule of {name} in {len(other)} recordings, the first: {other[0]}"
            remarks.append(Finding(entry.place, what))
        return words, entry.place, remarks
    if errors:
        raise errors[0]
    return by_rule, "rule", []
