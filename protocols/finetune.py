"""The whole network trained on labels, from a method's weights (protocols.md, version 1; actclr.md 9.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import field_validator
from torch import Generator, Tensor, nn
from torch.nn import functional

from datasets.augment import OPERATIONS, AugmentConfig, augment
from datasets.clips import from_storage, to_storage
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

    @field_validator("augment")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [name for name in value if name not in OPERATIONS]:
            raise ValueError(f"unknown augmentation {', '.join(unknown)}; known: {', '.join(OPERATIONS)}")
        return value


class Classifier(nn.Module):
    """An encoder with a linear layer on its pooled output.

    Args:
        encoder: taken as it is.
        classes: number of classes.
        seed: of the layer's weights, N(0, 0.02) with biases 0.
        frozen_statistics: keep the encoder in evaluation mode while it is trained.
    """

    def __init__(self, encoder: Encoder, classes: int, seed: int, frozen_statistics: bool = False) -> None:
        super().__init__()
        self.encoder = encoder
        self.frozen_statistics = frozen_statistics
        initial = torch.randn(classes, encoder.dim, generator=Generator().manual_seed(seed)) * _INIT_STD
        self.layer = nn.Linear(encoder.dim, classes)
        with torch.no_grad():
            self.layer.weight.copy_(initial)
            self.layer.bias.zero_()
        self.to(next(encoder.parameters()).device)

    def train(self, mode: bool = True) -> Classifier:
        """As ``nn.Module.train``, but frozen statistics stay frozen."""
        super().train(mode)
        if self.frozen_statistics:
            self.encoder.eval()
        return self

    def forward(self, clips: Tensor) -> Tensor:
        """Logits (N, classes) of stream clips (N, C, T, V, M)."""
        logits: Tensor = self.layer(self.encoder.pool(self.encoder(clips)))
        return logits

    @torch.no_grad()
    def scores(self, clips: Tensor, batch: int = _BATCH) -> Tensor:
        """Logits (n, classes) of stream clips in evaluation mode and float32; leaves the network as it was."""
        training, precision = self.training, self.encoder.precision
        self.eval()
        self.encoder.precision = "float32"
        logits = torch.cat([self(clips[start : start + batch]) for start in range(0, len(clips), batch)])
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
        },
    }
    needs: Needs = "encoder"
    config: FinetuneConfig

    def supports(self, method: str, has_projector: bool, train_clips: int) -> str | None:
        """Raw coordinates have nothing to train."""
        return "raw coordinates have no weights to train" if method == "raw" else None

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
        network = Classifier(context.encoder, context.classes, context.seed, config.mode == "eval")

        def stream(clips: Tensor) -> Tensor:
            return to_stream(clips, context.stream, context.layout)

        test = stream(context.test_clips)
        stored = to_storage(context.clips if config.augment else stream(context.clips))

        def losses(index: Tensor, generator: Generator) -> dict[str, Tensor]:
            batch = from_storage(stored.index_select(0, index))
            if config.augment:
                batch = stream(augment(batch, config.augment, config.strength, context.layout, generator))
            return {"cross_entropy": functional.cross_entropy(network(batch), context.labels[index])}

        def scores() -> Tensor:
            return network.scores(test)

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
        return Outcome(final, facts=self._facts())

    def _facts(self) -> dict[str, Any]:
        train = self.config.train
        return {"lr": train.lr, "weight_decay": train.weight_decay, "epochs": train.epochs, "n_trials": 1}
