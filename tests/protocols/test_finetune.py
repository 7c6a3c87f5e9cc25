from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Generator, Tensor, nn

from datasets.clips import from_storage
from datasets.layout import NTU25, Layout
from encoders.base import Encoder
from engine.config import BenchError, Config, resolve
from protocols.base import EncoderContext, NetworkTraining
from protocols.finetune import Classifier, Finetune, FinetuneConfig

LAYOUT = Layout.from_parents("tiny4", ("hip", "neck", "left_hand", "right_hand"), (-1, 0, 1, 1))
CLASSES = 3


class Small(Encoder):
    """Positions through a linear layer, BatchNorm and dropout."""

    def __init__(self, frames: int = 8) -> None:
        super().__init__(Config(), LAYOUT, frames, 1)
        self.dim, self.temporal_stride = 6, 1
        self.layer, self.norm, self.dropout = nn.Linear(3, 6), nn.BatchNorm1d(6), nn.Dropout(0.3)

    def forward(self, clips: Tensor, adjacency: Tensor | None = None) -> Tensor:
        x = clips.permute(0, 4, 2, 3, 1)
        x = self.norm(self.layer(x).flatten(0, 3)).view(*x.shape[:4], -1).relu()
        return self.dropout(x).permute(0, 1, 4, 2, 3)


def clips(count: int, seed: int = 0, spread: float = 0.1) -> tuple[Tensor, Tensor]:
    """Clips (N, 3, 8, 4, 1) whose right hand is at one of three places."""
    generator = Generator().manual_seed(seed)
    labels = torch.arange(count) % CLASSES
    stored = spread * torch.randn(count, 1, 8, 4, 3, generator=generator)
    stored[:, 0, :, 3] += torch.eye(3)[labels][:, None] * 2
    return from_storage(stored), labels


def as_it_is(batch: Tensor) -> Tensor:
    """The joint stream."""
    return batch


def loop(asked: NetworkTraining, count: int, seed: int) -> Tensor:
    """A plain loop: what the engine's does, without schedule and checkpoints."""
    generator = Generator().manual_seed(seed)
    torch.manual_seed(seed)
    optimiser = torch.optim.AdamW(asked.network.parameters(), 0.02)
    asked.network.train()
    for _ in range(asked.config.epochs):
        for rows in torch.randperm(count, generator=generator).split(asked.config.batch):
            loss = torch.stack(list(asked.losses(rows, generator).values())).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return asked.scores()


@pytest.fixture
def context() -> Callable[..., EncoderContext]:
    def make(train: tuple[Tensor, Tensor], test: Tensor, seed: int = 0, stream: str = "joint") -> EncoderContext:
        torch.manual_seed(seed)
        return EncoderContext(
            encoder=Small(),
            clips=train[0],
            labels=train[1],
            test_clips=test,
            classes=CLASSES,
            layout=LAYOUT,
            stream=stream,
            seed=seed,
            train=lambda asked: loop(asked, len(train[1]), seed),
        )

    return make


def config(**changes: object) -> FinetuneConfig:
    return resolve(FinetuneConfig, {"train.epochs": 15, "train.batch": 16, **changes})


@pytest.mark.parametrize("changes", [{}, {"mode": "eval"}, {"augment": ["crop"]}])
def test_separable_clips_are_learned_perfectly(context, changes) -> None:
    test, truth = clips(60, 1)
    outcome = Finetune(config(**changes)).run(context(clips(90), test))
    assert (outcome.scores.argmax(1) == truth).all()


def test_shuffled_labels_give_chance(context) -> None:
    (train, labels), (test, truth) = clips(240, 0, 1.0), clips(300, 1, 1.0)
    accuracy = []
    for seed in range(5):
        shuffled = labels[torch.randperm(240, generator=Generator().manual_seed(seed))]
        scores = Finetune(config(**{"train.epochs": 4})).run(context((train, shuffled), test, seed)).scores
        accuracy.append((scores.argmax(1) == truth).float().mean().item())
    assert abs(sum(accuracy) / 5 - 1 / 3) < 0.12


def test_scores_do_not_depend_on_order_or_chunks_of_the_test_clips(context) -> None:
    train, (test, _) = clips(45), clips(40, 1, 0.5)
    whole = Finetune(config()).run(context(train, test)).scores
    order = torch.randperm(40)
    torch.testing.assert_close(Finetune(config()).run(context(train, test[order])).scores, whole[order])
    network = Classifier(Small(), CLASSES, 0, FinetuneConfig())
    for batch in (1, 7, 40):
        torch.testing.assert_close(network.scores(test, as_it_is, batch), network.scores(test, as_it_is))


def test_scoring_leaves_the_network_as_it_was() -> None:
    network = Classifier(Small(), CLASSES, 0, FinetuneConfig()).train()
    network.encoder.precision = "bf16"
    before = {name: value.clone() for name, value in network.state_dict().items()}
    scores = network.scores(clips(20)[0], as_it_is)
    assert scores.dtype == torch.float32
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert (network.training, network.encoder.training, network.encoder.precision) == (True, True, "bf16")


def test_eval_mode_freezes_statistics_but_not_weights(context) -> None:
    for mode, frozen in (("eval", True), ("train", False)):
        given = context(clips(45), clips(9, 1)[0])
        before = {name: value.clone() for name, value in given.encoder.state_dict().items()}
        Finetune(config(mode=mode)).run(given)
        assert torch.equal(before["norm.running_mean"], given.encoder.norm.running_mean) == frozen
        assert not torch.equal(before["layer.weight"], given.encoder.layer.weight)


def test_clips_reach_the_encoder_as_the_stream_after_augmentation(context, monkeypatch) -> None:
    seen: list[Tensor] = []
    monkeypatch.setattr(
        Small, "forward", lambda self, x, adjacency=None: (seen.append(x), torch.ones(len(x), 1, 6, 8, 4))[1]
    )
    train, (test, _) = clips(6), clips(3, 1)

    def run(**changes: object) -> Tensor:
        seen.clear()
        given = context(train, test, stream="bone")
        order = lambda asked: (asked.losses(torch.arange(6), Generator().manual_seed(0)), None)[1]  # noqa: E731
        Finetune(config(**changes)).run(replace(given, train=order))
        return seen[0]

    bones = train[0] - train[0][:, :, :, list(LAYOUT.bones)]
    torch.testing.assert_close(run(), bones)
    sheared = run(augment=["shear"])
    assert not torch.allclose(sheared, bones)
    assert (
        sheared[:, :, :, LAYOUT.centre] == 0
    ).all()  # shear after the conversion would not be told by this, crop would


class Deep(Small):
    """As MAMP's encoder: an embedding, blocks, and a norm at the top."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(6, 6) for _ in range(8))

    def levels_above(self, name: str) -> int:
        if name.startswith("blocks."):
            return 8 - int(name.split(".")[1])
        return 0 if name.startswith("norm.") else 9


def test_layer_decay_gives_every_layer_its_rate(context) -> None:
    """igm.md 4: embeddings 0.8^9, block k (0..7) 0.8^(8-k), the last norm and the head 1."""
    asked: list[NetworkTraining] = []

    def note(training: NetworkTraining) -> Tensor:
        asked.append(training)
        return training.scores()

    given = replace(context(clips(9), clips(3, 1)[0]), encoder=Deep(), train=note)
    Finetune(config(layer_decay=0.8, warmup_epochs=5)).run(given)
    network, rate = asked[0].network, asked[0].rate
    expected = {"encoder.layer": 0.8**9, "encoder.norm": 1, "layer": 1}
    expected |= {f"encoder.blocks.{k}": 0.8 ** (8 - k) for k in range(8)}
    assert {name: rate(name) for name, _ in network.named_parameters()} == {
        f"{layer}.{kind}": factor for layer, factor in expected.items() for kind in ("weight", "bias")
    }
    assert asked[0].warmup_epochs == 5
    Finetune(config()).run(given)
    assert {asked[1].rate(name) for name, _ in network.named_parameters()} == {1.0}
    with pytest.raises(BenchError, match=r"layer_decay=0\.8 has no effect on Small, which has no levels"):
        Finetune(config(layer_decay=0.8)).run(replace(given, encoder=Small()))


def test_published_settings_and_refusals() -> None:
    full = FinetuneConfig()
    train = full.train.model_dump()
    expected = {"epochs": 80, "batch": 128, "optimiser": "sgd", "lr": 0.1, "momentum": 0.9, "nesterov": True}
    assert train.items() >= {**expected, "weight_decay": 1e-4, "milestones": (9, 49), "gamma": 0.1}.items()
    assert full.augment == ()
    with pytest.raises(BenchError, match=r"finetune\.augment.*unknown augmentation sheer; known: .*shear"):
        resolve(FinetuneConfig, {"augment": ["sheer"]}, owner="finetune")
    assert Finetune(full).supports("raw", False, 100) == "raw coordinates have no weights to train"
    assert Finetune(full).supports("aimclr", True, 100) is None


def test_head_of_every_joint() -> None:
    """igm.md 4: dropout, every joint's features, 2,048 channels with BatchNorm and ReLU; 13.24 million parameters."""
    published = resolve(FinetuneConfig, Finetune.presets["mamp"])
    encoder = Small()
    encoder.dim, encoder.layout = 256, NTU25
    network = Classifier(encoder, 60, 0, published)
    assert network.width == 6_400
    assert sum(p.numel() for p in network.layer.parameters()) == 13_236_284
    assert encoder.dropout.p == published.encoder_dropout == network.dropout.p == 0.3
    assert Finetune(published).keeps_joints()
    assert not Finetune(FinetuneConfig()).keeps_joints()


def test_maps_are_dropped_before_they_are_averaged() -> None:
    """igm.md 4: dropout, then the mean over time: of 8 frames some are missing, not all or none."""
    network = Classifier(Small(), 3, 0, config(head="joints", encoder_dropout=0.0, maps_dropout=0.5))
    network.layer = nn.Identity()
    network.encoder.forward = lambda clips: torch.ones(len(clips), 1, 6, 8, 4)
    kept = network(clips(200)[0]) * 4  # frames of 8, each doubled
    assert torch.equal(kept, kept.round())
    assert kept.unique().tolist() == list(range(9))
    assert kept.mean().item() == pytest.approx(4, abs=0.1)
    assert (network.eval()(clips(20)[0]) == 1).all()


def test_the_head_of_joints_sees_which_joint_it_is(context) -> None:
    """Two classes with the same features on average: one hand or the other is out."""
    labels = torch.arange(40) % 2
    stored = 0.05 * torch.randn(40, 1, 8, 4, 3, generator=Generator().manual_seed(0))
    stored[torch.arange(40), 0, :, 2 + labels] += 1.0
    train = from_storage(stored), labels
    accuracy = {}
    for head in ("pooled", "joints"):
        changes = {"head": head, "encoder_dropout": 0.0, "train.epochs": 10, "train.batch": 10}
        outcome = Finetune(config(**changes)).run(context(train, train[0]))
        accuracy[head] = (outcome.scores.argmax(1) == labels).float().mean().item()
        assert outcome.facts["feature_dim"] == (24 if head == "joints" else 6)
    assert accuracy["joints"] == 1.0
    assert accuracy["pooled"] < 0.9


def test_what_finetuning_changes_beside_the_head(context) -> None:
    """Smoothed labels, stretched and turned clips, and HiCLR's transformer without dropout."""
    seen: dict[str, float] = {}

    def first_loss(name: str, **changes: object) -> None:
        def order(asked: NetworkTraining) -> None:
            losses = asked.losses(torch.arange(6), Generator().manual_seed(0))
            seen[name] = losses["cross_entropy"].item()

        given = replace(context(clips(6), clips(3, 1)[0]), encoder=Small().eval(), train=order)
        torch.manual_seed(0)
        Finetune(config(encoder_dropout=0.0, **changes)).run(given)

    first_loss("plain")
    first_loss("smooth", label_smoothing=0.1)
    first_loss("resized", resized=True)
    assert len(set(seen.values())) == 3
    assert resolve(FinetuneConfig, Finetune.presets["hiclr-transformer"]).encoder_dropout == 0.0
