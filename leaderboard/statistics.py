"""What one may read into a number: bootstrap intervals over test samples, and a paired test of two methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_RESAMPLES = 1000
_SEED = 0


@dataclass(frozen=True)
class Correctness:
    """How often each test sample was classified correctly; of untrimmed recordings, what each contributes to the headline.

    Attributes:
        ids: (n,) sample names in the order of the split.
        values: (n,) 0 or 1, or a mean over seeds and draws; any number where samples are recordings.
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


def average(parts: Sequence[Correctness | None]) -> Correctness | None:
    """Mean over seeds; ``None`` unless every part is there and all hold the same samples."""
    known = [part for part in parts if part is not None]
    if not known or len(known) < len(parts) or any(not np.array_equal(known[0].ids, part.ids) for part in known):
        return None
    return Correctness(known[0].ids, np.mean([part.values for part in known], axis=0))


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """95 % bootstrap interval of the mean of ``values`` (n,): percentiles over 1000 resamples, always the same ones.

    A resample matters only by how often each distinct value occurs in it, which is one multinomial draw.
    """
    levels, counts = np.unique(values, return_counts=True)
    draws = np.random.default_rng(_SEED).multinomial(len(values), counts / len(values), _RESAMPLES)
    low, high = np.quantile(draws @ levels / len(values), (0.025, 0.975))
    return float(low), float(high)


def indistinguishable(one: Correctness | None, other: Correctness | None, seed_variance: float) -> bool:
    """Whether two methods' accuracies on the same samples differ by less than 1.96 standard errors.

    A paired z-test; for one seed each it is McNemar's test. It errs on the side of calling methods equal.

    Args:
        one: average over seeds.
        other: the same of the other method.
        seed_variance: variance of the difference that seeds cause: sd^2 / n of both methods added up (of shares).
    """
    if one is None or other is None or not np.array_equal(one.ids, other.ids):
        return False
    difference = one.values - other.values
    error = (difference.var() / len(difference) + seed_variance) ** 0.5
    return bool(abs(difference.mean()) <= 1.96 * error)
