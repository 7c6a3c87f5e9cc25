"""Streams: joint, bone and motion, computed from joint clips after augmentation (aimclr.md 1.6)."""

from __future__ import annotations

import torch
from torch import Tensor

from datasets.augment import indices
from datasets.clips import from_storage, to_storage
from datasets.layout import Layout
from engine.config import BenchError, suggestion

STREAMS = ("joint", "bone", "motion")


def to_stream(clips: Tensor, stream: str, layout: Layout) -> Tensor:
    """Convert joint clips (N, C, T, V, M) to a stream of the same shape and memory order.

    joint: as is. bone: child minus parent, the centre joint becomes zero. motion: next frame minus this one, last frame zero.

    Raises:
        BenchError: unknown stream.
    """
    if stream == "joint":
        return clips
    if stream == "bone":
        return clips - clips[:, :, :, indices(layout.bones, clips.device)]
    if stream == "motion":
        stored = to_storage(clips)
        last = torch.zeros_like(stored[:, :, :1])
        return from_storage(torch.cat([stored[:, :, 1:] - stored[:, :, :-1], last], dim=2))
    raise BenchError(f"Unknown stream {stream!r}.{suggestion(stream, STREAMS)} Known: {', '.join(STREAMS)}.")
