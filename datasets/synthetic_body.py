"""The body of the synthetic set: a kinematic tree of 25 joints (layout NTU25) that joint angles drive.

Body frame: x to the subject's right, y up, z to the back (right-handed), so a body whose axes are a camera's faces that
camera, which looks along +z. Angles are degrees, lengths metres. With all angles zero the body stands upright, limbs
hanging.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from datasets.layout import NTU25

Array = NDArray[np.float64]
Pose = Mapping[str, float]
"""Angles by name; absent angles are zero. ``arms_forward`` sets ``left_arm_forward`` and ``right_arm_forward``."""

# The layout's own tree, rooted at the top of the spine, serves graphs and bone streams; bodies move from the pelvis.
PARENTS = (-1, 0, 20, 2, 20, 4, 5, 6, 20, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18, 1, 7, 7, 11, 11)
"""Anatomical parent of every joint; the pelvis has none."""
_OUTWARDS = (0, 1, 20, 2, 3, 4, 5, 6, 7, 21, 22, 8, 9, 10, 11, 23, 24, 12, 13, 14, 15, 16, 17, 18, 19)

# Rest pose by sideless name: the group that scales the bone, and its vector from the parent (right side) in heights.
_REST: dict[str, tuple[str, tuple[float, float, float]]] = {
    "spine_mid": ("trunk", (0.0, 0.155, 0.005)),
    "spine_shoulder": ("trunk", (0.0, 0.120, 0.0)),
    "neck": ("head", (0.0, 0.045, -0.005)),
    "head": ("head", (0.0, 0.075, -0.012)),
    "shoulder": ("shoulders", (0.103, -0.020, 0.0)),
    "elbow": ("arms", (0.0, -0.165, 0.0)),
    "wrist": ("arms", (0.0, -0.145, 0.0)),
    "hand": ("hands", (0.0, -0.042, 0.0)),
    "hand_tip": ("hands", (0.0, -0.045, 0.0)),
    "thumb": ("hands", (-0.012, -0.015, -0.032)),
    "hip": ("hips", (0.050, -0.045, 0.0)),
    "knee": ("legs", (0.0, -0.235, 0.0)),
    "ankle": ("legs", (0.0, -0.232, 0.0)),
    "foot": ("feet", (0.0, -0.032, -0.075)),
}
PROPORTIONS = tuple(dict.fromkeys(group for group, _ in _REST.values()))
"""Groups of bones whose length varies from subject to subject beside the height."""

_X, _Y, _Z = range(3)
# Angle name -> (joint at the end of the turning segment, axis, factor). Forward raises limbs, bends the trunk forward.
# When the pelvis leans or rolls, the legs stay upright.
_MIDDLE: dict[str, tuple[tuple[str, int, float], ...]] = {
    "lean": (("spine_base", _X, -1), ("left_knee", _X, 1), ("right_knee", _X, 1)),
    "roll": (("spine_base", _Z, 1), ("left_knee", _Z, -1), ("right_knee", _Z, -1)),
    "turn": (("spine_base", _Y, 1),),
    "bend": (("spine_mid", _X, -0.5), ("spine_shoulder", _X, -0.5)),
    "side": (("spine_mid", _Z, 0.5), ("spine_shoulder", _Z, 0.5)),
    "twist": (("spine_mid", _Y, 0.5), ("spine_shoulder", _Y, 0.5)),
    "nod": (("neck", _X, -0.5), ("head", _X, -0.5)),
    "tilt": (("neck", _Z, 0.5), ("head", _Z, 0.5)),
    "look": (("neck", _Y, 0.5), ("head", _Y, 0.5)),
}
_RIGHT: dict[str, tuple[str, int, float]] = {
    "arm_forward": ("elbow", _X, 1), "arm_outward": ("elbow", _Z, 1), "arm_roll": ("elbow", _Y, -1),
    "elbow": ("wrist", _X, 1), "wrist": ("hand", _X, 1),
    "leg_forward": ("knee", _X, 1), "leg_outward": ("knee", _Z, 1), "leg_roll": ("knee", _Y, -1),
    "knee": ("ankle", _X, -1), "ankle": ("foot", _X, 1),
}  # fmt: skip
ANGLES = (*_MIDDLE, *(f"{side}_{name}" for side in ("left", "right") for name in _RIGHT))
"""Names of all angles, the columns of angle arrays (T, A)."""
_COLUMN = {name: index for index, name in enumerate(ANGLES)}


def _coordinates() -> Array:
    """Matrix (A, V * 3) from angles to the rotation coordinates of the segments."""
    matrix = np.zeros((len(ANGLES), len(NTU25), 3))
    joint = {name: index for index, name in enumerate(NTU25.joints)}
    for name, terms in _MIDDLE.items():
        for end, axis, factor in terms:
            matrix[_COLUMN[name], joint[end], axis] += factor
    for name, (end, axis, factor) in _RIGHT.items():
        matrix[_COLUMN[f"right_{name}"], joint[f"right_{end}"], axis] = factor
        matrix[_COLUMN[f"left_{name}"], joint[f"left_{end}"], axis] = factor if axis == _X else -factor
    return matrix.reshape(len(ANGLES), -1)


_COORDINATES = _coordinates()
_SIDES = len(_RIGHT)
_MIRROR = [*range(len(_MIDDLE)), *(len(_MIDDLE) + np.roll(np.arange(2 * _SIDES), _SIDES))]
_MIRROR_SIGN = np.array([-1.0 if name in ("roll", "turn", "side", "twist", "tilt", "look") else 1.0 for name in ANGLES])


def pose_angles(pose: Pose) -> Array:
    """Angles (A,) of a pose given by names.

    Raises:
        KeyError: an unknown angle name.
    """
    angles = np.zeros(len(ANGLES))
    for name, value in pose.items():
        limb, _, rest = name.partition("_")
        if limb in ("arms", "legs", "elbows", "wrists", "knees", "ankles"):
            single = limb[:-1] + (f"_{rest}" if rest else "")
            angles[[_COLUMN[f"left_{single}"], _COLUMN[f"right_{single}"]]] = value
        else:
            angles[_COLUMN[name]] = value
    return angles


def mirror(angles: Array) -> Array:
    """Swap left and right of angles (..., A)."""
    return np.asarray(angles[..., _MIRROR] * _MIRROR_SIGN)


def bone_offsets(height: float, factors: Mapping[str, float]) -> Array:
    """Bone vectors of one subject in the rest pose.

    Args:
        height: body height.
        factors: length factor for each of :data:`PROPORTIONS`.

    Returns:
        (V, 3): each joint relative to its anatomical parent; the pelvis is zero.
    """
    offsets = np.zeros((len(NTU25), 3))
    for index, joint in enumerate(NTU25.joints[1:], start=1):
        group, rest = _REST[joint.removeprefix("left_").removeprefix("right_")]
        offsets[index] = np.array(rest) * height * factors[group]
        if joint.startswith("left_"):
            offsets[index, 0] *= -1
    return offsets


def _rotations(coordinates: Array) -> Array:
    """Rotation matrices (..., 3, 3) of swing (x, z) after twist (y), in degrees (..., 3)."""
    swing = np.radians(coordinates) * (1.0, 0.0, 1.0)
    angle = np.linalg.norm(swing, axis=-1)
    axis = swing / np.maximum(angle, 1e-12)[..., None]
    x, z = axis[..., 0], axis[..., 2]
    sine, versine = np.sin(angle), 1 - np.cos(angle)
    rows = [
        [1 - versine * z * z, -sine * z, versine * x * z],
        [sine * z, np.cos(angle), -sine * x],
        [versine * x * z, sine * x, 1 - versine * x * x],
    ]
    return np.stack([np.stack(row, -1) for row in rows], -2) @ turn_about_y(coordinates[..., 1])


def turn_about_y(degrees: Array | float) -> Array:
    """Rotation matrices (..., 3, 3) about the vertical; a positive angle turns the body's front to its left."""
    angle = np.radians(np.asarray(degrees, dtype=np.float64))
    sine, cosine = np.sin(angle), np.cos(angle)
    zero, one = np.zeros_like(angle), np.ones_like(angle)
    rows = [[cosine, zero, sine], [zero, one, zero], [-sine, zero, cosine]]
    return np.stack([np.stack(row, -1) for row in rows], -2)


def forward_kinematics(angles: Array, offsets: Array) -> Array:
    """Joint positions (T, V, 3) of angles (T, A) for one subject's bones (V, 3); the pelvis stays at the origin."""
    turns = _rotations((angles @ _COORDINATES).reshape(len(angles), len(NTU25), 3))
    positions = np.zeros((len(angles), len(NTU25), 3))
    for joint in _OUTWARDS[1:]:
        parent = PARENTS[joint]
        turns[:, joint] = turns[:, parent] @ turns[:, joint]
        positions[:, joint] = positions[:, parent] + turns[:, joint] @ offsets[joint]
    return positions


def stand(positions: Array) -> Array:
    """Put bodies (T, V, 3) on the floor y = 0 so that the carrying foot does not slide; walking thus moves the body.

    The body's path is centred on x = z = 0.
    """
    feet = positions[:, [[14, 15], [18, 19]]]  # (T, side, ankle and foot, 3)
    heights = feet[..., 1].min(axis=2)
    floor = heights.min(axis=1)
    carrying = np.exp(-(heights - floor[:, None]) / 0.02)
    carrying /= carrying.sum(axis=1, keepdims=True)
    steps = np.diff(feet[:, :, 0], axis=0) * ((carrying[1:] + carrying[:-1]) / 2)[..., None]
    path = np.zeros((len(positions), 3))
    path[1:] = -np.cumsum(steps.sum(axis=1), axis=0)
    path -= path.mean(axis=0)
    path[:, 1] = -floor
    return np.asarray(positions + path[:, None])
