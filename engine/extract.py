"""Features of clips by a method as it stands."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Generator, Tensor
from torch.nn.functional import normalize

from datasets.augment import BASIC, AugmentConfig, augment
from datasets.streams import to_stream
from engine.config import BenchError
from methods.base import Method
from protocols.base import INNER, FeatureConfig

_BATCH = 128
"""Clips per forward pass."""


@torch.no_grad()
def extract(
    method: Method, clips: Tensor, config: FeatureConfig, generator: Generator, noise_level: int | None = None
) -> Iterator[Tensor]:
    """Features (n, D) of joint clips (N, C, T, V, M) by a method as it stands, batch by batch.

    With a ``noise_level`` not of the clips, but of what the method's generative model makes of them from there in one step.

    Raises:
        BenchError: those of a projector are asked for, and the method has none.
    """
    context = method.context
    for batch in torch.split(clips, _BATCH):
        if config.augment:
            batch = augment(batch, BASIC, AugmentConfig(), context.layout, generator)
        batch = to_stream(batch, context.stream, context.layout)
        if noise_level is not None:
            (batch,) = method.generate(batch, (noise_level,), 0, generator).values()
        maps = method.encoder(batch)
        features = _inner(method, batch, maps, config) if config.space in INNER else pooled(method, maps, config.space)
        if features is None:
            raise BenchError(f"{type(method).__name__} has no {config.space}, by which the protocol asks for features.")
        yield features


def _inner(method: Method, clips: Tensor, maps: Tensor, config: FeatureConfig) -> Tensor | None:
    """Features of a part behind the encoder; ``fused``: the generator's beside the encoder's, each of unit length."""
    if config.space != "fused":
        return method.inner(config.space, clips, maps, config.noise_level)
    features = method.inner("generator", clips, maps, config.noise_level)
    if features is None:
        return None
    return torch.cat([normalize(each, dim=1) for each in (method.encoder.pool(maps), features)], dim=1)


def pooled(method: Method, maps: Tensor, space: str) -> Tensor | None:
    """Features (N, D) of maps (N, M, D, T', V); ``None`` where the method does not have that space."""
    if space == "encoder":
        return method.encoder.pool(maps)
    if space == "joints":
        return method.encoder.pool_joints(maps)
    if space == "projector":
        return method.project(method.encoder.pool(maps))
    weights = method.attention(maps)
    if weights is None:
        return None
    return method.encoder.pool(maps, weights if space == "actionlet" else 1 - weights)
