"""IGM: a generative model whose clips must lead back to the features they came from (ECCV 2024, arXiv 2410.20349).

The paper's body was not accessible: what its poster and notes on it do not say is our choice, and every such setting says so.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from encoders.base import Encoder
from engine.config import TrainConfig, knob
from methods.base import Context, MethodConfig, Step
from methods.entropy import coding_length, coding_series
from methods.generator import Adapter, AdapterConfig, GeneratorConfig
from methods.glimpse import glimpse
from methods.idempotency import (
    IdempotencyConfig,
    NoisyFeature,
    distribution_idempotency,
    feature_idempotency,
    ramp,
    spectral_repulsion,
    unit_features,
)
from methods.macdiff import PUBLISHED, QUICK, Generation, MacDiff, MacDiffConfig

_CONSTRAINTS = {
    "w/o L_ide": {"idempotency.feature": 0.0, "idempotency.distribution": 0.0},
    "L_ide_feat": {"idempotency.distribution": 0.0},
    "L_ide_dist": {"idempotency.feature": 0.0},
    "full": {},
}


class IGMConfig(MacDiffConfig):
    """IGM's settings: those of masked diffusion, the adapter, and idempotency."""

    train: TrainConfig = knob(
        PUBLISHED.model_copy(update={"clip_norm": 1.0}),
        "training loop: that of MacDiff, the sister method, and gradients clipped, as x0 can be wild (our choice)",
    )
    generator: GeneratorConfig = knob(GeneratorConfig(), "generator: MacDiff's, but less deep (our choice)")
    error_on: Literal["hidden", "all"] = knob(
        "all", "places whose error counts: all, or places seen would be generated untrained (our choice)"
    )
    uniformity: float = knob(
        0.0, "weight of the squared cosines among a body's tokens (MacDiff's; 0: our choice)", ge=0
    )
    adapter: AdapterConfig = knob(AdapterConfig(), "adapter h between encoder and generator")
    idempotency: IdempotencyConfig = knob(IdempotencyConfig(), "constraints on features of generated clips")


class IGM(MacDiff):
    """IGM."""

    title = "IGM (Lin et al., ECCV 2024)"
    version = 2
    Config = IGMConfig
    config: IGMConfig
    cost = 9.0
    budgets = {
        "quick": {
            **QUICK,
            "target": "other",
            "persons": "all",
            "mask.ratio": 0.7,
            "mask.cells": 0.0,
            "idempotency.feature": 1.0,
            "idempotency.distribution": 1.0,
            "idempotency.spectral": 0.5,
            "idempotency.ramp_epochs": 1,
        }
    }
    tuned = {
        **MacDiff.tuned,
        "quick:synthetic": {"train.epochs": 16, "train.lr": 2e-3},
        # What reads the whole body spreads its features too early under more repulsion (docs/methods.md).
        **{f"quick:{name}": {"idempotency.spectral": 0.01} for name in ("stgcn", "ctrgcn")},
    }
    presets = {
        # The formulas as written, without our safeguards: no masking, no repulsion, and f(x0, z_t', t, t').
        "literal": {
            "mask.on": False,
            "condition": "global",
            "generator.depth": 5,
            "adapter.similarity": "raw",
            "idempotency.repel": False,
            "idempotency.noisy_feature": True,
        }
    }
    ablations = {
        "idempotency": _CONSTRAINTS,
        "repulsion": {
            f"{name}, no repulsion": {**changes, "idempotency.repel": False} for name, changes in _CONSTRAINTS.items()
        },
        "adapter": {
            "eta 0": {"adapter.eta": 0.0},
            "eta 0.5": {},
            "eta 2": {"adapter.eta": 2.0},
            "raw similarity": {"adapter.similarity": "raw"},
        },
    }

    def __init__(self, config: IGMConfig, context: Context) -> None:
        super().__init__(config, context)
        self.adapter = Adapter(config.adapter, self.encoder.dim)
        self.beside = NoisyFeature(self.encoder) if config.idempotency.noisy_feature else None

    @classmethod
    def supports(cls, config: MethodConfig, encoder: type[Encoder]) -> str | None:
        """As MacDiff; and where nothing is hidden, tokens in their places would give the clip away (igm.md 1.4)."""
        assert isinstance(config, IGMConfig)
        if config.condition == "local" and not (config.mask.on and config.mask.ratio):
            return "nothing is hidden, so tokens in their places would give the clip away (--set igm.condition=global)"
        return super().supports(config, encoder)

    def forward(self, views: tuple[Tensor, ...], step: Step) -> dict[str, Tensor]:
        """L_gen + lambda_feat L_feat + lambda_dist L_dist + lambda_spec L_spec."""
        source, target = self.bodies(views)
        if step.epoch == 1:
            self.standardise.observe(target)
        made = self.generation(source, target, step.generator)
        losses = self.generation_losses(made)
        config = self.config.idempotency
        feature = unit_features(made.seen.pooled, config.centre)
        self.pooled, self.feature = made.seen.pooled.detach(), feature.detach()
        trusted, growth = self.trusted(made), ramp(step, config.ramp_epochs)
        if config.feature or config.distribution:
            returned = unit_features(self.encoded_again(made, trusted, step), config.centre)
            self.returned = -feature_idempotency(self.feature[trusted], returned.detach())
        if config.feature:
            own = feature.detach() if config.stop_gradient == "target" else feature
            losses["feature"] = growth * config.feature * feature_idempotency(own[trusted], returned)
        if config.distribution:
            distance = distribution_idempotency(feature, returned, trusted, config)
            losses["distribution"] = growth * config.distribution * distance
        if config.repel:
            losses["spectral"] = growth * config.spectral * spectral_repulsion(feature)
        return losses

    def trusted(self, made: Generation) -> Tensor:
        """Indices (R,) of generated bodies that must lead back: made on a condition, from noise that leaves enough signal.

        The others are not even encoded: their noise would be part of BatchNorm's statistics. Where these are fewer than
        two, which have no statistics, all are taken.
        """
        config = self.config.idempotency
        signal = self.diffusion.shares[made.t] >= config.least_signal
        rows = (made.conditioned & signal & (made.t < config.below_step)).nonzero()[:, 0]
        return rows if len(rows) > 1 else torch.arange(len(made.t), device=made.t.device)

    def encoded_again(self, made: Generation, rows: Tensor, step: Step) -> Tensor:
        """Features (R, D) of some generated bodies, f(x0) or f(x0, z_t', t, t'), seen through a mask of their own."""
        config = self.config.idempotency
        clean = made.clean[rows].detach() if config.detach else made.clean[rows]
        clean = self.standardise.back(clean.clamp(-config.clip, config.clip))
        if self.beside is None:
            return glimpse(self.encoder, clean, self.config.mask, step.generator).pooled
        pooled, t = made.seen.pooled[rows], made.t[rows]
        tokens = self.beside.tokens(pooled, t, self.diffusion, config.feature_from, step.generator)
        again = glimpse(self.encoder, clean, self.config.mask, step.generator, tokens)
        return self.beside.modulate(again.pooled, tokens)

    def metrics(self) -> dict[str, Tensor]:
        """Effective rank, maximum-entropy coding length (exact, and two terms of its series), and how alike both passes are."""
        distortion = float(self.feature.shape[1])  # the series converges for it
        logged = {
            **super().metrics(),
            "coding_length": coding_length(self.feature, distortion),
            "coding_series": coding_series(self.feature, distortion, order=2),
        }
        return logged | ({"returned_cosine": self.returned} if hasattr(self, "returned") else {})
