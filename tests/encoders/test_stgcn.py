"""ST-GCN against the released weights, its straightforward twin, and the published counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.plain_stgcn import plain_forward
from datasets.clips import from_storage
from datasets.layout import KINECT20, NTU25, Layout
from encoders.base import parameter_count
from encoders.graph import spatial_adjacency
from encoders.stgcn import STGCN, STGCNConfig, convert_released
from engine.config import BenchError
from methods.blocks import energy_drop


def released(shared: Path) -> dict[str, Tensor]:
    with np.load(shared / "fixtures/actclr_ntu60_xview_joint_official.npz") as file:
        return {name: torch.tensor(file[name]) for name in file.files}


def loaded(shared: Path) -> STGCN:
    encoder = STGCN(STGCNConfig(), NTU25, 50, 2)
    encoder.load_state_dict(convert_released(released(shared)), strict=True)
    return encoder.eval()


def test_published_parameter_count_and_cost() -> None:
    encoder = STGCN(STGCNConfig(), NTU25, 50, 2)
    assert parameter_count(encoder) == 821_380
    # 1.225 GFLOP published; the adjacency on the input side saves 3 % of it.
    assert 1.15e9 < encoder.flops() < 1.225e9


def test_partition_of_the_ntu_graph() -> None:
    adjacency = spatial_adjacency(NTU25)
    assert [(part > 0).sum().item() for part in adjacency] == [25, 40, 8]
    assert [round(part.sum().item(), 2) for part in adjacency] == [8.95, 13.30, 2.75]
    assert torch.allclose(adjacency.sum(dim=(0, 1)), torch.ones(25))
    outward = {(v, w) for v, w in adjacency[2].nonzero().tolist()}
    assert outward == {(1, 0), (2, 3), (4, 5), (8, 9), (20, 1), (20, 2), (20, 4), (20, 8)}


def test_parity_with_released_weights(shared: Path) -> None:
    encoder = loaded(shared)
    with np.load(shared / "fixtures/actclr_parity.npz") as parity, torch.no_grad():
        assert np.array_equal(encoder.adjacency.numpy(), parity["A"])
        maps = encoder(torch.tensor(parity["input"]))
        features = encoder.pool(maps)
        state = released(shared)
        logits = features @ state["encoder_q.fc.weight"].flatten(1).T + state["encoder_q.fc.bias"]
        assert np.abs(maps.flatten(0, 1).numpy() - parity["dense"]).max() < 1e-4
        assert np.abs(features.numpy() - parity["features"]).max() < 1e-5
        assert np.abs(logits.numpy() - parity["logits"]).max() < 1e-4
        assert logits.argmax(1).tolist() == [47, 45, 47, 34]


def test_golden_features_and_energy_drop_of_released_weights(shared: Path) -> None:
    index = torch.arange(2 * 3 * 50 * 25 * 2, dtype=torch.float64).view(2, 3, 50, 25, 2)
    clips = (0.5 * torch.sin(0.37 * index) + 0.1 * torch.cos(0.011 * index)).float()
    clips[1, :, :, :, 1] = 0
    encoder = loaded(shared)
    with torch.no_grad():
        maps = encoder(clips)
        features = encoder.pool(maps)
        dropped = encoder.pool(energy_drop(maps, 0.7, "elements"))
    assert features.norm(dim=1).tolist() == pytest.approx([11.077393, 5.560288], abs=1e-4)
    assert features.sum(dim=1).tolist() == pytest.approx([70.425621, 36.138294], abs=1e-3)
    assert dropped.norm(dim=1).tolist() == pytest.approx([4.622907, 2.401105], abs=1e-4)


@pytest.mark.parametrize("layout", [NTU25, KINECT20], ids=lambda layout: layout.name)
@pytest.mark.parametrize("training", [True, False])
def test_equals_the_plain_layout(layout: Layout, training: bool) -> None:
    encoder = STGCN(STGCNConfig(width=4, dim=12, dropout=0.0, init="torch"), layout, 20, 2).double().train(training)
    clips = from_storage(torch.randn(3, 2, 20, len(layout), 3, dtype=torch.float64))
    weights = torch.randn(3, 2, 12, 5, len(layout), dtype=torch.float64)
    outcomes = []
    for forward in (encoder, lambda x: plain_forward(encoder, x.contiguous())):
        encoder.zero_grad()
        maps = forward(clips)
        (maps * weights).sum().backward()
        outcomes.append((maps.detach(), encoder.blocks[4].graph.importance.grad.clone()))
    torch.testing.assert_close(outcomes[0][0], outcomes[1][0])
    torch.testing.assert_close(outcomes[0][1], outcomes[1][1])


def test_batch_does_not_matter_in_eval_mode() -> None:
    encoder = STGCN(STGCNConfig(width=4, dim=8), NTU25, 24, 2).eval()
    clips = from_storage(torch.randn(7, 2, 24, 25, 3))
    with torch.no_grad():
        whole = encoder(clips)
        parts = torch.cat([encoder(clips[:2]), encoder(clips[2:])])
    torch.testing.assert_close(whole, parts)


def test_absent_persons_are_skipped() -> None:
    stored = torch.randn(4, 2, 20, 25, 3)
    stored[1, 1] = 0
    stored[3, 1] = 0
    both = STGCN(STGCNConfig(width=4, dim=8, absent="skip"), NTU25, 20, 2).eval()
    with torch.no_grad():
        maps = both(from_storage(stored))
        alone = STGCN(STGCNConfig(width=4, dim=8), NTU25, 20, 1).eval()
        alone.load_state_dict(both.state_dict())
        single = alone(from_storage(stored[:, :1]))
    assert maps[1, 1].abs().sum() == 0
    torch.testing.assert_close(maps[:, :1], single)
    torch.testing.assert_close(both.pool(maps)[1], alone.pool(single)[1])
    torch.testing.assert_close(both.pool(maps)[0], maps[0].mean(dim=(0, 2, 3)))


def test_adjacency_of_every_layer_can_be_replaced() -> None:
    encoder = STGCN(STGCNConfig(width=4, dim=8), NTU25, 20, 1).eval()
    clips = from_storage(torch.randn(2, 1, 20, 25, 3))
    same = encoder.adjacency.expand(encoder.depth, -1, -1, -1)
    with torch.no_grad():
        torch.testing.assert_close(encoder(clips), encoder(clips, same))
        changed = same.clone()
        changed[9] = 0
        assert not torch.allclose(encoder(clips), encoder(clips, changed))


def test_wrong_layout_is_named() -> None:
    encoder = STGCN(STGCNConfig(width=4, dim=8), KINECT20, 20, 1)
    with pytest.raises(BenchError, match=r"kinect20.*20 joints x 3.*25 x 3"):
        encoder(from_storage(torch.randn(2, 1, 20, 25, 3)))


def test_bf16_stays_close_and_returns_float32() -> None:
    encoder = STGCN(STGCNConfig(width=8, dim=16, init="torch"), NTU25, 20, 1).eval()
    clips = from_storage(torch.randn(2, 1, 20, 25, 3))
    with torch.no_grad():
        exact = encoder(clips)
        encoder.precision = "bf16"
        fast = encoder(clips)
    assert fast.dtype == torch.float32
    assert (fast - exact).abs().max() < 0.1 * exact.abs().max()
