"""A plain reader of NTU ``.skeleton`` text, line by line into dictionaries, as the field's scripts do it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_BODY = (
    "id", "clipped_edges", "left_confidence", "left_state", "right_confidence", "right_state", "restricted",
    "lean_x", "lean_y", "tracking",
)  # fmt: skip
_JOINT = ("x", "y", "z", "depth_x", "depth_y", "colour_x", "colour_y", "w", "ox", "oy", "oz", "tracking")


def read_plain(text: bytes) -> NDArray[np.float64]:
    """The first two bodies of every frame, (F, 2, 25, 3), zero where there is none; expects a text without faults."""
    lines = iter(text.decode().splitlines())
    frames = []
    for _ in range(int(next(lines))):
        bodies = []
        for _ in range(int(next(lines))):
            body: dict[str, object] = dict(zip(_BODY, map(float, next(lines).split()), strict=True))
            count = int(next(lines))
            body["joints"] = joints = [
                dict(zip(_JOINT, map(float, next(lines).split()), strict=True)) for _ in range(count)
            ]
            bodies.append(joints)
        frames.append(bodies)
    clip = np.zeros((len(frames), 2, 25, 3))
    for index, bodies in enumerate(frames):
        for person, joints in enumerate(bodies[:2]):
            for number, joint in enumerate(joints):
                clip[index, person, number] = [joint["x"], joint["y"], joint["z"]]
    return clip
