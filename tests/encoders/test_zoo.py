"""Every encoder of the zoo keeps the contract: shapes, other layouts and lengths, absent persons, gradients, precision."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from datasets.clips import from_storage
from datasets.layout import KINECT20, NTU25, Layout
from encoders.base import Encoder
from engine.config import BenchError, resolve
from engine.registry import find, names

SMALL: Mapping[str, Mapping[str, Any]] = {
    "stgcn": {"width": 4, "dim": 8, "dropout": 0.0, "init": "torch"},
    "dsta": {"width": 4, "dropout": 0.0, "init": "torch"},
    "skeleton_transformer": {"dim": 8, "blocks": 2, "heads": 2},
    "bigru": {"hidden": 6},
    "ctrgcn": {"width": 8},
}
"""Settings that make an encoder small; an encoder that is new here needs a line."""
ZOO = [name for name in names("encoders") if name != "coordinates"]
LOCAL = [name for name in ZOO if find("encoders", name).local]
CHAIN = Layout.from_parents("chain4", ("neck", "left_hand", "right_hand", "right_thumb"), (-1, 0, 0, 2))


def build(name: str, layout: Layout = KINECT20, frames: int = 16, persons: int = 2, **changes: Any) -> Encoder:
    torch.manual_seed(0)
    cls = find("encoders", name)
    encoder: Encoder = cls(resolve(cls.Config, SMALL[name], changes), layout, frames=frames, persons=persons)
    return encoder


def clips(layout: Layout = KINECT20, frames: int = 16, persons: int = 2, count: int = 3) -> Tensor:
    stored = torch.randn(count, persons, frames, len(layout), 3, generator=torch.Generator().manual_seed(1))
    return from_storage(0.3 * stored)


def features(encoder: Encoder, x: Tensor) -> Tensor:
    with torch.no_grad():
        return encoder.pool(encoder(x))


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize(
    ("layout", "frames", "persons"),
    [(NTU25, 50, 2), (KINECT20, 64, 1), (CHAIN, 13, 3)],
    ids=lambda v: getattr(v, "name", v),
)
def test_shapes(name: str, layout: Layout, frames: int, persons: int) -> None:
    encoder = build(name, layout, frames, persons).eval()
    with torch.no_grad():
        maps = encoder(clips(layout, frames, persons))
    steps = -(-frames // encoder.temporal_stride)
    places = (persons, encoder.dim, steps, len(layout)) if encoder.local else (1, encoder.dim, steps, 1)
    assert maps.shape == (3, *places)
    assert encoder.pool(maps).shape == (3, encoder.dim)
    weights = torch.ones(3, places[0], steps, places[3])
    assert encoder.pool(maps, weights).shape == (3, encoder.dim)
    if encoder.local:
        torch.testing.assert_close(encoder.pool(maps, weights), encoder.pool(maps), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", LOCAL)
@pytest.mark.parametrize("absent", ["keep", "skip"])
def test_features_of_every_joint_average_to_the_pooled_ones(name: str, absent: str) -> None:
    encoder = build(name, absent=absent).eval()
    x = clips().clone()
    x[0, ..., 1] = 0
    with torch.no_grad():
        maps = encoder(x)
        joints = encoder.pool_joints(maps)
    assert joints.shape == (3, 20 * encoder.dim)
    own = joints.view(3, 20, encoder.dim)
    present = [0] if absent == "skip" else [0, 1]
    torch.testing.assert_close(own[0, 7], maps[0, present][..., 7].mean(dim=(0, 2)))
    torch.testing.assert_close(own.mean(dim=1), encoder.pool(maps))


@pytest.mark.parametrize("name", ZOO)
def test_dropout_can_be_set_where_there_is_some(name: str) -> None:
    encoder = build(name)
    encoder.set_dropout(0.0)
    if name in ("bigru", "ctrgcn"):
        with pytest.raises(BenchError, match=r"has no dropout whose rate could be 0\.3"):
            encoder.set_dropout(0.3)
        return
    quiet, state = features(encoder.train(), clips()), encoder.state_dict()
    torch.testing.assert_close(features(encoder, clips()), quiet)
    encoder.set_dropout(0.3)
    assert not torch.allclose(features(encoder, clips()), quiet, rtol=1e-3)
    assert encoder.state_dict().keys() == state.keys()
    rates = [layer.p for layer in encoder.dropouts()]
    expected = {"stgcn": [0.3] * 9, "dsta": [0.3] * 8, "skeleton_transformer": [0.0, 0.3]}
    assert rates == expected[name]


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("frames", [7, 24])
def test_clips_of_another_length_than_it_was_built_for(name: str, frames: int) -> None:
    encoder = build(name).eval()
    maps = encoder(clips(frames=frames))
    assert maps.shape[3] == -(-frames // encoder.temporal_stride)
    assert torch.isfinite(maps).all()


@pytest.mark.parametrize("name", ZOO)
def test_wrong_layout_is_named(name: str) -> None:
    with pytest.raises(BenchError, match=r"kinect20.*20 joints x 3.*25 x 3"):
        build(name)(clips(NTU25))


@pytest.mark.parametrize("name", ZOO)
def test_same_seed_same_features_and_state(name: str) -> None:
    one, other = build(name).eval(), build(name).eval()
    assert torch.equal(features(one, clips()), features(other, clips()))
    torch.manual_seed(7)
    cls = find("encoders", name)
    third: Encoder = cls(one.config, KINECT20, frames=16, persons=2).eval()
    assert not torch.equal(features(third, clips()), features(one, clips()))
    third.load_state_dict(one.state_dict())
    assert torch.equal(features(third, clips()), features(one, clips()))


@pytest.mark.parametrize("name", ZOO)
def test_a_clip_does_not_depend_on_the_others(name: str) -> None:
    encoder = build(name).eval()
    x = clips(count=5)
    parts = torch.cat([features(encoder, x[:2]), features(encoder, x[2:])])
    torch.testing.assert_close(features(encoder, x), parts)


@pytest.mark.parametrize("name", ZOO)
def test_clips_in_any_memory_order(name: str) -> None:
    encoder = build(name).eval()
    torch.testing.assert_close(features(encoder, clips().contiguous()), features(encoder, clips()))


@pytest.mark.parametrize("name", LOCAL)
@pytest.mark.parametrize("absent", ["keep", "skip"])
def test_persons_may_change_places(name: str, absent: str) -> None:
    encoder = build(name, persons=3, absent=absent).eval()
    x = clips(persons=3)
    order = [2, 0, 1]
    with torch.no_grad():
        torch.testing.assert_close(encoder(x[..., order]), encoder(x)[:, order])
    torch.testing.assert_close(features(encoder, x[..., order]), features(encoder, x))


@pytest.mark.parametrize("name", LOCAL)
def test_absent_persons_are_skipped_or_count(name: str) -> None:
    x = clips().clone()
    x[1, ..., 1] = 0
    skip, keep = build(name, absent="skip").eval(), build(name, absent="keep").eval()
    alone = build(name, persons=1).eval()
    with torch.no_grad():
        maps = skip(x)
        single = alone(x[..., :1])
        assert maps[1, 1].abs().sum() == 0
        torch.testing.assert_close(maps[:, :1], single)
        torch.testing.assert_close(skip.pool(maps)[1], alone.pool(single)[1])
        torch.testing.assert_close(skip.pool(maps)[0], maps[0].mean(dim=(0, 2, 3)))
        kept = keep(x)
        torch.testing.assert_close(kept[1, 1], alone(torch.zeros_like(x[:1, ..., :1]))[0, 0])
        torch.testing.assert_close(keep.pool(kept), kept.mean(dim=(1, 3, 4)))


@pytest.mark.parametrize("name", ZOO)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    encoder = build(name, CHAIN, 6, 2).double().eval()
    if name == "ctrgcn":  # as initialised its graph convolutions do next to nothing
        for block in encoder.blocks:
            block.graph.norm.weight.data.fill_(1.0)
            block.graph.gain.data.fill_(0.5)
    stored = 0.3 * torch.randn(1, 2, 6, 4, 3, dtype=torch.float64)
    stored.requires_grad_()
    weights = torch.linspace(-1, 1, encoder.dim, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda s: encoder.pool(encoder(from_storage(s))) @ weights, stored, fast_mode=True)


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_every_parameter_learns_in_both_precisions(name: str, precision: str) -> None:
    encoder = build(name).train()
    if name == "ctrgcn":  # else the topologies' own layers get none at the first step: their gain starts at 0
        for block in encoder.blocks:
            block.graph.gain.data.fill_(0.5)
    encoder.precision = precision
    maps = encoder(clips())
    assert maps.dtype == torch.float32
    weights = torch.randn(encoder.dim, generator=torch.Generator().manual_seed(2))
    (encoder.pool(maps) @ weights).square().sum().backward()
    for parameter_name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


@pytest.mark.parametrize("name", ZOO)
def test_bf16_stays_close(name: str) -> None:
    encoder = build(name).eval()
    exact = features(encoder, clips())
    encoder.precision = "bf16"
    fast = features(encoder, clips())
    assert 0 < (fast - exact).abs().max() < 0.1 * exact.abs().max()


@pytest.mark.parametrize("name", ZOO)
def test_adjacency(name: str) -> None:
    encoder = build(name).eval()
    if not encoder.graph:
        assert encoder.adjacency is None
        return
    if name == "ctrgcn":
        for block in encoder.blocks:
            block.graph.norm.weight.data.fill_(1.0)
    base = encoder.adjacency
    assert base is not None
    assert base.shape[1:] == (20, 20)
    layers = base.expand(encoder.depth, -1, -1, -1)
    with torch.no_grad():
        torch.testing.assert_close(encoder(clips(), layers), encoder(clips()))
        for layer in (0, encoder.depth - 1):
            changed = layers.clone()
            changed[layer] = 0
            assert not torch.allclose(encoder(clips(), changed), encoder(clips()))


@pytest.mark.parametrize("name", ZOO)
def test_momentum_copies_are_their_own(name: str) -> None:
    encoder = build(name).eval()
    twin = copy.deepcopy(encoder)
    before = features(encoder, clips())
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(0.1)
    assert torch.equal(features(encoder, clips()), before)
    assert not torch.equal(features(twin, clips()), before)


@pytest.mark.parametrize("name", ZOO)
def test_declared_tables_are_valid_and_quick_is_cheaper(name: str) -> None:
    cls = find("encoders", name)
    full = cls(resolve(cls.Config), NTU25, frames=50, persons=2)
    quick = cls(resolve(cls.Config, cls.budgets["quick"]), NTU25, frames=50, persons=2)
    tuned = cls(
        resolve(cls.Config, cls.budgets["quick"], cls.tuned.get("quick:synthetic", {})), NTU25, frames=50, persons=2
    )
    assert tuned.flops() <= quick.flops() <= full.flops()
    assert tuned.flops() < 0.7e9  # a synthetic epoch of 840 clips: minutes on one core, whatever the encoder
    for table in cls.recipes.values():
        resolve(cls.Config, table)


@pytest.mark.parametrize("name", ZOO)
def test_flops_grow_with_persons_and_leave_the_encoder_as_it_was(name: str) -> None:
    encoder = build(name, persons=2).train()
    two = encoder.flops()
    assert encoder.training
    if encoder.local:
        # ST-GCN's bias at every joint is computed once for all bodies.
        assert two == pytest.approx(2 * build(name, persons=1).flops(), rel=0.01)


def test_layer_decay_of_the_transformers() -> None:
    """The last block is one level below the classifier and what embeds clips the lowest, as in MAMP's code (igm.md 4)."""
    transformer, dsta = build("skeleton_transformer"), build("dsta")
    levels = {name: transformer.levels_above(name) for name, _ in transformer.named_parameters()}
    assert levels["norm.weight"] == 0
    assert levels["blocks.1.attention.out.weight"] == 1
    assert levels["blocks.0.norm_perceptron.bias"] == 2
    assert {levels[name] for name in ("patch.weight", "positions.time", "positions.joint")} == {3}
    deep = {name: dsta.levels_above(name) for name, _ in dsta.named_parameters()}
    assert deep["blocks.7.attention.gain"] == 1
    assert deep["blocks.0.attention.gain"] == 8
    assert deep["input.0.weight"] == 9
