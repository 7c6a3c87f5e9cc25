"""The one comparison of two cells that all tables and tests share: paired by seed and by test sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from leaderboard.cells import Cell
from leaderboard.statistics import aligned, margin

_EQUAL = 1e-9
"""Points; differences below come from rounding."""
Mark = Literal["", "best", "tied", "single", "unknown"]
"""What a table says of a number beside the best one: it is the best, cannot be told apart from it, differs over test samples
but was compared on one seed only, so that nothing is known about the noise of training, or was not compared at all: no seed is
common, or one and no scores. "" differs, or is not ranked."""


@dataclass(frozen=True)
class Difference:
    """A difference of two cells over the seeds that both have run, in points.

    Attributes:
        mean: of what the protocol ranks by.
        low, high: 95 % interval; nan where neither seeds nor samples tell a spread: of one pair, or of equal differences.
        seeds: number of pairs.
    """

    mean: float
    low: float
    high: float
    seeds: int

    @property
    def is_noise(self) -> bool:
        """Whether the interval holds 0."""
        return self.low <= 0 <= self.high

    @property
    def mark(self) -> Mark:
        """Any but ``best``."""
        if np.isnan(self.low):
            return "unknown"
        return "tied" if self.is_noise else "single" if self.seeds < 2 else ""


@dataclass(frozen=True)
class Pairs:
    """Two cells on the seeds that both have run; differences in points.

    Attributes:
        gaps: (seeds,) of the metric.
        samples: (seeds, n) of the test samples; ``None`` where scores are missing, of other samples or not about the metric.
    """

    gaps: NDArray[np.float64]
    samples: NDArray[np.float64] | None

    def difference(self, among: int = 2) -> Difference:
        """The mean with its interval over test samples and, from two seeds on, over seeds.

        Args:
            among: of how many methods any two are compared, as one does in looking for the best; their intervals hold at once.
        """
        mean = float(self.gaps.mean())
        half = margin(self.gaps, *([] if self.samples is None else [self.samples.mean(axis=0)]), among=among)
        if self.samples is None and half < _EQUAL < abs(mean):
            half = np.nan
        return Difference(mean, mean - half, mean + half, len(self.gaps))


def pairs(one: Cell, other: Cell, metric: str = "") -> Pairs | None:
    """How far ``one`` is above ``other``, seed by seed.

    Args:
        one: any cell.
        other: another of the same protocol and data.
        metric: what to compare; "" for what the protocol ranks by.

    Returns:
        ``None`` where no seed is done of both.
    """
    name = metric or one.headline
    first, second = (
        {run.stage.labels.seed: i for i, run in enumerate(cell.done) if name in run.stage.metrics}
        for cell in (one, other)
    )
    seeds = sorted(set(first) & set(second))
    if not seeds:
        return None
    chosen = [(cell, at[seed]) for cell, at in ((one, first), (other, second)) for seed in seeds]
    values = np.array([cell.done[i].stage.metrics[name] for cell, i in chosen])
    rows = aligned([cell.scored[i] for cell, i in chosen]) if name == one.headline else None
    samples = None if rows is None else 100 * np.subtract(*np.split(rows, 2))
    return Pairs(np.subtract(*np.split(values, 2)), samples)


def difference(one: Cell, other: Cell, metric: str = "", among: int = 2) -> Difference | None:
    """How far ``one`` is above ``other``, with its interval; the arguments are those of :func:`pairs` and its result."""
    found = pairs(one, other, metric)
    return found.difference(among) if found else None


def mark(found: Difference | None) -> Mark:
    """What to say of a difference, ``None`` where no seed is common."""
    return found.mark if found else "unknown"
