"""Corruptions of test clips, of growing strength: noise, missing joints, occluded limbs (definitions of this suite).

All strengths of one kind share their random numbers: what is lost at a small strength is lost at every larger one, and noise
only grows. Strength 0 changes nothing. Absent persons stay absent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from datasets.clips import from_storage, to_storage
from datasets.layout import Layout

VERSION = 1
"""Raised when the same strength gives other clips."""


@dataclass(frozen=True)
class Corruption:
    """One kind.

    Attributes:
        title: what it does.
        unit: of the strength.
        strengths: those that are measured, ascending from 0.
        apply: ``apply(clips, strength, layout, generator)`` on joint clips (N, C, T, V, M) in metres.
    """

    title: str
    unit: str
    strengths: tuple[float, ...]
    apply: Callable[[Tensor, float, Layout, Generator], Tensor]


def noise(clips: Tensor, strength: float, layout: Layout, generator: Generator) -> Tensor:
    """Add Gaussian noise with a standard deviation of ``strength`` metres to every coordinate of every joint and frame."""
    stored = to_storage(clips)
    drawn = torch.randn(stored.shape, generator=generator, device=stored.device)
    present = (stored != 0).flatten(2).any(dim=2)[:, :, None, None, None]
    return from_storage(stored + strength * drawn * present)


def missing(clips: Tensor, strength: float, layout: Layout, generator: Generator) -> Tensor:
    """Lose every joint in every frame with probability ``strength``, each for itself; lost joints lie at the origin."""
    stored = to_storage(clips)
    drawn = torch.rand(stored.shape[:-1], generator=generator, device=stored.device)
    return from_storage(stored * (drawn >= strength)[..., None])


def occluded(clips: Tensor, strength: float, layout: Layout, generator: Generator) -> Tensor:
    """Hide ``strength`` limbs, drawn clip by clip, of all persons for the whole clip; hidden joints lie at the origin."""
    stored = to_storage(clips)
    limbs = layout.parts[1:]
    if not limbs:
        return clips
    rank = torch.rand(len(stored), len(limbs), generator=generator, device=stored.device).argsort(dim=1).argsort(dim=1)
    hidden = rank < strength  # (N, limbs)
    seen = torch.ones(len(stored), len(layout), device=stored.device, dtype=stored.dtype)
    for limb, joints in enumerate(limbs):
        seen[:, list(joints)] = (~hidden[:, limb, None]).to(stored.dtype)
    return from_storage(stored * seen[:, None, None, :, None])


CORRUPTIONS: Mapping[str, Corruption] = {
    "noise": Corruption("Gaussian noise", "m", (0.0, 0.01, 0.02, 0.05, 0.1), noise),
    "missing": Corruption("missing joints", "share", (0.0, 0.05, 0.1, 0.2, 0.4), missing),
    "occluded": Corruption("occluded limbs", "limbs", (0.0, 1.0, 2.0, 3.0, 4.0), occluded),
}
