"""The generator of MacDiff and IGM: a transformer with norms modulated by condition and time (igm.md 1.4, 1.5)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from encoders.skeleton_transformer import Attention, Positions, xavier_init
from engine.config import Config, knob

_TIME = 64
"""Numbers that tell a time step (released MacDiff)."""


class GeneratorConfig(Config):
    """Size of the generator."""

    dim: int = knob(256, "channels of a token (released MacDiff)", ge=1)
    depth: int = knob(3, "blocks: 3 represents best, 5 draws best (MacDiff paper, Table 10; for IGM our choice)", ge=1)
    heads: int = knob(8, "attention heads (released MacDiff)", ge=1)
    ratio: int = knob(4, "hidden channels of a block's perceptron, as a multiple of dim (released MacDiff)", ge=1)


def time_code(t: Tensor) -> Tensor:
    """Sinusoidal code (B, 64) of time steps (B,): cosines, then sines, of periods up to 10,000."""
    rates = torch.exp(-math.log(10000.0) * torch.arange(_TIME // 2, device=t.device) / (_TIME // 2))
    angles = t[:, None].float() * rates
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class ModulatedNorm(nn.Module):
    """LayerNorm, scaled and shifted by the time step, then, for every token of its own, by the condition (AdaLN)."""

    def __init__(self, dim: int, condition: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.by_time = nn.Linear(_TIME, 2 * dim)
        self.by_condition = nn.Linear(condition, 2 * dim)

    def forward(self, x: Tensor, condition: Tensor, time: Tensor) -> Tensor:
        """Tokens (B, L, C), conditions (B, L, D), time codes (B, 64) -> (B, L, C)."""
        time_scale, time_shift = self.by_time(time)[:, None].chunk(2, dim=2)
        scale, shift = self.by_condition(condition).chunk(2, dim=2)
        return scale * (time_scale * self.norm(x) + time_shift) + shift  # type: ignore[no-any-return]


class ModulatedBlock(nn.Module):
    """The transformer's block with modulated norms."""

    def __init__(self, config: GeneratorConfig, condition: int) -> None:
        super().__init__()
        dim, hidden = config.dim, config.ratio * config.dim
        self.norm_attention = ModulatedNorm(dim, condition)
        self.attention = Attention(dim, config.heads)
        self.norm_perceptron = ModulatedNorm(dim, condition)
        self.perceptron = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))

    def forward(self, x: Tensor, condition: Tensor, time: Tensor) -> Tensor:
        """Tokens (B, L, C) -> (B, L, C)."""
        x = x + self.attention(self.norm_attention(x, condition, time))
        return x + self.perceptron(self.norm_perceptron(x, condition, time))  # type: ignore[no-any-return]


class PatchGenerator(nn.Module):
    """Noisy patches, a condition for each, and the time step in; its prediction for every patch out.

    Args:
        config: size.
        steps, joints: T' and V of the patches.
        values: numbers in a patch.
        condition: numbers of a condition.
    """

    def __init__(self, config: GeneratorConfig, steps: int, joints: int, values: int, condition: int) -> None:
        super().__init__()
        self.patch = nn.Linear(values, config.dim)
        self.positions = Positions(steps, joints, config.dim)
        self.blocks = nn.ModuleList(ModulatedBlock(config, condition) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.dim)
        self.out = nn.Linear(config.dim, values)
        self.apply(xavier_init)
        self.apply(_start_plain)

    def tokens(self, noisy: Tensor, condition: Tensor, t: Tensor) -> Tensor:
        """Patches (B, T', V, P), conditions (B, T' V, D), steps (B,) -> tokens (B, T' V, C) behind the last block."""
        time = time_code(t)
        x: Tensor = (self.patch(noisy) + self.positions(noisy.shape[1])).flatten(1, 2)
        for block in self.blocks:
            x = block(x, condition, time)
        return x

    def forward(self, noisy: Tensor, condition: Tensor, t: Tensor) -> Tensor:
        """Patches (B, T', V, P), conditions (B, T' V, D), steps (B,) -> (B, T', V, P)."""
        return self.out(self.norm(self.tokens(noisy, condition, t))).view_as(noisy)  # type: ignore[no-any-return]


def _start_plain(module: nn.Module) -> None:
    """Modulation starts as none at all (our choice; the released code starts near an output of zero)."""
    if isinstance(module, ModulatedNorm):
        for linear in (module.by_time, module.by_condition):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)
            nn.init.ones_(linear.bias[: len(linear.bias) // 2])


class AdapterConfig(Config):
    """IGM's adapter h; its formula is known from notes on the paper, its settings are not."""

    eta: float = knob(0.5, "how far tokens move apart, 0 = not at all (our choice: between no effect and 1)", ge=0)
    similarity: Literal["cosine", "scaled_dot", "raw"] = knob(
        "cosine", "raw is the notes' formula, but on normalised tokens its softmax picks the token itself (our choice)"
    )
    tau: float = knob(0.2, "cosine: temperature (our choice: own weight .1 to .4)", gt=0)
    project: bool = knob(
        True, "a linear layer behind it, so that features need not be what the generator wants (our choice)"
    )


class Adapter(nn.Module):
    """Condition tokens with their common part pushed back: (1 + eta) Z - eta softmax(sim(Z, Z)) Z."""

    def __init__(self, config: AdapterConfig, dim: int) -> None:
        super().__init__()
        self.config = config
        self.project = nn.Linear(dim, dim) if config.project else nn.Identity()
        if isinstance(self.project, nn.Linear):
            nn.init.eye_(self.project.weight)
            nn.init.zeros_(self.project.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, K, D) of one body each -> (B, K, D)."""
        config = self.config
        if config.eta:
            if config.similarity == "cosine":
                unit = F.normalize(tokens, dim=2)
                scores = unit @ unit.transpose(1, 2) / config.tau
            else:
                scores = tokens @ tokens.transpose(1, 2)
                scores = scores / tokens.shape[2] ** 0.5 if config.similarity == "scaled_dot" else scores
            tokens = (1 + config.eta) * tokens - config.eta * scores.softmax(dim=2) @ tokens
        return self.project(tokens)  # type: ignore[no-any-return]
