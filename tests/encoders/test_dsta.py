"""DSTA against a slow twin and the published counts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from datasets.clips import from_storage
from datasets.layout import KINECT20, NTU25, Layout
from encoders.base import parameter_count
from encoders.dsta import DSTA, DSTAConfig, joint_code
from tests.encoders.twins import Array, affine, array, batch_norm, randomised, temporal


def leaky(x: Array) -> Array:
    return np.where(x > 0, x, 0.1 * x)


def twin(encoder: DSTA, body: Array) -> Array:
    """Maps (D, T', V) of one body (T, V, 3), after hiclr.md 2.2."""
    x = leaky(batch_norm(encoder.input[1], affine(encoder.input[0], body.transpose(2, 0, 1))))
    for index, block in enumerate(encoder.blocks):
        channels, frames, joints = x.shape
        code = np.zeros_like(x)
        for c in range(channels):
            for v in range(joints):
                angle = v * 10000.0 ** (-(c - c % 2) / channels)
                code[c, :, v] = np.float32(np.cos(angle) if c % 2 else np.sin(angle))
        attention = block.attention
        heads = len(attention.gain)
        both = affine(attention.query_key, x + code).reshape(2, heads, -1, frames, joints)
        mixed = np.zeros((heads, channels, frames, joints))
        for s in range(heads):
            query, key = both[0, s], both[1, s]
            weights = np.zeros((joints, joints))
            for u in range(joints):
                for v in range(joints):
                    weights[u, v] = np.tanh((query[:, :, u] * key[:, :, v]).sum() / (len(query) * frames))
            weights = weights * array(attention.gain)[s, 0, 0] + array(attention.shared)[s]
            for v in range(joints):
                for u in range(joints):
                    mixed[s, :, :, v] += x[:, :, u] * weights[u, v]

        def shortcut(part: torch.nn.Module, y: Array) -> Array:
            return y if isinstance(part, torch.nn.Identity) else batch_norm(part[1], affine(part[0], y))

        y = batch_norm(block.mixed[1], affine(block.mixed[0], mixed.reshape(-1, frames, joints)))
        y = leaky(y + shortcut(block.to_mixed, x))
        y = leaky(batch_norm(block.layer[1], affine(block.layer[0], y)) + shortcut(block.to_layer, x))
        stride = 2 if index in (2, 4) else 1
        convolution, norm = block.temporal
        moved = batch_norm(norm, temporal(array(convolution.weight), array(convolution.bias), y, stride))
        x = leaky(moved + shortcut(block.to_temporal, y[:, ::stride]))
    return x


@pytest.mark.parametrize("layout", [NTU25, KINECT20], ids=lambda layout: layout.name)
def test_equals_its_twin(layout: Layout) -> None:
    encoder = randomised(DSTA(DSTAConfig(width=4, heads=2), layout, 9, 2))
    stored = torch.randn(1, 2, 9, len(layout), 3, dtype=torch.float64)
    with torch.no_grad():
        maps = array(encoder(from_storage(stored)))
    for person in range(2):
        expected = twin(encoder, array(stored[0, person]))
        np.testing.assert_allclose(maps[0, person], expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


def test_published_parameter_count_and_cost() -> None:
    encoder = DSTA(DSTAConfig(), NTU25, 50, 2)
    assert parameter_count(encoder) == 1_546_480
    assert encoder.flops() / 1e9 == pytest.approx(2.463, abs=5e-4)


def test_released_tensors_by_block() -> None:
    """Shapes of hiclr.md 8.2: what a block holds, and that three of them have shortcuts with weights."""
    encoder = DSTA(DSTAConfig(), NTU25, 50, 2)
    block = encoder.blocks[4]
    shapes = {name: tuple(value.shape) for name, value in block.named_parameters()}
    assert shapes["attention.query_key.weight"] == (6 * 32, 64, 1, 1)
    assert shapes["attention.shared"] == (3, 25, 25)
    assert shapes["mixed.0.weight"] == (128, 3 * 64, 1, 1)
    assert shapes["layer.0.weight"] == (128, 128, 1, 1)
    assert shapes["temporal.0.weight"] == (128, 128, 7, 1)
    assert shapes["to_temporal.0.weight"] == (128, 128, 1, 1)
    with_weights = [i for i, each in enumerate(encoder.blocks) if not isinstance(each.to_mixed, torch.nn.Identity)]
    assert with_weights == [2, 4, 7]


def test_joint_code_starts_with_zero_and_one() -> None:
    code = joint_code(6, 5)
    assert code.shape == (6, 1, 5)
    assert code[:, 0, 0].tolist() == [0, 1, 0, 1, 0, 1]
    assert float(code[0, 0, 1]) == pytest.approx(np.sin(1.0))
    assert float(code[3, 0, 2]) == pytest.approx(np.cos(2 * 10000 ** (-2 / 6)))


def test_attention_without_its_cells_sees_no_other_joint() -> None:
    """An adjacency of self loops alone cuts all joints off from each other."""
    encoder = DSTA(DSTAConfig(width=4), NTU25, 8, 1).eval()
    clips = from_storage(torch.randn(1, 1, 8, 25, 3))
    moved = clips.clone()
    moved[:, :, :, 7] += 1.0
    alone = torch.eye(25).expand(encoder.depth, 3, -1, -1)
    with torch.no_grad():
        # The attention of the other joints among themselves may change; with self loops only their own cell is left.
        changed = (encoder(moved, alone) - encoder(clips, alone)).abs().amax(dim=(0, 1, 2, 3))
    assert changed.nonzero().flatten().tolist() == [7]
