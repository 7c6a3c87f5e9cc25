"""The whole network trained on labels, from a method's weights (protocols.md, version 1; actclr.md 9.2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import field_validator
from torch import Generator, Tensor, nn
from torch.nn import functional

from datasets.augment import OPERATIONS, AugmentConfig, augment
from datasets.clips import from_storage, to_storage
from datasets.resized import ResizedConfig, resized
from datasets.streams import to_stream
from encoders.base import Encoder
from engine.config import BenchError, Config, Overrides, TrainConfig, knob
from protocols.base import EncoderContext, Needs, NetworkTraining, Outcome, Protocol

_INIT_STD = 0.02
_BATCH = 32
"""Test clips per forward pass; in evaluation mode a clip's scores do not depend on the others."""

PUBLISHED = TrainConfig(
    epochs=80, batch=128, optimiser="sgd", lr=0.1, nesterov=True, weight_decay=1e-4, milestones=(9, 49), drop_last=False
)
"""ActCLR's fine-tuning; its rate falls *at* epochs 10 and 50 (``>=``), which is after 9 and 49."""
QUICK = {
    "train.optimiser": "adamw",
    "train.lr": 3e-3,
    "train.batch": 32,
    "train.schedule": "cosine",
    "train.warmup_steps": 20,
    "train.precision": "auto",
}


class FinetuneConfig(Config):
    """Settings of fine-tuning, the same for every method of one encoder."""

    train: TrainConfig = knob(PUBLISHED, "training loop; actclr.md 9.2, protocols.md v1")
    augment: tuple[str, ...] = knob(
        (), "augmentations of training clips, in order, e.g. crop and shear; the released GCN code uses none"
    )
    strength: AugmentConfig = knob(AugmentConfig(), "strengths of the augmentations")
    mode: Literal["train", "eval"] = knob(
        "train", "eval freezes BatchNorm statistics and dropout while training, as AimCLR's code does; aimclr.md 5.3"
    )

    layer_decay: float = knob(
        1.0, "a layer's learning rate is this times that of the layer above it; 0.8 in MAMP, igm.md 4", gt=0, le=1
    )
    warmup_epochs: int = knob(
        0, "linear warm-up, the rate stays the same within an epoch; 5 in HiCLR, hiclr.md 4.3", unit="epochs", ge=0
    )

    head: Literal["pooled", "joints"] = knob(
        "pooled",
        "what the classifier sees: features averaged over joints, or every joint's (MAMP): two columns",
        late=True,
    )
    hidden: int = knob(
        0,
        "channels of a hidden layer with BatchNorm and ReLU in the classifier, 0 = none; 2,048 in MAMP",
        late=True,
        ge=0,
    )
    maps_dropout: float = knob(
        0.0, "dropout of the encoder's maps before they are averaged; 0.3 in MAMP's head", late=True, ge=0, lt=1
    )
    encoder_dropout: float | None = knob(
        None,
        "dropout of the encoder, its own if none; 0 in HiCLR's transformer; transformers: stochastic depth, 0.3 in MAMP",
        late=True,
        ge=0,
        lt=1,
    )
    label_smoothing: float = knob(
        0.0, "share of the target spread over all classes; 0.1 in MAMP", late=True, ge=0, lt=1
    )
    resized: bool = knob(
        False,
        "a stretch of the clip at another pace, turned, as in pre-training of masked transformers (MAMP)",
        late=True,
    )

    @field_validator("augment")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [name for name in value if name not in OPERATIONS]:
            raise ValueError(f"unknown augmentation {', '.join(unknown)}; known: {', '.join(OPERATIONS)}")
        return value


def _linear(channels_in: int, channels_out: int, generator: Generator) -> nn.Linear:
    layer = nn.Linear(channels_in, channels_out)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(channels_out, channels_in, generator=generator) * _INIT_STD)
        layer.bias.zero_()
    return layer


class Classifier(nn.Module):
    """An encoder with a classifier on its output.

    Args:
        encoder: taken as it is, but for its dropout.
        classes: number of classes.
        seed: of the classifier's weights, N(0, 0.02) with biases 0.
        config: ``mode``, ``head``, ``hidden`` and the rates of dropout.
    """

    def __init__(self, encoder: Encoder, classes: int, seed: int, config: FinetuneConfig) -> None:
        super().__init__()
        self.encoder = encoder
        self.frozen_statistics = config.mode == "eval"
        self.joints = config.head == "joints"
        self.width = encoder.dim * (len(encoder.layout) if self.joints else 1)
        if config.encoder_dropout is not None:
            encoder.set_dropout(config.encoder_dropout)
        generator = Generator().manual_seed(seed)
        self.layer: nn.Module = _linear(config.hidden or self.width, classes, generator)
        if config.hidden:
            first = _linear(self.width, config.hidden, generator)
            self.layer = nn.Sequential(first, nn.BatchNorm1d(config.hidden), nn.ReLU(), self.layer)
        self.dropout = nn.Dropout(config.maps_dropout)
        self.to(next(encoder.parameters()).device)

    def train(self, mode: bool = True) -> Classifier:
        """As ``nn.Module.train``, but frozen statistics stay frozen."""
        super().train(mode)
        if self.frozen_statistics:
            self.encoder.eval()
        return self

    def forward(self, clips: Tensor) -> Tensor:
        """Logits (N, classes) of stream clips (N, C, T, V, M)."""
        maps = self.dropout(self.encoder(clips))
        logits: Tensor = self.layer(self.encoder.pool_joints(maps) if self.joints else self.encoder.pool(maps))
        return logits

    @torch.no_grad()
    def scores(self, clips: Tensor, stream: Callable[[Tensor], Tensor], batch: int = _BATCH) -> Tensor:
        """Logits (n, classes) of clips, in batches brought to the stream, in evaluation mode and float32.

        Leaves the network as it was.
        """
        training, precision = self.training, self.encoder.precision
        self.eval()
        self.encoder.precision = "float32"
        logits = torch.cat([self(stream(clips[start : start + batch])) for start in range(0, len(clips), batch)])
        self.encoder.precision = precision
        self.train(training)
        return logits


def layer_rates(network: Classifier, decay: float) -> dict[str, float]:
    """What the learning rate of every parameter is multiplied by: ``decay`` for each level of the encoder above it.

    Raises:
        BenchError: the encoder does not tell the levels of its parameters, so that nothing would decay.
    """
    levels = {
        name: network.encoder.levels_above(name.removeprefix("encoder.")) if name.startswith("encoder.") else 0
        for name, _ in network.named_parameters()
    }
    if decay < 1 and not any(levels.values()):
        raise BenchError(
            f"layer_decay={decay:g} has no effect on {type(network.encoder).__name__}, which has no levels; leave it at 1."
        )
    return {name: decay**level for name, level in levels.items()}


class Finetune(Protocol[EncoderContext]):
    """Every weight trained on all labels; the row of a freshly initialised encoder is the supervised one.

    A linear layer on the pooled output and the encoder below it are trained together by cross-entropy; no augmentation,
    the last epoch counts. The same optimiser and epochs serve every method of one encoder.
    """

    title: ClassVar[str] = "whole network trained on all labels"
    version: ClassVar[int] = 1
    Config: ClassVar[type[Config]] = FinetuneConfig
    budgets: ClassVar[Mapping[str, Overrides]] = {"quick": {**QUICK, "train.epochs": 6, "warmup_epochs": 0}}
    tuned: ClassVar[Mapping[str, Overrides]] = {
        "quick:synthetic": {"train.batch": 16, "train.epochs": 4, "train.lr": 2e-3}
    }
    presets: ClassVar[Mapping[str, Overrides]] = {
        "augmented": {"augment": ("crop", "shear")},
        "aimclr": {"mode": "eval"},
        "hiclr": {"train.epochs": 70, "train.batch": 64, "train.milestones": (29, 54), "warmup_epochs": 5},
        "hiclr-transformer": {
            "train.weight_decay": 5e-4,
            "train.milestones": (34, 54),
            "warmup_epochs": 5,
            "augment": ("crop", "shear"),
            "encoder_dropout": 0.0,
        },
        "mamp": {
            "train.epochs": 100,
            "train.batch": 48,
            "train.optimiser": "adamw",
            "train.lr": 3e-4,
            "train.lr_end": 1e-5,
            "train.weight_decay": 0.05,
            "train.decay_vectors": False,
            "train.schedule": "cosine",
            "train.warmup_share": 0.05,
            "layer_decay": 0.8,
            "head": "joints",
            "hidden": 2048,
            "maps_dropout": 0.3,
            "encoder_dropout": 0.3,
            "label_smoothing": 0.1,
            "resized": True,
        },
    }
    needs: Needs = "encoder"
    config: FinetuneConfig

    def supports(self, method: str, has_projector: bool, train_clips: int) -> str | None:
        """Raw coordinates have nothing to train."""
        return "raw coordinates have no weights to train" if method == "raw" else None

    def keeps_joints(self) -> bool:
        """With the head of that name."""
        return self.config.head == "joints" if self.needs == "encoder" else super().keeps_joints()

    def passes(self, train_clips: int, test_clips: int) -> float:
        """Three passes per training clip and epoch, and the test clips at every fifth epoch and the last one."""
        epochs = self.config.train.epochs
        return float(3 * epochs * train_clips + max(1, -(-epochs // 5)) * test_clips)

    def run(self, context: EncoderContext) -> Outcome:
        """Train on the labelled clips and score the test clips with the last epoch's weights."""
        return self.train(context, full_length=False)

    def train(self, context: EncoderContext, full_length: bool) -> Outcome:
        """Train one network; see :class:`protocols.base.NetworkTraining` for the length of an epoch."""
        config = self.config
        network = Classifier(context.encoder, context.classes, context.seed, config)

        def stream(clips: Tensor) -> Tensor:
            return to_stream(clips, context.stream, context.layout)

        stored = to_storage(context.clips)

        def losses(index: Tensor, generator: Generator) -> dict[str, Tensor]:
            batch = from_storage(stored.index_select(0, index))
            if config.resized:
                batch = resized(batch, ResizedConfig(), generator)
            if config.augment:
                batch = augment(batch, config.augment, config.strength, context.layout, generator)
            logits = network(stream(batch))
            target = context.labels[index]
            return {"cross_entropy": functional.cross_entropy(logits, target, label_smoothing=config.label_smoothing)}

        def scores() -> Tensor:
            return network.scores(context.test_clips, stream)

        final = context.train(
            NetworkTraining(
                network,
                config.train,
                losses,
                scores,
                full_length,
                rate=layer_rates(network, config.layer_decay).__getitem__,
                warmup_epochs=config.warmup_epochs,
            )
        )
        return Outcome(final, facts=self._facts() | {"feature_dim": network.width})

    def _facts(self) -> dict[str, Any]:
        train = self.config.train
        return {"lr": train.lr, "weight_decay": train.weight_decay, "epochs": train.epochs, "n_trials": 1}
