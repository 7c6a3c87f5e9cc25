"""The skeleton transformer against a slow twin, the published counts, and what masking asks of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import erf
from torch import Tensor

from datasets.clips import from_storage
from datasets.layout import KINECT20, NTU25, Layout
from encoders.base import parameter_count
from encoders.skeleton_transformer import SkeletonTransformer, SkeletonTransformerConfig, patchify
from engine.config import BenchError
from tests.encoders.twins import Array, affine, array, randomised

TINY = SkeletonTransformerConfig(dim=8, blocks=2, heads=2, ratio=2)


def layer_norm(norm: torch.nn.LayerNorm, x: Array) -> Array:
    mean, variance = x.mean(axis=0), x.var(axis=0)
    return (x - mean) / np.sqrt(variance + norm.eps) * array(norm.weight)[:, None] + array(norm.bias)[:, None]


def twin(encoder: SkeletonTransformer, body: Array) -> Array:
    """Maps (D, T', V) of one body (T, V, 3), after igm.md 1.2; the last frame fills up the last token."""
    frames, joints, _ = body.shape
    steps, length, heads = -(-frames // 4), 4, encoder.config.heads
    columns = []
    for step in range(steps):
        for v in range(joints):
            patch = np.concatenate([body[min(step * length + i, frames - 1), v] for i in range(length)])
            embedded = affine(encoder.patch, patch)
            columns.append(embedded + array(encoder.positions.time)[step, 0] + array(encoder.positions.joint)[0, v])
    x = np.stack(columns, axis=1)  # (C, L)
    for block in encoder.blocks:
        normed = layer_norm(block.norm_attention, x)
        query, key, value = affine(block.attention.query_key_value, normed).reshape(3, heads, -1, x.shape[1])
        mixed = np.zeros_like(query)
        for h in range(heads):
            scores = query[h].T @ key[h] / np.sqrt(len(query[h]))
            weights = np.exp(scores - scores.max(axis=1, keepdims=True))
            mixed[h] = value[h] @ (weights / weights.sum(axis=1, keepdims=True)).T
        x = x + affine(block.attention.out, mixed.reshape(x.shape))
        first, _, second = block.perceptron
        hidden = affine(first, layer_norm(block.norm_perceptron, x))
        x = x + affine(second, hidden * 0.5 * (1 + erf(hidden / np.sqrt(2))))
    return layer_norm(encoder.norm, x).reshape(-1, steps, joints)


@pytest.mark.parametrize(("layout", "frames"), [(NTU25, 8), (KINECT20, 10)], ids=["ntu25", "kinect20"])
def test_equals_its_twin(layout: Layout, frames: int) -> None:
    encoder = randomised(SkeletonTransformer(TINY, layout, frames, 2))
    stored = torch.randn(1, 2, frames, len(layout), 3, dtype=torch.float64)
    with torch.no_grad():
        maps = array(encoder(from_storage(stored)))
    for person in range(2):
        np.testing.assert_allclose(maps[0, person], twin(encoder, array(stored[0, person])), rtol=1e-9, atol=1e-9)


def test_published_parameter_count_and_cost() -> None:
    encoder = SkeletonTransformer(SkeletonTransformerConfig(), NTU25, 120, 2)
    assert parameter_count(encoder) == 6_336_000
    assert parameter_count(encoder.patch) == 3_328
    assert parameter_count(encoder.blocks[0]) == 789_760
    assert encoder.flops() / 1e9 == pytest.approx(28.1, abs=0.05)


def test_tokens_are_time_major_patches() -> None:
    bodies = torch.arange(2 * 9 * 5 * 3).view(2, 9, 5, 3)
    patches = patchify(bodies, 4)
    assert patches.shape == (2, 3, 5, 12)
    assert torch.equal(patches[1, 1, 3], bodies[1, 4:8, 3].flatten())
    assert torch.equal(patches[0, 2, 0], bodies[0, 8, 0].repeat(4))  # one frame left, repeated


def encoder_and_patches() -> tuple[SkeletonTransformer, Tensor]:
    encoder = SkeletonTransformer(TINY, KINECT20, 12, 1).double()
    return encoder, patchify(torch.randn(3, 12, 20, 3, dtype=torch.float64), 4)


def test_all_tokens_are_the_maps() -> None:
    encoder, patches = encoder_and_patches()
    bodies = patches.unflatten(3, (4, 3)).transpose(2, 3).reshape(3, 12, 20, 3)
    maps = encoder(from_storage(bodies[:, None]))
    torch.testing.assert_close(encoder.tokens(patches), maps[:, 0].flatten(2).mT)


def test_kept_tokens_see_only_each_other() -> None:
    encoder, patches = encoder_and_patches()
    kept = torch.stack([torch.randperm(60)[:9] for _ in range(3)])
    seen = encoder.tokens(patches, kept)
    assert seen.shape == (3, 9, 8)
    changed = patches.clone().flatten(1, 2)
    hidden = torch.ones(3, 60, dtype=torch.bool).scatter(1, kept, False)
    changed[hidden] = 1e6
    torch.testing.assert_close(encoder.tokens(changed.view_as(patches), kept), seen)
    everything = encoder.tokens(patches).gather(1, kept[..., None].expand(-1, -1, 8))
    assert not torch.allclose(seen, everything)


def test_the_order_of_kept_tokens_is_the_order_of_the_output() -> None:
    encoder, patches = encoder_and_patches()
    order = torch.stack([torch.randperm(60) for _ in range(3)])
    expected = encoder.tokens(patches).gather(1, order[..., None].expand(-1, -1, 8))
    torch.testing.assert_close(encoder.tokens(patches, order), expected)


def test_tokens_follow_the_precision() -> None:
    encoder = SkeletonTransformer(TINY, KINECT20, 12, 1)
    patches = torch.randn(2, 3, 20, 12)
    exact = encoder.tokens(patches)
    encoder.precision = "bf16"
    fast = encoder.tokens(patches)
    assert fast.dtype == torch.float32
    assert 0 < (fast - exact).detach().abs().max() < 0.1


def test_embeddings_of_time_are_stretched() -> None:
    """Twice the frames: every second embedding lies between its neighbours."""
    encoder = SkeletonTransformer(TINY, KINECT20, 12, 1)
    positions = encoder.positions
    with torch.no_grad():
        positions.time.copy_(torch.arange(3.0)[:, None, None].expand_as(positions.time))
        stretched = positions(6) - positions.joint
    torch.testing.assert_close(stretched[:, 0, 0], torch.tensor([0, 0.25, 0.75, 1.25, 1.75, 2.0]))


def test_wrong_heads_are_named() -> None:
    with pytest.raises(BenchError, match="dim=10 is no multiple of heads=4"):
        SkeletonTransformer(SkeletonTransformerConfig(dim=10, heads=4), NTU25, 12, 1)
