"""Confusion matrices of all methods under one protocol."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from engine.config import BenchError
from leaderboard.cells import Cell
from leaderboard.experiments import Experiment, measured
from leaderboard.style import grid, text_height, text_width, wrapped

_NAMED = 30
"""More classes than this are not named."""
_NAME = 1.8
"""Inches of a class's name."""
_WRITTEN = 10
"""Up to so many classes numbers are written into the squares."""


def draw(experiments: Sequence[Experiment], classes: Sequence[str] = ()) -> Figure:
    """One panel per method: rows are true classes, columns predictions, in percent of the true class.

    Args:
        experiments: of a bench.
        classes: names; none given: numbers.

    Raises:
        BenchError: no method has a confusion matrix.
    """
    protocol, done = measured(experiments)
    panels = [(one, shares(counts)) for one, cell in done if (counts := counted(cell)) is not None]
    if not panels:
        raise BenchError(f"no record of {protocol} holds a confusion matrix")
    count = len(panels[0][1])
    # One line each: squares are no higher.
    names = (
        [wrapped(name, _NAME, 6, lines=1) for name in classes]
        if len(classes) == count
        else [str(i) for i in range(count)]
    )
    rows, columns = grid(len(panels))
    side = 0.8 + 0.11 * min(max(count, 12), _NAMED)
    label = max(text_width(name, 6) for name in names) + 0.15 if count <= _NAMED else 0.2
    titles = [one.label + (f"\n{top1.mean:.1f} %" if (top1 := one.top1(protocol)) else "") for one, _ in panels]
    size = (side * columns + label + 0.9, (side + 0.1 + max(text_height(title, 8) for title in titles)) * rows + 0.5)
    figure = Figure(size, layout="constrained")
    grid_of_axes = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axes in grid_of_axes.ravel()[len(panels) :]:
        axes.set_visible(False)
    for axes, title, (_, matrix) in zip(grid_of_axes.ravel(), titles, panels, strict=False):
        image = axes.imshow(matrix, cmap="Blues", vmin=0, vmax=100, interpolation="none")
        axes.set_title(title, fontsize=8)
        axes.grid(visible=False)
        if count <= _NAMED:
            axes.set_xticks(range(count), map(str, range(count)), fontsize=5)
            axes.set_yticks(
                range(count), [f"{name}  {c}" if classes else name for c, name in enumerate(names)], fontsize=6
            )
        axes.tick_params(length=0, pad=2)
        if count <= _WRITTEN:
            for (row, column), value in np.ndenumerate(matrix):
                if value >= 0.5:
                    shade = "white" if value > 55 else "0.2"
                    axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=6, color=shade)
    bar = figure.colorbar(image, ax=grid_of_axes, fraction=0.02, aspect=25, shrink=0.6 / rows, anchor=(0, 1), pad=0.02)
    bar.set_label(f"% of the true class ({protocol})", fontsize=7)
    bar.ax.tick_params(labelsize=6)
    bar.outline.set_visible(False)
    figure.supxlabel("predicted", fontsize=8)
    figure.supylabel("true", fontsize=8)
    return figure


def counted(cell: Cell) -> NDArray[np.float64] | None:
    """Counts (classes, classes) over all seeds, rows true; ``None`` where a record holds none."""
    found = [run.stage.facts["confusion"] for run in cell.done if "confusion" in run.stage.facts]
    return np.sum([np.asarray(one, float) for one in found], axis=0) if found else None


def shares(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Counts as percent of each row; a class without samples is a row of zeros."""
    return np.asarray(100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))
