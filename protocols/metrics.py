"""What the engine measures on the scores that a protocol returns; protocols themselves never see a test label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import confusion_matrix

from engine.config import BenchError

_BINS = 15
_RESAMPLES = 1000


@dataclass(frozen=True)
class Metrics:
    """Measures of one score matrix, in percent.

    Attributes:
        top1, top5: share of samples whose class has the largest score, one of the five largest.
        mean_class: mean recall over the classes that have test samples.
        ece: expected calibration error of the softmax of the scores, 15 equal bins; means something for logits only.
        ci_low, ci_high: 95 % interval of ``top1``, bootstrap over test samples, 1000 resamples.
        recall: per class; 0 for a class without test samples (its row of ``confusion`` is empty).
        confusion: counts, rows are the true classes, columns the predicted ones.
        prediction: (n,) int64, the class with the largest score, the first one of equals.
    """

    top1: float
    top5: float
    mean_class: float
    ece: float
    ci_low: float
    ci_high: float
    recall: list[float]
    confusion: list[list[int]]
    prediction: NDArray[np.int64]

    def values(self) -> dict[str, float]:
        """The numbers that go into ``Record.metrics``."""
        names = ("top1", "top5", "mean_class", "ece", "ci_low", "ci_high")
        return {name: getattr(self, name) for name in names}


def evaluate(scores: ArrayLike, labels: ArrayLike, classes: int, seed: int) -> Metrics:
    """Measure scores (n, classes), arrays or CPU tensors, against labels (n,).

    Args:
        scores: the largest of a row wins, the first one of equals.
        labels: 0-based classes.
        classes: number of classes.
        seed: of the bootstrap.

    Raises:
        BenchError: shapes or labels that do not fit, or scores that are not finite.
    """
    values, truth = _checked(scores, labels, classes)
    rank = _rank(values, truth)
    prediction = values.argmax(1).astype(np.int64)
    confusion = confusion_matrix(truth, prediction, labels=range(classes))
    count = confusion.sum(1)
    recall = np.divide(100.0 * confusion.diagonal(), count, out=np.zeros(classes), where=count > 0)
    correct = rank == 0
    # A resample of n zeros and ones, summed, is one draw of a binomial variable.
    resamples = np.random.default_rng(seed).binomial(len(truth), correct.mean(), _RESAMPLES) / len(truth)
    low, high = np.quantile(resamples, (0.025, 0.975))
    return Metrics(
        top1=100.0 * float(correct.mean()),
        top5=100.0 * float((rank < 5).mean()),
        mean_class=float(recall[count > 0].mean()),
        ece=100.0 * _calibration_error(torch.from_numpy(values).softmax(1).amax(1).numpy(), correct),
        ci_low=100.0 * float(low),
        ci_high=100.0 * float(high),
        recall=recall.tolist(),
        confusion=confusion.tolist(),
        prediction=prediction,
    )


def top1(scores: ArrayLike, labels: ArrayLike) -> float:
    """Percent of samples whose class has the largest score (n, classes)."""
    return 100.0 * float((np.asarray(scores).argmax(1) == np.asarray(labels)).mean())


def _checked(scores: ArrayLike, labels: ArrayLike, classes: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    values, truth = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=np.int64)
    if values.shape != (len(truth), classes) or not len(truth):
        raise BenchError(
            f"Scores have shape {values.shape}, expected ({len(truth)}, {classes}): test samples x classes."
        )
    if truth.min() < 0 or truth.max() >= classes:
        raise BenchError(f"Test labels span {truth.min()}..{truth.max()}, expected 0..{classes - 1}.")
    bad = ~np.isfinite(values).all(1)
    if bad.any():
        raise BenchError(
            f"{bad.sum()} of {len(truth)} test samples have scores that are not finite, the first one is sample "
            f"{bad.argmax()}: the features or the classifier diverged; check the pre-training loss."
        )
    return values, truth


def _rank(scores: NDArray[np.float64], truth: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) number of classes that come before the true one; of equal scores the first class comes first."""
    own = scores[np.arange(len(truth)), truth][:, None]
    earlier = np.arange(scores.shape[1]) < truth[:, None]
    ranks: NDArray[np.int64] = ((scores > own) | ((scores == own) & earlier)).sum(1)
    return ranks


def _calibration_error(confidence: NDArray[np.float64], correct: NDArray[np.bool_]) -> float:
    """Mean distance of confidence and accuracy over equal bins of confidence, weighted by the bins' samples."""
    bins = np.minimum((confidence * _BINS).astype(np.int64), _BINS - 1)
    gap = np.bincount(bins, confidence - correct, _BINS)
    return float(np.abs(gap).sum() / len(correct))
