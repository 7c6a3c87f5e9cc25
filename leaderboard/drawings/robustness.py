"""Accuracy under corruptions of the test clips of growing strength."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from leaderboard.experiments import Experiment
from leaderboard.style import legend


@dataclass(frozen=True)
class Corrupted:
    """One kind of corruption.

    Attributes:
        title: what it does.
        unit: of the strength.
        strengths: ascending from 0.
    """

    title: str
    unit: str
    strengths: Sequence[float]


def draw(
    measured: Sequence[tuple[Experiment, Sequence[Mapping[str, Sequence[float]]]]],
    kinds: Mapping[str, Corrupted],
    protocol: str,
) -> Figure:
    """One panel per kind, one line per method; of several seeds the mean, with the band that they span.

    Args:
        measured: experiments, each with top-1 in percent by kind and strength for every seed.
        kinds: what was measured, by name.
        protocol: that was evaluated.
    """
    figure = Figure((2.6 * len(kinds) + 0.4, 2.9), layout="constrained")
    panels = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
    for axes, (name, kind) in zip(panels, kinds.items(), strict=True):
        places = range(len(kind.strengths))
        for one, seeds in measured:
            values = np.array([seed[name] for seed in seeds])
            face = "white" if one.reference else one.colour
            axes.plot(places, values.mean(axis=0), color=one.colour, ls=one.dashes, lw=1.4, marker="o", ms=4, mfc=face)
            if len(values) > 1:
                axes.fill_between(places, values.min(axis=0), values.max(axis=0), color=one.colour, alpha=0.2, lw=0)
        axes.set_xticks(places)
        strengths = list(kind.strengths)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _, s=strengths: f"{s[round(x)]:g}"))
        axes.set(title=kind.title, xlabel=kind.unit)
    panels[0].set(ylabel=f"{protocol} top-1 (%)", ylim=(0, None))
    legend(figure, [one.handle(line=True) for one, _ in measured])
    return figure
