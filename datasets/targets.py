"""Data to evaluate on that a method was not pre-trained on: made readable for its encoder, checked for shared clips."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import nn

from datasets.clips import ClipSet, Split, from_storage, to_storage
from datasets.layout import joint_map
from datasets.untrimmed import RecordingSet, UntrimmedSplit
from engine.config import BenchError, digest

_KNOWN = re.compile(r"S\d{3}C\d{3}P\d{3}R\d{3}A\d{3}|(?:A\d{3}N|F)\d{3}V\d{3}C\d{3}L\d{3}")
"""Names of clips of NTU RGB+D and PKU-MMD, which mean the same wherever they occur (aimclr.md 1.1, 1.4)."""

_FILES = ("npz", "form")
"""Datasets whose argument is the data; that of all others says how the same data is prepared."""
_PLACES = ("subject", "setup", "camera", "video", "session", "take")
"""Columns of numbers that mean the same in every store of a dataset; words are numbered anew in each."""


def adapt(target: Split, source: Split) -> Split:
    """A split as an encoder reads it that was built for another one: its joints, and at least its persons.

    Joints are picked by :func:`datasets.layout.joint_map`, so one may stand for several; absent persons are added. What
    fits already is returned as it is.

    Raises:
        BenchError: no joint mapping, or another number of frames.
    """
    frames, wanted = target.train.clips.shape[2], source.train.clips.shape[2]
    if frames != wanted:
        raise BenchError(
            f"{target.name} has {frames} frames per clip, {source.name} {wanted}; prepare both with the same --frames."
        )
    joints, more = joint_map(target.layout, source.layout), _missing(target.train.clips.shape[4], source)
    if target.layout == source.layout and not more:
        return target

    def part(clips: ClipSet) -> ClipSet:
        stored = nn.functional.pad(to_storage(clips.clips)[..., list(joints), :], (0, 0) * 3 + (0, more))
        presence = nn.functional.pad(clips.presence, (0, more))
        return replace(clips, clips=from_storage(stored), presence=presence)

    adapted = replace(target, layout=source.layout, train=part(target.train), test=part(target.test))
    return replace(adapted, digest=digest({"split": target.digest, "joints": joints, "persons": more}))


def adapt_untrimmed(target: UntrimmedSplit, source: Split) -> UntrimmedSplit:
    """Like :func:`adapt`, for untrimmed recordings; the frames of their windows are chosen where these are cut.

    Raises:
        BenchError: no joint mapping.
    """
    joints, more = joint_map(target.layout, source.layout), _missing(target.train.frames.shape[1], source)
    if target.layout == source.layout and not more:
        return target

    def part(recordings: RecordingSet) -> RecordingSet:
        picked = recordings.frames[:, :, list(joints)]
        return replace(recordings, frames=nn.functional.pad(picked, (0, 0, 0, 0, 0, more)))

    adapted = replace(target, layout=source.layout, train=part(target.train), test=part(target.test))
    return replace(adapted, digest=digest({"split": target.digest, "joints": joints, "persons": more}))


def _missing(persons: int, source: Split) -> int:
    """Persons to add so that there are as many as in the source."""
    return max(source.train.clips.shape[4] - persons, 0)


def refuse_shared(target: Split | UntrimmedSplit, source: Split) -> None:
    """Refuse a target whose test part was partly seen in pre-training: the same recording by name, or the same content.

    Names tell within one dataset, and anywhere if they are those of NTU RGB+D or PKU-MMD; content is compared clip by clip.
    Clips of an untrimmed recording are known, within one dataset, by what is known of where they come from.

    Args:
        target: adapted to the source.
        source: its training part is what was seen.

    Raises:
        BenchError: clips are shared; the message counts and names them.
    """
    if isinstance(target, Split):
        found = _same_names(target, source) or _same_content(target.test, source.train)
    else:
        found = _same_place(target.test, source.train) if _dataset(target) == _dataset(source) else []
    if found:
        what = "test clips" if isinstance(target, Split) else "test recordings"
        raise BenchError(
            f"{len(found)} of {len(target.test)} {what} of {target.name} are in the training part of {source.name} "
            f"(the first: {found[0]}), so the encoder has seen them. Pre-train on a split without them; see "
            "docs/protocols.md, transfer."
        )


def _dataset(split: Split | UntrimmedSplit) -> str:
    """Name of the dataset, whichever way it was prepared; an argument that is a file is another dataset."""
    name = split.name.partition("/")[0]
    base = name.partition(":")[0]
    return name if base in _FILES else base


def _same_names(target: Split, source: Split) -> list[str]:
    seen = {name for clip in source.train.ids for name in _KNOWN.findall(clip)}
    if _dataset(target) == _dataset(source):
        seen |= {*source.train.ids}
    return [name for name in target.test.ids if name in seen or seen.intersection(_KNOWN.findall(name))]


def _same_place(test: RecordingSet, train: ClipSet) -> list[str]:
    """Recordings of which there are clips: all places known of both (``video``, ``camera`` ...) are the same."""
    common = [name for name in _PLACES if name in test.groups and name in train.groups]
    ours, theirs = (list(zip(*(part.groups[name].tolist() for name in common), strict=True)) for part in (test, train))
    if len(set(ours)) < len(test):  # it does not tell recordings apart
        return []
    seen = set(theirs)
    return [name for name, place in zip(test.ids, ours, strict=True) if place in seen]


def _same_content(test: ClipSet, train: ClipSet) -> list[str]:
    """Test clips that are in the training part bit for bit; frames in the middle are compared first, which is cheap."""
    ours, theirs = to_storage(test.clips), to_storage(train.clips)
    if ours.shape[1:] != theirs.shape[1:] or ours.is_meta or theirs.is_meta:  # outlines have no content
        return []
    middle = ours.shape[2] // 2
    seen: dict[bytes, list[int]] = {}
    for row, frame in enumerate(_rows(theirs[:, :, middle].numpy())):
        seen.setdefault(frame, []).append(row)
    return [
        test.ids[row]
        for row, frame in enumerate(_rows(ours[:, :, middle].numpy()))
        if any(bool((ours[row] == theirs[other]).all()) for other in seen.get(frame, ()))
    ]


def _rows(frames: NDArray[np.float32]) -> list[bytes]:
    return [frame.tobytes() for frame in np.ascontiguousarray(frames)]
