"""Measures of segmentation against slow twins written from their definitions, and by hand."""

from __future__ import annotations

from functools import cache
from itertools import groupby, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.config import BenchError
from protocols.segmentation_metrics import (
    action_segments,
    confusion,
    edit_score,
    evaluate_frames,
    majority,
    overlaps,
    segmental_f1,
)

labellings = st.integers(1, 5).flatmap(
    lambda classes: st.tuples(
        st.just(classes),
        st.lists(
            st.lists(st.tuples(*[st.integers(0, classes - 1)] * 2), min_size=1, max_size=40), min_size=1, max_size=4
        ),
    )
)


def joined(recordings):
    prediction, truth = np.array([pair for one in recordings for pair in one]).T
    return prediction, truth, np.cumsum([0, *map(len, recordings)])


def slow_overlaps(prediction, truth, classes, background):
    """Frame by frame with sets; ``background=False`` drops the frames whose truth is 0, and class 0."""
    frames = [(p, t) for p, t in zip(prediction, truth, strict=True) if background or t > 0]
    names = range(0 if background else 1, classes)
    predicted = {c: {i for i, (p, _) in enumerate(frames) if p == c} for c in names}
    true = {c: {i for i, (_, t) in enumerate(frames) if t == c} for c in names}
    if not frames:
        return {"acc": 0, "macc": 0, "fwiou": 0, "miou": 0}
    iou = {c: len(predicted[c] & true[c]) / len(predicted[c] | true[c]) for c in names if predicted[c] | true[c]}
    recall = [len(predicted[c] & true[c]) / len(true[c]) for c in names if true[c]]
    return {
        "acc": 100 * sum(p == t for p, t in frames) / len(frames),
        "macc": 100 * sum(recall) / len(recall),
        "fwiou": 100 * sum(len(true[c]) * iou[c] for c in names if true[c]) / len(frames),
        "miou": 100 * sum(iou.values()) / len(iou),
    }


def slow_segments(labels):
    found, start = [], 0
    for label, run in groupby(labels):
        end = start + len(list(run))
        if label > 0:
            found.append((label, start, end))
        start = end
    return found


def slow_edit(prediction, truth):
    a, b = ([label for label, _, _ in slow_segments(one)] for one in (prediction, truth))

    @cache
    def distance(i, j):
        if not i or not j:
            return i + j
        return min(distance(i - 1, j) + 1, distance(i, j - 1) + 1, distance(i - 1, j - 1) + (a[i - 1] != b[j - 1]))

    return 100 * (1 - distance(len(a), len(b)) / max(len(a), len(b))) if a or b else 100


def slow_f1(pairs, threshold):
    right = wrong = missed = 0
    for prediction, truth in pairs:
        true = slow_segments(truth)
        taken = set()
        for label, begin, end in slow_segments(prediction):
            best, where = 0.0, None
            for number, (label_t, begin_t, end_t) in enumerate(true):
                both = set(range(begin, end)) & set(range(begin_t, end_t))
                either = set(range(begin, end)) | set(range(begin_t, end_t))
                if label == label_t and len(both) / len(either) > best:
                    best, where = len(both) / len(either), number
            if where is not None and best >= threshold and where not in taken:
                right += 1
                taken.add(where)
            else:
                wrong += 1
        missed += len(true) - len(taken)
    return 100 * 2 * right / (2 * right + wrong + missed) if right + wrong + missed else 100


@settings(deadline=None)
@given(labellings)
def test_all_measures_equal_their_slow_twins(example) -> None:
    classes, recordings = example
    prediction, truth, offsets = joined(recordings)
    found = evaluate_frames(prediction, truth, offsets, classes)
    expected = slow_overlaps(prediction, truth, classes, True)
    expected |= {f"{k}_actions": v for k, v in slow_overlaps(prediction, truth, classes, False).items()}
    pairs = [(prediction[a:b].tolist(), truth[a:b].tolist()) for a, b in pairwise(offsets)]
    expected["edit"] = sum(slow_edit(*pair) for pair in pairs) / len(pairs)
    expected |= {f"f1_{percent}": slow_f1(pairs, percent / 100) for percent in (10, 25, 50)}
    assert found.values == pytest.approx(expected)
    assert found.confusion.sum() == len(truth)


@given(labellings)
def test_influence_is_the_jackknife_of_the_headline(example) -> None:
    """Leave one recording out at a time, and compute mIoU of the rest from its frames."""
    classes, recordings = example
    prediction, truth, offsets = joined(recordings)
    found = evaluate_frames(prediction, truth, offsets, classes)
    assert found.influence.mean() == pytest.approx(found.values["miou"] / 100)
    rest = []
    for a, b in pairwise(offsets):
        keep = np.r_[:a, b : len(truth)]
        left = slow_overlaps(prediction[keep], truth[keep], classes, True) if len(keep) else {"miou": 0}
        rest.append(left["miou"] / 100)
    count = len(rest)
    jackknife = (count - 1) / count * sum((one - np.mean(rest)) ** 2 for one in rest)
    if count > 1:
        assert found.influence.var(ddof=1) / count == pytest.approx(jackknife, abs=1e-12)


def test_a_hand_made_example() -> None:
    """Ten frames, background and two actions."""
    truth = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 0])
    prediction = np.array([0, 0, 0, 1, 1, 1, 0, 2, 1, 0])
    values = evaluate_frames(prediction, truth, np.array([0, 10]), 3).values
    iou = (4 / 6, 2 / 5, 1 / 2)
    assert values["acc"] == pytest.approx(70)
    assert values["macc"] == pytest.approx(100 * (4 / 5 + 2 / 3 + 1 / 2) / 3)
    assert values["miou"] == pytest.approx(100 * sum(iou) / 3)
    assert values["fwiou"] == pytest.approx(10 * (5 * iou[0] + 3 * iou[1] + 2 * iou[2]))
    # Five action frames: the false alarm at frame 3 does not count, the missed frame 6 does.
    assert values["acc_actions"] == pytest.approx(60)
    assert values["macc_actions"] == pytest.approx(100 * (2 / 3 + 1 / 2) / 2)
    assert values["miou_actions"] == pytest.approx(100 * (2 / 4 + 1 / 2) / 2)
    assert values["fwiou_actions"] == pytest.approx(20 * (3 * 2 / 4 + 2 * 1 / 2))
    # Predicted 1 2 1, true 1 2; overlaps of 2 / 4 and 1 / 2, and the last one is a false alarm.
    assert values["edit"] == pytest.approx(100 * (1 - 1 / 3))
    assert [values[f"f1_{p}"] for p in (10, 25, 50)] == pytest.approx([80, 80, 80])


def test_edit_score_is_normalised_by_the_longer_list() -> None:
    one, other = (action_segments(np.array(labels)) for labels in ([1, 0, 2, 3], [2, 2, 3, 1, 1]))
    assert edit_score(one, other) == pytest.approx(100 * (1 - 2 / 3))
    assert edit_score(one, one) == 100
    assert edit_score(action_segments(np.array([0, 0])), other) == 0


def test_a_true_segment_is_found_once() -> None:
    truth, broken = np.array([1] * 10), np.array([1] * 5 + [0] + [1] * 4)
    pairs = [(action_segments(broken), action_segments(truth))]
    assert segmental_f1(pairs, 0.1) == pytest.approx(100 * 2 / 3)
    assert segmental_f1(pairs, 0.5) == pytest.approx(100 * 2 / 3)
    assert segmental_f1(pairs, 0.51) == 0


@pytest.mark.parametrize(
    ("prediction", "truth", "classes", "expected"),
    [
        ([0, 0, 0], [0, 0, 0], 1, {"acc": 100, "miou": 100, "miou_actions": 0, "edit": 100, "f1_50": 100}),
        ([1, 1, 2], [1, 1, 2], 3, {"acc": 100, "miou": 100, "miou_actions": 100, "edit": 100, "f1_50": 100}),
        # A class that is never predicted, one that is predicted but not there, and no true background.
        ([1, 1, 1], [1, 1, 2], 3, {"acc": 200 / 3, "macc": 50, "miou": 100 / 3, "miou_actions": 100 / 3}),
        ([0, 1, 3], [1, 1, 1], 4, {"acc": 100 / 3, "macc": 100 / 3, "miou": 100 / 9, "miou_actions": 100 / 6}),
        ([0, 0, 0], [1, 2, 0], 3, {"acc": 100 / 3, "acc_actions": 0, "miou": 100 / 9, "edit": 0, "f1_10": 0}),
    ],
)
def test_degenerate_cases(prediction, truth, classes, expected) -> None:
    values = evaluate_frames(np.array(prediction), np.array(truth), np.array([0, 3]), classes).values
    assert {name: values[name] for name in expected} == pytest.approx(expected)
    assert np.isfinite(list(values.values())).all()


@given(labellings)
def test_majority_predicts_one_class_everywhere(example) -> None:
    classes, recordings = example
    train, test, _ = joined(recordings)
    found = majority(train, test, classes)
    counts = [int((train == c).sum()) for c in range(classes)]
    expected = slow_overlaps(np.full_like(test, counts.index(max(counts))), test, classes, True)
    if classes > 1:
        action = 1 + counts[1:].index(max(counts[1:]))
        expected |= {
            f"{k}_actions": v for k, v in slow_overlaps(np.full_like(test, action), test, classes, False).items()
        }
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_counts_are_rows_of_the_truth() -> None:
    assert confusion(np.array([0, 1, 1]), np.array([0, 0, 1]), 2).tolist() == [[1, 1], [0, 1]]
    assert overlaps(np.zeros((3, 3), np.int64))["miou"] == 0


@pytest.mark.parametrize(
    ("prediction", "truth", "message"),
    [([0, 1], [0, 0, 1], "2 predicted"), ([0, 0, 3], [0, 0, 1], "predicted classes"), ([0, 0, 1], [0, -1, 1], "true")],
)
def test_what_does_not_fit_is_refused(prediction, truth, message) -> None:
    with pytest.raises(BenchError, match=message):
        evaluate_frames(np.array(prediction), np.array(truth), np.array([0, 3]), 3)
