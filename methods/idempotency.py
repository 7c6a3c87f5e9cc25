"""Idempotency of IGM: what was generated from features must lead back to these features (igm.md 2.2 to 2.7)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from encoders.base import Encoder
from encoders.skeleton_transformer import SkeletonTransformer
from engine.config import Config, knob
from methods.base import Step
from methods.diffusion import Diffusion, draw_noise, draw_steps
from methods.generator import time_code


class IdempotencyConfig(Config):
    """Both constraints and what keeps them from harm; no setting of the paper's is known."""

    feature: float = knob(
        0.1, "weight of the feature constraint (our choice: small beside generation, yet seen to act)", ge=0
    )
    distribution: float = knob(0.1, "weight of the distribution constraint (our choice: as the other one)", ge=0)
    repel: bool = knob(True, "repel features from each other; the paper leaves that to generation (our choice)")
    spectral: float = knob(
        0.1, "weight of the repulsion; without it the feature constraint loses rank (our choice)", gt=0
    )
    ramp_epochs: int = knob(
        20, "epochs in which the three weights grow from 0, as the generator must learn first (our choice)", ge=0
    )
    centre: Literal["batch", "none"] = knob(
        "batch", "centre and scale features over the batch; raw ones are all alike, cosine .998 (our choice)"
    )
    detach: bool = knob(True, "the generator gets no gradient; it would hide features in clips (our choice)")
    least_signal: float = knob(
        0.05, "leave clips out whose noise level has a smaller share of signal: one step cannot mend them (our choice)",
        ge=0, lt=1,
    )  # fmt: skip
    below_step: int = knob(1000, "use only clips generated from noise steps below this one (all: our choice)", ge=1)
    clip: float = knob(
        5.0, "largest generated coordinate, in standard deviations; real ones stay below (our choice)", gt=0
    )
    stop_gradient: Literal["none", "target"] = knob(
        "none", "feature constraint: the clip's own feature follows, as in the poster's formula, or not (our choice)"
    )
    noisy_feature: bool = knob(
        False,
        "show the second pass z_t', t and t' as the poster writes it; alone it leaks the answer (our choice: off)",
    )
    feature_from: int = knob(700, "noisy_feature: least step t' (our choice: little of the answer is left there)", ge=0)
    distance: Literal["cross_entropy", "squared"] = knob(
        "cross_entropy", "of the two distributions (our choice: as the group's PCM3)"
    )
    tau_target: float = knob(0.05, "temperature of the clip's similarities (our choice: PCM3's)", gt=0)
    tau_generated: float = knob(0.1, "temperature of the generated clip's similarities (our choice: PCM3's)", gt=0)


def unit_features(pooled: Tensor, centre: Literal["batch", "none"]) -> Tensor:
    """Pooled features (B, D) as unit vectors, centred and scaled by the batch's own statistics."""
    if centre == "batch":
        pooled = F.batch_norm(pooled, None, None, training=True)
    return F.normalize(pooled, dim=1)


def feature_idempotency(feature: Tensor, returned: Tensor) -> Tensor:
    """- <f(x), f(x0)>, the mean over unit features (R, D) each."""
    return -(feature * returned).sum(dim=1).mean()


def distribution_idempotency(feature: Tensor, returned: Tensor, rows: Tensor, config: IdempotencyConfig) -> Tensor:
    """D(P(x0), P(x)) with P(x) = f(x)^T f(X): both compared with the batch's other clips, which get no gradient.

    Args:
        feature: unit features (B, D) of the clips, the target.
        returned: unit features (R, D) of the generated clips.
        rows: (R,) which of the clips these were generated from.
        config: distance and temperatures.
    """
    bank = feature.detach()
    others = rows[:, None] != torch.arange(len(bank), device=rows.device)
    target, scores = bank[rows] @ bank.T, returned @ bank.T
    if config.distance == "squared":
        return (((scores - target) ** 2) * others).sum(dim=1).mean() / (len(bank) - 1)
    target = (target / config.tau_target).masked_fill(~others, -torch.inf).softmax(dim=1)
    scores = (scores / config.tau_generated).masked_fill(~others, -1e9).log_softmax(dim=1)
    return -(target * scores).sum(dim=1).mean()


def spectral_repulsion(feature: Tensor) -> Tensor:
    """D mean_(i != j) <f(x_i), f(x_j)>^2, the second term of ||A - F^T F||^2; 1 for unit features in all directions alike."""
    count, dim = feature.shape
    squared = (feature @ feature.T) ** 2
    return dim * (squared.sum() - squared.diagonal().sum()) / (count * (count - 1))


def ramp(step: Step, epochs: int) -> float:
    """Share of a weight that grows linearly over the first ``epochs``."""
    return min(1.0, (step.index + 1) * step.epochs / (step.steps * epochs)) if epochs else 1.0


class NoisyFeature(nn.Module):
    """What f(x0, z_t', t, t') sees beside x0, as two tokens; encoders without tokens get scale and shift (our choice)."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        dim, code = encoder.dim, time_code(torch.zeros(1)).shape[1]
        self.feature = nn.Linear(dim, dim)
        self.times = nn.ModuleList(
            nn.Sequential(nn.Linear(code, dim), nn.GELU(), nn.Linear(dim, dim)) for _ in range(2)
        )
        self.film = None if isinstance(encoder, SkeletonTransformer) else nn.Linear(2 * dim, 2 * dim)

    def tokens(self, pooled: Tensor, t: Tensor, diffusion: Diffusion, least: int, generator: Generator) -> Tensor:
        """Tokens (B, 2, D) of features (B, D) under noise of another random step, and of the clips' steps ``t`` (B,)."""
        clean = F.layer_norm(pooled.detach(), pooled.shape[1:])
        steps = len(diffusion.shares)
        other = draw_steps(len(t), steps, generator, min(least, steps - 1))
        noisy = diffusion.noised(clean, draw_noise(clean, generator), other)
        first = self.feature(noisy) + self.times[0](time_code(other))
        return torch.stack([first, self.times[1](time_code(t))], dim=1)

    def modulate(self, pooled: Tensor, tokens: Tensor) -> Tensor:
        """Features (B, D) scaled and shifted by the tokens, where the encoder could not see these."""
        if self.film is None:
            return pooled
        scale, shift = self.film(tokens.flatten(1)).chunk(2, dim=1)
        return pooled * (1 + scale) + shift  # type: ignore[no-any-return]
