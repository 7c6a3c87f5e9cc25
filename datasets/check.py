"""Checking prepared data: counts, lengths, and everything that is odd, with reasons."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from datasets.layout import Layout
from datasets.store import COLUMNS, Finding, Prepared, Store

FAR = 2.5
"""Metres from the centre joint; no joint of a body is farther away."""
_MOST_IDS = 4
_MOST_LINES = 16
_MOST_CLASSES = 30


@dataclass(frozen=True)
class SplitCount:
    """Clips of one split, or frames of its untrimmed recordings.

    Attributes:
        train, test: clips (or frames) per class.
        copies: ids of training clips that equal a test clip byte for byte.
        expected: known numbers of training and test clips, if there are any.
    """

    train: tuple[int, ...]
    test: tuple[int, ...]
    copies: tuple[str, ...] = ()
    expected: tuple[int, int] | None = None


@dataclass(frozen=True)
class CheckReport:
    """What a check found.

    Attributes:
        name: the dataset.
        unit: ``clips`` or ``recordings``.
        shape: of the clips, (N, M, T, V, C), or of the frames of all recordings, (F, M, V, 3).
        classes: class names.
        splits: counts per split.
        lengths: raw frames per clip or recording: shortest, median, longest.
        reach: metres from the centre joint to the farthest joint of a clip or recording: smallest, median, largest.
        headline: what there is, in a few words.
        facts: what else is to be told.
        problems: what makes the data unfit for use.
        warnings: what is odd, but usable.
        skipped: source files left out.
        missing: samples that the complete dataset has, but not this source, or without a skeleton.
        remarks: oddities in source files that were kept.
        source: where the data came from.
        digest: checksum of the prepared data.
        more: the report on what else the dataset holds.
    """

    name: str
    unit: str
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    splits: Mapping[str, SplitCount]
    lengths: tuple[int, float, int]
    reach: tuple[float, float, float]
    headline: str
    facts: tuple[str, ...]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]
    skipped: tuple[Finding, ...]
    remarks: tuple[Finding, ...]
    source: str
    digest: str
    missing: tuple[Finding, ...] = ()
    more: CheckReport | None = None

    @property
    def ok(self) -> bool:
        """Whether the data can be used."""
        return not self.problems and (self.more is None or self.more.ok)


def check_store(
    name: str,
    prepared: Prepared,
    parts: Mapping[str, tuple[NDArray[np.bool_], NDArray[np.bool_]]],
    expected: Mapping[str, tuple[int, int]],
) -> CheckReport:
    """Check prepared data.

    Args:
        name: the dataset.
        prepared: its store.
        parts: split name -> training and test samples, (N,) bool each.
        expected: split name -> known numbers of training and test clips.
    """
    clips, samples = prepared.clips, prepared.samples
    ids = samples["id"].to_numpy(object)
    lengths = samples["length"].to_numpy(np.int64)
    finite = np.array([np.isfinite(clip).all() for clip in clips], bool)
    zero = np.array([not clip.any() for clip in clips], bool)
    joint = prepared.layout.centre
    by_frame = prepared.manifest.get("rules", {}).get("centring", "frame") == "frame"
    centred = np.array([not by_frame or not clip[:, :, joint].any() for clip in clips], bool)
    reach = np.array(
        [
            np.sqrt((np.nan_to_num(clip - clip[:, :, joint, None], posinf=0, neginf=0) ** 2).sum(-1).max())
            for clip in clips
        ]
    )
    same = _same(clips)
    unique, counts = np.unique(ids.astype(str), return_counts=True)

    problems = [f"{file} differs from what was written: prepare the data again" for file in prepared.damage()]
    problems += noted(unique[counts > 1], "ids occur more than once")
    problems += noted(ids[~finite], "clips hold NaN or infinity")
    problems += noted(ids[zero], "clips are all zero")
    problems += noted(ids[~centred], f"clips whose centre joint {prepared.layout.joints[joint]} is not 0")
    warnings = noted(ids[lengths == 1], "clips have a single frame (no motion)")
    warnings += noted(ids[(lengths > 1) & (lengths < 10)], "clips have fewer than 10 frames")
    warnings += noted(
        ids[reach > FAR], f"clips with a joint more than {FAR} m from the centre (sensor errors, or no metres)"
    )
    warnings += layout_warnings(prepared.layout)
    copies = [group for group in same if len(group) > 1]
    warnings += noted([f"{ids[a]} = {ids[b]}" for a, b, *_ in copies], "clips occur more than once, byte for byte")
    splits = {}
    for split, (train, test) in parts.items():
        leaked = [i for group in copies if test[group].any() for i in group if train[i]]
        splits[split] = SplitCount(
            _per_class(prepared, train), _per_class(prepared, test), tuple(ids[leaked]), expected.get(split)
        )
        warnings += _split_warnings(split, splits[split], prepared.classes)
    hopeless, unnamed = without_split(parts, samples)
    problems += hopeless
    warnings += unnamed
    count, persons, frames, joints, _ = clips.shape
    return CheckReport(
        name=name,
        unit=prepared.unit,
        shape=tuple(clips.shape),
        classes=prepared.classes,
        splits=splits,
        lengths=middle(lengths),
        reach=middle(reach),
        headline=f"{count} clips of {people(persons)}, {frames} frames, {joints} joints, {len(prepared.classes)} classes",
        facts=("raw frames per clip {:g} / {:g} / {:g} (min / median / max)".format(*middle(lengths)),),
        problems=tuple(problems),
        warnings=tuple(warnings),
        skipped=prepared.findings("skipped"),
        remarks=prepared.findings("remarks"),
        source=source_of(prepared),
        digest=prepared.digest,
        missing=prepared.findings("missing"),
    )


def layout_warnings(layout: Layout) -> list[str]:
    """What a layout lacks that augmentations and preparation look for in the names of joints."""
    if not any(layout.sides):
        return ["no joint's name says left or right: the flip changes nothing, and bodies have no left and right parts"]
    lone = [name for joint, name in enumerate(layout.joints) if layout.sides[joint] and layout.flip[joint] == joint]
    found = noted(lone, "joints have no partner on the other side of the body, so the flip leaves them")
    if layout.shoulders is None:
        found.append("no left and right shoulder: clips are centred, but not turned to face the camera")
    return found


def people(persons: int) -> str:
    """``1 person``, ``2 persons``."""
    return f"{persons} person{'s'[: persons > 1]}"


def without_split(
    parts: Mapping[str, tuple[NDArray[np.bool_], NDArray[np.bool_]]], samples: pd.DataFrame
) -> tuple[list[str], list[str]]:
    """Problems and warnings when no split has both a training and a test part; a problem where no column could make one."""
    if any(train.any() and test.any() for train, test in parts.values()):
        return [], []
    columns = [str(name) for name in samples if name not in COLUMNS and samples[name].nunique() > 1]
    found = "no split has both a training and a test part"
    if not columns:
        return [f"{found}, and no column tells two groups of samples apart"], []
    return [], [f"{found}; of an npz one can be named by values of {', '.join(columns)}: npz:PATH#COLUMN=VALUE,VALUE"]


def middle(values: NDArray[Any]) -> tuple[Any, float, Any]:
    """Smallest, median and largest value."""
    return values.min().item(), float(np.median(values)), values.max().item()


def source_of(store: Store) -> str:
    """Name and checksum of what was prepared; empty for generated data."""
    source = store.manifest.get("source") or {}
    return f"{source['name']} (sha256 {source['sha256'][:16]})" if source else ""


def render(report: CheckReport) -> RenderableType:
    """The report as a rich renderable: counts, then problems, warnings, skipped files and remarks."""
    head = Text.assemble((report.name, "bold"), f": {report.headline}")
    facts = [*report.facts, "farthest joint {:.2f} / {:.2f} / {:.2f} m".format(*report.reach)]
    facts.append(f"digest {report.digest}" + (f", from {report.source}" if report.source else ""))
    notes = Table.grid(padding=(0, 1))
    for word, style, entries in (
        ("problem", "bold red", report.problems),
        ("warning", "yellow", report.warnings),
        ("skipped", "yellow", report.skipped),
        ("missing", "dim", report.missing),
        ("kept", "dim", report.remarks),
    ):
        for entry in entries[:_MOST_LINES]:
            notes.add_row(Text(word, style), Text(str(entry)))
        if len(entries) > _MOST_LINES:
            notes.add_row(Text(word, style), f"... and {len(entries) - _MOST_LINES} more, all listed in manifest.json")
    skipped = f", {len(report.skipped)} {report.unit} skipped" if report.skipped else ""
    verdict = f"ok{skipped}" if report.ok else f"not usable: problems found{skipped}"
    return Group(
        head,
        *(Text(f"  {fact}", "dim") for fact in facts),
        _table(report),
        notes,
        Text(verdict, "bold green" if report.ok else "bold red"),
        *([Text(), render(report.more)] if report.more else []),
    )


def _table(report: CheckReport) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("class" if report.unit == "clips" else "class (frames)")
    for split in report.splits:
        table.add_column(f"{split}\ntrain", justify="right")
        table.add_column("\ntest", justify="right")
    columns = [part for count in report.splits.values() for part in (count.train, count.test)]
    if len(report.classes) <= _MOST_CLASSES:
        for label, name in enumerate(report.classes):
            table.add_row(name, *(str(column[label]) for column in columns))
    else:
        table.add_row("fewest of a class", *(str(min(column)) for column in columns))
        table.add_row("most of a class", *(str(max(column)) for column in columns))
    table.add_section()
    table.add_row("all", *(str(sum(column)) for column in columns), style="bold")
    return table


def noted(ids: Sequence[str] | NDArray[np.object_] | NDArray[np.str_], what: str) -> list[str]:
    """One line with a count and the first few ids; none when there are no ids."""
    if not len(ids):
        return []
    more = ", ..." if len(ids) > _MOST_IDS else ""
    return [f"{len(ids)} {what}: {', '.join(map(str, ids[:_MOST_IDS]))}{more}"]


def _split_warnings(split: str, count: SplitCount, classes: Sequence[str]) -> list[str]:
    warnings = []
    found = sum(count.train), sum(count.test)
    if count.expected and found != count.expected:
        warnings.append(
            f"{split}: {found[0]} training and {found[1]} test clips; the complete set has {count.expected[0]} and "
            f"{count.expected[1]}. What was skipped is listed here; anything else is absent from the source"
        )
    if count.copies:
        warnings.append(
            f"{split}: {len(count.copies)} training clips equal a test clip byte for byte; "
            "that part of the test only measures memory"
        )
    for part, numbers in (("training", count.train), ("test", count.test)):
        warnings += noted(
            [classes[i] for i, n in enumerate(numbers) if n == 0], f"classes without {part} clips in {split}"
        )
    return warnings


def _per_class(prepared: Prepared, chosen: NDArray[np.bool_]) -> tuple[int, ...]:
    labels = prepared.samples["label"].to_numpy(np.int64)[chosen]
    return tuple(np.bincount(labels, minlength=len(prepared.classes)).tolist())


def _same(clips: NDArray[np.float32]) -> list[list[int]]:
    """Indices of clips, grouped by equal bytes."""
    groups: defaultdict[bytes, list[int]] = defaultdict(list)
    for index, clip in enumerate(clips):
        groups[hashlib.sha256(np.ascontiguousarray(clip).tobytes()).digest()].append(index)
    return list(groups.values())
