"""NTU RGB+D and NTU RGB+D 120 from raw files: what the datasets ``ntu60`` and ``ntu120`` share.

Official splits and counts (aimclr.md 1.3). Files are read in parts, over processes; a part depends on its files alone, so
the prepared data is the same for every number of processes, and an interrupted preparation continues.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from datasets.base import Dataset, OnBad
from datasets.entries import Entry
from datasets.layout import NTU25
from datasets.ntu_bodies import PERSONS, SELECTIONS
from datasets.ntu_files import absent_from, find_files, missing_lists, read_missing, table
from datasets.ntu_forms import is_form, prepare_form
from datasets.ntu_raw import parse
from datasets.ntu_release import Release
from datasets.parts import Arrays, make_parts, workshop
from datasets.prepare import VERSION, BadClipError, Preparation, inspect, prepare_clips
from datasets.store import ClipFile, Finding, first_of, write_store
from engine.config import BenchError, as_dict, digest, suggestion

PREPARATIONS: Mapping[str, Mapping[str, str]] = {
    # What the files that AimCLR and its followers pass around contain, the cut tail included (aimclr.md 1.5).
    "released": {"length": "released"},
}
_PART = 256  # files
_NEARLY = 0.9  # share of the files from which on every absent one is named
LISTED = "on the list of samples with missing skeletons"
NO_BODY = "no body in any frame"
BAD = "bad, see skipped"
ABSENT = "not in the source, though other files of its recording are"


def settings(dataset: Dataset) -> tuple[str, Preparation]:
    """Body selection and preparation that the argument of ``ntu60:tracked+released`` asks for.

    Raises:
        BenchError: no such selection or preparation.
    """
    bodies, table_ = next(iter(SELECTIONS)), {}
    for word in filter(None, dataset.argument.split("+")):
        if word in SELECTIONS:
            bodies = word
        elif word in PREPARATIONS:
            table_ = dict(PREPARATIONS[word])
        else:
            known = (*SELECTIONS, *PREPARATIONS)
            raise BenchError(
                f"{dataset.name}: no such body selection or preparation {word!r}.{suggestion(word, known)} "
                f"Known: {', '.join(known)}."
            )
    return bodies, Preparation.model_validate({"frames": dataset.frames, **table_})


def prepare(
    dataset: Dataset, release: Release, source: Path | None, tell: Callable[[str], None], on_bad: OnBad
) -> None:
    """Read, select bodies, prepare and store; see :meth:`Dataset.prepare`.

    A list of samples with missing skeletons in the source (``*missing*skeleton*.txt``) decides what is left out as such;
    without one, files without any body are. A source in one of the forms of ``datasets/form.py`` is read as that.
    """
    bodies, rules = settings(dataset)
    if source is None:
        raise BenchError(
            f"{dataset.name} needs --source PATH: the folder or zip with the files SsssCcccPpppRrrrAaaa.skeleton, or what "
            "others have prepared from them (the folder with *_position.npy, NTU60_CS.npz, ntu60_3danno.pkl ...)."
        )
    if is_form(source):
        prepare_form(dataset, release, rules, source, tell, on_bad)
        return
    files, bad, others = find_files(source, release.setups, release.title)
    lists = missing_lists(source)
    listed: frozenset[str] = frozenset().union(*map(read_missing, lists))
    wanted = [file for file in files if file.stem not in listed]
    harvest = _Harvest()
    harvest.skipped += bad
    for file in files:
        if file.stem in listed:
            harvest.lose(file, LISTED, LISTED)
    tell(f"reading {len(wanted)} files of {source}")
    tasks = [wanted[low : low + _PART] for low in range(0, len(wanted), _PART)]
    plan = {
        "dataset": [dataset.name, dataset.version, VERSION, bodies, as_dict(rules)],
        "files": [[file.stem, str(file.path), file.member, *file.stamp] for file in wanted],
    }
    with workshop(dataset.folder, digest(plan)) as work:
        parts = make_parts(work, tasks, partial(_read_part, bodies, rules), dataset.processes, tell)
        clips = ClipFile(work / "clips.npy", (PERSONS, rules.frames, len(NTU25), 3))
        with closing(parts), clips:
            for task, part in zip(tasks, parts, strict=True):
                harvest.take(task, part, bool(lists))
                clips.append(part["clips"])
                if on_bad == "stop" and harvest.skipped:
                    raise BenchError(f"{harvest.skipped[0]}. Mend the file, or skip bad clips.")
        if not harvest.stems:
            reasons = first_of((*harvest.skipped, *harvest.missing))
            raise BenchError(f"{source}: none of {len(files)} files is usable.{reasons}")
        samples = table(harvest.stems)
        samples.insert(2, "length", harvest.lengths)
        if others:
            reason = f"{others} files of setups above {release.setups}, which are not of {release.title}, left alone"
            harvest.remarks.append(Finding(source.name, reason))
        if len(files) < _NEARLY * release.files:
            reason = f"a part of {release.title}, {len(files)} of {release.files} files; so are the counts"
            harvest.remarks.append(Finding(source.name, reason))
        else:
            absent = (stem for stem in absent_from([file.stem for file in files]) if stem not in listed)
            harvest.lost[ABSENT] = list(absent)
            harvest.missing += [Finding(stem, ABSENT) for stem in harvest.lost[ABSENT]]
            harvest.remarks += _account(release, lists, harvest.lost, samples)
        tell(f"writing {len(samples)} clips, {len(harvest.skipped)} skipped")
        manifest = {
            "version": dataset.version,
            "rules": {"version": VERSION, **as_dict(rules), "bodies": bodies},
            "source": {"name": source.name, "sha256": harvest.checksum.hexdigest(), "files": len(files)},
            **{kind: [asdict(found) for found in getattr(harvest, kind)] for kind in ("skipped", "missing", "remarks")},
        }
        write_store(dataset.folder, clips, samples, NTU25, release.classes, manifest)


@dataclass
class _Harvest:
    """What the files gave, in their order: ids and frames of clips, findings, and lost samples by reason."""

    stems: list[str] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    skipped: list[Finding] = field(default_factory=list)
    missing: list[Finding] = field(default_factory=list)
    remarks: list[Finding] = field(default_factory=list)
    lost: dict[str, list[str]] = field(default_factory=lambda: {r: [] for r in (LISTED, NO_BODY, BAD, ABSENT)})
    checksum: Any = field(default_factory=hashlib.sha256)

    def lose(self, file: Entry, reason: str, text: str) -> None:
        """Note a file that gives no clip."""
        (self.skipped if reason == BAD else self.missing).append(Finding(file.place, text))
        self.lost[reason].append(file.stem)

    def take(self, files: Sequence[Entry], part: Arrays, has_list: bool) -> None:
        """Note a part of :func:`_read_part`."""
        for index, reason, text in json.loads(str(part["notes"])):
            if not reason:
                self.remarks.append(Finding(files[index].place, text))
            elif reason == NO_BODY and has_list:
                self.lose(files[index], BAD, f"{text}, though it is not on the list of missing skeletons")
            else:
                self.lose(files[index], reason, text)
        self.stems += [files[index].stem for index in part["kept"]]
        self.lengths += part["length"].tolist()
        self.checksum.update(str(part["sha256"]).encode())


def _read_part(bodies: str, rules: Preparation, files: Sequence[Entry]) -> Arrays:
    """Prepared clips of some files.

    ``kept`` are their places among the files; ``notes`` is JSON, a list of (place, reason why it is lost or empty, remark).
    """
    raw, kept, notes, sums = [], [], [], []
    for index, file in enumerate(files):
        try:
            text = file.read()
            sums.append(f"{file.stem} {hashlib.sha256(text).hexdigest()}\n")
            seen = parse(text)
            if not len(seen.frame):
                notes.append((index, NO_BODY, f"{NO_BODY} ({seen.frames} frames)"))
                continue
            clip = SELECTIONS[bodies](seen)
            if remark := inspect(clip, NTU25):
                notes.append((index, "", remark))
        except BadClipError as error:
            notes.append((index, BAD, str(error)))
            continue
        raw.append(clip)
        kept.append(index)
    empty = np.zeros((0, PERSONS, len(NTU25), 3), np.float32)
    offsets = np.cumsum([0, *(len(clip) for clip in raw)])
    clips, used = prepare_clips(np.concatenate([empty, *raw]), offsets, NTU25, rules)
    return {
        "clips": clips,
        "kept": np.array(kept, np.int64),
        "length": used,
        "notes": np.array(json.dumps(notes)),
        "sha256": np.array("".join(sums)),
    }


def _account(
    release: Release, lists: Sequence[Path], lost: Mapping[str, Sequence[str]], samples: pd.DataFrame
) -> list[Finding]:
    """How the counts of a nearly complete source come about: recorded files, less what is lost for which reason."""
    if lists:
        place = ", ".join(path.name for path in lists)
        how = f"{len(lost[LISTED])} files of the source are on this list; in the complete set {release.listed} are"
    else:
        place = (
            f"no list of samples with missing skeletons (*missing*skeleton*.txt, {release.listed} names) in the source"
        )
        how = f"files with {NO_BODY} were left out; the official list also has a few with some bodies"
    notes = [Finding(place, how)]
    for split, recorded in release.recorded.items():
        kept = _count(release, samples, split)
        terms = {reason: _count(release, table(stems), split) for reason, stems in lost.items() if stems}
        rest = np.array(recorded) - kept - sum(terms.values())
        if rest.any():
            terms["their recordings are not in the source at all"] = rest
        less = ", ".join(f"{train} + {test} ({reason})" for reason, (train, test) in terms.items()) or "none"
        sums = (
            f"{recorded[0]} + {recorded[1]} training and test files recorded, less {less}: {kept[0]} + {kept[1]} clips"
        )
        notes.append(Finding(split, sums))
    return notes


def _count(release: Release, samples: pd.DataFrame, split: str) -> NDArray[np.int64]:
    """Training and test samples of a split, (2,)."""
    parts = release.cut(samples, split, release.title)
    return np.array([parts.train.sum(), parts.test.sum()])
