"""Which of the bodies that the sensor lists are the one or two persons of a clip."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from datasets.layout import NTU25
from datasets.ntu_raw import Sightings

PERSONS = 2
SHORTEST = 12
"""Frames below which a body is noise (released code: up to 11 frames are dropped)."""
WIDE = 0.8
"""A body wider than this times its height is no upright person in that frame (released code)."""
MOST_WIDE = 0.69754
"""Share of wide frames from which on a body is noise (released code)."""


def first_two(seen: Sightings) -> NDArray[np.float32]:
    """The first two bodies that each frame lists, as AimCLR's code and its ancestors take them (aimclr.md 1.2).

    Ids are not looked at: when the order of the list changes the two persons change places, and when the first person
    vanishes the second one takes the first place.

    Returns:
        (F, 2, 25, 3), metres; zero where there is no body.
    """
    rank = np.arange(len(seen.frame)) - np.searchsorted(seen.frame, seen.frame)
    kept = rank < PERSONS
    clip = np.zeros((seen.frames, PERSONS, len(NTU25), 3), np.float32)
    clip[seen.frame[kept], rank[kept]] = seen.joints[kept]
    return clip


def tracked(seen: Sightings) -> NDArray[np.float32]:
    """Bodies followed by id; noise is left out, and who moves most comes first.

    The rules of the denoising script that CTR-GCN and most later supervised work use. Where there is more than one body:
    leave out bodies of less than :data:`SHORTEST` frames, then those that are wide in :data:`MOST_WIDE` of their frames,
    always keeping one; order by motion (variance of all coordinates, without wide frames if that is less). The first one
    is person 1. Each further body, in order, continues person 1 if it was not there at the same time, else person 2 on the
    same condition, else it is left out.

    Two differences: frames stay where they were recorded (the script closes gaps), and when every body is too short the
    longest one is kept (the script stops).

    Returns:
        (F, 2, 25, 3), metres; zero where there is no body.
    """
    bodies = _tracks(seen)
    if len(bodies) > 1:
        bodies = [body for body in bodies if len(body.frame) >= SHORTEST] or [max(bodies, key=lambda b: len(b.frame))]
    if len(bodies) > 1:
        bodies = sorted(_without_wide(bodies), key=lambda body: -body.motion)
    clip = np.zeros((seen.frames, PERSONS, len(NTU25), 3), np.float32)
    spans: list[tuple[int, int]] = []
    for body in bodies:
        start, end = int(body.frame[0]), int(body.frame[-1])
        for person in range(PERSONS):
            if person == len(spans):
                spans.append((start, end))
            elif min(spans[person][1], end) - max(spans[person][0], start) > 0:
                continue
            spans[person] = min(spans[person][0], start), max(spans[person][1], end)
            clip[body.frame, person] = body.joints
            break
    return clip


SELECTIONS: Mapping[str, Callable[[Sightings], NDArray[np.float32]]] = {"first-two": first_two, "tracked": tracked}
"""Rules by name; the first one is the default."""


@dataclass(frozen=True)
class _Track:
    """A body: its frames (K,), joints (K, 25, 3) and motion, square metres."""

    frame: NDArray[np.int64]
    joints: NDArray[np.float64]
    motion: float


def _tracks(seen: Sightings) -> list[_Track]:
    """Bodies in the order in which they appear; of an id that a frame lists twice the first counts."""
    ids, first = np.unique(seen.body, return_index=True)
    tracks = []
    for body in ids[np.argsort(first)]:
        rows = np.flatnonzero(seen.body == body)
        frame, once = np.unique(seen.frame[rows], return_index=True)
        joints = seen.joints[rows[once]]
        tracks.append(_Track(frame, joints, _motion(joints)))
    return tracks


def _motion(joints: NDArray[np.float64]) -> float:
    return float(joints.reshape(-1, 3).var(axis=0).sum())


def _without_wide(bodies: list[_Track]) -> list[_Track]:
    """Leave out bodies that are mostly wide, as long as another is left; lower the motion of the others."""
    left = len(bodies)
    kept = []
    for body in bodies:
        width, height = np.ptp(body.joints[:, :, 0], axis=1), np.ptp(body.joints[:, :, 1], axis=1)
        upright = width <= WIDE * height
        if left > 1 and not upright.all():
            if 1 - upright.mean() >= MOST_WIDE:
                left -= 1
                continue
            body = replace(body, motion=min(body.motion, _motion(body.joints[upright])))
        kept.append(body)
    return kept
