"""Clips of the synthetic kind as raw NTU ``.skeleton`` files, so that reading and preparing run without licensed data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count, islice, product
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from datasets import ntu60
from datasets.layout import NTU25
from datasets.ntu_files import ACTIONS_60, PERFORMERS_60, SETUPS_60
from datasets.synthetic import SUBJECTS, TRAINING_SUBJECTS, partner_of
from datasets.synthetic_actions import ACTIONS
from datasets.synthetic_scene import CAMERAS, observe, perform
from engine.config import BenchError

Array = NDArray[np.floating]
Body = tuple[int, Array]
"""Id of a body and its joints (25, 3), metres."""

MOST_FILES = 20_000
_SECOND_SETUPS = 15
# Synthetic class -> the action of NTU RGB+D, and of NTU RGB+D 120, that comes closest.
_ACTIONS = {
    "wave": (23, 23), "clap": (10, 10), "clap overhead": (22, 22), "throw": (7, 7), "punch": (31, 93), "drink": (1, 1),
    "phone call": (28, 28), "kick": (24, 102), "knee raise": (26, 100), "sit down": (8, 8), "stand up": (9, 9),
    "squat": (16, 80), "bow": (35, 35), "pick up with one hand": (6, 6), "pick up with two hands": (5, 92),
    "walk": (42, 42), "march": (27, 99), "shake hands": (58, 58), "high five": (54, 112), "push": (52, 52),
}  # fmt: skip
_FIRST_ID = 2**56
_STATE = " 0 1 1 1 1 0 0.02764709 0.05745083 2"
_JOINT = "%.8g %.8g %.8g %.7g %.7g %.7g %.7g %.7g %.7g %.7g %.7g 2"
_JOINTS = "\r\n".join([_JOINT] * len(NTU25))


def skeleton_text(frames: Sequence[Sequence[Body]]) -> bytes:
    """The text of a file (aimclr.md 1.1) that lists these bodies in each frame.

    Pixels are those of an ideal Kinect v2 camera, orientations the directions of the bones, states always "tracked".
    """
    lines = [str(len(frames))]
    for bodies in frames:
        lines.append(str(len(bodies)))
        for body, joints in bodies:
            lines += [f"{body}{_STATE}", str(len(joints)), _JOINTS % tuple(_columns(joints).ravel().tolist())]
    return ("\r\n".join(lines) + "\r\n").encode()


def _columns(joints: Array) -> Array:
    """x, y, z, depth x and y, colour x and y, orientation w, x, y, z of every joint: (25, 11)."""
    depth = np.where(joints[:, 2:] > 0, joints[:, 2:], np.inf)
    seen = joints[:, :2] / depth * (1, -1)
    bones = joints - joints[list(NTU25.bones)]
    length = np.linalg.norm(bones, axis=1, keepdims=True)
    direction = bones / np.where(length > 0, length, 1)
    pixels = [seen * 365 + (256, 212), seen * 1060 + (960, 540)]
    return np.concatenate([joints, *pixels, np.zeros_like(length), direction], axis=1)


def emit(folder: Path, files: int, release: Literal["ntu60", "ntu120"] = "ntu60") -> int:
    """Write the first ``files`` clips: 20 actions by 12 performers and 3 cameras for every take.

    Take by take, and all performers and cameras of an action together, so that a part has all parts of a split. Training
    subjects of the synthetic set are training performers of ``xsub``.

    Returns:
        How many files were written.

    Raises:
        BenchError: the folder is not empty, or too many files are asked for.
    """
    if files > MOST_FILES:
        raise BenchError(f"{files} files; at most {MOST_FILES} can be named as recordings of {release}.")
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise BenchError(f"{folder} is not empty; name a new folder.")
    for name, text in islice(_clips(release), files):
        (folder / f"{name}.skeleton").write_bytes(text)
    return files


def _clips(release: str) -> Iterator[tuple[str, bytes]]:
    """Names and texts, without end."""
    others = [number for number in range(1, PERFORMERS_60 + 1) if number not in ntu60.SUBJECTS]
    performers = {True: iter(ntu60.SUBJECTS), False: iter(others)}
    performer = {subject: next(performers[subject in TRAINING_SUBJECTS]) for subject in range(1, SUBJECTS + 1)}
    for take, (label, subject) in ((t, pair) for t in count(1) for pair in product(range(len(ACTIONS)), performer)):
        scene = perform(label, subject, take, partner_of(subject))
        action = _ACTIONS[ACTIONS[label].name][release == "ntu120"]
        first, setups = (SETUPS_60, _SECOND_SETUPS) if action > ACTIONS_60 else (0, SETUPS_60)
        setup = first + 1 + (subject + (take - 1) // 2) % setups
        for camera in range(1, len(CAMERAS) + 1):
            name = f"S{setup:03}C{camera:03}P{performer[subject]:03}R{1 + (take - 1) % 2:03}A{action:03}"
            seen = observe(scene, camera - 1)
            ids = [_FIRST_ID + 1000 * take + person for person in range(len(seen))]
            yield name, skeleton_text([list(zip(ids, bodies, strict=True)) for bodies in seen.swapaxes(0, 1)])
