"""The average motion of all training clips beside a clip (ActCLR, Fig. 4)."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from leaderboard.skeletons import Points, Skeleton, draw_strip, strip_shape
from leaderboard.style import text_height, wrapped

POSES = 8
"""Poses of a strip, spread evenly over the clip."""
_INCHES = 0.75
"""Per metre of body."""


def draw(average: Points, clip: Points, skeleton: Skeleton, name: str) -> Figure:
    """Two strips of the first person, and how fast its joints move on average.

    Args:
        average: (T, M, V, 3), the mean of all training clips.
        clip: (T, M, V, 3), one of them for comparison.
        skeleton: whose bones.
        name: of the clip.
    """
    frames, clip_alone = shown(len(average)), clip[:, 0]
    rows = {"average of all training clips": average[:, 0], f"one clip ({name})": clip_alone}
    width = max(strip_shape(one[frames])[0] for one in rows.values())
    heights = [strip_shape(one[frames], captions=one is clip_alone)[1] for one in rows.values()]
    titles = [
        wrapped(f"{title}: joints move {speed(poses):.1f} mm per frame", _INCHES * width, 9)
        for title, poses in rows.items()
    ]
    high = _INCHES * sum(heights) + sum(text_height(title, 9) for title in titles)
    figure = Figure((_INCHES * width + 0.2, high + 0.9), layout="constrained")
    panels = figure.subplots(2, 1, height_ratios=heights)
    spacing = width / len(frames)
    for axes, title, poses in zip(panels, titles, rows.values(), strict=True):
        last = poses is clip_alone
        draw_strip(axes, poses[frames], skeleton, spacing=spacing, times=[f"{t + 1}" for t in frames] if last else ())
        axes.set_title(title)
    figure.supxlabel("frame", fontsize=8)
    return figure


def shown(length: int, count: int = POSES) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The frames of a clip that a strip shows: the middles of as many equal parts."""
    return ((np.arange(count) + 0.5) * length / count).astype(np.int64)


def speed(poses: Points) -> float:
    """Mean distance that a joint of poses (T, V, 3) moves from one frame to the next, millimetres."""
    return 1000 * float(np.linalg.norm(np.diff(poses.astype(np.float64), axis=0), axis=-1).mean())
