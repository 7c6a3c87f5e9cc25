"""What an encoder sees of a body when most of it is hidden (igm.md 1.3, 8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from datasets.clips import from_storage
from encoders.base import Encoder
from encoders.skeleton_transformer import SkeletonTransformer, patchify, take
from engine.config import Config, knob
from methods.masked import blinded, hiding_order


class MaskConfig(Config):
    """How much is hidden."""

    on: bool = knob(
        True, "hide anything; notes on IGM speak of no mask, but all tokens would give it away (our choice)"
    )
    ratio: float = knob(
        0.9,
        "share of tokens without which the condition is made (MacDiff paper, Table 7; for IGM our choice)",
        ge=0,
        lt=1,
    )
    kind: Literal["random", "motion", "tube", "temporal"] = knob(
        "random",
        "what is hidden: places by chance, those that move rather than others, joints over all time, or moments of all joints "
        "(MacDiff paper, Table 7: by chance is best; for IGM our choice for that reason)",
        late=True,
    )
    tau: float = knob(
        0.8,
        "kind motion: the larger, the less motion decides (released MacDiff, for NTU RGB+D x-view; for IGM our choice)",
        late=True,
        gt=0,
    )
    cells: float = knob(
        0.5,
        "encoders that cannot leave tokens out: share of cells (4 frames of a joint) set to zero in the input (our choice: "
        "half, as far fewer would be unlike any clip)",
        ge=0,
        lt=1,
    )


@dataclass(frozen=True)
class Glimpse:
    """Tokens of the visible part of bodies.

    Attributes:
        tokens: (B, K, D) of some of the L = T' V places.
        kept: (B, K) which, by time and then joint.
        pooled: (B, D), the features as protocols see them: the average over all that was encoded.
        places: L.
    """

    tokens: Tensor
    kept: Tensor
    pooled: Tensor
    places: int

    def spread(self, tokens: Tensor, local: bool) -> Tensor:
        """A condition for every place, (B, L, D): visible ones keep their token, the others get the tokens' mean.

        Args:
            tokens: (B, K, D), these ones or what was made of them.
            local: without it every place gets the mean.
        """
        mean = tokens.mean(dim=1, keepdim=True).expand(-1, self.places, -1)
        return mean.scatter(1, self.kept[..., None].expand_as(tokens), tokens) if local else mean

    def hidden(self) -> Tensor:
        """Places (B, L) bool that were not kept."""
        everywhere = torch.ones(len(self.kept), self.places, dtype=torch.bool, device=self.kept.device)
        return everywhere.scatter(1, self.kept, False)


def glimpse(
    encoder: Encoder, bodies: Tensor, config: MaskConfig, generator: Generator, extra: Tensor | None = None
) -> Glimpse:
    """Encode single bodies (B, T, V, 3) of which a random part is hidden, another one for every body.

    A transformer leaves hidden tokens out. Other encoders get cells set to zero, encode everything, and the tokens that
    condition the generator are drawn from their maps, normalised (our choice: the same narrow passage for both).

    Args:
        encoder: one whose maps tell frames and joints apart.
        bodies: single bodies of one stream.
        config: how much is hidden.
        generator: draws what is hidden.
        extra: (B, E, D) tokens that a transformer sees besides, in no place; they are neither kept nor pooled.
    """
    length = encoder.temporal_stride
    frames, joints = -(-bodies.shape[1] // length), bodies.shape[2]
    places = frames * joints
    kept = _order(bodies, length, config, generator)[:, : _count(frames, joints, config, config.ratio)]
    if isinstance(encoder, SkeletonTransformer):
        tokens = encoder.tokens(patchify(bodies, length), kept, extra)
        return Glimpse(tokens, kept, tokens.mean(dim=1), places)
    if config.on and config.cells:
        bodies = blinded(bodies, _shown(bodies, length, config, generator), length)
    maps = encoder(from_storage(bodies[:, None]))
    return Glimpse(take(tokens_of(encoder, maps[:, 0]), kept), kept, encoder.pool(maps), places)


def tokens_of(encoder: Encoder, maps: Tensor) -> Tensor:
    """Maps (B, D, T', V) of bodies as tokens (B, L, D), by time and then joint; normalised as a transformer's are."""
    tokens = maps.flatten(2).transpose(1, 2)
    return tokens if isinstance(encoder, SkeletonTransformer) else F.layer_norm(tokens, tokens.shape[2:])


def _count(frames: int, joints: int, config: MaskConfig, share: float) -> int:
    """How many places are left where a ``share`` is hidden, at least one: whole joints, or whole moments."""
    places, together = frames * joints, {"tube": frames, "temporal": joints}.get(config.kind, 1)
    return together * max(1, round(places // together * (1 - share))) if config.on else places


def _shown(bodies: Tensor, length: int, config: MaskConfig, generator: Generator) -> Tensor:
    """Places (B, L) bool that are not set to zero."""
    count, frames, joints = len(bodies), -(-bodies.shape[1] // length), bodies.shape[2]
    if config.kind == "random":
        return torch.rand(count, frames * joints, generator=generator, device=bodies.device) >= config.cells
    order = _order(bodies, length, config, generator)
    left = order[:, : _count(frames, joints, config, config.cells)]
    return torch.zeros_like(order, dtype=torch.bool).scatter(1, left, True)


def _order(bodies: Tensor, length: int, config: MaskConfig, generator: Generator) -> Tensor:
    """Places (B, L) of bodies (B, T, V, 3) in the order in which they are kept, another one for every body."""
    if config.kind == "motion":
        return hiding_order(patchify(bodies, length), config.tau, generator)
    count, frames, joints = len(bodies), -(-bodies.shape[1] // length), bodies.shape[2]
    shape = {"tube": (1, joints), "temporal": (frames, 1)}.get(config.kind, (frames, joints))
    drawn = torch.rand(count, *shape, generator=generator, device=bodies.device)
    return drawn.expand(-1, frames, joints).flatten(1).argsort(dim=1)
