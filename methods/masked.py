"""Parts of masked motion prediction: what is hidden, what is predicted of it, and the decoder (igm.md 7)."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from encoders.skeleton_transformer import Positions, TransformerBlock, xavier_init
from engine.config import Config, TrainConfig, knob


def hiding_order(patches: Tensor, tau: float, generator: Generator) -> Tensor:
    """Places (B, L) of patches (B, T', V, P) in random order, those that move tending to the end (motion-aware masking).

    Drawn without replacement from the end, each with a chance of softmax(motion / (tau max motion)); ``tau`` = 0: equal ones.
    """
    chance = torch.rand(
        patches.shape[0], patches.shape[1] * patches.shape[2], generator=generator, device=patches.device
    )
    if not tau:
        return chance.argsort(dim=1)
    moved = patches.diff(dim=1).abs().mean(dim=3)
    motion = torch.cat([moved[:, :1], moved], dim=1).flatten(1)  # the first patch is taken to move as the second
    largest = motion.amax(dim=1, keepdim=True).clamp(min=1e-10)  # a body at rest, or absent
    return (motion / (largest * tau) - (-chance.log()).log()).argsort(dim=1)


def parted(order: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Ordered places (B, L) cut in two: those that are kept, at least one, and the last ``share``, which are hidden."""
    first = max(1, round(order.shape[1] * (1 - share)))
    return order[:, :first], order[:, first:]


def blinded(bodies: Tensor, shown: Tensor, length: int) -> Tensor:
    """Bodies (B, T, V, 3) with zeros in all places but those ``shown`` (B, L) bool; a place is ``length`` frames of a joint."""
    frames, joints = bodies.shape[1:3]
    cells = shown.view(len(bodies), -1, joints).repeat_interleave(length, dim=1)[:, :frames, :, None]
    return bodies * cells


def steps_of(bodies: Tensor, stride: int = 1) -> Tensor:
    """Bodies (B, T, V, 3) -> the way from every frame to that ``stride`` later; 0 where there is none."""
    return F.pad(bodies[:, stride:] - bodies[:, :-stride], (0, 0, 0, 0, 0, stride))


def standardised(patches: Tensor) -> Tensor:
    """Every patch (..., P) with zero mean and unit variance, of its own numbers."""
    variance, mean = torch.var_mean(patches, dim=-1, keepdim=True)
    return (patches - mean) / (variance + 1e-6).sqrt()


RELEASED = TrainConfig(
    epochs=400,
    batch=128,
    optimiser="adamw",
    lr=1e-3,
    weight_decay=0.05,
    decay_vectors=False,
    beta2=0.95,
    schedule="cosine",
    warmup_share=0.05,
)
"""The training loop that MAMP and MacDiff share; the warm-up are 20 of 400 epochs."""


class DecoderConfig(Config):
    """Size of the decoder, which is thrown away."""

    dim: int = knob(256, "channels of a token (released)", ge=1)
    blocks: int = knob(3, "blocks; 5 on NTU RGB+D 120 and PKU-MMD (released)", ge=1)
    heads: int = knob(8, "attention heads (released)", ge=1)
    ratio: int = knob(4, "hidden channels of a block's perceptron, as a multiple of dim (released)", ge=1)
    every: int = knob(
        1, "only one in so many hidden tokens is predicted, which saves most of the cost (released: all)", ge=1
    )


class Decoder(nn.Module):
    """Tokens of what is seen in, values of what is wanted out."""

    def __init__(self, config: DecoderConfig, encoded: int, steps: int, joints: int, values: int) -> None:
        super().__init__()
        self.embed = nn.Linear(encoded, config.dim)
        self.hidden = nn.Parameter(torch.empty(1, 1, config.dim))
        self.positions = Positions(steps, joints, config.dim)
        self.blocks = nn.ModuleList(
            TransformerBlock(config.dim, config.heads, config.ratio) for _ in range(config.blocks)
        )
        self.norm = nn.LayerNorm(config.dim)
        self.out = nn.Linear(config.dim, values)
        self.apply(xavier_init)
        nn.init.trunc_normal_(self.hidden, std=0.02)

    def forward(self, tokens: Tensor, places: Tensor, wanted: Tensor) -> Tensor:
        """Values (B, W, P) of the ``wanted`` places (B, W), from tokens (B, K, D) of the ``places`` (B, K).

        A place that has no token of its own gets the learned one; places that are neither take no part.
        """
        unseen = self.hidden.expand(len(wanted), wanted.shape[1], -1)
        positions = self.positions(len(self.positions.time)).flatten(0, 1)
        embedded = self.embed(tokens)
        x = torch.cat([embedded, unseen.to(embedded.dtype)], dim=1) + positions[torch.cat([places, wanted], dim=1)]
        for block in self.blocks:
            x = block(x)
        return self.out(self.norm(x[:, -wanted.shape[1] :]))  # type: ignore[no-any-return]
