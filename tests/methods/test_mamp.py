"""MAMP against slow code, published counts, and what a masked method must not see."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from datasets.clips import from_storage
from datasets.layout import NTU25, Layout
from encoders.base import Encoder, parameter_count
from encoders.dsta import DSTA, DSTAConfig
from encoders.skeleton_transformer import SkeletonTransformer, SkeletonTransformerConfig, patchify
from encoders.stgcn import STGCN, STGCNConfig
from engine.config import BenchError, resolve
from methods.base import Context, Step
from methods.mamp import MAMP
from methods.masked import Decoder, DecoderConfig, hiding_order, parted, standardised, steps_of

ARM = Layout.from_parents("arm", ("shoulder", "elbow", "hand"), (-1, 0, 1))
SMALL = {"decoder.dim": 8, "decoder.blocks": 1, "decoder.heads": 2}


def generator(seed: int = 3) -> Generator:
    return Generator().manual_seed(seed)


def build(
    changes: Mapping[str, Any] | None = None, frames: int = 12, layout: Layout = ARM, encoder: str = "", dim: int = 8
) -> MAMP:
    torch.manual_seed(0)

    def make() -> Encoder:
        if encoder == "stgcn":
            return STGCN(STGCNConfig(width=dim // 4, dim=dim, dropout=0.0, init="torch"), layout, frames, 2)
        if encoder == "dsta":
            return DSTA(DSTAConfig(width=4, init="torch"), layout, frames, 2)
        return SkeletonTransformer(SkeletonTransformerConfig(dim=dim, blocks=1, heads=2), layout, frames, 2)

    return MAMP(resolve(MAMP.Config, SMALL, changes or {}), Context(make, layout, "joint", frames, 2, 10))


def step(seed: int = 3) -> Step:
    return Step(1, 1, 0, 1, generator(seed))


def test_published_parameter_counts() -> None:
    """igm.md 7.2: decoder 2,453,004 (4,032,524 with five blocks), all 8,789,004 (10,368,524)."""
    for blocks, decoder, total in ((3, 2_453_004, 8_789_004), (5, 4_032_524, 10_368_524)):
        config = resolve(MAMP.Config, {"decoder.blocks": blocks})
        context = Context(
            lambda: SkeletonTransformer(SkeletonTransformerConfig(), NTU25, 120, 2), NTU25, "joint", 120, 2, 10
        )
        method = MAMP(config, context)
        assert parameter_count(method.decoder) == decoder
        assert parameter_count(method) == total


def test_published_number_of_tokens() -> None:
    kept, hidden = parted(torch.arange(750).expand(2, -1), 0.9)
    assert (kept.shape, hidden.shape) == ((2, 75), (2, 675))
    assert parted(torch.arange(4).expand(1, -1), 0.99)[0].shape == (1, 1)  # an encoder needs something to see


def test_the_chance_to_be_hidden_first_is_that_of_the_motion() -> None:
    """The last place in the order is drawn with the softmax of motion over tau times its maximum (igm.md 7.3)."""
    bodies = torch.zeros(1, 12, 3, 3)
    bodies[0, :, 0, 0] = 0.1 * torch.arange(12)  # moves evenly
    bodies[0, 8:, 1, 1] = 1.0  # jumps once
    patches = patchify(bodies, 4)
    motion = np.zeros((3, 3))
    for place in range(3):
        for joint in range(3):
            earlier, later = (patches[0, max(place, 1) - back, joint].numpy() for back in (1, 0))
            motion[place, joint] = np.abs(later - earlier).mean()
    for tau in (0.8, 0.3):
        expected = np.exp(motion / (motion.max() * tau))
        expected = (expected / expected.sum()).ravel()
        last = hiding_order(patches.expand(20_000, -1, -1, -1), tau, generator())[:, -1]
        found = np.bincount(last.numpy(), minlength=9) / len(last)
        np.testing.assert_allclose(found, expected, atol=4 * math.sqrt(0.25 / len(last)))
        assert expected.max() > 2 * expected.min()


@pytest.mark.parametrize("tau", [0.0, 0.8])
def test_chance_alone_decides_without_motion(tau: float) -> None:
    """Also of an absent person, whose largest motion is 0."""
    moving = torch.randn(9, 3, 3, 12, generator=generator()) if not tau else torch.zeros(9, 3, 3, 12)
    order = hiding_order(moving.repeat(2000, 1, 1, 1), tau, generator())
    assert torch.equal(order.sort(dim=1).values[0], torch.arange(9))
    found = torch.bincount(order[:, -1], minlength=9) / len(order)
    torch.testing.assert_close(found, torch.full((9,), 1 / 9), atol=0.02, rtol=0)


def test_motion_and_its_standardisation_by_hand() -> None:
    bodies = torch.randn(2, 6, 3, 3, dtype=torch.float64)
    for stride in (1, 4):
        motion = steps_of(bodies, stride)
        for t in range(6):
            expected = bodies[:, t + stride] - bodies[:, t] if t + stride < 6 else torch.zeros(2, 3, 3)
            assert torch.equal(motion[:, t], expected.to(motion.dtype))
    values = bodies[0, :4, 1].numpy().ravel()
    wanted = (values - values.mean()) / math.sqrt(values.var(ddof=1) + 1e-6)
    np.testing.assert_allclose(standardised(torch.tensor(values)[None])[0].numpy(), wanted, rtol=1e-12)


def test_the_decoder_puts_every_token_in_its_place() -> None:
    decoder = Decoder(DecoderConfig(dim=8, blocks=2, heads=2), 6, steps=2, joints=3, values=5).double()
    tokens, kept = torch.randn(2, 2, 6, dtype=torch.float64), torch.tensor([[4, 1], [0, 5]])
    unseen = torch.tensor([[0, 2, 3, 5], [1, 2, 3, 4]])
    found = decoder(tokens, kept, unseen)
    for body in range(2):
        rows = []
        for place in range(6):
            where = decoder.positions.time[place // 3, 0] + decoder.positions.joint[0, place % 3]
            seen = kept[body].tolist()
            value = decoder.embed(tokens[body, seen.index(place)]) if place in seen else decoder.hidden[0, 0]
            rows.append(value + where)
        x = torch.stack(rows)[None]
        for block in decoder.blocks:
            x = block(x)
        torch.testing.assert_close(found[body], decoder.out(decoder.norm(x))[0][unseen[body]])


@pytest.mark.parametrize(
    ("changes", "target"),
    [({}, "motion"), ({"target": "joints"}, "joints"), ({"stride": 3, "decoder.every": 3}, "motion")],
)
def test_the_loss_is_the_mean_error_over_hidden_tokens(changes: Mapping[str, Any], target: str) -> None:
    method = build(changes)
    view = from_storage(torch.randn(4, 2, 12, 3, 3, generator=generator()))
    losses = method((view,), step(7))
    assert set(losses) == {target}
    bodies = view.permute(0, 4, 2, 3, 1).reshape(8, 12, 3, 3)
    patches = patchify(bodies, 4)
    order = hiding_order(patches, 0.8, generator(7))
    kept = order[:, :1]  # a tenth of nine, rounded
    hidden = order[:, 1 :: changes.get("decoder.every", 1)]
    predicted = method.decoder(method.encoder.tokens(patches, kept), kept, hidden).detach()  # type: ignore[operator]
    errors = []
    stride = changes.get("stride", 1)
    for body in range(8):
        for row, place in enumerate(hidden[body].tolist()):
            t, joint = place // 3 * 4, place % 3
            values = []
            for frame in range(t, t + 4):
                if target == "joints":
                    values += bodies[body, frame, joint].tolist()
                else:
                    after = bodies[body, frame + stride, joint] if frame + stride < 12 else bodies[body, frame, joint]
                    values += (after - bodies[body, frame, joint]).tolist()
            array = np.array(values)
            array = (array - array.mean()) / math.sqrt(array.var(ddof=1) + 1e-6)
            errors.append(((predicted[body, row].numpy() - array) ** 2).mean())
    assert losses[target].item() == pytest.approx(np.mean(errors), rel=1e-4)


@pytest.mark.parametrize("name", ["stgcn", "dsta"])
def test_other_encoders_are_blind_where_it_is_hidden(name: str) -> None:
    method = build(frames=10, encoder=name).eval()
    bodies = torch.randn(2, 10, 3, 3, generator=generator())
    kept = torch.tensor([[0, 4, 8], [2, 3, 7]])
    with torch.no_grad():
        tokens = method.blinded(bodies, kept)
        assert tokens.shape == (2, 9, method.encoder.dim)
        changed = bodies.clone()
        for body in range(2):
            for place in set(range(9)) - set(kept[body].tolist()):
                changed[body, place // 3 * 4 : place // 3 * 4 + 4, place % 3] = 50.0
        assert torch.equal(method.blinded(changed, kept), tokens)
        changed[0, 0, 0] += 1.0  # a place that is kept
        assert not torch.equal(method.blinded(changed, kept)[0], tokens[0])
        # Time-major, as the patches: with nothing hidden these are the maps of the whole body.
        maps = method.encoder(from_storage(bodies[:, None]))[:, 0]
        everything = method.blinded(bodies, torch.arange(9).expand(2, -1))
        torch.testing.assert_close(everything[:, 5], maps[:, :, 1, 2])


def test_absent_persons_are_left_out_where_the_encoder_leaves_them_out() -> None:
    method = build()
    stored = torch.randn(3, 2, 12, 3, 3, generator=generator())
    stored[:, 1] = 0
    seen: list[int] = []
    tokens = method.encoder.tokens  # type: ignore[assignment]

    def counting(patches: Tensor, kept: Tensor) -> Tensor:
        seen.append(len(patches))
        return tokens(patches, kept)  # type: ignore[operator, no-any-return]

    method.encoder.tokens = counting  # type: ignore[assignment]
    for skip, bodies in ((False, 6), (True, 3)):
        method.encoder.skip_absent = skip
        loss = method((from_storage(stored),), step())["motion"]
        assert torch.isfinite(loss)
        assert seen[-1] == bodies


@pytest.mark.parametrize("encoder", ["", "stgcn"])
def test_it_learns_what_can_be_predicted(encoder: str) -> None:
    """Joints that swing alike, each with a phase of its own: the hidden ones follow from those that are seen."""
    changes = {"mask.ratio": 0.5, "decoder.dim": 32}
    method = build(changes, frames=16, encoder=encoder, dim=32)
    optimiser = torch.optim.AdamW(method.parameters(), 3e-3)
    phase = 6.28 * torch.rand(64, 1, 1, 1, 1, generator=generator())
    time = torch.arange(16.0)[None, None, :, None, None]
    swing = torch.sin(0.6 * time + phase + torch.arange(9.0).view(1, 1, 1, 3, 3))
    method.train()
    curve = []
    for number in range(260):
        loss = method((from_storage(swing),), step(number))["motion"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        curve.append(loss.item())
    assert curve[0] > 0.9
    assert np.mean(curve[-5:]) < 0.4


def test_too_short_clips_are_named() -> None:
    with pytest.raises(BenchError, match="mamp needs clips of more than 4 frames, these have 4"):
        build(frames=4)


def test_released_settings() -> None:
    """igm.md 4, 7: 400 epochs of 128 clips, AdamW (.9, .95) with decay .05 on matrices, 1e-3 to 5e-4, 20 epochs of warm-up."""
    config = resolve(MAMP.Config)
    train = config.train
    assert (train.epochs, train.batch, train.optimiser, train.precision) == (400, 128, "adamw", "float32")
    assert (train.lr, train.lr_end, train.beta2, train.weight_decay) == (1e-3, 5e-4, 0.95, 0.05)
    assert train.warmup_share * train.epochs == pytest.approx(20)
    assert not train.decay_vectors
    assert (config.mask.ratio, config.mask.tau, config.stride, config.target) == (0.9, 0.8, 1, "motion")
    assert resolve(MAMP.Config, MAMP.tuned["full:ntu120"]).decoder.blocks == 5
