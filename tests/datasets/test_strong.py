"""HiCLR's strong augmentations."""

from __future__ import annotations

import pytest
import torch
from torch import Generator

from datasets.layout import KINECT20, NTU25
from datasets.strong import adain, apply_mask, cyclic_partner, draw_mask, drop_edges
from encoders.graph import spatial_adjacency


def test_adain_golden() -> None:
    x = torch.sin(0.37 * torch.arange(3 * 3 * 4 * 5 * 2, dtype=torch.float64)).view(3, 3, 4, 5, 2)
    x = x * torch.tensor([0.5, 1.25, 2.0]).double().view(3, 1, 1, 1, 1)
    partner = torch.tensor([1, 2, 0])
    styled = adain(x, partner)
    assert styled[0, 0, 0, 0, 0].item() == pytest.approx(0.0354187648, abs=1e-9)
    assert styled[2, 1, 3, 4, 1].item() == pytest.approx(-0.4338184372, abs=1e-9)
    assert styled.sum().item() == pytest.approx(2.3228670092, abs=1e-8)
    by_joint = adain(x, partner, "V")
    assert by_joint[0, 0, 0, 0, 0].item() == pytest.approx(-0.1231586426, abs=1e-9)
    assert by_joint[2, 1, 3, 4, 1].item() == pytest.approx(-0.2464736040, abs=1e-9)


def test_adain_leaves_absent_persons_alone_when_asked() -> None:
    x = torch.randn(4, 3, 10, 25, 2)
    x[1, ..., 1] = 0
    kept = adain(x, torch.tensor([1, 2, 3, 0]), skip_absent=True)
    assert torch.equal(kept[1, ..., 1], x[1, ..., 1])
    assert torch.equal(kept[0, ..., 1], x[0, ..., 1])
    assert not torch.equal(kept[2], x[2])


@pytest.mark.parametrize(("ratio", "joints"), [(0.1, 2), (0.2, 5)])
def test_mask_hides_whole_joints_in_every_frame(ratio: float, joints: int) -> None:
    hidden = draw_mask(6, 50, NTU25, ratio, "frame_joint", "batch", Generator().manual_seed(0))
    assert hidden.shape == (6, 50, 25)
    assert (hidden.sum(dim=2) == joints).all()
    assert (hidden == hidden[:1]).all()
    own = draw_mask(6, 50, NTU25, ratio, "frame_joint", "sample", Generator().manual_seed(0))
    assert not (own == own[:1]).all()


def test_kinds_of_masks() -> None:
    generator = Generator().manual_seed(0)
    joint = draw_mask(3, 20, KINECT20, 0.1, "joint", "sample", generator)
    assert (joint == joint[:, :1]).all()
    assert (joint[:, 0].sum(1) == 2).all()
    frame = draw_mask(3, 20, KINECT20, 0.25, "frame", "sample", generator)
    assert (frame == frame[:, :, :1]).all()
    assert (frame[:, :, 0].sum(1) == 5).all()
    part = draw_mask(8, 20, KINECT20, 0.2, "part", "sample", generator)[:, 0]
    chosen = {tuple(row.nonzero()[:, 0].tolist()) for row in part}
    assert chosen <= set(KINECT20.parts)
    assert len(chosen) > 1


def test_masked_positions_take_the_learned_value_and_its_gradient() -> None:
    clips = torch.randn(2, 3, 20, 20, 1)
    hidden = draw_mask(2, 20, KINECT20, 0.1, "frame_joint", "sample", Generator().manual_seed(0))
    fill = torch.full((1,), 7.0, requires_grad=True)
    masked = apply_mask(clips, hidden, fill)
    assert (masked.permute(0, 2, 3, 1, 4)[hidden] == 7).all()
    assert torch.equal(masked.permute(0, 2, 3, 1, 4)[~hidden], clips.permute(0, 2, 3, 1, 4)[~hidden])
    masked.sum().backward()
    assert fill.grad is not None
    assert fill.grad.item() == hidden.sum() * 3


def test_edges() -> None:
    base = spatial_adjacency(NTU25)
    assert torch.equal(drop_edges(base, 10, 0.0, 0.0, Generator()), base.expand(10, -1, -1, -1))
    dropped = torch.cat([drop_edges(base, 10, 0.4, 0.0, Generator().manual_seed(s)) for s in range(20)])
    assert dropped.shape == (200, 3, 25, 25)
    assert (dropped[:, base == 0] == 0).all()
    kept = (dropped[:, base > 0] > 0).float().mean(1)
    assert kept.mean().item() == pytest.approx(0.8, abs=0.02)
    assert kept.std() > 0.05  # the rate itself is drawn, layer by layer
    assert dropped.sum(dim=(1, 2, 3)).mean().item() == pytest.approx(25, rel=0.02)  # inverted dropout keeps the mean


def test_added_edges_keep_the_mass() -> None:
    base = spatial_adjacency(NTU25)
    generator = Generator()
    dropped = drop_edges(base, 4, 0.1, 0.0, generator.manual_seed(1))
    both = drop_edges(base, 4, 0.1, 0.05, generator.manual_seed(1))
    torch.testing.assert_close(both.sum(dim=(1, 2, 3)), dropped.sum(dim=(1, 2, 3)))
    assert (both > 0).sum() > (dropped > 0).sum()


def test_partner_is_another_sample() -> None:
    shifts = set()
    for seed in range(60):
        partner = cyclic_partner(6, Generator().manual_seed(seed))
        assert sorted(partner.tolist()) == list(range(6))
        shifts.add(int(partner[0]))
    assert shifts == {1, 2, 3, 4}
