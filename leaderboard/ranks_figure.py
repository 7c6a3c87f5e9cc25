"""Average ranks as a critical-difference picture (Demsar, JMLR 7, 2006, section 3.2.4)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from leaderboard.comparison import Ranking

_STEP = 0.55
"""Height of a line of text, in half inches."""


def draw(rankings: Sequence[Ranking], folder: Path) -> list[Path]:
    """Draw ``ranks.png`` and ``ranks.svg``: one axis per ranking, the best method left.

    A bar joins methods that cannot be told apart; the scale above shows the critical difference. The same rankings give
    the same bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    style: Any = {"svg.hashsalt": "ranks", "font.family": "DejaVu Sans", "font.size": 9}
    with matplotlib.rc_context(style):
        heights = [3.4 + len(one.groups) * 0.35 + (len(one.methods) + 1) // 2 * _STEP for one in rankings]
        figure = Figure((7.0, sum(heights) / 2), layout="constrained")
        panels = figure.subplots(len(rankings), 1, squeeze=False, height_ratios=heights)[:, 0]
        for one, axes, height in zip(rankings, panels, heights, strict=True):
            _panel(axes, one, height)
        paths = [folder / "ranks.png", folder / "ranks.svg"]
        figure.savefig(paths[0], dpi=200, metadata={"Software": None})
        figure.savefig(paths[1], metadata={"Date": None})
    return paths


def _panel(axes: Axes, ranking: Ranking, height: float) -> None:
    count = len(ranking.methods)
    ticks = range(1, count + 1)
    margin = 0.55 * max(count - 1, 1)
    axes.set(xlim=(1 - margin, count + margin), ylim=(height - 2.0, -1.6))
    axes.hlines(0, 1, count, color="black", lw=1)
    for tick in ticks:
        axes.vlines(tick, -0.12, 0, color="black", lw=1)
        axes.text(tick, -0.2, str(tick), ha="center", va="bottom")
    wide = min(ranking.critical, count + margin - 1)
    axes.hlines(-0.95, 1, 1 + wide, color="black", lw=1)
    axes.vlines([1, 1 + wide], -1.05, -0.85, color="black", lw=1)
    axes.text(1 + wide / 2, -1.05, f"critical difference {ranking.critical:.2f}", ha="center", va="bottom")
    bars = 0.25 + 0.35 * len(ranking.groups)
    for i, (first, last) in enumerate(ranking.groups):
        axes.hlines(0.28 + 0.35 * i, ranking.ranks[first] - 0.03, ranking.ranks[last] + 0.03, color="black", lw=3)
    for i, (method, rank) in enumerate(zip(ranking.methods, ranking.ranks, strict=True)):
        left = i < (count + 1) // 2
        y = bars + _STEP * ((i if left else count - 1 - i) + 0.6)
        end = 1 - 0.12 * margin if left else count + 0.12 * margin
        axes.plot([rank, rank, end], [0, y, y], color="0.3", lw=0.8)
        text = (f"{method}  {rank:.2f}" if left else f"{rank:.2f}  {method}").replace("$", r"\$")
        x = end + (-0.02 if left else 0.02) * margin
        axes.text(x, y, text, va="center", ha="right" if left else "left")
    title = f"{ranking.protocol}: average rank over {len(ranking.places)} tables"
    axes.set_title(f"{title} · recipe {ranking.recipe} · budget {ranking.budget}", loc="left", fontsize=9)
    axes.axis("off")
