"""PKU-MMD from raw files: what the datasets ``pku_mmd1`` and ``pku_mmd2`` share (aimclr.md 1.4, actclr.md 12.2).

Recordings are read in parts, over processes; a part depends on its files alone, so the prepared data is the same for every
number of processes, and an interrupted preparation continues. They are stored untrimmed, with a label per frame, and the
trimmed clips are cut from that store.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from datasets.base import Cut, Dataset, OnBad
from datasets.entries import Entry
from datasets.layout import NTU25
from datasets.parts import Arrays, make_parts, workshop
from datasets.pku_files import find_files, place_of, split_parts
from datasets.pku_raw import PERSONS, parse_labels, parse_skeleton
from datasets.prepare import VERSION, BadClipError, Preparation, inspect, prepare_clips
from datasets.store import ClipFile, Finding, first_of, write_store
from datasets.untrimmed import BACKGROUND, open_recordings, write_recordings
from engine.config import BenchError, as_dict, digest, suggestion

FRAME_RULES = {"one-based": 1, "zero-based": 0}
"""What a label row's ``start, end`` means, and how much earlier it begins.

``one-based``: rows start - 1 to end - 1 of the skeleton file, both included, as AimCLR and its followers cut; ``zero-based``:
rows start to end - 1, as PCM3 and MAMP do, one frame less.
"""
RELEASED_FRAMES = 300
"""Longer clips are cut to so many central frames by the released code."""
FPS = 30.0
_PART = 8  # recordings
_CHUNK = 256  # clips
_NEARLY = 0.9  # share of the recordings from which on every absent one is named

CLASSES = (
    "bow", "brushing hair", "brushing teeth", "check time", "cheer up", "clapping", "cross hands in front", "drink water",
    "drop", "eat meal", "falling", "giving something", "hand waving", "handshaking", "hopping", "hugging", "jump up",
    "kicking other person", "kicking something", "phone call", "pat on back", "pick up", "playing with phone",
    "point finger at other person", "pointing to something", "punching or slapping", "pushing", "put on a hat",
    "put something inside pocket", "reading", "rub two hands", "salute", "sitting down", "standing up", "take off a hat",
    "take off glasses", "take off jacket", "take out something from pocket", "taking a selfie", "tear up paper", "throw",
    "touch back", "touch chest", "touch head", "touch neck", "typing on a keyboard", "use a fan", "wear jacket",
    "wear glasses", "wipe face", "writing",
)  # fmt: skip
"""Class names, index = class of the label files - 1; in part II 41 of them occur."""


@dataclass(frozen=True)
class Release:
    """What is known of a part.

    Attributes:
        part: 1 or 2.
        title: its name.
        recordings: names of all recordings.
        trains: split -> the rule, for the name of a recording.
        group: split -> sample column along which it is cut.
    """

    part: int
    title: str
    recordings: tuple[str, ...]
    trains: Mapping[str, Callable[[str], bool]]
    group: Mapping[str, str]


def settings(dataset: Dataset) -> tuple[str, bool]:
    """Frame rule, and whether clips are cut and prepared as the released code does, of ``pku_mmd1:zero-based+released``.

    Raises:
        BenchError: no such rule.
    """
    rule, released = next(iter(FRAME_RULES)), False
    for word in filter(None, dataset.argument.split("+")):
        if word in FRAME_RULES:
            rule = word
        elif word == "released":
            released = True
        else:
            known = (*FRAME_RULES, "released")
            raise BenchError(
                f"{dataset.name}: no such frame rule or preparation {word!r}.{suggestion(word, known)} "
                f"Known: {', '.join(known)}."
            )
    return rule, released


def cut(release: Release, samples: pd.DataFrame, split: str, name: str) -> Cut:
    """See :meth:`Dataset.cut`; which recordings train was decided when the files were read."""
    if split not in release.group:
        known = ", ".join(release.group)
        raise BenchError(f"{name} has no split {split!r}.{suggestion(split, release.group)} Known: {known}.")
    train = samples[split].to_numpy(str) == "train"
    return Cut(split, train, ~train, release.group[split])


def prepare(
    dataset: Dataset, release: Release, source: Path | None, tell: Callable[[str], None], on_bad: OnBad
) -> None:
    """Read, label, store the recordings, and cut clips from them; see :meth:`Dataset.prepare`."""
    rule, released = settings(dataset)
    if source is None:
        raise BenchError(f"{dataset.name} needs --source PATH: the folder with skeletons, labels and split files.")
    found = find_files(source, release.part, release.title, frozenset(release.recordings))
    harvest = _Harvest(skipped=list(found.skipped))
    if on_bad == "stop" and harvest.skipped:
        raise BenchError(f"{harvest.skipped[0]}. Mend the source, or skip bad files.")
    stems = [skeleton.stem for skeleton, _ in found.pairs]
    splits, decided = {}, {}
    for name, trains in release.trains.items():
        words, decided[name], remarks = split_parts(
            name, found.splits[name], release.part, release.title, trains, stems
        )
        splits[name] = dict(zip(stems, words, strict=True))
        harvest.remarks += remarks
    tell(f"reading {len(stems)} recordings of {source}")
    tasks = [found.pairs[low : low + _PART] for low in range(0, len(stems), _PART)]
    plan = {
        "dataset": [dataset.name, dataset.version, rule],
        "files": [[entry.stem, str(entry.path), entry.member, *entry.stamp] for pair in found.pairs for entry in pair],
    }
    with workshop(dataset.untrimmed_folder, digest(plan)) as work:
        parts = make_parts(work, tasks, partial(_read_part, FRAME_RULES[rule]), dataset.processes, tell)
        with closing(parts), (work / "frames.raw").open("wb") as raw:
            for task, part in zip(tasks, parts, strict=True):
                raw.write(harvest.take(task, part))
                if on_bad == "stop" and harvest.skipped:
                    raise BenchError(f"{harvest.skipped[0]}. Mend the file, or skip bad files.")
        if not harvest.stems:
            raise BenchError(f"{source}: none of {len(stems)} recordings is usable.{first_of(harvest.skipped)}")
        _account(release, harvest, stems, found.others, source)
        samples = pd.DataFrame({"id": harvest.stems, "length": harvest.lengths})
        samples = samples.join(pd.DataFrame([place_of(stem, release.part) for stem in harvest.stems]))
        for name, its in splits.items():
            samples[name] = [its[stem] for stem in harvest.stems]
        actions = np.concatenate(harvest.actions)
        frames = np.memmap(work / "frames.raw", np.float32, "r", shape=(sum(harvest.lengths), PERSONS, len(NTU25), 3))
        manifest = {
            "version": dataset.version,
            "rules": {"rows": rule, "splits": decided},
            "source": {"name": source.name, "sha256": harvest.checksum.hexdigest(), "files": 2 * len(stems)},
        }
        notes = {kind: [asdict(note) for note in getattr(harvest, kind)] for kind in ("skipped", "missing", "remarks")}
        tell(f"writing {len(samples)} recordings, {len(harvest.skipped)} skipped")
        labels = _frame_labels(actions, len(frames))
        classes = (BACKGROUND, *CLASSES)
        write_recordings(dataset.untrimmed_folder, frames, labels, samples, NTU25, classes, FPS, manifest | notes)
        _write_clips(dataset, actions, samples, manifest, released, work / "clips.npy", tell)


def _frame_labels(actions: NDArray[np.int64], count: int) -> NDArray[np.int16]:
    """Class of every frame; where actions overlap, the one that starts later wins, of equals the later row."""
    labels = np.zeros(count, np.int16)
    for _, _, label, start, stop in actions[np.argsort(actions[:, 3], kind="stable")].tolist():
        labels[start:stop] = label
    return labels


def _write_clips(
    dataset: Dataset,
    actions: NDArray[np.int64],
    recordings: pd.DataFrame,
    manifest: Mapping[str, Any],
    released: bool,
    scratch: Path,
    tell: Callable[[str], None],
) -> None:
    """Cut the actions (recording, line, class, start, stop) out of the stored recordings, prepare and store them."""
    frames = open_recordings(dataset.untrimmed_folder).frames
    rules = Preparation(frames=dataset.frames, length="released" if released else "span")
    start, stop = actions[:, 3], actions[:, 4]
    if released:
        start = start + np.maximum(stop - start - RELEASED_FRAMES, 0) // 2
        stop = np.minimum(stop, start + RELEASED_FRAMES)
    occupied = np.array([frames[a:b].any() for a, b in zip(start, stop, strict=True)], bool)
    empty = [
        Finding(recordings["id"].iloc[row], f"label line {line}: no body in any frame of this action")
        for row, line, *_ in actions[~occupied].tolist()
    ]
    start, stop, kept = start[occupied], stop[occupied], actions[occupied]
    if not len(kept):
        raise BenchError(f"{manifest['source']['name']}: not a single action with a body in {len(actions)}.")
    tell(f"preparing {len(kept)} clips")
    used: list[int] = []
    with ClipFile(scratch, (PERSONS, rules.frames, len(NTU25), 3)) as stored:
        for low in range(0, len(kept), _CHUNK):
            pieces = [frames[a:b] for a, b in zip(start[low : low + _CHUNK], stop[low : low + _CHUNK], strict=True)]
            offsets = np.cumsum([0, *map(len, pieces)])
            clips, lengths = prepare_clips(np.concatenate(pieces), offsets, NTU25, rules)
            stored.append(clips)
            used += lengths.tolist()
    samples = recordings.iloc[kept[:, 0]].reset_index(drop=True)
    samples["length"] = used
    samples["episode"] = kept[:, 1]
    samples["recording"] = samples.pop("id")
    samples.insert(0, "id", [_clip_name(row) for row in zip(samples["recording"], kept[:, 2], kept[:, 1], strict=True)])
    samples.insert(1, "label", kept[:, 2] - 1)
    content = {
        **manifest,
        "rules": {
            "version": VERSION,
            **as_dict(rules),
            **manifest["rules"],
            "longest": RELEASED_FRAMES if released else None,
        },
        "missing": [asdict(finding) for finding in empty],
    }
    write_store(dataset.folder, stored, samples, NTU25, CLASSES, content)


def _clip_name(row: tuple[str, int, int]) -> str:
    """The name that the field gives to a clip, e.g. ``F002V001C050L007`` or ``A001N001V002C003L001``."""
    stem, label, line = row
    for part, form in ((1, "F{video:03}V{camera:03}"), (2, "A{video:03}N{subject:03}V{camera:03}")):
        if place := place_of(stem, part):
            return f"{form.format(**place)}C{label:03}L{line:03}"
    raise ValueError(stem)


@dataclass
class _Harvest:
    """What the files gave, in their order: names and frames of recordings, their actions, and findings."""

    stems: list[str] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    actions: list[NDArray[np.int64]] = field(default_factory=lambda: [np.zeros((0, 5), np.int64)])
    skipped: list[Finding] = field(default_factory=list)
    missing: list[Finding] = field(default_factory=list)
    remarks: list[Finding] = field(default_factory=list)
    checksum: Any = field(default_factory=hashlib.sha256)

    def take(self, pairs: Sequence[tuple[Entry, Entry]], part: Arrays) -> bytes:
        """Note a part of :func:`_read_part` and return its frames."""
        for index, bad, text in json.loads(str(part["notes"])):
            (self.skipped if bad else self.remarks).append(Finding(pairs[index][0].place, text))
        rows, frames = len(self.stems), sum(self.lengths)
        self.actions.append(part["actions"] + np.array([rows, 0, 0, frames, frames]))
        self.stems += [pairs[index][0].stem for index in part["kept"]]
        self.lengths += part["length"].tolist()
        self.checksum.update(str(part["sha256"]).encode())
        return bytes(part["frames"].data)


def _read_part(earlier: int, pairs: Sequence[tuple[Entry, Entry]]) -> Arrays:
    """Frames and actions of some recordings.

    ``kept`` are their places among the pairs; ``actions`` has recording, line of the label file, class, first frame and end
    within the part's frames; ``notes`` is JSON, a list of (place, whether the recording is bad, text).
    """
    raw: list[NDArray[np.float32]] = []
    kept: list[int] = []
    rows, notes, sums = [], [], []
    end = 0
    for index, pair in enumerate(pairs):
        try:
            texts = [entry.read() for entry in pair]
            sums += [f"{pair[0].stem} {hashlib.sha256(text).hexdigest()}\n" for text in texts]
            frames = parse_skeleton(texts[0]).astype(np.float32)
            actions = parse_labels(texts[1])
            remark = inspect(frames, NTU25)
            its = []
            for action in actions:
                if action.start - earlier == action.end <= len(frames):
                    what = f"label line {action.line}: frames {action.start} to {action.end}, no frame under this rule"
                    notes.append((index, False, what))
                    continue
                start, stop = max(action.start - earlier, 0), min(action.end, len(frames))
                if start >= stop:
                    raise BadClipError(
                        f"label line {action.line}: frames {action.start} to {action.end}, expected some of the {len(frames)} "
                        "frames of the skeleton file (was it copied completely?)"
                    )
                if start > action.start - earlier or stop < action.end:
                    what = (
                        f"label line {action.line}: frames {action.start} to {action.end} cut to those that are there"
                    )
                    notes.append((index, False, f"{what}, 1 to {len(frames)}"))
                its.append((len(kept), action.line, action.label, end + start, end + stop))
        except BadClipError as error:
            notes = [note for note in notes if note[0] != index]
            notes.append((index, True, str(error)))
            continue
        if remark:
            notes.append((index, False, remark))
        raw.append(frames)
        kept.append(index)
        rows += its
        end += len(frames)
    empty = np.zeros((0, PERSONS, len(NTU25), 3), np.float32)
    return {
        "frames": np.concatenate([empty, *raw]),
        "kept": np.array(kept, np.int64),
        "length": np.array([len(frames) for frames in raw], np.int64),
        "actions": np.array(rows, np.int64).reshape(-1, 5),
        "notes": np.array(json.dumps(notes)),
        "sha256": np.array("".join(sums)),
    }


def _account(release: Release, harvest: _Harvest, stems: Sequence[str], others: int, source: Path) -> None:
    """Say what the source lacks: every recording if nearly all are there, else that it is a part."""
    if others:
        reason = f"{others} files of the other part of PKU-MMD left alone"
        harvest.remarks.append(Finding(source.name, reason))
    if len(stems) < _NEARLY * len(release.recordings):
        reason = f"a part of {release.title}, {len(stems)} of {len(release.recordings)} recordings; so are the counts"
        harvest.remarks.append(Finding(source.name, reason))
        return
    noted = {Path(finding.place).stem for finding in harvest.skipped}
    absent = [stem for stem in release.recordings if stem not in {*stems} | noted]
    harvest.missing += [Finding(stem, "not in the source") for stem in absent]


def stems_of(names: Iterator[str]) -> tuple[str, ...]:
    """Names of the recordings of three views, in order."""
    return tuple(f"{name}-{view}" for name in names for view in "LMR")
