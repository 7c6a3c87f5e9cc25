"""Training curves: the loss of every pre-training, and the linear classifier's accuracy while it is fitted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from engine.config import BenchError
from engine.records import Record
from leaderboard.experiments import Experiment
from leaderboard.style import grid

_PROTOCOL = "linear"
_SIZE = (3.0, 2.3)
_ENTRY = 2.1
"""Width of an entry of the legend in inches."""


def draw(experiments: Sequence[Experiment]) -> Figure:
    """One panel per method that was pre-trained, since losses of different methods cannot be compared; one for all probes.

    Several seeds are a mean with the band that they span.

    Raises:
        BenchError: no record holds a curve.
    """
    trained = [(one, curves) for one in experiments if (curves := [r for r in one.pretrainings if _losses(r).size])]
    probed = [(one, record) for one in experiments if (record := one.record(_PROTOCOL)) and len(record.curve) > 1]
    if not trained and not probed:
        raise BenchError("no record holds a training curve")
    count = len(trained) + bool(probed)
    rows, columns = grid(count)
    figure = Figure((_SIZE[0] * max(columns, 2), _SIZE[1] * rows + 0.6), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (one, curves) in zip(panels, trained, strict=False):
        _loss(axes, one, curves)
    if probed:
        axes = panels[len(trained)]
        for one, record in probed:
            points = [(point["epoch"], point["test_top1"]) for point in record.curve if "test_top1" in point]
            axes.plot(*zip(*points, strict=True), color=one.colour, ls=one.dashes, lw=1.3)
        axes.set(title="linear classifier", xlabel="epoch", ylabel="test top-1 (%)")
        handles = [one.handle(line=True) for one, _ in probed]
        figure.legend(handles=handles, loc="outside lower center", ncols=int(figure.get_figwidth() / _ENTRY))
    for axes in panels[count:]:
        axes.set_visible(False)
    return figure


def _loss(axes: Axes, one: Experiment, curves: Sequence[Record]) -> None:
    length = min(len(record.curve) for record in curves)
    losses = np.stack([_losses(record)[:length] for record in curves])
    epochs = [point["epoch"] for point in curves[0].curve[:length]]
    axes.plot(epochs, losses.mean(axis=0), color=one.colour, lw=1.5, marker=one.marker if length < 20 else "", ms=3)
    if len(losses) > 1:
        axes.fill_between(epochs, losses.min(axis=0), losses.max(axis=0), color=one.colour, alpha=0.2, lw=0)
    axes.set(title=one.label, xlabel="epoch", ylabel="loss of pre-training")
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))


def _losses(record: Record) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([point["loss"] for point in record.curve if "loss" in point])
