"""Preparation: raw recordings of any length to clips of T frames, centred and turned to the front (aimclr.md 1.5).

The released rules are the default, because the prepared files that the field passes around contain them (aimclr.md 8.2,
8.3); the alternatives are settings, and part of every digest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from datasets.layout import Layout, joint_map
from datasets.store import Finding, first_of, write_store
from engine.config import BenchError, Config, as_dict, knob

Rotation = Literal["released", "frame", "sequence", "none"]
Centring = Literal["frame", "first", "none"]
VERSION = 2
"""Raised when the same rules give other clips."""
Float = NDArray[np.floating]
_CHUNK = 1024
_LARGEST = 1e6


class BadClipError(ValueError):
    """A raw clip that cannot be used; the message says what is wrong and at which frame and joint."""


class Preparation(Config):
    """Rules of preparation."""

    frames: int = knob(50, "T, frames of a prepared clip", ge=1)
    centring: Centring = knob(
        "frame",
        "what moves to the origin: every body's centre joint in every frame (aimclr.md 1.5), or the first frame's centre "
        "joint for the whole clip, which keeps where people walk and how far apart they stand, or nothing",
    )
    rotation: Rotation = knob(
        "released",
        "turn about y that puts the shoulder line on +x: per frame with one sign for the sequence (aimclr.md 1.5), "
        "per frame with its own sign, one turn for the sequence by the mean shoulder line, or none",
    )
    length: Literal["span", "released", "all"] = knob(
        "span",
        "frames used: from the first to the last with a body, as many from the start as have joint 0 of body 0 "
        "(aimclr.md 1.5), or all",
    )


def as_they_are(frames: int) -> Preparation:
    """Rules for clips that are prepared already: nothing but resampling, and none if they have T frames."""
    return Preparation(frames=frames, centring="none", rotation="none", length="all")


def prepare_clips(
    raw: Float, offsets: NDArray[np.int64], layout: Layout, rules: Preparation
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Prepare recordings that lie end to end.

    Bodies are centred on the layout's centre joint, resampled linearly in time and turned about the vertical. An absent
    body is all zero in a frame, and stays so.

    Args:
        raw: (sum of frames, M, V, 3), metres, y up.
        offsets: (N + 1,) where each recording begins and the last one ends; none is empty.
        layout: skeleton layout; without shoulders nothing is turned.
        rules: how.

    Returns:
        Clips (N, M, T, V, 3) float32, and the frames used of every recording (N,).
    """
    start, used = _extent(raw, offsets, rules.length)
    count = len(offsets) - 1
    clips = np.empty((count, raw.shape[1], rules.frames, len(layout), 3), np.float32)
    for low in range(0, count, _CHUNK):
        rows = slice(low, low + _CHUNK)
        first, last = offsets[low], offsets[min(low + _CHUNK, count)]
        begin, length = start[rows] - first, np.maximum(used[rows], 1)
        if rules.centring == "frame":
            centred = centre(raw[first:last], layout.centre)
        elif rules.centring == "none":
            centred = raw[first:last]
        else:
            pieces = np.diff(offsets[low : low + _CHUNK + 1])
            centred = centre_first(raw[first:last], begin, pieces, layout.centre)
        resampled = resample(centred, begin, length, rules.frames)
        clips[rows] = turn(resampled, layout, rules.rotation).transpose(0, 2, 1, 3, 4)
    return clips, used


def centre(raw: Float, joint: int) -> Float:
    """Subtract a joint from all joints (..., V, 3); bodies that are all zero stay zero."""
    present = raw.any(axis=(-1, -2), keepdims=True)
    return np.where(present, raw - raw[..., joint : joint + 1, :], 0)


def centre_first(raw: Float, start: NDArray[np.int64], pieces: NDArray[np.int64], joint: int) -> Float:
    """Subtract one point from each recording: the centre joint of the first present body in its first used frame.

    Args:
        raw: (F, M, V, 3), recordings end to end.
        start: (N,) first used frame of each.
        pieces: (N,) frames of each.
        joint: the centre joint.
    """
    present: NDArray[np.bool_] = np.asarray(raw.any(axis=(-1, -2)))  # (F, M)
    body = present[start].argmax(axis=1)
    origin = np.repeat(raw[start, body, joint], pieces, axis=0)
    return np.where(present[..., None, None], raw - origin[:, None, None, :], 0)


def resample(frames: Float, start: NDArray[np.int64], length: NDArray[np.int64], count: int) -> Float:
    """Resample stretches of a long recording to ``count`` frames each.

    Linear in time with half-pixel centres, edges clamped, no anti-aliasing: what OpenCV's linear resize does.

    Args:
        frames: (F, ...).
        start: (N,) first frame of every stretch.
        length: (N,) frames of every stretch, at least 1.
        count: T.

    Returns:
        (N, T, ...).
    """
    position = (np.arange(count) + 0.5) * (length[:, None] / count) - 0.5
    position = np.clip(position, 0, length[:, None] - 1)
    low = np.floor(position).astype(np.int64)
    high = np.minimum(low + 1, length[:, None] - 1)
    weight = (position - low).reshape(*low.shape, *[1] * (frames.ndim - 1)).astype(frames.dtype)
    before, after = frames[start[:, None] + low], frames[start[:, None] + high]
    mixed: Float = before * (1 - weight) + after * weight
    return mixed


def turn(clips: Float, layout: Layout, rotation: str) -> Float:
    """Turn bodies (N, T, M, V, 3) about y so that the line from the left to the right shoulder points along +x.

    ``released`` takes the angle of every frame without its sign and gives all of them the sign that the sequence has in
    sum, so frames in which the line lies on the other side stay misaligned; the other rules do not have that error. A
    clip of a single frame comes out the same under all three (up to the released rule's 1e-4 m in the denominator).
    """
    if rotation == "none" or layout.shoulders is None:
        return clips
    left, right = layout.shoulders
    line = (clips[..., right, :] - clips[..., left, :]).astype(np.float64)  # (N, T, M, 3)
    if rotation == "sequence":
        line = line.mean(axis=1, keepdims=True)
    x, z = line[..., 0], line[..., 2]
    if rotation == "released":
        angle = np.arccos(x / (np.hypot(x, z) + 1e-4))
        angle = np.where(z.sum(axis=1, keepdims=True) >= 0, -angle, angle)
    else:
        angle = np.arctan2(-z, x)
    cos, sin = np.cos(angle)[..., None], np.sin(angle)[..., None]
    x, y, z = np.moveaxis(clips, -1, 0)
    return np.stack([cos * x - sin * z, np.broadcast_to(y, x.shape), sin * x + cos * z], axis=-1)


def _extent(raw: Float, offsets: NDArray[np.int64], rule: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First frame and number of frames used of every recording; an empty one has none."""
    begin, end = offsets[:-1], offsets[1:]
    if rule == "all":
        return begin, end - begin
    if rule == "released":
        before = np.concatenate([[0], np.cumsum(np.any(raw[:, 0, 0], axis=-1))])
        return begin, before[end] - before[begin]
    filled = np.flatnonzero(np.any(raw, axis=(1, 2, 3)))
    first = np.append(filled, len(raw))[np.searchsorted(filled, begin)]
    last = np.append(filled, -1)[np.searchsorted(filled, end) - 1]
    return np.minimum(first, end - 1), np.maximum(last - first + 1, 0)


@dataclass(frozen=True)
class Recordings:
    """Raw clips of a dataset, read and found good.

    Attributes:
        clips: each (F, M, V, 3), metres, y up.
        samples: one row per clip: ``id``, ``label`` and what else is known (``subject``, ``camera`` ...).
        layout: skeleton layout.
        classes: class names, index = label.
        source: name and sha256 of what was read.
        skipped: what was left out, and why.
        remarks: oddities that were kept.
    """

    clips: Sequence[Float]
    samples: pd.DataFrame
    layout: Layout
    classes: tuple[str, ...]
    source: Mapping[str, Any]
    skipped: Sequence[Finding]
    remarks: Sequence[Finding]


def to_layout(recordings: Recordings, target: Layout) -> Recordings:
    """The same recordings with the joints of another layout.

    Raises:
        BenchError: no joint mapping is declared.
    """
    joints = list(joint_map(recordings.layout, target))
    return replace(recordings, clips=[clip[:, :, joints] for clip in recordings.clips], layout=target)


def prepare_store(folder: Path, recordings: Recordings, rules: Preparation, version: int) -> None:
    """Prepare recordings and write them as a store.

    Args:
        folder: where to.
        recordings: what to prepare.
        rules: how.
        version: of the dataset.

    Raises:
        BenchError: there is not a single recording.
    """
    if not recordings.clips:
        name, skipped = recordings.source["name"], recordings.skipped
        raise BenchError(f"{name}: none of {len(skipped)} clips is usable.{first_of(skipped)}")
    offsets = np.cumsum([0, *(len(clip) for clip in recordings.clips)])
    clips, used = prepare_clips(np.concatenate(recordings.clips), offsets, recordings.layout, rules)
    samples = recordings.samples.copy()
    samples.insert(2, "length", used)
    manifest = {
        "version": version,
        "rules": {"version": VERSION, **as_dict(rules)},
        "source": recordings.source,
        "skipped": [asdict(finding) for finding in recordings.skipped],
        "remarks": [asdict(finding) for finding in recordings.remarks],
    }
    write_store(folder, clips, samples, recordings.layout, recordings.classes, manifest)


def inspect(clip: Float, layout: Layout) -> str:
    """Look at a raw clip (F, M, V, 3).

    Returns:
        A remark about what is odd but usable; empty if nothing is.

    Raises:
        BadClipError: no frame, a number that is no coordinate (NaN, infinity, huge), or no body in any frame.
    """
    if len(clip) == 0:
        raise BadClipError("no frames")
    wrong = ~(np.abs(clip) < _LARGEST)
    if wrong.any():
        frame, person, joint, axis = np.argwhere(wrong)[0]
        value, total = clip[frame, person, joint, axis], np.any(wrong, axis=-1).sum()
        raise BadClipError(
            f"frame {frame}, joint {layout.joints[joint]}: {value:g} is no coordinate ({total} joints in all)"
        )
    if not clip.any():
        raise BadClipError(f"all {len(clip)} frames are zero")
    missing = ~np.any(clip, axis=-1) & np.any(clip, axis=(-1, -2))[..., None]
    if not missing.any():
        return ""
    frame, _, joint = np.argwhere(missing)[0]
    return f"{missing.sum()} joints at exactly 0, 0, 0 (the first: frame {frame}, {layout.joints[joint]})"
