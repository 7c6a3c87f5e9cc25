"""How far a number may be off: intervals over test samples and over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit
from scipy.stats import studentized_range

_RESAMPLES = 1000
_SEED = 0


@dataclass(frozen=True)
class Correctness:
    """How often each test sample was classified correctly; of untrimmed recordings, what each contributes to the headline.

    Attributes:
        ids: (n,) sample names in the order of the split.
        values: (n,) 0 or 1, or a mean over draws of labels; any number where samples are recordings.
    """

    ids: NDArray[Any]
    values: NDArray[np.float64]


def correctness(path: Path) -> Correctness | None:
    """Read a ``scores.npz``, a mean over draws of labels; ``None`` where it is absent or damaged."""
    try:
        with np.load(path, allow_pickle=False) as scores:
            if "influence" in scores:
                return Correctness(scores["id"], scores["influence"])
            right = (scores["prediction"] == scores["label"]).astype(np.float64)
            return Correctness(scores["id"], right.reshape(-1, right.shape[-1]).mean(axis=0))
    except (OSError, KeyError, ValueError, EOFError, AttributeError):
        return None


def aligned(parts: Sequence[Correctness | None]) -> NDArray[np.float64] | None:
    """Values of the same samples, a row per part (parts, n); ``None`` unless every part is there and has these samples."""
    known = [part for part in parts if part is not None]
    if not known or len(known) < len(parts) or any(not np.array_equal(known[0].ids, part.ids) for part in known):
        return None
    return np.stack([part.values for part in known])


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """95 % bootstrap interval of the mean of ``values`` (n,): percentiles over 1000 resamples, always the same ones.

    A resample matters only by how often each distinct value occurs in it, which is one multinomial draw.
    """
    levels, counts = np.unique(values, return_counts=True)
    draws = np.random.default_rng(_SEED).multinomial(len(values), counts / len(values), _RESAMPLES)
    low, high = np.quantile(draws @ levels / len(values), (0.025, 0.975))
    return float(low), float(high)


def margin(*sources: NDArray[np.float64], among: int = 2) -> float:
    """Half of the 95 % interval of a mean that is uncertain for several reasons, such as test samples and seeds.

    Each source adds the square of its own half, Student's quantile times its standard error (Zou and Donner, Statistics in
    Medicine 27, 2008). Noise of a sample under a seed is in both, so the interval is a little too wide rather than too narrow,
    as that of a bootstrap of both is (Owen, Annals of Applied Statistics 1, 2007).

    Args:
        sources: of each (n,) means, one per sample or per seed, whose mean is what the interval is about.
        among: number of methods of which any two are compared; with more than two, all their intervals are meant to hold at
            once (Tukey: the studentized range over the root of 2 in the place of Student's quantile). As every difference has a
            spread of its own, that is right for many samples and too narrow for a few seeds alone.

    Returns:
        Half of the width, in the unit of the values; nan where no source has two of them.
    """
    known = [values for values in sources if len(values) > 1]
    halves = [_quantile(among, len(v) - 1) * float(v.std(ddof=1)) / len(v) ** 0.5 for v in known]
    return math.hypot(*halves) if halves else math.nan


@cache
def _quantile(among: int, freedom: int) -> float:
    if among <= 2:
        return float(stdtrit(freedom, 0.975))  # the same number, a thousand times faster
    return float(studentized_range.ppf(0.95, among, freedom)) / math.sqrt(2)
