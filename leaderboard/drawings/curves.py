"""Training curves: the loss of every pre-training, and the linear classifier's accuracy while it is fitted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from engine.config import BenchError
from leaderboard.experiments import Experiment
from leaderboard.style import grid, legend, text_height

_PROTOCOL = "linear"
Curve = NDArray[np.float64]
_SIZE = (3.0, 2.2)
"""Inches of a panel without its title."""


def draw(experiments: Sequence[Experiment]) -> Figure:
    """One panel per method that was pre-trained, since losses of different methods cannot be compared; one for all probes.

    Several seeds are a mean with the band that they span.

    Raises:
        BenchError: no record holds a curve.
    """
    trained = [(one, curves) for one in experiments if (curves := _losses(one))]
    probed = [(one, curves) for one in experiments if (curves := _probes(one))]
    if not trained and not probed:
        raise BenchError("no record holds a training curve")
    count = len(trained) + bool(probed)
    rows, columns = grid(count)
    title = max((text_height(one.label, 9) for one, _ in trained), default=text_height("", 9))
    figure = Figure((_SIZE[0] * max(columns, 2), (_SIZE[1] + title) * rows + 0.2), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (one, curves) in zip(panels, trained, strict=False):
        _band(axes, one, curves, ls="-", lw=1.5, marker=one.marker if len(curves[0]) < 20 else "", ms=3)
        axes.set(title=one.label, xlabel="epoch", ylabel="loss of pre-training")
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    for axes in panels[count:]:
        axes.set_visible(False)
    if probed:
        axes = panels[len(trained)]
        for one, curves in probed:
            _band(axes, one, curves, ls=one.dashes, lw=1.3)
        axes.set(title="linear classifier", xlabel="epoch", ylabel="test top-1 (%)")
        legend(figure, [one.handle(line=True) for one, _ in probed])
    return figure


def _band(axes: Axes, one: Experiment, seeds: Sequence[Curve], **line: Any) -> None:
    """The mean of curves (epochs, 2) as far as all of them go, and the band that they span."""
    length = min(map(len, seeds))
    values = np.stack([seed[:length, 1] for seed in seeds])
    epochs = seeds[0][:length, 0]
    axes.plot(epochs, values.mean(axis=0), color=one.colour, **line)
    if len(values) > 1:
        axes.fill_between(epochs, values.min(axis=0), values.max(axis=0), color=one.colour, alpha=0.2, lw=0)


def _losses(one: Experiment) -> list[Curve]:
    return _curves((record.curve for record in one.pretrainings), "loss", 1)


def _probes(one: Experiment) -> list[Curve]:
    cell = one.cell(_PROTOCOL)
    return _curves((run.stage.curve for run in cell.done), "test_top1", 2) if cell else []


def _curves(seeds: Iterable[Sequence[Mapping[str, float]]], name: str, least: int) -> list[Curve]:
    """Epochs and values (epochs, 2) of every seed that has so many."""
    found = [[(point["epoch"], point[name]) for point in points if name in point] for points in seeds]
    return [np.array(points) for points in found if len(points) >= least]
