"""The skeleton transformer of the masked-motion family: MAMP, MacDiff and, by all signs, IGM (igm.md 1.2, 7.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datasets.layout import Layout
from encoders.base import Encoder, levels_above_block
from encoders.bodies import BodiesConfig, bodies_of
from encoders.dropout import DropPath
from engine.config import BenchError, knob


class SkeletonTransformerConfig(BodiesConfig):
    """Settings of the skeleton transformer."""

    dim: int = knob(256, "channels of a token, and feature width (released MAMP)", ge=1)
    blocks: int = knob(8, "blocks (released MAMP)", ge=1)
    heads: int = knob(8, "attention heads (released MAMP)", ge=1)
    ratio: int = knob(4, "hidden channels of a block's perceptron, as a multiple of dim (released MAMP)", ge=1)
    patch: int = knob(4, "frames of one joint in a token (released MAMP)", unit="frames", ge=1)


def patchify(bodies: Tensor, length: int) -> Tensor:
    """Cut bodies (B, T, V, C) into patches (B, T', V, length C) of one joint each, frame-major; T' = ceil(T / length).

    A length that does not divide T is reached by repeating the last frame (our choice; MAMP's 120 frames need none).
    """
    batch, frames, joints, coordinates = bodies.shape
    if missing := -frames % length:
        bodies = torch.cat([bodies, bodies[:, -1:].expand(-1, missing, -1, -1)], dim=1)
    parts = bodies.reshape(batch, -1, length, joints, coordinates)
    return parts.transpose(2, 3).reshape(batch, -1, joints, length * coordinates)


def unpatchify(patches: Tensor, frames: int) -> Tensor:
    """Patches (B, T', V, length C) of :func:`patchify` back as bodies (B, ``frames``, V, 3)."""
    batch, steps, joints, _ = patches.shape
    bodies = patches.view(batch, steps, joints, -1, 3).transpose(2, 3).reshape(batch, -1, joints, 3)
    return bodies[:, :frames]


class Attention(nn.Module):
    """Multi-head self-attention over all tokens of a body."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, L, C) -> (B, L, C)."""
        batch, count, dim = x.shape
        split = self.query_key_value(x).view(batch, count, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(split[0], split[1], split[2])
        return self.out(y.transpose(1, 2).reshape(batch, count, dim))  # type: ignore[no-any-return]


class TransformerBlock(nn.Module):
    """Attention, then a two-layer perceptron, each on normalised tokens and added to them."""

    def __init__(self, dim: int, heads: int, ratio: int = 4) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(dim)
        self.attention = Attention(dim, heads)
        self.norm_perceptron = nn.LayerNorm(dim)
        self.perceptron = nn.Sequential(nn.Linear(dim, ratio * dim), nn.GELU(), nn.Linear(ratio * dim, dim))
        self.drop_path = DropPath(0.0)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, L, C) -> (B, L, C)."""
        x = x + self.drop_path(self.attention(self.norm_attention(x)))
        return x + self.drop_path(self.perceptron(self.norm_perceptron(x)))  # type: ignore[no-any-return]


class Positions(nn.Module):
    """Learned embeddings of a token's time and joint, added up."""

    def __init__(self, steps: int, joints: int, dim: int) -> None:
        super().__init__()
        self.time = nn.Parameter(torch.empty(steps, 1, dim))
        self.joint = nn.Parameter(torch.empty(1, joints, dim))
        for parameter in self.parameters():
            nn.init.trunc_normal_(parameter, std=0.02)

    def forward(self, steps: int) -> Tensor:
        """Embeddings (T', V, C); for another T' than learned, those of time are interpolated linearly (our choice)."""
        time: Tensor = self.time
        if steps != len(time):
            time = F.interpolate(time.permute(1, 2, 0), steps, mode="linear").permute(2, 0, 1)
        return time + self.joint


class SkeletonTransformer(Encoder):
    """Pre-norm transformer whose tokens are four frames of one joint each.

    Methods that mask go step by step, with bodies (B, T, V, 3) instead of clips: ``patchify``, ``embed``, a choice of
    tokens, ``encode``; or ``tokens``, which does all of it in the encoder's precision.
    """

    Config = SkeletonTransformerConfig
    config: SkeletonTransformerConfig
    # Attention over 750 tokens is beyond a CPU: our choice, a twenty-fifth of the operations at 50 frames.
    budgets = {"quick": {"dim": 64, "blocks": 4, "heads": 2, "ratio": 2, "absent": "skip"}}

    def __init__(self, config: SkeletonTransformerConfig, layout: Layout, frames: int, persons: int) -> None:
        super().__init__(config, layout, frames, persons)
        if config.dim % config.heads:
            raise BenchError(f"skeleton_transformer.dim={config.dim} is no multiple of heads={config.heads}.")
        self.dim, self.temporal_stride = config.dim, config.patch
        self.skip_absent = config.absent == "skip"
        self.patch = nn.Linear(3 * config.patch, config.dim)
        self.positions = Positions(-(-frames // config.patch), len(layout), config.dim)
        self.blocks = nn.ModuleList(
            TransformerBlock(config.dim, config.heads, config.ratio) for _ in range(config.blocks)
        )
        self.norm = nn.LayerNorm(config.dim)
        self.apply(xavier_init)

    def embed(self, patches: Tensor) -> Tensor:
        """Patches (B, T', V, 3 patch) -> tokens (B, T' V, C) with their positions, time-major."""
        tokens: Tensor = self.patch(patches) + self.positions(patches.shape[1])
        return tokens.flatten(1, 2)

    def encode(self, tokens: Tensor) -> Tensor:
        """Any number of embedded tokens (B, L, C) through all blocks and the last norm -> (B, L, C)."""
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)  # type: ignore[no-any-return]

    def tokens(self, patches: Tensor, kept: Tensor | None = None, extra: Tensor | None = None) -> Tensor:
        """Encode patches, or only some of them: the others take no part at all, as in masked pre-training.

        Args:
            patches: (B, T', V, 3 patch), see :func:`patchify`.
            kept: (B, K) indices of the tokens that are seen, by time and then joint.
            extra: (B, E, C) embedded tokens that are seen as well, and not returned.

        Returns:
            (B, K, C), in the order of ``kept``; all T' V tokens without it.
        """

        def seen(patches: Tensor) -> Tensor:
            tokens = self.embed(patches)
            tokens = tokens if kept is None else take(tokens, kept)
            if extra is None:
                return self.encode(tokens)
            return self.encode(torch.cat([extra.to(tokens.dtype), tokens], dim=1))[:, extra.shape[1] :]

        encoded: Tensor = self.in_precision(seen, patches)
        return encoded

    def set_dropout(self, rate: float) -> None:
        """Stochastic depth, from 0 in the first block to ``rate`` in the last (MAMP's fine-tuning)."""
        for number, layer in enumerate(self.dropouts()):
            layer.p = rate * number / max(len(self.blocks) - 1, 1)

    def levels_above(self, name: str) -> int:
        """See ``levels_above_block``; the last norm is at the top."""
        return 0 if name.startswith("norm.") else levels_above_block(name, len(self.blocks))

    def forward(self, clips: Tensor, adjacency: Tensor | None = None) -> Tensor:
        """See ``Encoder.forward``; ``adjacency`` has no meaning here."""
        bodies = bodies_of(clips, self.layout, self.skip_absent)
        patches = patchify(bodies.x, self.config.patch)
        features = self.encode(self.embed(patches))
        return bodies.maps(features.view(*patches.shape[:3], -1))


def take(tokens: Tensor, kept: Tensor) -> Tensor:
    """The tokens (B, K, C) of (B, L, C) at the indices (B, K)."""
    return tokens.gather(1, kept[..., None].expand(-1, -1, tokens.shape[2]))


def xavier_init(module: nn.Module) -> None:
    """MAMP's initialisation: Xavier-uniform linear layers with zero biases, LayerNorm (1, 0)."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
