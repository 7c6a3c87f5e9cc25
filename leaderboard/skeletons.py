"""Skeletons as line drawings: a pose, a strip of poses over time, and what an animation needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, to_rgba
from numpy.typing import NDArray

Points = NDArray[np.floating]

AZIMUTH = 20.0
"""Degrees that the viewer stands beside the front, so that depth shows."""
SIDES = {"left": "#0173b2", "right": "#d55e00", "": "#4d4d4d"}
"""Colours of the limbs of both sides and of the trunk."""
WEIGHTS = LinearSegmentedColormap.from_list("weights", ["#c8c8c8", "#f2b134", "#d1340f"])
"""Colours of joints by weight, from 0 (body) to 1 (marked)."""
_GAP = 0.25
"""Space between two poses of a strip, metres."""
_CAPTION = 0.25
"""Height of what is written under a strip, metres."""


@dataclass(frozen=True)
class Skeleton:
    """What is drawn of a skeleton layout.

    Attributes:
        parents: the joint that every joint hangs on; the root hangs on itself.
        sides: ``left``, ``right`` or ``""`` of every joint; none given: one colour for all.
    """

    parents: tuple[int, ...]
    sides: tuple[str, ...] = ()

    @property
    def bones(self) -> list[tuple[int, int]]:
        """Pairs (joint, parent)."""
        return [(joint, parent) for joint, parent in enumerate(self.parents) if joint != parent]

    @property
    def colours(self) -> Points:
        """RGBA of every joint (V, 4)."""
        return np.array([to_rgba(SIDES[side]) for side in self.sides or [""] * len(self.parents)])


def flatten(points: Points, azimuth: float = AZIMUTH) -> Points:
    """Project prepared joints (..., 3) onto the page (..., 2): seen from the front, y up, the person's left on the right.

    Args:
        points: metres, y up, the line from the left to the right shoulder along +x (:mod:`datasets.prepare`).
        azimuth: degrees that the viewer stands beside the front.
    """
    x, y, z = np.moveaxis(np.asarray(points), -1, 0)
    angle = np.deg2rad(azimuth)
    return np.stack([z * np.sin(angle) - x * np.cos(angle), y], axis=-1)


def side_by_side(poses: Points) -> Points:
    """Poses (..., M, V, 2) with the second person moved to the right of the first: every body is centred at the origin.

    Where nobody but the first person is ever present nothing moves.
    """
    poses = np.array(poses, float)
    present = np.asarray(poses.any(axis=(-1, -2), keepdims=True))
    right = 0.0
    for person in range(poses.shape[-3]):
        one, there = poses[..., person, :, :], present[..., person, :, :]
        if not there.any():
            continue
        low, high = (float(extreme) for extreme in (one[..., 0].min(), one[..., 0].max()))
        if person:
            one[..., 0] = np.where(there[..., 0], one[..., 0] + right + _GAP - low, 0)
        right = high if not person else right + _GAP + high - low
    return poses


def pose_lines(pose: Points, skeleton: Skeleton, weights: Points | None = None) -> tuple[Points, Points, Points]:
    """What one flat pose (V, 2) or (M, V, 2) is drawn with; absent persons (all zero) are left out.

    Args:
        pose: see :func:`flatten` and :func:`side_by_side`.
        skeleton: whose bones.
        weights: (V,) or (M, V) in 0..1 to colour joints by, instead of the sides of the body.

    Returns:
        Bones (B, 2, 2), their colours (B, 4), and the colours of the present joints (J, 4) in the pose's order.
    """
    bodies = pose.reshape(-1, *pose.shape[-2:])
    shades = None if weights is None else np.asarray(weights).reshape(bodies.shape[:2])
    lines: list[Points] = [np.empty((0, 2, 2))]
    colours: list[Points] = [np.empty((0, 4))]
    dots: list[Points] = [np.empty((0, 4))]
    for person, body in enumerate(bodies):
        if not body.any():
            continue
        bones = np.array(skeleton.bones)
        joint = skeleton.colours if shades is None else np.asarray(WEIGHTS(np.clip(shades[person], 0, 1)))
        # A bone is marked when both its ends are.
        bone = joint[bones[:, 0]] if shades is None else np.asarray(WEIGHTS(shades[person][bones].min(axis=1)))
        lines.append(body[bones])
        colours.append(bone)
        dots.append(joint)
    return np.concatenate(lines), np.concatenate(colours), np.concatenate(dots)


def draw_pose(
    axes: Axes, pose: Points, skeleton: Skeleton, weights: Points | None = None, width: float = 1.5, dots: float = 8.0
) -> None:
    """Draw one flat pose, see :func:`pose_lines`.

    Args:
        axes: where to; its limits and aspect are left as they are.
        pose: (V, 2) or (M, V, 2).
        skeleton: whose bones.
        weights: of the joints, marked joints are larger.
        width: of the bones, points.
        dots: area of a joint, points squared.
    """
    lines, colours, joints = pose_lines(pose, skeleton, weights)
    axes.add_collection(LineCollection(list(lines), colors=colours, linewidths=width, capstyle="round", zorder=1))
    bodies = pose.reshape(-1, *pose.shape[-2:])
    present = bodies.any(axis=(1, 2))
    places = bodies[present].reshape(-1, 2)
    size: Any = dots
    if weights is not None:
        size = dots * (1 + 2 * np.asarray(weights).reshape(bodies.shape[:2])[present].ravel())
    axes.scatter(places[:, 0], places[:, 1], s=size, c=joints, linewidths=0, zorder=2)


def draw_strip(
    axes: Axes,
    poses: Points,
    skeleton: Skeleton,
    weights: Points | None = None,
    times: Sequence[str] = (),
    spacing: float | None = None,
) -> float:
    """Draw poses (K, V, 3) or (K, M, V, 3) from left to right, in metres; the axes lose their frame.

    Args:
        axes: where to.
        poses: prepared joints.
        skeleton: whose bones.
        weights: (K, V) or (K, M, V) in 0..1, see :func:`pose_lines`.
        times: what is written under each pose.
        spacing: distance of two poses; ``None``: as wide as the widest one needs.

    Returns:
        The distance used, for strips that shall line up.
    """
    flat = flatten(poses)
    if flat.ndim == 4:
        flat = side_by_side(flat)
    wide = extent(flat)
    spacing = wide[1] - wide[0] + _GAP if spacing is None else spacing
    for k, pose in enumerate(flat):
        present = pose.any(axis=(-1, -2), keepdims=True)
        moved = np.where(present, pose + np.array([k * spacing, 0]), 0)
        draw_pose(axes, moved, skeleton, None if weights is None else weights[k])
        if times:
            middle = k * spacing + (wide[0] + wide[1]) / 2
            axes.text(middle, wide[2] - 0.12, times[k], ha="center", va="top", fontsize=7, color="0.35")
    axes.set_xlim(wide[0] - _GAP / 2, (len(flat) - 1) * spacing + wide[1] + _GAP / 2)
    axes.set_ylim(wide[2] - 0.1 - _CAPTION * bool(times), wide[3] + 0.1)
    axes.set_aspect("equal")
    axes.set_axis_off()
    return spacing


def extent(flat: Points) -> tuple[float, float, float, float]:
    """Smallest and largest x and y of flat poses (..., 2)."""
    x, y = flat[..., 0], flat[..., 1]
    return float(x.min()), float(x.max()), float(y.min()), float(y.max())


def strip_shape(poses: Points, captions: bool = False) -> tuple[float, float]:
    """Width and height in metres that :func:`draw_strip` needs for poses, with or without times under them."""
    flat = flatten(poses)
    low, high, bottom, top = extent(side_by_side(flat) if flat.ndim == 4 else flat)
    return (high - low + _GAP) * len(poses), top - bottom + 0.2 + _CAPTION * captions
