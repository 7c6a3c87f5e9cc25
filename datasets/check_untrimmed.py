"""Checking untrimmed recordings: how long, how much background, how long the actions, and everything that is odd."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from datasets.check import (
    FAR,
    CheckReport,
    SplitCount,
    layout_warnings,
    middle,
    noted,
    people,
    source_of,
    without_split,
)
from datasets.untrimmed import RecordingStore, segments


def check_recordings(
    name: str,
    stored: RecordingStore,
    parts: Mapping[str, tuple[NDArray[np.bool_], NDArray[np.bool_]]],
    expected: Mapping[str, tuple[int, int]],
) -> CheckReport:
    """Check untrimmed recordings; the counts of the report are frames per class.

    Args:
        name: the dataset.
        stored: its store of recordings.
        parts: split name -> training and test recordings, (R,) bool each.
        expected: split name -> known numbers of training and test recordings.
    """
    frames, labels, offsets = stored.frames, np.asarray(stored.labels), stored.offsets
    ids = stored.samples["id"].to_numpy(object)
    lengths = np.diff(offsets)
    per_class = np.zeros((len(ids), len(stored.classes)), np.int64)
    finite, empty, reach = np.ones(len(ids), bool), np.zeros(len(ids), np.int64), np.zeros(len(ids))
    for row, (start, end) in enumerate(pairwise(offsets.tolist())):
        bodies = frames[start:end]
        per_class[row] = np.bincount(labels[start:end], minlength=len(stored.classes))
        finite[row] = np.isfinite(bodies).all()
        empty[row] = (~bodies.any(axis=(1, 2, 3))).sum()
        present = bodies.any(axis=(2, 3), keepdims=True)
        apart = np.where(present, bodies - bodies[:, :, [stored.layout.centre]], 0)
        reach[row] = np.sqrt((np.nan_to_num(apart, posinf=0, neginf=0) ** 2).sum(-1).max())
    starts, of_class = segments(labels, offsets)
    actions = np.diff(starts)[of_class > 0]
    unique, counts = np.unique(ids.astype(str), return_counts=True)

    problems = [f"{file} differs from what was written: prepare the data again" for file in stored.damage()]
    problems += noted(unique[counts > 1], "ids occur more than once")
    problems += noted(ids[~finite], "recordings hold NaN or infinity")
    problems += noted(ids[empty == lengths], "recordings are all zero")
    warnings = noted(ids[per_class[:, 1:].sum(1) == 0], "recordings have nothing but background")
    warnings += noted(
        ids[(empty > 0) & (empty < lengths)], f"recordings have frames without a body ({empty.sum()} frames)"
    )
    warnings += noted(
        ids[reach > FAR], f"recordings with a joint more than {FAR} m from the centre (sensor errors, or no metres)"
    )
    warnings += layout_warnings(stored.layout)
    facts = ["frames per recording {:g} / {:g} / {:g} (min / median / max)".format(*middle(lengths))]
    if len(actions):
        facts.append("{} actions of {:g} / {:g} / {:g} frames".format(len(actions), *middle(actions)))
    splits = {}
    for split, (train, test) in parts.items():
        splits[split] = SplitCount(tuple(per_class[train].sum(0).tolist()), tuple(per_class[test].sum(0).tolist()))
        found = int(train.sum()), int(test.sum())
        shares = [100 * per_class[part, 0].sum() / max(lengths[part].sum(), 1) for part in (train, test)]
        facts.append(
            f"{split}: {found[0]} training and {found[1]} test recordings, background {shares[0]:.1f} and {shares[1]:.1f} %"
        )
        if split in expected and found != expected[split]:
            warnings.append(
                f"{split}: {found[0]} training and {found[1]} test recordings; the complete set has {expected[split][0]} "
                f"and {expected[split][1]}"
            )
        for part, numbers in (("training", splits[split].train), ("test", splits[split].test)):
            absent = [stored.classes[label] for label, number in enumerate(numbers) if number == 0]
            warnings += noted(absent, f"classes without {part} frames in {split}")
    rate = "" if np.isnan(stored.fps) else f" at {stored.fps:g} per second"
    hopeless, unnamed = without_split(parts, stored.samples)
    problems += hopeless
    warnings += unnamed
    return CheckReport(
        name=name,
        unit=stored.unit,
        shape=tuple(frames.shape),
        classes=stored.classes,
        splits=splits,
        lengths=middle(lengths),
        reach=middle(reach),
        headline=f"{len(ids)} recordings, {len(labels)} frames{rate} of {people(frames.shape[1])}, {frames.shape[2]} joints, "
        f"{len(stored.classes) - 1} classes and background ({100 * (labels == 0).mean():.1f} % of the frames)",
        facts=tuple(facts),
        problems=tuple(problems),
        warnings=tuple(warnings),
        skipped=stored.findings("skipped"),
        remarks=stored.findings("remarks"),
        source=source_of(stored),
        digest=stored.digest,
        missing=stored.findings("missing"),
    )
