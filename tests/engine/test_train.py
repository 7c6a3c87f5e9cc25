"""The training loop: schedule, resume, divergence, recalibration."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from datasets.clips import ClipSet, from_storage
from datasets.layout import KINECT20
from datasets.streams import to_stream
from encoders.base import Encoder
from encoders.stgcn import STGCN, STGCNConfig
from engine import train
from engine.config import BenchError, TrainConfig, resolve
from engine.train import (
    DivergenceError,
    Training,
    batches,
    fit,
    learning_rate,
    optimiser,
    pretrain,
    recalibrate,
    seed_of,
)
from methods.aimclr import AimCLR
from methods.base import Context, Method, MethodConfig, Step

TINY = {"train.epochs": 4, "train.batch": 8, "train.lr": 0.01, "moco.queue": 16, "moco.dim": 8}


def clip_set(count: int = 20, persons: int = 2) -> ClipSet:
    generator = torch.Generator().manual_seed(1)
    stored = torch.randn(count, persons, 16, 20, 3, generator=generator)
    return ClipSet(
        from_storage(stored),
        torch.arange(count) % 3,
        torch.ones(count, persons, dtype=torch.bool),
        tuple(map(str, range(count))),
        {},
        torch.full((count,), 16),
    )


def build(**overrides: object) -> AimCLR:
    torch.manual_seed(0)
    context = Context(lambda: STGCN(STGCNConfig(width=2, dim=8), KINECT20, 16, 2), KINECT20, "bone", 16, 2, 20)
    return AimCLR(resolve(AimCLR.Config, {**TINY, "nnm.start_epoch": 2, **overrides}), context)


def test_step_schedule_decays_after_the_milestone() -> None:
    config = TrainConfig(milestones=(250, 280))
    rates = [learning_rate(config, epoch, 0, 1) for epoch in (1, 250, 251, 280, 281)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001])


def test_cosine_schedule_with_warm_up() -> None:
    config = TrainConfig(schedule="cosine", warmup_steps=10, lr=1.0)
    rates = [learning_rate(config, 1, step, 110) for step in range(110)]
    assert rates[:10] == pytest.approx([0.1 * i for i in range(1, 11)])
    assert rates[60] == pytest.approx(0.5)
    assert rates[-1] < 0.001
    assert all(a >= b for a, b in pairwise(rates[10:]))


def test_schedule_of_the_masked_transformers() -> None:
    """igm.md 4: from 0 to 1e-3 over 20 of 400 epochs, then along a cosine to 5e-4."""
    config = TrainConfig(schedule="cosine", lr=1e-3, lr_end=5e-4, warmup_share=0.05)
    rates = [learning_rate(config, 1, step, 4000) for step in range(4000)]
    assert rates[:200] == pytest.approx([1e-3 * i / 200 for i in range(1, 201)])
    assert rates[200] == pytest.approx(1e-3)
    assert rates[2100] == pytest.approx(7.5e-4)
    assert rates[-1] == pytest.approx(5e-4, rel=1e-5)


def test_vectors_may_be_spared_the_weight_decay() -> None:
    """Without gradients AdamW shrinks a decayed weight by lr * decay in every step, and leaves the others."""

    class Still(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.matrix, self.vector = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))

        def losses(self, index: Tensor, step: Step) -> dict[str, Tensor]:
            return {"none": 0 * (self.matrix.sum() + self.vector.sum())}

    for spared, left in ((True, 1.0), (False, 0.95)):
        network = Still()
        config = TrainConfig(
            epochs=1, batch=4, optimiser="adamw", lr=0.1, weight_decay=0.5, decay_vectors=not spared, beta2=0.95
        )
        fit(Training(network, config, 4, network.losses, torch.device("cpu")), seed=0)
        torch.testing.assert_close(network.matrix.data, torch.full((2, 2), 0.95))
        torch.testing.assert_close(network.vector.data, torch.full((2,), left))


def test_the_second_beta_is_adamws() -> None:
    optim, _ = optimiser(Sum(), TrainConfig(optimiser="adamw", beta2=0.95), lambda name: 1.0)
    assert [group["betas"] for group in optim.param_groups] == [(0.9, 0.95)]


def test_warm_up_by_epochs() -> None:
    """hiclr.md 4.3: 0.02, 0.04, 0.06, 0.08, full rate from epoch 5, a tenth from epochs 30 and 55."""
    config = TrainConfig(lr=0.1, milestones=(29, 54))
    rates = {epoch: learning_rate(config, epoch, 10 * epoch, 700, 5) for epoch in (1, 2, 3, 4, 5, 29, 30, 54, 55)}
    expected = {1: 0.02, 2: 0.04, 3: 0.06, 4: 0.08, 5: 0.1, 29: 0.1, 30: 0.01, 54: 0.01, 55: 0.001}
    assert rates == pytest.approx(expected)
    assert [learning_rate(config, epoch, 0, 1, 0) for epoch in (1, 30)] == pytest.approx([0.1, 0.01])


class Sum(nn.Module):
    """Two parameters whose gradient is 1."""

    def __init__(self) -> None:
        super().__init__()
        self.low, self.high = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(2))

    def losses(self, index: Tensor, step: Step) -> dict[str, Tensor]:
        return {"sum": self.low.sum() + self.high.sum()}


def test_every_parameter_moves_by_its_own_rate() -> None:
    network = Sum()
    config = TrainConfig(epochs=3, batch=4, lr=0.5, momentum=0, weight_decay=0)
    training = Training(
        network,
        config,
        8,
        network.losses,
        torch.device("cpu"),
        rate={"low": 0.25, "high": 1.0}.__getitem__,
        warmup_epochs=2,
    )
    curve = fit(training, seed=0)
    assert [row["lr"] for row in curve] == [0.25, 0.5, 0.5]
    travelled = 2 * (0.25 + 0.5 + 0.5)  # two steps an epoch
    assert torch.equal(network.high.data, torch.full((2,), -travelled))
    assert torch.equal(network.low.data, torch.full((3,), -0.25 * travelled))


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_without_rates_it_is_the_plain_optimiser(name: str) -> None:
    """One group of all parameters, in their order: not a bit differs from torch's own loop."""

    def start() -> nn.Sequential:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))

    x, y = torch.randn(12, 5), torch.arange(12) % 3
    config = TrainConfig(epochs=3, batch=4, optimiser=name, lr=0.05)
    network = start()
    training = Training(
        network,
        config,
        12,
        lambda index, step: {"cross_entropy": nn.functional.cross_entropy(network(x[index]), y[index])},
        torch.device("cpu"),
    )
    fit(training, seed=5)
    twin = start()
    optim = (
        torch.optim.SGD(twin.parameters(), 0.05, 0.9, weight_decay=1e-4)
        if name == "sgd"
        else torch.optim.AdamW(twin.parameters(), 0.05, weight_decay=1e-4)
    )
    for epoch in (1, 2, 3):
        generator = torch.Generator().manual_seed(seed_of(5, "views", epoch))
        for index in torch.randperm(12, generator=generator).split(4):
            optim.zero_grad()
            nn.functional.cross_entropy(twin(x[index]), y[index]).backward()
            optim.step()
    for ours, theirs in zip(network.parameters(), twin.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_batches_are_a_permutation() -> None:
    generator = torch.Generator().manual_seed(0)
    kept = torch.cat(list(batches(21, TrainConfig(batch=8, drop_last=False), generator)))
    assert sorted(kept.tolist()) == list(range(21))
    assert [len(b) for b in batches(21, TrainConfig(batch=8), generator)] == [8, 8]
    assert [len(b) for b in batches(5, TrainConfig(batch=8), generator)] == [5]


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_resumed_run_equals_an_uninterrupted_one(tmp_path: Path, precision: str) -> None:
    straight = build(**{"train.precision": precision})
    curve = pretrain(straight, clip_set(), seed=3)

    def stop_in_epoch_three(progress: object) -> None:
        if getattr(progress, "epoch", 0) == 3:
            raise StoppedError

    checkpoint = tmp_path / "checkpoint.pt"
    with pytest.raises(StoppedError):
        pretrain(
            build(**{"train.precision": precision}),
            clip_set(),
            seed=3,
            checkpoint=checkpoint,
            report=stop_in_epoch_three,
        )
    resumed = build(**{"train.precision": precision})
    torch.manual_seed(99)  # the state of the global generator must not matter
    assert pretrain(resumed, clip_set(), seed=3, checkpoint=checkpoint) == curve
    for name, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert [row["epoch"] for row in curve] == [1, 2, 3, 4]
    assert set(curve[0]) == {"epoch", "loss", "nce", "d3m", "lr"}


def test_seed_matters() -> None:
    losses = [pretrain(build(), clip_set(), seed=seed)[-1]["loss"] for seed in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]


def test_a_checkpoint_of_another_network_is_refused_with_advice(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint.pt"
    pretrain(build(), clip_set(), seed=0, checkpoint=checkpoint)
    with pytest.raises(BenchError, match=r"checkpoint\.pt is of another network(?s:.*)delete it"):
        pretrain(build(**{"moco.dim": 4}), clip_set(), seed=0, checkpoint=checkpoint)


class Exploding(Method):
    def __init__(self, config: MethodConfig, context: Context) -> None:
        super().__init__(config, context)
        self._encoder = context.make_encoder()

    @property
    def encoder(self) -> Encoder:
        return self._encoder

    def views(self, clips: Tensor, step: Step) -> tuple[Tensor, ...]:
        return (clips,)

    def forward(self, views: tuple[Tensor, ...], step: Step) -> dict[str, Tensor]:
        loss = self.encoder(views[0]).mean()
        return {"fine": loss, "bad": loss / (0.0 if step.epoch == 2 else 1.0)}


def test_divergence_names_epoch_step_terms_and_checkpoint(tmp_path: Path) -> None:
    method = Exploding(MethodConfig(train=TrainConfig(epochs=3, batch=8)), build().context)
    last = r"Last good checkpoint: .*/key/checkpoint\.pt, after epoch 1\."
    with pytest.raises(DivergenceError, match=rf"epoch 2, step 1 of 2: .*fine = .*bad = (inf|nan)\. {last}"):
        pretrain(method, clip_set(), seed=0, checkpoint=tmp_path / "key" / "checkpoint.pt")
    with pytest.raises(DivergenceError, match=r"There is no checkpoint from before\."):
        pretrain(method, clip_set(), seed=0)


class Slope(nn.Module):
    """A loss that is not finite in one step only, and a rate that ruins the weight in the last one."""

    def __init__(self, bad: int, huge: bool = False) -> None:
        super().__init__()
        self.weight, self.bad, self.huge = nn.Parameter(torch.ones(1)), bad, huge

    def losses(self, index: Tensor, step: Step) -> dict[str, Tensor]:
        scale = float("nan") if step.index == self.bad else 1e30 if self.huge and step.index == 59 else 1.0
        return {"slope": (self.weight * scale).sum()}


@pytest.mark.parametrize("bad", [0, 7, 19, 20, 41, 59])
def test_a_gpu_is_looked_at_now_and_then_and_the_step_is_named(bad: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(train._LOOK_EVERY, "cpu", 20)
    seen: list[int] = []
    network = Slope(bad)
    config = TrainConfig(epochs=1, batch=2, lr=1e-3)
    training = Training(network, config, 120, network.losses, torch.device("cpu"))
    with pytest.raises(DivergenceError, match=rf"epoch 1, step {bad + 1} of 60: loss = nan, slope = nan"):
        fit(training, seed=0, report=lambda at: seen.append(at.step))
    assert seen == [step for step in (20, 40, 60) if step <= bad]


def test_weights_that_overflow_in_the_last_step_are_noticed() -> None:
    network = Slope(-1, huge=True)
    training = Training(network, TrainConfig(epochs=1, batch=2, lr=1e30), 120, network.losses, torch.device("cpu"))
    with pytest.raises(DivergenceError, match=r"not finite"):
        fit(training, seed=0)


def test_recalibration_gives_clean_batch_statistics() -> None:
    method = build()
    clips = clip_set(16, 2)
    encoder = method.encoder
    recalibrate(encoder, clips.clips, 16, lambda view: to_stream(view, "bone", KINECT20))
    assert isinstance(encoder, STGCN)
    bones = clips.clips - clips.clips[:, :, :, list(KINECT20.bones)]
    rows = bones.permute(0, 4, 2, 3, 1).reshape(-1, 60)
    torch.testing.assert_close(encoder.data_norm.running_mean, rows.mean(0), atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(encoder.data_norm.running_var, rows.var(0), atol=1e-5, rtol=1e-4)
    assert encoder.data_norm.momentum == 0.1
    assert encoder.training


def test_momentum_copy_follows_and_queue_wraps() -> None:
    method = build(**{"moco.momentum": 0.9})
    before = [p.clone() for p in method.target.parameters()]
    with torch.no_grad():
        for p in method.online.parameters():
            p += 1.0
    method.target.update(method.online)
    for old, new, online in zip(before, method.target.parameters(), method.online.parameters(), strict=True):
        torch.testing.assert_close(new, 0.9 * old + 0.1 * online)
    rows = torch.eye(8)[torch.arange(10) % 8]
    method.queue.push(rows)
    method.queue.push(rows)
    assert int(method.queue.pointer) == 4
    assert torch.equal(method.queue.keys[:4], rows[6:])
    assert torch.equal(method.queue.keys[10:16], rows[:6])


def test_keys_are_enqueued_after_the_step_that_made_them() -> None:
    method = build(**{"train.epochs": 1})
    old = method.queue.keys.clone()
    pretrain(method, clip_set(), seed=0)
    assert not torch.equal(method.queue.keys, old)
    assert int(method.queue.pointer) == 0  # two steps of 8 keys in a queue of 16
    torch.testing.assert_close(method.queue.keys[8:], method.keys)
