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
from leaderboard.experiments import MAIN, Experiment, measured
from leaderboard.statistics import margin
from leaderboard.style import grid, text_height, text_width, wrapped

BASE = "aimclr"
_NAME = 2.0
"""Inches of a class's name."""


@dataclass(frozen=True)
class Gain:
    """Difference of recalls per class, in points: mean (classes,) and half of its 95 % interval (classes,)."""

    mean: NDArray[np.float64]
    error: NDArray[np.float64]


def draw(experiments: Sequence[Experiment], classes: Sequence[str] = ()) -> Figure:
    """One panel per method other than AimCLR, on an encoder that AimCLR ran on, too.

    Classes are in the order of their mean gain, whiskers are 95 % intervals of each class alone.

    Args:
        experiments: of a bench.
        classes: names; none given: numbers.

    Raises:
        BenchError: AimCLR and another method are not evaluated by the same protocol.
    """
    protocol, panels = _compared(experiments)
    count = len(panels[0][1].mean)
    named = classes if len(classes) == count else [f"class {i}" for i in range(count)]
    names = [wrapped(name, _NAME, 7) for name in named]
    order = np.argsort(np.nanmean([gain.mean for _, gain in panels], axis=0), kind="stable")
    rows, columns = grid(len(panels))
    titles = [f"{one.label}\n{np.nanmean(gain.mean):+.1f} on average" for one, gain in panels]
    line = max(0.17, *(text_height(name, 7) + 0.03 for name in names))
    width = 0.5 + max(text_width(name, 7) for name in names) + 2.6 * columns
    height = 0.6 + rows * (0.3 + line * count + max(text_height(title, 9) for title in titles))
    figure = Figure((width, height), layout="constrained")
    axes_of = figure.subplots(rows, columns, squeeze=False, sharey=True, sharex=True)
    for axes in axes_of.flat[len(panels) :]:
        axes.remove()
    for axes, title, (one, gain) in zip(axes_of.flat, titles, panels, strict=False):
        mean, error = gain.mean[order], gain.error[order]
        certain = np.abs(mean) > error
        bars = axes.barh(range(count), mean, 0.7, color=one.colour)
        for bar, sure in zip(bars, certain, strict=True):
            bar.set_alpha(1.0 if sure else 0.4)
        axes.errorbar(mean, range(count), xerr=error, fmt="none", ecolor="0.3", elinewidth=0.8, capsize=1.5)
        axes.axvline(0, color="0.3", lw=0.8)
        axes.set_title(title)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", labelsize=7)
        axes.set_ylim(-0.6, count - 0.4)
    axes_of[0, 0].set_yticks(range(count), [names[i] for i in order])
    same = " on the same encoder" if sum(one.method == BASE for one in experiments) > 1 else ""
    told = f"gain of recall over {BASE}{same} by {protocol}, points (pale: within the interval)"
    alone = "95 % intervals of each class alone, not adjusted for their number"
    figure.supxlabel("\n".join(wrapped(text, 0.97 * width, 8) for text in (told, alone)), fontsize=8)
    return figure


def _compared(experiments: Sequence[Experiment]) -> tuple[str, list[tuple[Experiment, Gain]]]:
    """The first protocol under which AimCLR and another method are done, and the gains of all others.

    Raises:
        BenchError: there is none.
    """
    measured(experiments)  # says so where nothing is
    protocols = [name for name in MAIN if any(one.method == BASE and one.cell(name) for one in experiments)]
    if not protocols:
        raise BenchError(f"{BASE} is not among the methods drawn, or not evaluated by {' or '.join(MAIN)}")
    for protocol in protocols:
        _, done = measured(experiments, (protocol,))
        bases = {cell.encoder: cell for one, cell in done if one.method == BASE}
        others = [(one, cell) for one, cell in done if one.method != BASE and not one.reference]
        panels = [(one, gains(bases[cell.encoder], cell)) for one, cell in others if cell.encoder in bases]
        if known := [(one, gain) for one, gain in panels if gain is not None]:
            return protocol, known
    raise BenchError(f"no method but {BASE} is evaluated by {' or '.join(protocols)}, with scores and on its encoder")


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
