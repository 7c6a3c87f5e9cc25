"""A skeleton player: clips and augmented views as an animation, and their frames as data for a player of one's own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from PIL import Image

from leaderboard.skeletons import Points, Skeleton, extent, flatten, pose_lines, side_by_side
from leaderboard.style import text_height, wrapped

_SIDE = 1.15
"""Inches of a panel."""
_DPI = 100
_RATE = 12.5
"""Frames per second; a GIF counts in hundredths of a second."""
_COLOURS = 32
_DIGITS = 3


@dataclass(frozen=True)
class Moving:
    """A clip that is played: joints (T, M, V, 3) under a title; ``group`` is what it is a view of."""

    title: str
    poses: Points
    group: str = ""


def save(clips: Sequence[Moving | None], skeleton: Skeleton, path: Path, title: str, columns: int) -> list[Path]:
    """Write ``path.gif``, which loops over all clips side by side, and ``path.json``, their frames.

    Args:
        clips: in the order of reading, ``None`` leaves a panel empty.
        skeleton: whose bones.
        path: without suffix.
        title: of the whole.
        columns: panels in a row.

    Returns:
        The files; the same clips give the same bytes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    paths = [path.with_name(f"{path.name}.{suffix}") for suffix in ("gif", "json")]
    images = [Image.fromarray(image) for image in _images(clips, skeleton, title, columns)]
    # One palette for all frames, so that nothing flickers.
    palette = images[len(images) // 2].quantize(_COLOURS, Image.Quantize.MAXCOVERAGE)  # white stays white
    frames = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    frames[0].save(paths[0], save_all=True, append_images=frames[1:], duration=round(1000 / _RATE), loop=0)
    content = data([clip for clip in clips if clip], skeleton)
    paths[1].write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")
    return paths


def data(clips: Sequence[Moving], skeleton: Skeleton) -> dict[str, Any]:
    """What a player needs: bones as pairs of joints, the side of every joint, and clips with frames[t][person][joint].

    Coordinates are in metres, rounded to millimetres: y up, the line from left to right shoulder along +x. Absent persons are
    left out.
    """
    listed = []
    for clip in clips:
        present = clip.poses[:, clip.poses.any(axis=(0, 2, 3))]
        frames = np.round(present.astype(np.float64), _DIGITS) + 0.0  # no -0.0
        listed.append({"title": clip.title, "group": clip.group, "frames": frames.tolist()})
    return {
        "bones": [list(bone) for bone in skeleton.bones],
        "sides": list(skeleton.sides),
        "rate": _RATE,
        "clips": listed,
    }


def _images(clips: Sequence[Moving | None], skeleton: Skeleton, title: str, columns: int) -> list[np.ndarray[Any, Any]]:
    """RGB images (H, W, 3), one per frame."""
    rows = -(-len(clips) // columns)
    width = _SIDE * columns + 0.1
    heading, titles = wrapped(title, 0.97 * width, 8), [wrapped(clip.title, _SIDE, 7) if clip else "" for clip in clips]
    high = _SIDE + 0.08 + max(text_height(one, 7) for one in titles)
    figure = Figure((width, high * rows + 0.15 + text_height(heading, 8)), dpi=_DPI, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    figure.suptitle(heading, x=0.01, ha="left", fontsize=8, color="0.3")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    players = []
    for axes in grid:
        axes.set_axis_off()
    for axes, clip, name in zip(grid, clips, titles, strict=False):
        if clip is None:
            continue
        flat = side_by_side(flatten(clip.poses[:, clip.poses.any(axis=(0, 2, 3))]))
        low, high, bottom, top = extent(flat)
        middle, half = (low + high) / 2, max(high - low, top - bottom, 0.1) / 2 + 0.05
        axes.set(xlim=(middle - half, middle + half), ylim=((bottom + top) / 2 - half, (bottom + top) / 2 + half))
        axes.set_aspect("equal")
        axes.set_title(name, fontsize=7, loc="center")
        lines = axes.add_collection(LineCollection([], linewidths=1.6, capstyle="round"))
        players.append((axes, lines, flat))
    canvas.draw()  # type: ignore[no-untyped-call]
    # Everything but the bodies is drawn once.
    still = canvas.copy_from_bbox(figure.bbox)  # type: ignore[no-untyped-call]
    images = []
    for time in range(max(len(flat) for *_, flat in players)):
        canvas.restore_region(still)  # type: ignore[no-untyped-call]
        for axes, lines, flat in players:
            bones, colours, _ = pose_lines(flat[min(time, len(flat) - 1)], skeleton)
            lines.set_segments(list(bones))
            lines.set_color(colours)
            axes.draw_artist(lines)
        images.append(np.array(canvas.buffer_rgba())[..., :3])  # type: ignore[no-untyped-call]
    return images
