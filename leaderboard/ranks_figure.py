"""Average ranks as a critical-difference picture (Demsar, JMLR 7, 2006, section 3.2.4)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from leaderboard import style
from leaderboard.comparison import Ranking
from leaderboard.style import text_height, wrapped

_SIZE = 9
"""Points of all text."""
_WIDTH, _NAME = 7.0, 1.15
"""Inches of the picture and of a method's name."""
_RANK = 0.22
"""What the rank takes of the margin that it shares with the name."""
_STEP = 0.55
"""Height of a name in one line, in half inches."""


def draw(rankings: Sequence[Ranking], folder: Path) -> list[Path]:
    """Draw ``ranks.png`` and ``ranks.svg``: one axis per ranking, the best method left.

    A bar joins methods that cannot be told apart; the scale above shows the critical difference. The same rankings give
    the same bytes.
    """
    with style.canvas():
        names = [[wrapped(name, _NAME, _SIZE) for name in one.methods] for one in rankings]
        steps = [max(_STEP, 2 * max(text_height(name, _SIZE) for name in own) + 0.1) for own in names]
        heights = [
            3.4 + len(one.groups) * 0.35 + (len(one.methods) + 1) // 2 * step
            for one, step in zip(rankings, steps, strict=True)
        ]
        figure = Figure((_WIDTH, sum(heights) / 2), layout="constrained")
        panels = figure.subplots(len(rankings), 1, squeeze=False, height_ratios=heights)[:, 0]
        for one, own, step, height, axes in zip(rankings, names, steps, heights, panels, strict=True):
            _panel(axes, one, own, step, height)
        return style.store(figure, folder / "ranks", ("png", "svg"), 200)


def _panel(axes: Axes, ranking: Ranking, names: Sequence[str], step: float, height: float) -> None:
    """One axis; ``step`` from name to name and ``height`` of all in half inches."""
    count = len(ranking.methods)
    ticks = range(1, count + 1)
    margin = 0.55 * max(count - 1, 1)
    axes.set(xlim=(1 - margin, count + margin), ylim=(height - 2.0, -1.6))
    axes.hlines(0, 1, count, color="black", lw=1)
    for tick in ticks:
        axes.vlines(tick, -0.12, 0, color="black", lw=1)
        axes.text(tick, -0.2, str(tick), ha="center", va="bottom", fontsize=_SIZE)
    wide = min(ranking.critical, count + margin - 1)
    axes.hlines(-0.95, 1, 1 + wide, color="black", lw=1)
    axes.vlines([1, 1 + wide], -1.05, -0.85, color="black", lw=1)
    axes.text(
        1 + wide / 2, -1.05, f"critical difference {ranking.critical:.2f}", ha="center", va="bottom", fontsize=_SIZE
    )
    bars = 0.25 + 0.35 * len(ranking.groups)
    for i, (first, last) in enumerate(ranking.groups):
        axes.hlines(0.28 + 0.35 * i, ranking.ranks[first] - 0.03, ranking.ranks[last] + 0.03, color="black", lw=3)
    for i, (name, rank) in enumerate(zip(names, ranking.ranks, strict=True)):
        left = i < (count + 1) // 2
        y = bars + step * ((i if left else count - 1 - i) + 0.6)
        end = 1 - 0.12 * margin if left else count + 0.12 * margin
        axes.plot([rank, rank, end], [0, y, y], color="0.3", lw=0.8)
        # The rank in the middle of a name in several lines.
        for text, offset in ((f"{rank:.2f}", 0.02), (name, _RANK)):
            x = end + (-offset if left else offset) * margin
            axes.text(x, y, text, va="center", ha="right" if left else "left", fontsize=_SIZE)
    title = f"{ranking.protocol}: average rank over {len(ranking.benches)} tables"
    title = wrapped(f"{title} · recipe {ranking.recipe} · budget {ranking.budget}", 0.97 * _WIDTH, _SIZE)
    axes.set_title(title, fontsize=_SIZE)
    axes.axis("off")
