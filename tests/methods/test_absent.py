"""Encoders that skip absent persons (``absent=skip``): a second slot that is empty must change nothing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from datasets.clips import from_storage, present_persons
from datasets.layout import NTU25
from datasets.mixing import style_swap
from encoders.stgcn import STGCN, STGCNConfig
from engine.config import resolve
from methods.actionlet import ActionletConfig, difference_activation
from methods.base import Context, Step
from methods.blocks import Embedder
from methods.hiclr import HiCLR, HiCLRConfig

FRAMES = 16


def encoder(persons: int) -> STGCN:
    torch.manual_seed(0)
    config = STGCNConfig(width=2, dim=12, dropout=0.0, init="torch", absent="skip")
    return STGCN(config, NTU25, FRAMES, persons).eval()


def clips(count: int = 5) -> Tensor:
    """Two persons, the second one absent in all clips but the last."""
    drawn = from_storage(torch.randn(count, 2, FRAMES, 25, 3, generator=torch.Generator().manual_seed(1)))
    drawn[:-1, ..., 1] = 0
    return drawn


@pytest.mark.parametrize("mode", ["ramp", "relative"])
def test_actionlets_equal_autograd_through_the_encoders_own_pooling(mode: str) -> None:
    embedder = Embedder(encoder(2), 8).eval()
    maps = embedder.encoder(clips()).detach().requires_grad_()
    anchor = torch.randn(1, 8, generator=torch.Generator().manual_seed(2))
    similarity = F.cosine_similarity(embedder.projector(embedder.encoder.pool(maps)), anchor, dim=1)
    # The released code averages over channels and clips what is above 1e-8; n_ref is the batch that its loss averages over.
    (gradient,) = torch.autograd.grad((1 - similarity).sum() / 1e6, maps)
    channels = gradient.mean(dim=(3, 4), keepdim=True)
    expected = (channels * maps).mean(dim=2).relu() / 1e-8
    if mode == "relative":
        expected = expected / expected.amax(dim=(1, 2, 3), keepdim=True)
    config = ActionletConfig(n_ref=1_000_000, smooth="none", mode=mode)  # type: ignore[arg-type]
    mask = difference_activation(maps.detach(), embedder, anchor, NTU25, config)
    torch.testing.assert_close(mask, expected.clamp(max=1).detach(), atol=1e-5, rtol=1e-4)
    assert ((mask > 0) & (mask < 1)).float().mean() > 0.1
    assert (mask[:-1, 1] == 0).all()


@pytest.mark.parametrize("sets", [("MASK",), ("ADAIN",), ("ADAIN", "MASK"), ("DAE", "MASK")])
def test_strong_branches_of_hiclr_do_not_see_an_empty_slot(sets: tuple[str, ...]) -> None:
    embedded = []
    for persons in (1, 2):

        def make_encoder(persons: int = persons) -> STGCN:
            return encoder(persons)

        config = resolve(HiCLRConfig, {"moco.queue": 8, "moco.dim": 8})
        method = HiCLR(config, Context(make_encoder, NTU25, "joint", FRAMES, persons, 10, None)).eval()
        method.fill.data.fill_(0.7)
        step = Step(epoch=1, epochs=2, index=0, steps=2, generator=torch.Generator().manual_seed(3))
        embedded.append(method.branch(clips()[:-1, ..., :persons], sets, step))
    torch.testing.assert_close(embedded[0], embedded[1])


@pytest.mark.parametrize(
    ("stream", "form"), [("joint", "length"), ("bone", "length"), ("joint", "moments"), ("motion", "length")]
)
def test_style_swap_does_not_bring_absent_persons_to_life_or_take_others_away(stream: str, form: str) -> None:
    for shift in (1, 2):
        swapped = style_swap(clips(), shift, NTU25, stream, form, skip_absent=True)  # type: ignore[arg-type]
        assert torch.equal(present_persons(swapped), present_persons(clips()))
        assert not torch.equal(swapped[..., 0], clips()[..., 0])


def test_adain_does_not_bring_absent_persons_to_life() -> None:
    def make_encoder() -> STGCN:
        return encoder(2)

    config = resolve(HiCLRConfig, {"moco.queue": 8, "moco.dim": 8})
    method = HiCLR(config, Context(make_encoder, NTU25, "joint", FRAMES, 2, 10, None))
    step = Step(epoch=1, epochs=2, index=0, steps=2, generator=torch.Generator().manual_seed(3))
    assert torch.equal(present_persons(method.restyled(clips(), step)), present_persons(clips()))
