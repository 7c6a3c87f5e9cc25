"""Segmentation on recordings small enough to check by hand; whole runs are in tests/engine."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from datasets.layout import Layout
from datasets.prepare import Preparation, as_they_are, prepare_clips
from datasets.untrimmed import RecordingSet
from encoders.coordinates import Coordinates
from encoders.stgcn import STGCN, STGCNConfig
from engine.config import BenchError, Config, resolve
from protocols.base import UntrimmedContext
from protocols.segmentation import Segmentation, SegmentationConfig, encode, fit, pool_steps
from protocols.segmentation_metrics import confusion, overlaps
from protocols.windows import IGNORED, Windows, cut_windows, frame_scores, stretch

LAYOUT = Layout.from_parents("four", ("pelvis", "left_shoulder", "right_shoulder", "head"), (-1, 0, 0, 0))
CLASSES = 4
SHORT = {"window": 10, "stride": 5, "batch": 8, "epochs": 30, "milestones": (24,)}


def recordings(lengths, seed: int, spread: float = 0.0, persons: int = 1) -> RecordingSet:
    """Every action lasts 3 to 9 frames and moves one joint by its own vector; ``spread`` adds noise."""
    rng = np.random.default_rng(seed)
    vectors = np.random.default_rng(99).normal(size=(CLASSES, persons, len(LAYOUT), 3))
    total = sum(lengths)
    labels = np.repeat(rng.integers(0, CLASSES, total), rng.integers(3, 10, total))[:total]
    frames = vectors[labels] + spread * rng.normal(size=(total, *vectors.shape[1:]))
    return RecordingSet(
        torch.from_numpy(frames.astype(np.float32)),
        torch.from_numpy(labels),
        np.cumsum([0, *lengths]),
        tuple(f"r{seed}_{i}" for i in range(len(lengths))),
        {"subject": np.arange(len(lengths)) // 2},
    )


def shuffled(part: RecordingSet, order) -> tuple[RecordingSet, np.ndarray]:
    """The recordings in another order, and where every frame of it was."""
    frames = np.concatenate([np.arange(*part.offsets[[i, i + 1]]) for i in order])
    return RecordingSet(
        part.frames[frames],
        part.labels[frames],
        np.cumsum([0, *np.diff(part.offsets)[order]]),
        tuple(part.ids[i] for i in order),
        {name: values[order] for name, values in part.groups.items()},
    ), frames


def context(train: RecordingSet, test: RecordingSet, encoder=None, points=None, **changes) -> UntrimmedContext:
    points = [] if points is None else points
    made = UntrimmedContext(
        encoder=(encoder or Coordinates(Config(), LAYOUT, 10, train.frames.shape[1])).eval(),
        attention=lambda maps: None,
        layout=LAYOUT,
        stream="joint",
        rules=as_they_are(50),
        train=train,
        group="subject",
        test_frames=test.frames,
        test_offsets=test.offsets,
        test_ids=test.ids,
        classes=CLASSES,
        seed=0,
        device=torch.device("cpu"),
        progress=lambda done, total: None,
        report=lambda *point: points.append(point),
    )
    return replace(made, **changes)


def segment(context: UntrimmedContext, **changes):
    return Segmentation(resolve(SegmentationConfig, SHORT, changes)).run(context)


def accuracy(scores, part: RecordingSet) -> float:
    return float((scores.argmax(1) == part.labels).double().mean())


LENGTHS, TEST_LENGTHS = (40, 33, 10, 7, 61, 52, 38, 24), (45, 6, 30, 71)


def test_perfect_features_give_100_percent() -> None:
    train, test = recordings(LENGTHS, 0), recordings(TEST_LENGTHS, 1)
    points: list = []
    outcome = segment(context(train, test, points=points))
    assert outcome.scores.shape == (sum(TEST_LENGTHS), CLASSES)
    assert accuracy(outcome.scores, test) == 1
    assert [epoch for epoch, _, _ in points] == [10, 20, 30]
    assert points[0][1] > points[-1][1] > 0
    assert torch.equal(points[-1][2], outcome.scores)
    assert outcome.facts.items() >= {"n_trials": 3, "window": 10, "stride": 5, "feature_dim": 12}.items()
    assert outcome.facts["validation_miou"] > 99


def test_shuffled_labels_give_chance() -> None:
    """The features know nothing of a class drawn anew for every frame."""
    test = recordings([200] * 4, 1, spread=1.0)
    found = []
    for seed in range(4):
        train = recordings([200] * 4, 0, spread=1.0)
        labels = torch.from_numpy(np.random.default_rng(seed).integers(0, CLASSES, 800))
        scores = segment(context(replace(train, labels=labels), test), lr=0.1).scores
        found.append(accuracy(scores, test))
    assert abs(np.mean(found) - 1 / CLASSES) < 0.08


def test_the_order_of_recordings_changes_nothing() -> None:
    train, test = recordings(LENGTHS, 0, 1.5), recordings(TEST_LENGTHS, 1, 1.5)
    outcome = segment(context(train, test))
    (train2, _), (test2, moved) = shuffled(train, np.array([5, 0, 7, 2, 1, 6, 4, 3])), shuffled(test, [2, 0, 3, 1])
    other = segment(context(train2, test2))
    assert torch.equal(other.scores, outcome.scores[moved])
    assert other.facts == outcome.facts


def test_test_recordings_change_nothing_that_is_learned() -> None:
    """The scores of a recording do not depend on the others that are tested with it."""
    train, test = recordings(LENGTHS, 0, 1.5), recordings(TEST_LENGTHS, 1, 1.5)
    outcome = segment(context(train, test))
    alone, moved = shuffled(test, [2])
    torch.testing.assert_close(segment(context(train, alone)).scores, outcome.scores[moved])
    assert segment(context(train, alone)).facts == outcome.facts


@pytest.mark.parametrize("persons", [1, 2])
def test_batches_of_windows_change_nothing(persons: int) -> None:
    part = recordings(LENGTHS, 0, 1.0, persons)
    part.frames[:60, persons - 1] = 0
    torch.manual_seed(0)
    encoder = STGCN(STGCNConfig(width=4, dim=8, absent="skip", init="torch"), LAYOUT, 10, persons).eval()
    there = context(part, part, encoder, rules=Preparation(length="all"))
    windows = cut_windows(part.offsets, part.ids, 10, 5)
    done: list[int] = []
    whole = encode(windows, part.frames, there, "gap", done.append)
    assert done == [32, len(windows)]
    for batch in (1, 7):
        torch.testing.assert_close(encode(windows, part.frames, there, "gap", batch=batch), whole)


def test_a_window_is_prepared_like_a_clip_and_keeps_its_place() -> None:
    """Window by window: cut out, padded with zeros, prepared alone; empty frames at its ends stay in it."""
    part = recordings((23, 6), 3, 0.5)
    part.frames[:4] = 0
    part.frames[9] = 0
    rules = Preparation(rotation="frame", length="all")
    encoder = Coordinates(Config(), LAYOUT, 7, 1)
    windows = cut_windows(part.offsets, part.ids, 10, 5)
    found = encode(windows, part.frames, context(part, part, encoder, rules=rules, stream="motion"), "gap")
    cuts = [part.frames[a : a + 10] for a in (0, 5, 10, 13)] + [torch.cat([part.frames[23:], torch.zeros(4, 1, 4, 3)])]
    for window, cut in zip(found, cuts, strict=True):
        rules = Preparation(frames=7, rotation="frame", length="all")
        clip, _ = prepare_clips(cut.numpy(), np.array([0, 10]), LAYOUT, rules)
        motion = np.diff(clip[0, 0], axis=0, append=clip[0, 0, -1:])  # (T, V, C)
        np.testing.assert_allclose(window.view(7, 3, 4).permute(0, 2, 1), motion, atol=1e-6)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=4), st.integers(2, 20), st.integers(1, 20), st.integers(1, 3))
def test_windows_against_a_slow_twin(lengths, size, stride, step) -> None:
    stride = min(stride, size)
    offsets, ids = np.cumsum([0, *lengths]), tuple("dbca"[: len(lengths)])
    windows = cut_windows(offsets, ids, size, stride, step)
    expected, owners = [], []
    for name in sorted(ids):
        number = ids.index(name)
        used = list(range(offsets[number], offsets[number + 1], step))
        start = 0
        while True:
            last = start + size >= len(used)
            start = max(len(used) - size, 0) if last else start
            window = used[start : start + size]
            expected.append(window + [-1] * (size - len(window)))
            owners.append(number)
            if last:
                break
            start += stride
    assert windows.index.tolist() == expected
    assert windows.recording.tolist() == owners
    # Every frame is in a window or nearer to one that is than to any other of its recording.
    seen = set(windows.index[windows.index >= 0].tolist())
    for a, b in itertools.pairwise(offsets):
        for frame in range(a, b):
            assert a <= windows.nearest[frame] < b
            assert windows.nearest[frame] in seen
            distance = min(abs(frame - other) for other in seen if a <= other < b)
            assert abs(windows.nearest[frame] - frame) == distance
    targets = windows.labels(np.arange(offsets[-1]) % 3)
    assert ((targets == IGNORED).numpy() == (windows.index < 0)).all()


def test_logits_are_averaged_where_windows_overlap() -> None:
    index = np.array([[0, 1, 2, 3], [2, 3, 4, 5], [6, 7, -1, -1]])
    logits = torch.randn(3, 4, 2)
    found = frame_scores(Windows(index, np.array([0, 0, 1]), np.arange(8)), logits)
    first, second, third = logits
    expected = [first[0], first[1], (first[2] + second[0]) / 2, (first[3] + second[1]) / 2]
    expected += [second[2], second[3], third[0], third[1]]
    torch.testing.assert_close(found, torch.stack(expected))


def test_steps_are_stretched_as_torch_interpolates() -> None:
    steps = torch.randn(5, 13, 3)
    expected = functional.interpolate(steps.transpose(1, 2), size=100, mode="linear", align_corners=False)
    torch.testing.assert_close(stretch(13, 100) @ steps, expected.transpose(1, 2))


def test_training_equals_torch_on_features_stretched_to_frames() -> None:
    """``nn.Linear`` and ``torch.optim.SGD`` on one row per frame, padding left out, every rate alone."""
    features, targets = torch.randn(21, 4, 6), torch.randint(0, 3, (21, 10))
    targets[3, 6:], targets[20, 1:] = IGNORED, IGNORED
    config = resolve(SegmentationConfig, {"batch": 8, "epochs": 6, "milestones": (4,)})
    losses: list[float] = []
    ones = torch.cat([features, torch.ones(21, 4, 1)], 2)
    weights = fit(ones, targets, 3, (0.03, 1.0), config, 5, lambda epoch, loss, weights: losses.append(loss))
    frames = functional.interpolate(features.transpose(1, 2), size=10, mode="linear").transpose(1, 2)
    per_rate = []
    for trial, rate in enumerate((0.03, 1.0)):
        generator = torch.Generator().manual_seed(5)
        initial = torch.randn(7, 3, generator=generator) * 0.02
        layer = nn.Linear(6, 3)
        with torch.no_grad():
            layer.weight.copy_(initial[:-1].T)
            layer.bias.zero_()
        optimiser = torch.optim.SGD(layer.parameters(), lr=rate, momentum=0.9)
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [4], gamma=0.1)
        means = []
        for _ in range(6):
            summed = 0.0
            for rows in torch.randperm(21, generator=generator).split(8):
                valid = targets[rows] >= 0
                loss = functional.cross_entropy(layer(frames[rows][valid]), targets[rows][valid])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                summed += loss.item() * int(valid.sum())
            schedule.step()
            means.append(summed / int((targets >= 0).sum()))
        per_rate.append(means)
        torch.testing.assert_close(weights[:-1, trial].T, layer.weight.detach(), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(weights[-1, trial], layer.bias.detach(), rtol=1e-3, atol=1e-4)
    assert losses == pytest.approx(np.mean(per_rate, axis=0).tolist(), rel=1e-3)


def test_the_rate_is_chosen_on_whole_groups_of_training_recordings() -> None:
    """A tenth of 8 recordings is one, but the last subject has two: what is fitted on the others is scored on these."""
    train, test = recordings(LENGTHS, 0, 2.0), recordings(TEST_LENGTHS, 1)
    outcome = segment(context(train, test), lr=[1e-7, 0.3])
    assert outcome.facts.items() >= {"lr": 0.3, "n_trials": 2}.items()
    (kept, _), (held, _) = shuffled(train, np.arange(6)), shuffled(train, np.array([6, 7]))
    scores = segment(context(kept, held), lr=0.3).scores
    counts = confusion(scores.argmax(1).numpy(), held.labels.numpy(), CLASSES)
    assert outcome.facts["validation_miou"] == pytest.approx(overlaps(counts)["miou"])


def test_one_recording_is_too_few_to_choose() -> None:
    train, test = recordings((40,), 0), recordings((20,), 1)
    with pytest.raises(BenchError, match="too few"):
        segment(context(train, test))
    assert segment(context(train, test), lr=0.1).facts["lr"] == 0.1


def test_subsampled_recordings_score_every_frame() -> None:
    train, test = recordings(LENGTHS, 0), recordings(TEST_LENGTHS, 1)
    outcome = segment(context(train, test), subsample=2)
    assert len(outcome.scores) == sum(TEST_LENGTHS)
    for begin, end in zip(test.offsets, test.offsets[1:], strict=False):
        used = outcome.scores[begin:end:2].argmax(1)
        assert torch.equal(used, test.labels[begin:end:2])
    assert 0.8 < accuracy(outcome.scores, test) < 1


@pytest.mark.parametrize("absent", ["keep", "skip"])
def test_maps_are_pooled_as_the_encoder_pools_clips(absent: str) -> None:
    """A map that does not change in time gives the clip's pooled features at every step."""
    torch.manual_seed(0)
    encoder = STGCN(STGCNConfig(width=4, dim=8, absent=absent, init="torch"), LAYOUT, 10, 2).eval()
    clips = torch.randn(3, 3, 10, len(LAYOUT), 2)
    clips[1, ..., 1] = 0
    maps = encoder(clips)
    steps = pool_steps(encoder.pool, maps, None)
    persons = maps.mean(4).mean(1) if absent == "keep" else maps.mean(4).sum(1) / torch.tensor([2, 1, 2])[:, None, None]
    torch.testing.assert_close(steps, persons.transpose(1, 2))
    still = maps.mean(3, keepdim=True).expand_as(maps)
    torch.testing.assert_close(pool_steps(encoder.pool, still, None), encoder.pool(maps)[:, None].expand_as(steps))


def test_safp_weighs_joints_at_every_step() -> None:
    maps, weights = torch.rand(2, 1, 5, 3, 4), torch.rand(2, 1, 3, 4)
    encoder = STGCN(STGCNConfig(width=4, dim=8), LAYOUT, 10, 1)
    expected = (maps * weights[:, :, None]).sum(4) / (weights.sum(3)[:, :, None] + 1e-5)
    torch.testing.assert_close(pool_steps(encoder.pool, maps, weights), expected[:, 0].transpose(1, 2))


def test_safp_needs_a_method_with_actionlets() -> None:
    train, test = recordings(LENGTHS, 0), recordings(TEST_LENGTHS, 1)
    with pytest.raises(BenchError, match="actionlets"):
        segment(context(train, test), pooling="safp")


def test_gaps_between_windows_are_refused() -> None:
    with pytest.raises(BenchError, match="stride 101"):
        resolve(SegmentationConfig, {"stride": 101})


def test_diverged_encoders_are_named() -> None:
    train, test = recordings(LENGTHS, 0), recordings(TEST_LENGTHS, 1)
    train.frames[5, 0, 0, 0] = torch.nan
    with pytest.raises(BenchError, match="NaN"):
        segment(context(train, test))
