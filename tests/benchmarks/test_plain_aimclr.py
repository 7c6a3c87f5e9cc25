"""AimCLR's step against its direct translation: the same losses, step after step, from the same views and weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.plain_aimclr import PlainAimCLR, direct_steps, plain_views
from benchmarks.steps import Case, build, generated, steps_of
from datasets.layout import NTU25
from engine.train import optimiser
from methods.aimclr import AimCLR
from methods.base import Step

TINY = Case(
    batch=4,
    frames=16,
    settings={"moco.queue": 16, "moco.dim": 8},
    encoder_settings={"width": 2, "dim": 8, "dropout": 0.0},
)


@pytest.mark.parametrize("key_init", ["copy", "independent"])
def test_losses_are_those_of_the_direct_translation(key_init: str) -> None:
    """Five steps: the queue wraps around, the key encoder follows, momentum gathers."""
    clips = generated(20, NTU25, frames=16)
    settings = {**TINY.settings, "moco.key_init": key_init, "moco.momentum": 0.9}
    method = build(replace(TINY, settings=settings), clips)
    assert isinstance(method, AimCLR)
    ours = method.double().train()
    plain = PlainAimCLR(ours).train()
    optim, _ = optimiser(ours, ours.config.train, lambda name: 1.0)
    generator = torch.Generator().manual_seed(0)
    seen = []
    for number, batch in enumerate(clips.clips.double().split(4)):
        step = Step(1, 300, number, 1500, generator)
        views = ours.views(batch, step)
        expected = plain.step(tuple(view.contiguous() for view in views))
        losses = ours(views, step)
        optim.zero_grad()
        sum(losses.values()).backward()
        optim.step()
        ours.after_step(step)
        assert [value.item() for value in losses.values()] == pytest.approx(expected, rel=1e-6)
        seen.append(expected)
    assert len({round(nce, 4) for nce, _ in seen}) == 5
    for name, value in plain.encoder_q.state_dict().items():
        torch.testing.assert_close(ours.online.state_dict()[name], value, rtol=1e-5, atol=1e-7)
    for name, value in plain.encoder_k.state_dict().items():
        torch.testing.assert_close(ours.target.network.state_dict()[name], value, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(ours.queue.keys.T, plain.queue)


def test_views_of_single_clips_leave_absent_persons_absent_but_for_noise() -> None:
    clips = generated(6, NTU25, frames=16)
    assert not clips.presence.all()
    extreme, normal, key = plain_views(clips.clips, np.random.default_rng(0))
    assert extreme.shape == normal.shape == key.shape == clips.clips.shape
    absent = ~clips.presence
    for view in (normal, key):
        assert view.permute(0, 4, 1, 2, 3)[absent].abs().sum() == 0


@pytest.mark.parametrize("measure", [steps_of, direct_steps])
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_measurements_run(measure: object, precision: str) -> None:
    speed = measure(replace(TINY, precision=precision, steps=1))  # type: ignore[operator]
    assert speed.rate > 0
    assert speed.peak > 0.05
