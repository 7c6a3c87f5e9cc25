"""Corruptions of test clips, of growing strength (definitions of this suite; igm.md 3.2).

All strengths of one kind share their random numbers: what is lost at a small strength is lost at every larger one, and noise
only grows (``part`` alone has no order: its strength is the number of a part). Strength 0 changes nothing. Absent persons stay
absent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from datasets.clips import from_storage, present_persons, to_storage
from datasets.layout import Layout
from engine.config import digest

VERSION = 1
"""Raised when the same strength gives other clips."""


@dataclass(frozen=True)
class Corruption:
    """One kind.

    Attributes:
        title: what it does.
        unit: of the strength.
        strengths: ascending from 0, those that figures show.
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
    return from_storage(stored + strength * drawn * present_persons(clips)[:, :, None, None, None])


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


def part(clips: Tensor, strength: float, layout: Layout, generator: Generator) -> Tensor:
    """Hide body part number ``strength`` (1 is the trunk, see ``Layout.parts``) of all persons for the whole clip."""
    stored = to_storage(clips)
    if not 1 <= strength <= len(layout.parts):
        return clips
    seen = stored.new_ones(len(layout))
    seen[list(layout.parts[int(strength) - 1])] = 0
    return from_storage(stored * seen[:, None])


def frames(clips: Tensor, strength: float, layout: Layout, generator: Generator) -> Tensor:
    """Drop a share ``strength`` of the frames, drawn clip by clip, and fill the holes linearly: a low temporal resolution.

    Kept frames stay at their moments; before the first and after the last one the pose stands still. At least one is kept.
    """
    stored = to_storage(clips)
    count, persons, length = stored.shape[:3]
    rank = torch.rand(count, length, generator=generator, device=stored.device).argsort(dim=1).argsort(dim=1)
    kept = rank < max(1, round((1 - strength) * length))
    moment = torch.arange(length, device=stored.device)
    before = torch.where(kept, moment, -1).cummax(dim=1).values
    after = torch.where(kept, moment, length).flip(1).cummin(dim=1).values.flip(1)
    before, after = torch.where(before < 0, after, before), torch.where(after == length, before, after)
    share = ((moment - before) / (after - before).clamp(min=1))[:, None, :, None, None]
    clip, person = (torch.arange(n, device=stored.device) for n in (count, persons))
    start, end = (stored[clip[:, None, None], person[:, None], at[:, None]] for at in (before, after))
    return from_storage(torch.lerp(start, end, share.to(stored.dtype)))


def gap(clips: Tensor, strength: float, layout: Layout, generator: Generator) -> Tensor:
    """Lose a share ``strength`` of the frames in a row, from a moment drawn clip by clip; all joints lie at the origin."""
    stored = to_storage(clips)
    length = stored.shape[2]
    lost = round(strength * length)
    drawn = torch.rand(len(stored), 1, generator=generator, device=stored.device, dtype=torch.float64)
    start = (drawn * (length - lost + 1)).floor()
    moment = torch.arange(length, device=stored.device)
    seen = (moment < start) | (moment >= start + lost)
    return from_storage(stored * seen[:, None, :, None, None])


def rotation(clips: Tensor, strength: float, layout: Layout, generator: Generator) -> Tensor:
    """Turn every clip about the vertical axis y by ``strength`` degrees, to the left or to the right, drawn clip by clip."""
    stored = to_storage(clips)
    sign = 2.0 * (torch.rand(len(stored), generator=generator, device=stored.device) < 0.5) - 1
    angle = torch.deg2rad(strength * sign).to(stored.dtype)[:, None, None, None]
    x, y, z = stored.unbind(dim=-1)
    return from_storage(torch.stack([x * angle.cos() + z * angle.sin(), y, z * angle.cos() - x * angle.sin()], dim=-1))


CORRUPTIONS: Mapping[str, Corruption] = {
    "noise": Corruption("Gaussian noise", "m", (0.0, 0.01, 0.03, 0.05, 0.1), noise),
    "missing": Corruption("missing joints", "share", (0.0, 0.05, 0.1, 0.2, 0.4), missing),
    "occluded": Corruption("occluded limbs", "limbs", (0.0, 1.0, 2.0, 3.0, 4.0), occluded),
    "part": Corruption("one hidden part", "number", (0.0, 1.0, 2.0, 3.0, 4.0, 5.0), part),
    "frames": Corruption("dropped frames", "share", (0.0, 0.5, 0.75, 0.875), frames),
    "gap": Corruption("lost interval", "share", (0.0, 0.08, 0.17, 0.33), gap),
    "rotation": Corruption("turned view", "degrees", (0.0, 30.0, 60.0, 90.0), rotation),
}


def corrupt(clips: Tensor, kind: str, strength: float, layout: Layout) -> Tensor:
    """Corrupted copies of joint clips (N, C, T, V, M), the same ones wherever and whenever they are made.

    Random numbers are drawn on the CPU and depend on the kind and the number of clips alone.
    """
    generator = Generator().manual_seed(int(digest(["corruption", kind]), 16) >> 1)
    return CORRUPTIONS[kind].apply(clips.cpu(), strength, layout, generator).to(clips.device)
