"""The bidirectional GRU against its equations, torch's own, and the way released code feeds it."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from torch import nn

from datasets.clips import from_storage
from datasets.layout import KINECT20, NTU25
from encoders.base import parameter_count
from encoders.bigru import BiGRU, BiGRUConfig
from engine.config import BenchError
from tests.encoders.twins import Array, array, randomised


def cell(gru: nn.GRU, x: Array, state: Array) -> Array:
    """One step of a GRU: reset, update and new gate."""

    def sigmoid(v: Array) -> Array:
        return 1 / (1 + np.exp(-v))

    seen = (array(gru.weight_ih_l0) @ x + array(gru.bias_ih_l0)).reshape(3, -1)
    own = (array(gru.weight_hh_l0) @ state + array(gru.bias_hh_l0)).reshape(3, -1)
    reset, update = sigmoid(seen[0] + own[0]), sigmoid(seen[1] + own[1])
    new = np.tanh(seen[2] + reset * own[2])
    return (1 - update) * new + update * state


def normed(encoder: BiGRU, clip: Array) -> Array:
    """Frames (T, M V 3) of one clip (M, T, V, 3), normalised."""
    frames = np.stack([np.concatenate([person[t].ravel() for person in clip]) for t in range(clip.shape[1])])
    norm = encoder.norm
    deviation = np.sqrt(array(norm.running_var) + norm.eps)
    return (frames - array(norm.running_mean)) / deviation * array(norm.weight) + array(norm.bias)


def twin_both(encoder: BiGRU, clip: Array) -> Array:
    """States (T, D) when the second GRU of every layer reads backwards."""
    x = normed(encoder, clip)
    for first, second in encoder.layers:
        states = np.zeros((2, len(x), first.hidden_size))
        for direction, gru in enumerate((first, second)):
            state = np.zeros(gru.hidden_size)
            for t in range(len(x))[:: 1 - 2 * direction]:
                state = cell(gru, x[t], state)
                states[direction, t] = state
        x = np.concatenate(states, axis=1)
    return x


def twin_forward(encoder: BiGRU, clip: Array) -> Array:
    """States (T, D) when single frames are fed, as released: both GRUs of a layer go on from where they were."""
    carried = [[np.zeros(gru.hidden_size) for gru in pair] for pair in encoder.layers]
    rows = []
    for x in normed(encoder, clip):
        for layer, pair in enumerate(encoder.layers):
            carried[layer] = [cell(gru, x, state) for gru, state in zip(pair, carried[layer], strict=True)]
            x = np.concatenate(carried[layer])
        rows.append(x)
    return np.stack(rows)


@pytest.mark.parametrize("read", ["both", "forward"])
def test_equals_its_twin(read: Literal["both", "forward"]) -> None:
    encoder = randomised(BiGRU(BiGRUConfig(hidden=5, layers=3, read=read), KINECT20, 7, 2))
    stored = torch.randn(2, 2, 7, 20, 3, dtype=torch.float64)
    with torch.no_grad():
        maps = encoder(from_storage(stored))
        features = encoder.pool(maps)
    for clip in range(2):
        states = (twin_both if read == "both" else twin_forward)(encoder, array(stored[clip]))
        np.testing.assert_allclose(array(maps[clip, 0, :, :, 0]), states.T, rtol=1e-9, atol=1e-12)
        last = np.concatenate([states[-1, :5], states[0 if read == "both" else -1, 5:]])
        np.testing.assert_allclose(array(features[clip]), last, rtol=1e-9, atol=1e-12)


def released_like(encoder: BiGRU) -> nn.GRU:
    """torch's bidirectional GRU with the encoder's weights."""
    config = encoder.config
    gru = nn.GRU(encoder.norm.num_features, config.hidden, config.layers, batch_first=True, bidirectional=True).double()
    names = {"l0": "l{0}", "l0_reverse": "l{0}_reverse"}
    state = {
        f"{kind}_{name.format(layer)}": getattr(pair[index], f"{kind}_l0")
        for layer, pair in enumerate(encoder.layers)
        for index, name in enumerate(names.values())
        for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    }
    gru.load_state_dict(state)
    return gru


def test_both_is_torchs_bidirectional_gru_and_forward_is_how_released_code_feeds_it() -> None:
    for read in ("both", "forward"):
        encoder = randomised(BiGRU(BiGRUConfig(hidden=6, read=read), KINECT20, 8, 1))
        stored = torch.randn(3, 1, 8, 20, 3, dtype=torch.float64)
        gru = released_like(encoder)
        with torch.no_grad():
            x = encoder.norm(stored[:, 0].flatten(0, 1).flatten(1)).view(3, 8, -1)
            if read == "both":
                expected, ends = gru(x)
                last = torch.cat([ends[-2], ends[-1]], dim=1)
            else:
                state, rows = None, []
                for t in range(8):
                    row, state = gru(x[:, t : t + 1], state)
                    rows.append(row)
                expected = torch.cat(rows, dim=1)
                last = expected[:, -1]
            maps = encoder(from_storage(stored))
        torch.testing.assert_close(maps[:, 0, :, :, 0].mT, expected)
        torch.testing.assert_close(encoder.pool(maps), last)


def test_parameter_count_and_cost() -> None:
    encoder = BiGRU(BiGRUConfig(), NTU25, 50, 2)
    gru = nn.GRU(150, 1024, 3, bidirectional=True)
    assert parameter_count(encoder) == parameter_count(gru) + 2 * 150 == 44_998_956
    assert encoder.dim == 2048
    # All of it is matrix products with the weights, biases apart: 2 operations per weight and frame.
    weights = sum(p.numel() for p in gru.parameters() if p.ndim == 2)
    assert encoder.flops() == 2 * 50 * weights


def test_absent_persons_count_as_zeros_and_places_matter() -> None:
    encoder = BiGRU(BiGRUConfig(hidden=4), KINECT20, 6, 2).eval()
    stored = torch.randn(1, 2, 6, 20, 3)
    with torch.no_grad():
        one, other = (encoder.pool(encoder(from_storage(s))) for s in (stored, stored.flip(1)))
    assert not torch.allclose(one, other)


def test_other_persons_than_it_was_built_for_are_refused() -> None:
    encoder = BiGRU(BiGRUConfig(hidden=4), KINECT20, 6, 1)
    with pytest.raises(BenchError, match=r"built for clips of 1 person\(s\), these have 2"):
        encoder(from_storage(torch.randn(1, 2, 6, 20, 3)))


def test_weighted_pooling_is_over_frames() -> None:
    encoder = BiGRU(BiGRUConfig(hidden=4), KINECT20, 6, 1)
    maps = torch.randn(2, 1, 8, 6, 1)
    weights = torch.zeros(2, 1, 6, 1)
    weights[:, :, 2] = 1.0
    torch.testing.assert_close(encoder.pool(maps, weights), maps[:, 0, :, 2, 0], rtol=1e-4, atol=1e-4)


def test_the_released_recipe_reads_forward() -> None:
    assert BiGRU.recipes["released"] == {"read": "forward"}
