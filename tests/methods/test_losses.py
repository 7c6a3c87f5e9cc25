"""Golden losses of the specifications, and gradients that must vanish."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from methods.aimclr import AimCLRConfig, MiningConfig, aimclr_losses
from methods.blocks import energy_drop, info_nce, logits, mined_nce, nearest_neighbours
from methods.hiclr import HiCLRConfig, HierarchyConfig, hiclr_losses
from methods.skeletonclr import MomentumMethodConfig


def aimclr_embeddings() -> tuple[list[Tensor], Tensor, Tensor]:
    def f(rows: int, a: float, b: float) -> Tensor:
        index = torch.arange(rows * 8, dtype=torch.float64).view(rows, 8)
        return normalize(torch.sin(a * index + b), dim=1)

    key = f(4, 0.7, 0.0)
    queries = [
        normalize(key + w * f(4, a, b), dim=1) for w, a, b in ((0.5, 1.3, 0.4), (0.8, 1.1, 1.0), (0.9, 0.9, 2.0))
    ]
    return queries, key, f(16, 0.37, 0.2)


@pytest.mark.parametrize(
    ("epoch", "form", "nce", "total"),
    [
        (150, "mean_log", 0.539496868, 1.999222497),
        (151, "mean_log", 3.106498469, 4.566224098),
        (151, "log_sum", 0.060498706, 0.060498706 + (1.389856400 + 1.529594856) / 2),
    ],
)
def test_aimclr_golden(epoch: int, form: str, nce: float, total: float) -> None:
    queries, key, queue = aimclr_embeddings()
    scores = [logits(z, key, queue, 0.07) for z in queries]
    config = AimCLRConfig(nnm=MiningConfig.model_validate({"form": form}))
    losses = aimclr_losses(scores[0], scores[1:], config, epoch)
    assert losses["nce"].item() == pytest.approx(nce, abs=1e-8)
    assert sum(losses.values()).item() == pytest.approx(total, abs=1e-8)
    assert nearest_neighbours(*scores, topk=1).sum(dim=1).tolist() == [3, 3, 3, 3]


def hiclr_embeddings() -> tuple[list[Tensor], list[Tensor], Tensor, Tensor]:
    def f(s: float) -> Tensor:
        index = torch.arange(32, dtype=torch.float64).view(4, 8)
        return torch.sin(1.9 * index + 3 * s) + 0.6 * torch.cos(0.37 * index * (1 + s))

    raw = [f(s).requires_grad_() for s in (0.0, 0.2, 0.5)]
    column, row = torch.meshgrid(torch.arange(8), torch.arange(16), indexing="ij")
    j = (16 * column + row).double()
    queue = normalize(torch.sin(0.013 * j**2 + 0.5 * j), dim=0)
    return raw, [normalize(z, dim=1) for z in raw], normalize(f(0.1), dim=1), queue.T


def test_hiclr_golden_losses_and_gradients() -> None:
    raw, embeddings, key, queue = hiclr_embeddings()
    scores = [logits(z, key, queue, 0.07) for z in embeddings]
    config = HiCLRConfig(hierarchy=HierarchyConfig(form="ce"))
    losses = hiclr_losses(scores, embeddings, config, 150)
    assert losses["nce"].item() == pytest.approx(0.0297337622, abs=1e-9)
    assert losses["hierarchy1"].item() == pytest.approx(0.5 * 0.2126569639, abs=1e-9)
    assert losses["hierarchy2"].item() == pytest.approx(0.5 * 5.5737273672, abs=1e-9)
    total = torch.stack(list(losses.values())).sum()
    assert total.item() == pytest.approx(2.9229259278, abs=1e-9)
    kl = hiclr_losses(scores, embeddings, HiCLRConfig(), 150)
    assert kl["hierarchy1"].item() == pytest.approx(0.5 * 0.0724801967, abs=1e-9)
    assert kl["hierarchy2"].item() == pytest.approx(0.5 * 5.3945287680, abs=1e-9)
    gradients = torch.autograd.grad(total, raw, retain_graph=True)
    assert [g.norm().item() for g in gradients] == pytest.approx([0.0716183730, 0.0606567180, 1.6146635029], abs=1e-9)
    from_kl = torch.autograd.grad(torch.stack(list(kl.values())).sum(), raw)
    for ce, other in zip(gradients, from_kl, strict=True):
        torch.testing.assert_close(ce, other)


def test_hiclr_golden_mining() -> None:
    _, embeddings, key, queue = hiclr_embeddings()
    scores = [logits(z, key, queue, 0.07) for z in embeddings]
    assert [s[:, 1:].argmax(1).tolist() for s in scores] == [[10, 1, 2, 5], [10, 11, 10, 5], [12, 15, 13, 11]]
    assert nearest_neighbours(*scores, topk=1).sum(dim=1).tolist() == [3, 4, 4, 3]
    losses = hiclr_losses(scores, embeddings, HiCLRConfig(), 151)
    assert losses["nce"].item() == pytest.approx(6.1007544700, abs=1e-9)


def test_students_do_not_move_their_teachers() -> None:
    raw, embeddings, key, queue = hiclr_embeddings()
    scores = [logits(z, key, queue, 0.07) for z in embeddings]
    losses = hiclr_losses(scores, embeddings, HiCLRConfig(), 1)
    grads = torch.autograd.grad(losses["hierarchy2"], raw, allow_unused=True, retain_graph=True)
    assert grads[0] is None
    assert grads[1] is None or grads[1].abs().max() == 0
    assert grads[2] is not None
    assert torch.autograd.grad(losses["hierarchy1"], raw[0], allow_unused=True)[0] is None


@pytest.mark.parametrize("form", ["l1", "cos"])
@pytest.mark.parametrize("stop", ["teacher", "none", "student"])
def test_distances_of_embeddings_stand_in_for_distributions(form: str, stop: str) -> None:
    raw, embeddings, key, queue = hiclr_embeddings()
    scores = [logits(z, key, queue, 0.07) for z in embeddings]
    hierarchy = HierarchyConfig.model_validate({"form": form, "weights": (1.0, 2.0), "stop_gradient": stop})
    losses = hiclr_losses(scores, embeddings, HiCLRConfig(hierarchy=hierarchy), 1)
    a, b, c = (z.detach().numpy() for z in embeddings)
    pairs = ((b, a), (c, b))
    expected = [5 * abs(x - y).mean() if form == "l1" else -7 * (x * y).sum() / len(x) for x, y in pairs]
    assert losses["hierarchy1"].item() == pytest.approx(expected[0])
    assert losses["hierarchy2"].item() == pytest.approx(2 * expected[1])
    grads = torch.autograd.grad(losses["hierarchy1"], raw[:2], allow_unused=True)
    assert [g is None for g in grads] == [stop == "teacher", stop == "student"]


def test_energy_drop_golden() -> None:
    index = torch.arange(4 * 8 * 13 * 25, dtype=torch.float64).view(4, 8, 13, 25)
    gain = torch.where(torch.arange(25) % 5 == 0, 3.0, 1.0)
    maps = ((torch.sin(0.13 * index) + 0.3 * torch.sin(2.9e-5 * index**2)).clamp(min=0) * gain).float()
    assert maps.double().sum().item() == pytest.approx(4791.902509, rel=1e-6)
    dropped = energy_drop(maps[:, None], 0.7, "elements")
    assert dropped.double().sum().item() == pytest.approx(3627.230112, rel=1e-6)
    silent = (dropped == 0).all(dim=(1, 2, 3)).nonzero()[:, 1].view(4, -1)
    assert silent.tolist() == [[0, 5, 10, 15, 20]] * 4


def test_energy_drop_by_frames_drops_whole_frames() -> None:
    maps = torch.rand(2, 1, 6, 8, 5)
    maps[:, :, :, 3] *= 9
    dropped = energy_drop(maps, 0.7, "frames")
    assert (dropped[:, :, :, 3] == 0).all()
    assert (dropped[:, :, :, 0] > 0).any()


def test_losses_against_loops() -> None:
    torch.manual_seed(1)
    scores = torch.randn(5, 9, dtype=torch.float64)
    positives = nearest_neighbours(scores, topk=2)
    log_sum, mean_log, nce = 0.0, 0.0, 0.0
    for row, chosen in zip(scores.tolist(), positives.tolist(), strict=True):
        exponentials = torch.tensor(row).double().exp()
        p = (exponentials / exponentials.sum()).tolist()
        kept = [p[j] for j in range(9) if chosen[j]]
        log_sum -= torch.tensor(sum(kept)).double().log().item() / 5
        mean_log -= sum(torch.tensor(q).double().log().item() for q in kept) / len(kept) / 5
        nce -= torch.tensor(p[0]).double().log().item() / 5
    assert mined_nce(scores, positives, "log_sum").item() == pytest.approx(log_sum)
    assert mined_nce(scores, positives, "mean_log").item() == pytest.approx(mean_log)
    assert info_nce(scores).item() == pytest.approx(nce)


def test_published_defaults() -> None:
    config = MomentumMethodConfig()
    assert (config.moco.dim, config.moco.queue, config.moco.momentum, config.moco.temperature) == (
        128,
        32768,
        0.999,
        0.07,
    )
    assert (config.train.epochs, config.train.batch, config.train.lr, config.train.milestones) == (
        300,
        128,
        0.1,
        (250,),
    )
