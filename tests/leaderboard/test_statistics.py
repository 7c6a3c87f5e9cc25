from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leaderboard.differences import Pairs
from leaderboard.statistics import Correctness, aligned, correctness, interval, margin


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


def test_only_the_same_samples_are_aligned() -> None:
    one, two = samples([1, 0, 1]), samples([1, 1, 0])
    found = aligned([one, two])
    assert found is not None
    assert found.tolist() == [[1, 0, 1], [1, 1, 0]]
    assert aligned([one, None]) is None
    assert aligned([one, samples([1, 1, 0], first=1)]) is None
    assert aligned([]) is None


def test_margin_by_hand() -> None:
    # Student's quantiles 12.706 (one degree of freedom) and 4.303 (two) from a printed table; both squares add up.
    assert margin(np.array([1.0, 3.0])) == pytest.approx(12.706205 * 2**0.5 / 2**0.5, rel=1e-6)
    both = margin(np.array([1.0, 3.0]), np.array([1.0, 2.0, 3.0]))
    assert both == pytest.approx(np.hypot(12.706205, 4.302653 / 3**0.5), rel=1e-6)
    assert margin(np.array([1.0]), np.array([1.0, 3.0])) == margin(np.array([1.0, 3.0]))
    assert np.isnan(margin(np.array([1.0])))


def test_margin_of_many_comparisons_by_a_printed_table() -> None:
    # Studentized range at 5 %: 5.67 for five means and five degrees of freedom, 4.47 for ten of infinitely many.
    five = np.arange(6.0)
    assert margin(five, among=5) == pytest.approx(5.67 / 2**0.5 * five.std(ddof=1) / 6**0.5, rel=1e-3)
    many = np.tile([0.0, 1.0], 50_000)
    assert margin(many, among=10) == pytest.approx(4.47 / 2**0.5 * many.std(ddof=1) / len(many) ** 0.5, rel=1e-3)


def test_a_spread_that_is_not_known_is_not_called_none() -> None:
    """Two seeds that differ by the same, without scores of samples; alike in both, they are tied."""
    assert Pairs(np.array([-0.5, -0.5]), None).difference().mark == "unknown"
    assert Pairs(np.array([0.0, 0.0]), None).difference().mark == "tied"
    assert Pairs(np.array([-50.0, -50.0]), np.tile([-100.0, 0.0], (2, 50))).difference().mark == ""


@pytest.mark.parametrize("seeds", [1, 3])
def test_of_equal_methods_few_tables_say_that_one_is_worse(seeds: int) -> None:
    """The best of ten is picked by the numbers that it is compared by; single intervals would be wrong in most tables."""
    rng, trials, methods, n = np.random.default_rng(seeds), 100, 10, 100
    wrong = np.zeros(2)
    for _ in range(trials):
        noise = rng.normal(0, 0.02, (methods, seeds, 1)) * (seeds > 1)
        right = 100.0 * (rng.random((methods, seeds, n)) < rng.uniform(0.3, 0.9, n) + noise)
        gaps = right - right[right.mean(axis=(1, 2)).argmax()]
        found = [Pairs(gap.mean(axis=1), gap) for gap in gaps if gap.any()]
        wrong += [any(not one.difference(among).is_noise for one in found) for among in (methods, 2)]
    assert wrong[0] <= 0.1 * trials
    assert wrong[1] > wrong[0]
    assert seeds > 1 or wrong[1] > 0.5 * trials


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_the_interval_holds_the_truth_as_often_as_it_says(seeds: int) -> None:
    """Accuracies of random trainings on random samples: the seed moves all samples, and each sample is easy or hard."""
    rng, held, narrow, trials, n = np.random.default_rng(seeds), 0, 0, 400, 100
    for _ in range(trials):
        chances = 0.6 + rng.normal(0, 0.05, (seeds, 1)) + rng.uniform(-0.25, 0.25, n)
        right = rng.random((seeds, n)) < chances
        off = abs(right.mean() - 0.6)
        held += off <= margin(right.mean(axis=0), right.mean(axis=1))
        narrow += off <= margin(right.mean(axis=0))
    assert 0.93 * trials < held
    assert narrow < 0.92 * trials  # over samples alone it is too sure


def test_correctness_is_a_mean_over_draws(tmp_path) -> None:
    prediction = np.array([[0, 1, 2, 2], [0, 1, 1, 1]])
    np.savez(tmp_path / "scores.npz", prediction=prediction, label=np.array([0, 1, 2, 0]), id=np.array(list("abcd")))
    found = correctness(tmp_path / "scores.npz")
    assert found is not None
    assert found.values.tolist() == [1, 1, 0.5, 0]
