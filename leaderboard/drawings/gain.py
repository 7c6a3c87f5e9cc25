"""Per-class gain over AimCLR, on the same test samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from engine.config import BenchError
from leaderboard.cells import Cell
from leaderboard.differences import pairs
from leaderboard.experiments import Experiment, measured
from leaderboard.statistics import margin
from leaderboard.style import grid, plain

BASE = "aimclr"


@dataclass(frozen=True)
class Gain:
    """Difference of recalls per class, in points: mean (classes,) and half of its 95 % interval (classes,)."""

    mean: NDArray[np.float64]
    error: NDArray[np.float64]


def draw(experiments: Sequence[Experiment], classes: Sequence[str] = ()) -> Figure:
    """One panel per method other than AimCLR, on an encoder that AimCLR ran on, too.

    Classes are in the order of their mean gain, whiskers are 95 % intervals.

    Args:
        experiments: of a bench.
        classes: names; none given: numbers.

    Raises:
        BenchError: AimCLR and another method are not evaluated by the same protocol.
    """
    protocol, done = measured(experiments)
    bases = {cell.encoder: cell for one, cell in done if one.method == BASE}
    if not bases:
        raise BenchError(f"{BASE} is not evaluated by {protocol}")
    panels = [
        (one, gain)
        for one, cell in done
        if one.method != BASE
        and not one.reference
        and cell.encoder in bases
        and (gain := gains(bases[cell.encoder], cell)) is not None
    ]
    if not panels:
        raise BenchError(f"no method but {BASE} is evaluated by {protocol}")
    count = len(panels[0][1].mean)
    names = list(classes) if len(classes) == count else [f"class {i}" for i in range(count)]
    order = np.argsort(np.nanmean([gain.mean for _, gain in panels], axis=0), kind="stable")
    rows, columns = grid(len(panels))
    figure = Figure((1.6 + 2.6 * columns, 0.6 + rows * (0.5 + 0.17 * count)), layout="constrained")
    axes_of = figure.subplots(rows, columns, squeeze=False, sharey=True, sharex=True)
    for axes in axes_of.flat[len(panels) :]:
        axes.remove()
    for axes, (one, gain) in zip(axes_of.flat, panels, strict=False):
        mean, error = gain.mean[order], gain.error[order]
        certain = np.abs(mean) > error
        bars = axes.barh(range(count), mean, 0.7, color=one.colour)
        for bar, sure in zip(bars, certain, strict=True):
            bar.set_alpha(1.0 if sure else 0.4)
        axes.errorbar(mean, range(count), xerr=error, fmt="none", ecolor="0.3", elinewidth=0.8, capsize=1.5)
        axes.axvline(0, color="0.3", lw=0.8)
        axes.set_title(f"{one.label}  {np.nanmean(gain.mean):+.1f} on average")
        axes.grid(visible=False, axis="y")
        axes.set_ylim(-0.6, count - 0.4)
    axes_of[0, 0].set_yticks(range(count), [plain(names[i]) for i in order], fontsize=7)
    told = (
        f"{BASE} on the same encoder" if len({cell.encoder for _, cell in done if cell.encoder in bases}) > 1 else BASE
    )
    figure.supxlabel(f"gain of recall over {told} by {protocol}, points (pale: within the interval)", fontsize=8)
    return figure


def gains(base: Cell, other: Cell) -> Gain | None:
    """Recall of ``other`` minus that of ``base`` per class, over the seeds that both have run.

    Returns:
        nan for a class without test samples, and as the half of one with a single sample and seed; ``None`` unless both kept
        scores of the same samples under a common seed.
    """
    found, labels = pairs(other, base), _labels(base)
    if found is None or found.samples is None or labels is None or len(labels) != found.samples.shape[1]:
        return None
    classes = [found.samples[:, labels == c] for c in range(labels.max() + 1)]
    mean = np.array([own.mean() if own.size else np.nan for own in classes])
    return Gain(mean, np.array([margin(own.mean(axis=0), own.mean(axis=1)) if own.size else np.nan for own in classes]))


def _labels(cell: Cell) -> NDArray[np.int64] | None:
    try:
        with np.load(cell.done[0].stage.folder / "scores.npz", allow_pickle=False) as stored:
            return np.asarray(stored["label"])
    except (OSError, KeyError, ValueError, EOFError):
        return None
