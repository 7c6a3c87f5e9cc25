"""KNN against linear accuracy: whether two protocols see the same in the features."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from engine.config import BenchError
from leaderboard.cells import Summary
from leaderboard.experiments import Experiment
from leaderboard.style import legend


def draw(experiments: Sequence[Experiment]) -> Figure:
    """A point per method, with 95 % intervals as in the leaderboard; references are hollow.

    Raises:
        BenchError: no method is evaluated by both.
    """
    points = [(one, knn, linear) for one in experiments if (knn := one.top1("knn")) and (linear := one.top1("linear"))]
    if not points:
        raise BenchError("no method is evaluated by both knn and linear")
    figure = Figure((3.7, 3.8), layout="constrained")
    axes = figure.subplots()
    for one, knn, linear in points:
        axes.errorbar(
            knn.mean,
            linear.mean,
            xerr=whisker(knn),
            yerr=whisker(linear),
            fmt=one.marker,
            ms=7,
            color=one.colour,
            mfc="white" if one.reference else one.colour,
            mew=1.5,
            elinewidth=0.9,
            capsize=2,
        )
    low = min(min(knn.mean, linear.mean) for _, knn, linear in points)
    high = max(max(knn.mean, linear.mean) for _, knn, linear in points)
    low, high = max(0.0, low - 8), min(100.0, high + 8)
    axes.plot([low, high], [low, high], color="0.6", lw=0.8, ls=(0, (4, 3)), zorder=0)
    axes.set(xlim=(low, high), ylim=(low, high), xlabel="KNN top-1 (%)", ylabel="linear top-1 (%)", aspect="equal")
    legend(figure, [one.handle() for one, *_ in points], beside=True)
    return figure


def whisker(summary: Summary) -> list[list[float]] | None:
    """Distances to both ends of a 95 % interval, as matplotlib wants them."""
    if summary.low is None or summary.high is None:
        return None
    return [[max(summary.mean - summary.low, 0)], [max(summary.high - summary.mean, 0)]]
