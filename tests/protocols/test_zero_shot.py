"""The classifier of ``linear`` under corruptions of the test clips."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from datasets.clips import from_storage
from datasets.corruptions import corrupt
from datasets.layout import NTU25, Layout
from engine.choices import Settings, choose
from engine.config import BenchError
from engine.registry import locate
from protocols.base import FrozenContext
from protocols.linear import Linear
from protocols.zero_shot import KINDS, ZeroShot

PLAIN = Layout.from_parents("plain", ("a", "b"), (-1, 0))


def chosen(preset="", **overrides) -> ZeroShot:
    changes = {"linear.epochs": 3, **{name.replace("_", "."): value for name, value in overrides.items()}}
    choice = choose(locate("protocols", "zero_shot"), preset, Settings("paper", "full", (), {"zero_shot": changes}))
    return ZeroShot(choice.config)


def encode(clips: Tensor) -> Tensor:
    """Mean speed and place of every joint."""
    return torch.cat([clips.diff(dim=2).abs().mean(dim=(2, 4)).flatten(1), clips.mean(dim=(2, 4)).flatten(1)], dim=1)


@pytest.fixture
def context() -> FrozenContext:
    def clips(count: int, seed: int) -> tuple[Tensor, Tensor]:
        labels = torch.arange(count) % 3
        stored = 0.2 * torch.randn(count, 1, 12, 25, 3, generator=torch.Generator().manual_seed(seed))
        stored[:, 0, :, 7, 0] += labels[:, None]
        return from_storage(stored), labels

    (train, labels), (test, _) = clips(45, 0), clips(30, 1)
    return FrozenContext(
        train_features=encode(train),
        train_labels=labels,
        test_features=encode(test),
        classes=3,
        fit=np.arange(36),
        held_out=np.arange(36, 45),
        seed=0,
        report=lambda epoch, loss, scores: scores is None or pytest.fail("test scores would be called a curve"),
        test_clips=test,
        layout=NTU25,
        encode=encode,
    )


def test_every_condition_is_linear_on_corrupted_clips(context) -> None:
    outcome = chosen().run(context)
    assert len(outcome.conditions) == len(set(outcome.conditions)) == len(outcome.scores) == 18
    assert {name.rpartition("_")[0] for name in outcome.conditions} == set(KINDS)
    for kind, strength in (("noise", 0.1), ("frames", 0.75), ("part", 2), ("gap", 0.33), ("rotation", 90)):
        clips = corrupt(context.test_clips, kind, strength, NTU25)
        silent = {**vars(context), "report": lambda *point: None}
        expected = Linear(chosen().config.linear).run(FrozenContext(**{**silent, "test_features": encode(clips)}))
        assert torch.equal(outcome.scores[outcome.conditions.index(f"{kind}_{strength:g}")], expected.scores)
        assert outcome.facts == expected.facts


def test_strength_zero_is_the_clean_accuracy(context) -> None:
    zero = dict.fromkeys(KINDS, (0,))
    outcome = chosen(**zero).run(context)
    assert len(outcome.scores) == 5
    assert all(torch.equal(scores, outcome.extras["clean"]) for scores in outcome.scores)
    assert len(outcome.extras["clean"].argmax(1).unique()) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_a_preset_is_one_kind(context, kind) -> None:
    outcome = chosen(kind).run(context)
    assert {name.rpartition("_")[0] for name in outcome.conditions} == {kind}
    whole = chosen().run(context)
    for name, scores in zip(outcome.conditions, outcome.scores, strict=True):
        assert torch.equal(scores, whole.scores[whole.conditions.index(name)])


def test_generated_clips_count_half(context) -> None:
    steps = []

    def both(clips: Tensor, step: int | None = None) -> Tensor:
        steps.append(step)
        return encode(clips) if step is None else 3 * encode(clips) + 1

    middle = FrozenContext(**{**vars(context), "encode": lambda clips: 2 * encode(clips) + 0.5})
    outcome = chosen("generated:noise").run(FrozenContext(**{**vars(context), "encode": both}))
    assert torch.allclose(outcome.scores, chosen("noise").run(middle).scores, atol=1e-4)
    assert steps == [None, 500] * 4
    assert chosen("generated:noise").needs_generator
    assert chosen("generated:noise").passes(0, 10) == 80


def test_parts_that_a_skeleton_lacks_are_left_out(context) -> None:
    plain = FrozenContext(**{**vars(context), "layout": PLAIN, "test_clips": context.test_clips[:, :, :, :2]})
    plain = FrozenContext(**{**vars(plain), "encode": lambda clips: context.test_features})
    assert chosen("part").run(plain).conditions == ("part_1",)
    with pytest.raises(BenchError, match=r"Layout plain has 1 body part\(s\); zero_shot.part names others only"):
        chosen("part", part=(2, 3)).run(plain)


def test_nothing_left_is_an_error() -> None:
    with pytest.raises(BenchError, match="no corruption is left"):
        chosen("noise", noise=())
    with pytest.raises(BenchError, match=r"zero_shot.frames"):
        chosen(frames=(1.0,))
