"""CTR-GCN against a slow twin of the released network, and its counts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from datasets.clips import from_storage
from datasets.layout import KINECT20, NTU25, Layout
from encoders.base import parameter_count
from encoders.ctrgcn import CTRGCN, CTRGCNConfig, TemporalConvolution, TopologyRefinement
from encoders.graph import directed_adjacency
from tests.encoders.twins import Array, affine, array, batch_norm, randomised, temporal


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


def shortcut(part: torch.nn.Module, x: Array) -> Array:
    return x if isinstance(part, torch.nn.Identity) else batch_norm(part[1], affine(part[0], x))


def graph_twin(graph: TopologyRefinement, x: Array) -> Array:
    """The convolutions of every partition one by one, averaged over time after them, as released."""
    _, frames, joints = x.shape
    partitions, channels = graph.partitions, graph.norm.num_features
    sides = affine(graph.relate, x).reshape(2, partitions, -1, frames, joints)
    values = affine(graph.value, x).reshape(partitions, channels, frames, joints)
    total = np.zeros((channels, frames, joints))
    for k in range(partitions):
        one, other = sides[0, k].mean(axis=1), sides[1, k].mean(axis=1)
        for c in range(channels):
            for u in range(joints):
                for v in range(joints):
                    refinement = array(graph.refine[k].bias)[c] + array(graph.refine[k].weight)[c] @ np.tanh(
                        one[:, u] - other[:, v]
                    )
                    weight = array(graph.gain)[0] * refinement + array(graph.shared)[k, u, v]
                    total[c, :, u] += weight * values[k, c, :, v]
    return relu(batch_norm(graph.norm, total) + shortcut(graph.shortcut, x))


def temporal_twin(part: TemporalConvolution, x: Array) -> Array:
    entered = np.split(relu(batch_norm(part.norm_entry, affine(part.entry, x))), 3)
    branches = [
        temporal(array(convolution.weight), array(convolution.bias), entered[i], part.stride, dilation=i + 1)
        for i, convolution in enumerate(part.dilated)
    ]
    padded = np.pad(entered[2], ((0, 0), (1, 1), (0, 0)), constant_values=-np.inf)
    frames = range(0, x.shape[1], part.stride)
    branches.append(np.stack([padded[:, t : t + 3].max(axis=1) for t in frames], axis=1))
    branches.append(affine(part.point, x)[:, :: part.stride])
    return batch_norm(part.norm, np.concatenate(branches))


def twin(encoder: CTRGCN, body: Array) -> Array:
    """Maps (D, T', V) of one body (T, V, 3)."""
    flat = body.reshape(len(body), -1).T[:, :, None]
    x = batch_norm(encoder.data_norm, flat)[:, :, 0].T.reshape(body.shape).transpose(2, 0, 1)
    for block in encoder.blocks:
        y = temporal_twin(block.temporal, graph_twin(block.graph, x))
        x = relu(y if block.shortcut is None else y + shortcut(block.shortcut, x[:, :: block.stride]))
    return x


CHAIN = Layout.from_parents("chain4", ("neck", "left_hand", "right_hand", "right_thumb"), (-1, 0, 0, 2))


def test_equals_its_twin() -> None:
    encoder = randomised(CTRGCN(CTRGCNConfig(width=8), CHAIN, 9, 2))
    stored = torch.randn(1, 2, 9, 4, 3, dtype=torch.float64)
    with torch.no_grad():
        maps = array(encoder(from_storage(stored)))
    for person in range(2):
        expected = twin(encoder, array(stored[0, person]))
        np.testing.assert_allclose(maps[0, person], expected, rtol=1e-8, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("layout", [NTU25, KINECT20, CHAIN], ids=lambda layout: layout.name)
def test_directed_graph(layout: Layout) -> None:
    loops, towards, away = directed_adjacency(layout).numpy()
    assert np.array_equal(loops, np.eye(len(layout)))
    bones = {(child, parent) for child, parent in enumerate(layout.bones) if child != parent}
    assert {(v, u) for u, v in np.argwhere(towards).tolist()} == bones
    assert {(u, v) for u, v in np.argwhere(away).tolist()} == bones
    has_children = [any(parent == v for _, parent in bones) for v in range(len(layout))]
    np.testing.assert_allclose(away.sum(axis=0), has_children, rtol=1e-6)
    np.testing.assert_allclose(towards.sum(axis=0), [v != layout.centre for v in range(len(layout))])


def released_count(width: int, joints: int, persons: int) -> int:
    """Parameters of the released network without its classifier, convolution by convolution."""

    def conv(c_in: int, c_out: int, kernel: int = 1) -> int:
        return c_in * c_out * kernel + c_out

    w, total = width, 2 * persons * joints * 3
    channels = [3, w, w, w, w, 2 * w, 2 * w, 2 * w, 4 * w, 4 * w, 4 * w]
    for i in range(10):
        c_in, c_out = channels[i], channels[i + 1]
        relations = 8 if c_in == 3 else c_in // 8
        total += 3 * (2 * conv(c_in, relations) + conv(c_in, c_out) + conv(relations, c_out))
        total += 3 * joints**2 + 1 + 2 * c_out
        total += conv(c_in, c_out) + 2 * c_out if c_in != c_out else 0
        part = c_out // 4
        total += 4 * (conv(c_out, part) + 2 * part) + 2 * (conv(part, part, 5) + 2 * part) + 2 * part
        total += conv(c_in, c_out) + 2 * c_out if i > 0 and c_in != c_out else 0
    return total


def test_parameter_count_and_cost() -> None:
    encoder = CTRGCN(CTRGCNConfig(), NTU25, 64, 2)
    # The paper gives 1.46 M with a classifier of 120 classes; ours normalises persons alike, two numbers less per joint
    # and coordinate.
    assert round((released_count(64, 25, 2) + 256 * 120 + 120) / 1e6, 2) == 1.46
    assert parameter_count(encoder) == released_count(64, 25, 1) == released_count(64, 25, 2) - 150
    # 1.97 GMAC in the paper; averaging over time before the relating convolutions saves a tenth of them.
    assert encoder.flops() / 2e9 == pytest.approx(1.78, abs=0.01)


def test_starts_almost_without_graph_convolutions() -> None:
    encoder = CTRGCN(CTRGCNConfig(width=8), NTU25, 8, 1)
    assert all(not array(block.graph.gain).any() for block in encoder.blocks)
    assert all(np.allclose(array(block.graph.norm.weight), 1e-6) for block in encoder.blocks)
    # He by outputs of each convolution that is a part of these: 2 / (64 / 8) and so on.
    wide = CTRGCN(CTRGCNConfig(), NTU25, 8, 1).blocks[3]
    for layer, outputs in ((wide.graph.relate, 8), (wide.graph.value, 64), (wide.temporal.entry, 16)):
        assert float(layer.weight.detach().std()) == pytest.approx((2 / outputs) ** 0.5, rel=0.1)


def test_temporal_norms_start_scattered_around_one() -> None:
    blocks = CTRGCN(CTRGCNConfig(), NTU25, 8, 1).blocks
    norms = [norm for block in blocks for norm in (block.temporal.norm_entry, block.temporal.norm)]
    weights = np.concatenate([array(norm.weight) for norm in norms])
    assert weights.mean() == pytest.approx(1.0, abs=0.003)
    assert weights.std() == pytest.approx(0.02, rel=0.1)
    assert not any(array(norm.bias).any() for norm in norms)
    # Shortcuts are not among them: exactly one.
    assert (array(blocks[4].shortcut[1].weight) == 1).all()
