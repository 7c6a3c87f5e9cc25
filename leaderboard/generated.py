"""Real beside generated clips: strips of poses as a picture, and moving, as an animation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.animation import PillowWriter
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

from engine.config import BenchError
from leaderboard import style
from leaderboard.skeletons import Skeleton, draw_pose, draw_strip, extent, flatten, side_by_side
from leaderboard.style import text_height, text_width, wrapped

_POSES = 7
"""Poses of a strip."""
_WIDTH, _HEIGHT = 4.2, 1.15
"""Inches of a strip."""
_NAME = 1.2
"""Inches of a class's name."""
_PANEL = 1.9
"""Inches of a panel of the animation."""
_SECONDS = 2.5
"""Length of the animation."""


def write(path: Path) -> list[Path]:
    """Draw the samples of ``path`` (``engine.samples``) as ``.png`` and ``.gif`` beside it.

    Raises:
        BenchError: no such samples.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            clips, versions, classes = stored["clips"], list(stored["versions"]), list(stored["classes"])
            skeleton = Skeleton(tuple(map(int, stored["parents"])), tuple(map(str, stored["sides"])))
    except (OSError, KeyError, ValueError) as error:
        raise BenchError(f"{path} holds no samples ({error}). Delete it and generate again.") from None
    animation = path.with_suffix(".gif")
    with style.canvas():
        pictures = style.store(strips(clips, versions, classes, skeleton), path.with_suffix(""), ("png",), 130)
        animate(clips, versions, classes, skeleton, animation)
    return [*pictures, animation]


def strips(clips: NDArray[np.float32], versions: list[str], classes: list[str], skeleton: Skeleton) -> Figure:
    """A row of panels per clip, a column per version; poses from the first frame to the last.

    Args:
        clips: (versions, clips, M, T, V, 3).
        versions: names.
        classes: names, one per clip.
        skeleton: whose bones.
    """
    rows, columns = len(classes), len(versions)
    names, titles = [wrapped(name, _NAME, 8) for name in classes], [wrapped(name, _WIDTH - 0.2, 9) for name in versions]
    above = 0.15 + max(text_height(title, 9) for title in titles)
    width, height = _WIDTH * columns + max(text_width(name, 8) for name in names), _HEIGHT * rows + above
    figure = Figure((width, height), layout=ConstrainedLayoutEngine(rect=(0, 0, 1, 1 - above / height)))
    axes_of = figure.subplots(rows, columns, squeeze=False)
    times = np.linspace(0, clips.shape[3] - 1, _POSES).round().astype(int)
    for row in range(rows):
        for column in range(columns):
            axes = axes_of[row, column]
            draw_strip(axes, clips[column, row][:, times].swapaxes(0, 1), skeleton)
            if column == 0:
                axes.text(-0.01, 0.5, names[row], transform=axes.transAxes, ha="right", va="center", fontsize=8)
    figure.draw_without_rendering()
    for column, title in enumerate(titles):
        left = min(axes.get_position().x0 for axes in axes_of[:, column])
        figure.text(left, 1 - 0.05 / height, title, va="top", fontsize=9)
    return figure


def animate(
    clips: NDArray[np.float32], versions: list[str], classes: list[str], skeleton: Skeleton, path: Path
) -> None:
    """The same clips moving, as a GIF; see :func:`strips`."""
    rows, columns, frames = len(classes), len(versions), clips.shape[3]
    names, titles = ([wrapped(name, 0.95 * _PANEL, 8) for name in some] for some in (classes, versions))
    beside, above = (max(text_height(name, 8) for name in some) + 0.2 for some in (names, titles))
    figure = Figure((_PANEL * columns + beside + 0.2, _PANEL * rows + above), layout="constrained")
    axes_of = figure.subplots(rows, columns, squeeze=False)
    flat = [
        [side_by_side(flatten(clips[column, row].swapaxes(0, 1))) for column in range(columns)] for row in range(rows)
    ]
    writer = PillowWriter(fps=max(1, round(frames / _SECONDS)))
    with writer.saving(figure, str(path), dpi=70):
        for frame in range(frames):
            for row in range(rows):
                left, right, bottom, top = extent(flat[row][0])  # of the real clip, so that all move in the same room
                for column in range(columns):
                    axes = axes_of[row, column]
                    axes.clear()
                    draw_pose(axes, flat[row][column][frame], skeleton)
                    axes.set(xlim=(left - 0.2, right + 0.2), ylim=(bottom - 0.1, top + 0.1), aspect="equal")
                    axes.set_axis_off()
                    if row == 0:
                        axes.set_title(titles[column], fontsize=8, loc="center")
                    if column == 0:
                        axes.text(-0.02, 0.5, names[row], transform=axes.transAxes, rotation=90, ha="right",
                                  va="center", fontsize=8)  # fmt: skip
            writer.grab_frame()
