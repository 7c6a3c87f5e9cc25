"""Views of the masked-motion family (MAMP, MacDiff, IGM): a stretch of the clip at another pace, turned about all axes."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from datasets.augment import mix_time, rotation_matrix, transform
from datasets.clips import from_storage, to_storage
from engine.config import Config, knob


class ResizedConfig(Config):
    """Strengths of the views."""

    crop: float = knob(0.5, "shortest stretch as a share of the clip (released MAMP, MacDiff)", gt=0, le=1)
    angle: float = knob(0.3, "largest angle about each axis, both signs (MacDiff paper)", unit="radians", ge=0)


def resize_matrix(start: Tensor, length: Tensor, frames: int) -> Tensor:
    """Matrices (N, T, T) that resize ``length`` frames from ``start`` on to T, linearly between frame centres.

    Args:
        start: (N,) whole numbers.
        length: (N,) whole numbers, ``start + length`` at most T.
        frames: T.
    """
    time = torch.arange(frames, device=start.device)
    last = (length - 1)[:, None].float()
    position = ((time + 0.5) * (length[:, None] / frames) - 0.5).clamp(min=0).minimum(last) + start[:, None]
    return (1 - (position[:, :, None] - time).abs()).clamp(min=0)


def resized(clips: Tensor, config: ResizedConfig, generator: Generator) -> Tensor:
    """Clips (N, C, T, V, M): per sample a random stretch, resized to T frames, and one rotation for all persons."""
    stored = to_storage(clips)
    count, frames = len(stored), stored.shape[2]
    drawn = torch.rand(count, 5, generator=generator, device=stored.device)
    length = (frames * (config.crop + (1 - config.crop) * drawn[:, 0])).long().clamp(min=1)
    start = (drawn[:, 1] * (frames - length + 1)).long()
    angles = torch.rad2deg((2 * drawn[:, 2:] - 1) * config.angle)
    turned = transform(stored, rotation_matrix(angles))
    return from_storage(mix_time(turned, resize_matrix(start, length, frames)))
