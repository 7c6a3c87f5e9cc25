"""Actionlets over time on the skeleton (ActCLR, Fig. 5), above the joints that truly move where that is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

from leaderboard.drawings.motion import shown
from leaderboard.skeletons import WEIGHTS, Points, Skeleton, draw_strip, strip_shape
from leaderboard.style import text_height, wrapped

_INCHES = 0.6
"""Per metre of body."""


@dataclass(frozen=True)
class Masked:
    """A clip with what methods attend to.

    Attributes:
        name: its class.
        poses: (T, M, V, 3).
        masks: (M, T, V) in 0..1, by method.
        truth: (M, T, V) bool, the joints that the action moves; ``None`` where nobody knows.
        iou: percent of the intersection over union of mask and truth, by method.
    """

    name: str
    poses: Points
    masks: Mapping[str, Points]
    truth: Points | None = None
    iou: Mapping[str, float] | None = None


def draw(clips: Sequence[Masked], skeleton: Skeleton, scores: Mapping[str, str] | None = None) -> Figure:
    """A block per clip: one strip for every method's mask, and one for the truth.

    Args:
        clips: what is shown; of two persons both.
        skeleton: whose bones.
        scores: a line about all test clips, by method.
    """
    rows = []
    for clip in clips:
        persons = clip.poses.any(axis=(0, 2, 3))
        poses = clip.poses[:, persons]
        for method, mask in clip.masks.items():
            score = f" · IoU {clip.iou[method]:.0f} %" if clip.iou else ""
            rows.append((f"{clip.name} · {method}{score}", poses, mask[persons]))
        if clip.truth is not None:
            rows.append((f"{clip.name} · joints that the action moves", poses, clip.truth[persons].astype(float)))
    frames = shown(len(clips[0].poses))
    shapes = [strip_shape(poses[frames], captions=i == len(rows)) for i, (_, poses, _) in enumerate(rows, 1)]
    width, heights = max(one[0] for one in shapes), [one[1] for one in shapes]
    titles = [wrapped(title, _INCHES * width, 8) for title, *_ in rows]
    wide = max(_INCHES * width + 0.9, 6.0)
    below = "\n".join(["frame", *(wrapped(f"{name}: {line}", 0.97 * wide, 8) for name, line in (scores or {}).items())])
    high = _INCHES * sum(heights) + sum(0.14 + text_height(title, 8) for title in titles)
    size = (wide, high + 0.6 + text_height(below, 8))
    figure = Figure(size, layout="constrained")
    panels = figure.subplots(len(rows), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, title, (_, poses, mask) in zip(panels, titles, rows, strict=True):
        weights = np.asarray(mask)[:, frames].swapaxes(0, 1)
        last = axes is panels[-1]
        times = [f"{t + 1}" for t in frames] if last else ()
        draw_strip(axes, poses[frames], skeleton, weights, times, spacing=width / len(frames))
        axes.set_title(title, fontsize=8)
    bar = figure.colorbar(ScalarMappable(cmap=WEIGHTS), ax=panels, shrink=min(1.0, 2.5 / size[1]), pad=0.01, aspect=30)
    bar.set_label("weight of a joint", fontsize=8)
    bar.outline.set_visible(False)
    figure.supxlabel(below, fontsize=8)
    return figure
