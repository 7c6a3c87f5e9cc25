"""Measures of frame-wise segmentation: overlaps, edit score, segmental F1 (actclr.md 12.2, field.md 3.3; protocols.md)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from datasets.untrimmed import segments
from engine.config import BenchError

HEADLINE = "miou"
"""What methods are ranked by; unlike the measures without background it punishes actions seen where there are none."""
_THRESHOLDS = (10, 25, 50)

Counts = NDArray[np.int64]
"""Confusion matrix (K, K) of frames: rows are the true classes, columns the predicted ones, class 0 is background."""


@dataclass(frozen=True)
class SegmentationMetrics:
    """Measures of a predicted class per frame, in percent.

    Attributes:
        values: ``acc``, ``macc``, ``fwiou``, ``miou`` of all frames together; the same with ``_actions`` without the frames
            whose true class is background; ``edit``, ``f1_10``, ``f1_25``, ``f1_50`` of segments.
        iou: per class; 0 for a class that neither the truth nor the prediction has.
        confusion: of all frames together.
        influence: (R,) what every recording contributes to ``miou`` (share, not percent): the mean is ``miou``, and the
            variance over R is its squared standard error (jackknife), so that intervals and paired tests can treat recordings
            as samples.
    """

    values: dict[str, float]
    iou: list[float]
    confusion: Counts
    influence: NDArray[np.float64]


def evaluate_frames(
    prediction: NDArray[np.int64], truth: NDArray[np.int64], offsets: NDArray[np.int64], classes: int
) -> SegmentationMetrics:
    """Measure predictions (F,) of recordings that lie end to end against the truth (F,).

    Args:
        prediction: class of every frame.
        truth: the same, 0 = background.
        offsets: (R + 1,) where each recording begins and the last one ends.
        classes: number of classes K, background included.

    Raises:
        BenchError: the lengths do not fit, or a class is not one of K.
    """
    if not len(prediction) == len(truth) == offsets[-1] > 0:
        raise BenchError(f"{len(prediction)} predicted and {len(truth)} true frames, expected {offsets[-1]} of both.")
    for name, labels in (("predicted", prediction), ("true", truth)):
        if labels.min() < 0 or labels.max() >= classes:
            raise BenchError(f"The {name} classes span {labels.min()}..{labels.max()}, expected 0..{classes - 1}.")
    parts = [slice(begin, end) for begin, end in pairwise(offsets)]
    counts = np.stack([confusion(prediction[part], truth[part], classes) for part in parts])
    whole = counts.sum(0)
    pairs = [(action_segments(prediction[part]), action_segments(truth[part])) for part in parts]
    values = overlaps(whole) | {f"{name}_actions": value for name, value in overlaps(whole, 1).items()}
    values |= {"edit": float(np.mean([edit_score(*pair) for pair in pairs]))}
    values |= {f"f1_{percent}": segmental_f1(pairs, percent / 100) for percent in _THRESHOLDS}
    return SegmentationMetrics(values, (100 * np.nan_to_num(class_iou(whole))).tolist(), whole, _influence(counts))


def majority(train: NDArray[np.int64], test: NDArray[np.int64], classes: int) -> dict[str, float]:
    """What the most frequent class of the training frames scores on test when it is predicted everywhere.

    For the measures without background it is the most frequent action. Edit score and F1 are left out: a recording of one
    segment has next to none.

    Args:
        train: true classes of the training frames, 0 = background.
        test: those of the test frames.
        classes: number of classes.
    """
    frequency = np.bincount(train, minlength=classes)

    def constant(first: int) -> dict[str, float]:
        label = max(range(first, classes), key=frequency.__getitem__, default=0)
        return overlaps(confusion(np.full_like(test, label), test, classes), first)

    return constant(0) | {f"{name}_actions": value for name, value in constant(1).items()}


def confusion(prediction: NDArray[np.int64], truth: NDArray[np.int64], classes: int) -> Counts:
    """Counts of frames."""
    return np.bincount(truth * classes + prediction, minlength=classes**2).reshape(classes, classes)


def overlaps(counts: Counts, first: int = 0) -> dict[str, float]:
    """``acc``, ``macc``, ``fwiou`` and ``miou`` in percent; 0 where there is no frame at all.

    ``macc`` is a mean over the classes with true frames, ``miou`` over those with true or predicted ones.

    Args:
        counts: of all frames.
        first: 1 leaves out the frames whose true class is background, and the class; predicting it stays an error.
    """
    frames, correct = counts.sum(1)[first:], counts.diagonal()[first:]
    there = frames > 0
    if not there.any():
        return dict.fromkeys(("acc", "macc", "fwiou", "miou"), 0.0)
    values = {
        "acc": correct.sum() / frames.sum(),
        "macc": (correct[there] / frames[there]).mean(),
        "fwiou": (frames * class_iou(counts, first))[there].sum() / frames.sum(),
        "miou": mean_iou(counts, first),
    }
    return {name: 100 * float(value) for name, value in values.items()}


def class_iou(counts: Counts, first: int = 0) -> NDArray[np.float64]:
    """Intersection over union (..., K - first) of counts (..., K, K); ``nan`` without true and predicted frames."""
    rows = counts[..., first:, :]
    correct = np.diagonal(rows[..., first:], axis1=-2, axis2=-1)
    union = rows.sum(-1) + rows.sum(-2)[..., first:] - correct
    return np.asarray(np.divide(correct, union, out=np.full(union.shape, np.nan), where=union > 0))


def mean_iou(counts: Counts, first: int = 0) -> NDArray[np.float64]:
    """Mean over the classes that have an IoU; (...) of counts (..., K, K), 0 where no class has one."""
    iou = class_iou(counts, first)
    return np.asarray(np.nansum(iou, axis=-1) / np.maximum((~np.isnan(iou)).sum(-1), 1))


def action_segments(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Stretches of one action (n, 3): class, first frame, frame after the last; stretches of background are left out."""
    starts, classes = segments(labels, np.array([0, len(labels)]))
    found = np.stack([classes, starts[:-1], starts[1:]], axis=1)
    return found[found[:, 0] > 0]


def edit_score(prediction: NDArray[np.int64], truth: NDArray[np.int64]) -> float:
    """Segmental edit score in percent of two lists of :func:`action_segments`: 100 (1 - Levenshtein distance / longer length).

    Only the order of the actions counts, not their duration. Two empty lists agree.
    """
    if not len(prediction) and not len(truth):
        return 100.0
    places = np.arange(len(truth) + 1)
    row = places.copy()
    for number, label in enumerate(prediction[:, 0], 1):
        changed = np.minimum(row[:-1] + (truth[:, 0] != label), row[1:] + 1)
        # Insertions run along the row: d[j] = min over i <= j of c[i] + j - i.
        row = np.minimum.accumulate(np.append(number, changed) - places) + places
    return 100 * (1 - int(row[-1]) / max(len(prediction), len(truth)))


def segmental_f1(pairs: list[tuple[NDArray[np.int64], NDArray[np.int64]]], threshold: float) -> float:
    """F1 in percent over all recordings; each pair holds :func:`action_segments` of the prediction and of the truth.

    A predicted segment is right when its IoU with the true segment of its class that it overlaps most reaches the threshold
    and no earlier prediction has taken that one. Nothing predicted where nothing is counts as 100.
    """
    hits = predicted = true = 0
    for prediction, truth in pairs:
        predicted, true = predicted + len(prediction), true + len(truth)
        if not len(prediction) or not len(truth):
            continue
        (label, begin, end), (label_t, begin_t, end_t) = prediction.T[:, :, None], truth.T[:, None]
        shared = np.maximum(np.minimum(end, end_t) - np.maximum(begin, begin_t), 0)
        iou = shared / (end - begin + end_t - begin_t - shared) * (label == label_t)
        best = iou.argmax(1)
        hits += len(np.unique(best[iou.max(1) >= threshold]))
    return 100 * 2 * hits / (predicted + true) if predicted + true else 100.0


def _influence(counts: Counts) -> NDArray[np.float64]:
    """Jackknife pseudo-values of ``miou`` of recordings (R, K, K), moved so that their mean is ``miou`` itself."""
    whole = counts.sum(0)
    without = mean_iou(whole - counts)
    return np.asarray(mean_iou(whole) + (len(counts) - 1) * (without.mean() - without))
