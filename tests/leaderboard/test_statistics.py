from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leaderboard.statistics import Correctness, average, correctness, indistinguishable, interval


def samples(values: list[float] | np.ndarray, first: int = 0) -> Correctness:
    return Correctness(np.array([f"clip{first + i}" for i in range(len(values))]), np.asarray(values, dtype=float))


@given(st.lists(st.sampled_from([0.0, 1 / 3, 2 / 3, 1.0]), min_size=2, max_size=60))
def test_interval_holds_the_mean_and_ignores_order(values: list[float]) -> None:
    low, high = interval(np.array(values))
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9
    assert interval(np.array(values[::-1])) == (low, high)


def test_interval_of_a_slow_bootstrap() -> None:
    rng = np.random.default_rng(0)
    values = rng.choice([0, 0.5, 1], 120, p=[0.2, 0.3, 0.5])
    slow = np.quantile([values[rng.integers(0, 120, 120)].mean() for _ in range(5000)], (0.025, 0.975))
    assert interval(values) == pytest.approx(slow, abs=0.006)


def test_average_needs_the_same_samples() -> None:
    one, two = samples([1, 0, 1]), samples([1, 1, 0])
    assert average([one, two]).values.tolist() == [1, 0.5, 0.5]
    assert average([one, None]) is None
    assert average([one, samples([1, 1, 0], first=1)]) is None
    assert average([]) is None


def test_paired_test() -> None:
    rng = np.random.default_rng(0)
    base = rng.random(1000) < 0.8
    better = base | (rng.random(1000) < 0.2)  # never worse: the difference of 4 points is beyond doubt
    assert not indistinguishable(samples(better), samples(base), 0)
    assert indistinguishable(samples(better), samples(base), 0.03**2)  # unless seeds vary by as much
    # The same gap on few samples, with independent errors, cannot be told apart from none.
    few, other = np.arange(100) < 84, rng.permutation(np.arange(100) < 80)
    assert indistinguishable(samples(few), samples(other), 0)
    assert indistinguishable(samples(base), samples(base), 0)
    # Accuracies on other samples cannot be compared.
    assert not indistinguishable(samples(base), samples(base, first=1), 0)
    assert not indistinguishable(samples(base), None, 0)


def test_one_seed_is_mcnemars_test() -> None:
    one = np.array([1] * 30 + [0] * 12 + [1] * 100)
    two = np.array([0] * 30 + [1] * 12 + [1] * 100)
    chi_square = (30 - 12) ** 2 / (30 + 12)
    assert chi_square > 1.96**2
    assert not indistinguishable(samples(one), samples(two), 0)
    two[:5] = 1
    assert (25 - 12) ** 2 / (25 + 12) > 1.96**2
    two[5:10] = 1
    assert (20 - 12) ** 2 / (20 + 12) < 1.96**2
    assert indistinguishable(samples(one), samples(two), 0)


def test_correctness_is_a_mean_over_draws(tmp_path) -> None:
    prediction = np.array([[0, 1, 2, 2], [0, 1, 1, 1]])
    np.savez(tmp_path / "scores.npz", prediction=prediction, label=np.array([0, 1, 2, 0]), id=np.array(list("abcd")))
    found = correctness(tmp_path / "scores.npz")
    assert found is not None
    assert found.values.tolist() == [1, 1, 0.5, 0]
