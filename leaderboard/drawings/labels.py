"""Label efficiency: accuracy over the share of training labels that fine-tuning sees."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from engine.config import BenchError
from leaderboard.cells import Cell
from leaderboard.experiments import Experiment
from leaderboard.style import legend


def draw(experiments: Sequence[Experiment]) -> Figure:
    """A line per method through its semi-supervised fractions and ``finetune`` as 100 %.

    Whiskers are the sd over draws of labels, at 100 %, where there is nothing to draw, over seeds; none where it is not known.

    Raises:
        BenchError: no method is evaluated with fewer than all labels.
    """
    drawn = [(one, fractions(one)) for one in experiments]
    lines = [(one, points) for one, points in drawn if any(share < 100 for share, *_ in points)]
    if not lines:
        raise BenchError("no method is evaluated by semi (try --protocols semi:1,semi,finetune)")
    figure = Figure((4.0, 3.4), layout="constrained")
    axes = figure.subplots()
    shares = sorted({share for _, points in lines for share, *_ in points})
    for i, (one, points) in enumerate(lines):
        x, y, error = np.array(points).T
        nudge = 1.02 ** (i - (len(lines) - 1) / 2)  # whiskers side by side
        axes.errorbar(
            x * nudge,
            y,
            yerr=error,
            color=one.colour,
            marker="o",
            mfc="white" if one.reference else one.colour,
            ms=5,
            lw=1.4,
            ls=one.dashes,
            elinewidth=0.9,
            capsize=2,
        )
    axes.set_xscale("log")
    axes.set_xticks(shares, [f"{share:g}" for share in shares])
    axes.set_xticks([], minor=True)
    axes.set(xlabel="labels seen (%)\nwhiskers: sd over draws, at 100 % over seeds", ylabel="top-1 (%)")
    legend(figure, [one.handle(line=True) for one, _ in lines], beside=True)
    return figure


def fractions(one: Experiment) -> list[tuple[float, float, float]]:
    """Share of labels in percent, top-1, and its sd over draws (of all labels over seeds), by share; nan for one of them."""
    found: dict[float, tuple[float, float, float]] = {}
    for cell in one.cells.values():
        if cell.done and (share := _share(cell)) and "top1" in cell.metrics:
            draws, top1 = cell.metrics.get("top1_draws_sd"), cell.metrics["top1"]
            sd = top1.sd if share == 100 else draws.mean if draws else None
            found.setdefault(share, (share, top1.mean, math.nan if sd is None else sd))
    return [found[share] for share in sorted(found)]


def _share(cell: Cell) -> float | None:
    """``None`` where the labels are not the only thing that differs from the headline definition."""
    identity = cell.done[0].stage.identity
    config: dict[str, Any] = identity.get("config", {})
    if identity.get("plugin") == "finetune" and not identity.get("preset"):
        return 100.0
    if identity.get("plugin") == "semi" and config.get("stratified") and not config.get("frozen"):
        return float(config["percent"])
    return None
