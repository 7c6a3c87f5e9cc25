"""ActCLR's parts against outputs of the released code (random projector, released encoder, batch of four)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from datasets.clips import from_storage
from datasets.layout import NTU25
from datasets.mixing import Mix, resize_time, skeleton_mix, style_swap
from encoders.stgcn import STGCN, STGCNConfig, convert_released
from methods.actionlet import ActionletConfig, DistillConfig, difference_activation, distill, mixture_weights
from methods.blocks import Embedder

RELEASED = DistillConfig(square_student=True, topk=8192, drop_above=0.95, form="kl")


@pytest.fixture(scope="module")
def reference(shared: Path) -> Mapping[str, Tensor]:
    with np.load(shared / "fixtures/actclr_extra.npz") as file:
        return {name: torch.tensor(file[name]) for name in file.files}


@pytest.fixture(scope="module")
def embedder(shared: Path, reference: Mapping[str, Tensor]) -> Embedder:
    encoder = STGCN(STGCNConfig(), NTU25, 50, 2)
    with np.load(shared / "fixtures/actclr_ntu60_xview_joint_official.npz") as file:
        encoder.load_state_dict(convert_released({name: torch.tensor(file[name]) for name in file.files}))
    built = Embedder(encoder, 128)
    state = {"0.weight": "proj_w1", "0.bias": "proj_b1", "2.weight": "proj_w2", "2.bias": "proj_b2"}
    built.projector.load_state_dict({name: reference[source] for name, source in state.items()})
    return built.eval()


@pytest.fixture(scope="module")
def queue() -> Tensor:
    return normalize(torch.tensor(np.random.default_rng(5).standard_normal((128, 16384)), dtype=torch.float32), dim=0).T


@torch.no_grad()
def test_anchor_mask_pooling_and_key(reference: Mapping[str, Tensor], embedder: Embedder) -> None:
    encoder, project = embedder.encoder, embedder.projector
    average = reference["im_k"].mean(dim=0, keepdim=True)
    anchor = project(encoder.pool(encoder(average)))
    torch.testing.assert_close(normalize(anchor, dim=1), normalize(reference["mean_feat"], dim=1), atol=1e-5, rtol=0)
    config = ActionletConfig(n_ref=4)
    maps = encoder(reference["im_k"])
    mask = difference_activation(maps, embedder, anchor, NTU25, config)
    torch.testing.assert_close(mask.flatten(0, 1)[:, None], reference["k_mask"], atol=1e-4, rtol=0)
    plain, pooled = project(encoder.pool(maps)), project(encoder.pool(maps, mask))
    torch.testing.assert_close(plain, reference["k_gap"], atol=1e-4, rtol=0)
    torch.testing.assert_close(pooled, reference["k_safp"], atol=1e-4, rtol=0)
    torch.testing.assert_close(normalize(plain / 2 + pooled / 2, dim=1), reference["k"], atol=1e-5, rtol=0)


@torch.no_grad()
def test_region_mix_and_distillation(reference: Mapping[str, Tensor], embedder: Embedder, queue: Tensor) -> None:
    blend = from_storage(resize_time(reference["p_mask"].view(4, 2, 13, 25), 50)[..., None])
    mixed = blend * reference["im_p"] + (1 - blend) * reference["im_q_extreme"]
    torch.testing.assert_close(mixed, reference["actionlet_swap"], atol=1e-5, rtol=0)
    query = embedder(mixed)
    torch.testing.assert_close(query, reference["q"], atol=1e-5, rtol=0)
    loss = distill(query @ queue.T, reference["k"] @ queue.T, RELEASED)
    assert loss.item() == pytest.approx(reference["loss_q"].item(), abs=1e-5)


def test_closed_form_mask_equals_autograd(embedder: Embedder) -> None:
    clips = from_storage(torch.randn(3, 2, 50, 25, 3) * 0.3)
    anchor = torch.randn(1, 128)
    maps = embedder.encoder(clips).detach().requires_grad_()
    unit = normalize(embedder.projector(maps.mean(dim=(1, 3, 4))), dim=1)
    similarity = (unit * normalize(anchor, dim=1)).sum(dim=1).mean()
    (gradient,) = torch.autograd.grad(1 - similarity, maps)
    channels = gradient.mean(dim=(3, 4), keepdim=True)
    expected = ((channels * maps).mean(dim=2).relu() / 1e-8).clamp(max=1)
    mask = difference_activation(maps.detach(), embedder, anchor, NTU25, ActionletConfig(n_ref=3, smooth="none"))
    torch.testing.assert_close(mask, expected.detach(), atol=2e-3, rtol=0)


@pytest.mark.parametrize("stream", ["joint", "motion", "bone"])
def test_style_swap(reference: Mapping[str, Tensor], stream: str) -> None:
    shift = int(reference["ske_trans_shift"])
    source = {"joint": "im_p", "motion": "im_p", "bone": "im_p"}[stream]
    swapped = style_swap(reference[source], shift, NTU25, stream)
    torch.testing.assert_close(swapped, reference[f"ske_trans_head_{stream}"], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["cut", "resize", "mixup"])
def test_skeleton_mix_and_its_target(
    reference: Mapping[str, Tensor], embedder: Embedder, queue: Tensor, kind: str
) -> None:
    name = {"cut": "swap_cutmix", "resize": "swap_resizemix", "mixup": "swap_mixup"}[kind]
    mix = Mix(
        kind,  # type: ignore[arg-type]
        int(reference[f"{name}_shift"]),
        tuple(reference[f"{name}_joints"].tolist()),
        int(reference[f"{name}_tstart"]),
        int(reference[f"{name}_ct"]),
        float(reference[f"{name}_lamb"]),
    )
    mixed = skeleton_mix(reference["im_p"], mix)
    torch.testing.assert_close(mixed, reference[f"{name}_out"], atol=1e-5, rtol=0)
    used, replaced = mix.masks(13, 25, mixed.device)
    own = reference.get(f"{name}_mask", reference.get(f"{name}_mask_c"))
    partner = reference.get(f"{name}_mask", reference.get(f"{name}_mask_p"))
    assert own is not None
    assert partner is not None
    torch.testing.assert_close(replaced, own)
    torch.testing.assert_close(used, partner)
    share = mixture_weights(reference["p_mask"].view(4, 2, 13, 25), mix.shift, used, replaced)
    torch.testing.assert_close(share, reference[f"{name}_p"], atol=1e-5, rtol=0)
    key = reference["k"]
    target = normalize((1 - share[:, None]) * key + share[:, None] * key.roll(-mix.shift, dims=0), dim=1)
    torch.testing.assert_close(target, reference[f"{name}_kc"], atol=1e-5, rtol=0)
    with torch.no_grad():
        loss = distill(embedder(mixed) @ queue.T, target @ queue.T, RELEASED)
    assert loss.item() == pytest.approx(reference[f"{name}_loss"].item(), abs=1e-5)


def test_distillation_against_a_loop() -> None:
    student, teacher = torch.randn(2, 6).tanh().double(), torch.randn(2, 6).tanh().double()
    expected = 0.0
    for s, t in zip(student, teacher, strict=True):
        p, q = torch.softmax(t / 0.04, 0), torch.softmax(s / 0.1, 0)
        expected -= sum(float(p[j]) * float(q[j].log()) for j in range(6)) / 2
    assert distill(student, teacher, DistillConfig()).item() == pytest.approx(expected)
