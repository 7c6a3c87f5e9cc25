from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, top_k_accuracy_score

from engine.config import BenchError
from protocols.metrics import evaluate, top1


def problem(samples: int = 300, classes: int = 7, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, samples)
    return rng.standard_normal((samples, classes)) + 2 * np.eye(classes)[labels], labels


def test_agrees_with_scikit_learn() -> None:
    scores, labels = problem()
    metrics = evaluate(scores, labels, 7, seed=0)
    prediction = scores.argmax(1)
    assert (
        metrics.top1 == pytest.approx(100 * accuracy_score(labels, prediction)) == pytest.approx(top1(scores, labels))
    )
    assert metrics.top5 == pytest.approx(100 * top_k_accuracy_score(labels, scores, k=5))
    assert metrics.mean_class == pytest.approx(100 * balanced_accuracy_score(labels, prediction))
    assert metrics.prediction.tolist() == prediction.tolist()
    confusion = np.array(metrics.confusion)
    assert confusion.sum() == 300
    assert metrics.recall == pytest.approx(100 * confusion.diagonal() / confusion.sum(1))


def test_calibration_error_of_a_slow_twin() -> None:
    scores, labels = problem()
    probability = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    confidence, correct = probability.max(1), probability.argmax(1) == labels
    error = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence >= low) & (confidence < low + 1 / 15)
        if inside.any():
            error += inside.mean() * abs(confidence[inside].mean() - correct[inside].mean())
    assert evaluate(scores, labels, 7, 0).ece == pytest.approx(100 * error)
    sure = evaluate(1000 * np.eye(3), [0, 1, 2], 3, 0)
    assert sure.ece == pytest.approx(0)


def test_interval_of_a_slow_bootstrap() -> None:
    scores, labels = problem()
    correct = scores.argmax(1) == labels
    rng = np.random.default_rng(1)
    resamples = [correct[rng.integers(0, 300, 300)].mean() for _ in range(4000)]
    metrics = evaluate(scores, labels, 7, seed=3)
    low, high = 100 * np.quantile(resamples, (0.025, 0.975))
    assert metrics.ci_low == pytest.approx(low, abs=0.8)
    assert metrics.ci_high == pytest.approx(high, abs=0.8)
    assert metrics.ci_low < metrics.top1 < metrics.ci_high
    assert metrics.values() == evaluate(torch.tensor(scores), torch.tensor(labels), 7, seed=3).values()


def test_perfect_and_chance() -> None:
    perfect = evaluate(np.eye(4), np.arange(4), 4, 0)
    assert (perfect.top1, perfect.top5, perfect.mean_class, perfect.ci_low, perfect.ci_high) == (100,) * 5
    rng = np.random.default_rng(0)
    chance = evaluate(rng.standard_normal((20_000, 10)), rng.integers(0, 10, 20_000), 10, 0)
    assert chance.top1 == pytest.approx(10, abs=1)
    assert chance.top5 == pytest.approx(50, abs=1.5)


@settings(deadline=None)
@given(seed=st.integers(0, 50), classes=st.integers(2, 9))
def test_independent_of_sample_order(seed: int, classes: int) -> None:
    scores, labels = problem(40, classes, seed)
    order = np.random.default_rng(seed).permutation(40)
    one, two = evaluate(scores, labels, classes, 0), evaluate(scores[order], labels[order], classes, 0)
    assert one.values() == pytest.approx(two.values())
    assert one.confusion == two.confusion
    assert one.top1 <= one.top5 <= 100


def test_equal_scores_go_to_the_first_class() -> None:
    metrics = evaluate(np.zeros((6, 6)), np.arange(6), 6, 0)
    assert metrics.prediction.tolist() == [0] * 6
    assert metrics.top1 == pytest.approx(100 / 6)
    assert metrics.top5 == pytest.approx(500 / 6)


def test_classes_without_test_samples_do_not_count() -> None:
    metrics = evaluate(np.eye(3)[[0, 2, 2]], [0, 0, 2], 3, 0)
    assert metrics.recall == [50.0, 0.0, 100.0]
    assert metrics.mean_class == 75.0
    assert metrics.confusion == [[1, 0, 1], [0, 0, 0], [0, 0, 1]]


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        (np.array([[0, 1], [np.nan, 1], [0, np.inf]]), [0, 1, 1], "2 of 3 test samples .* sample 1"),
        (np.zeros((2, 2)), [0, 2], r"labels span 0\.\.2, expected 0\.\.1"),
        (np.zeros((2, 3)), [0, 1], r"shape \(2, 3\), expected \(2, 2\)"),
        (np.zeros((0, 2)), [], "expected"),
    ],
)
def test_bad_input(scores: np.ndarray, labels: list[int], message: str) -> None:
    with pytest.raises(BenchError, match=message):
        evaluate(scores, labels, 2, 0)
