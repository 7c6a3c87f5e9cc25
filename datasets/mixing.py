"""ActCLR's transformations between clips: style swap ("skeleton AdaIN") and skeleton mix (actclr.md 6.3, 6.4).

All act on stream clips (N, C, T, V, M); sample n's partner is (n + shift) mod N.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from datasets.augment import from_bones, to_bones
from datasets.clips import from_storage, present_persons, to_storage
from datasets.layout import Layout

UNIT = 4
"""Frames per unit of a mixing window: the temporal stride of ST-GCN."""


def style_swap(
    clips: Tensor,
    shift: int,
    layout: Layout,
    stream: str,
    form: Literal["length", "moments"] = "length",
    skip_absent: bool = False,
) -> Tensor:
    """Give every clip the style of its partner.

    Args:
        clips: (N, C, T, V, M) of one stream.
        shift: partner distance in the batch.
        layout: skeleton.
        stream: joint: bones get the partner's lengths, per frame and person, and joints are rebuilt from the centre;
            bone: the lengths directly; motion: mean and deviation.
        form: ``length``: as above (released code); ``moments``: mean and deviation for every stream (paper, Eq. 6).
        skip_absent: mean and deviation leave persons alone that are absent in either clip; in the released code one takes
            the other's mean, and the other collapses. Lengths leave an absent person absent by themselves.
    """
    x = to_storage(clips)
    partner = x.roll(-shift, dims=0)
    if form == "moments" or stream == "motion":
        mean, partner_mean = x.mean(dim=3, keepdim=True), partner.mean(dim=3, keepdim=True)
        deviation, partner_deviation = x.std(dim=2, keepdim=True), partner.std(dim=2, keepdim=True)
        styled = (x - mean) / (deviation + 1e-3) * partner_deviation + partner_mean
        if skip_absent:
            present = present_persons(clips)
            styled = torch.where((present & present.roll(-shift, dims=0))[:, :, None, None, None], styled, x)
        return from_storage(styled)

    def length(bones: Tensor) -> Tensor:
        return torch.sqrt((bones**2).sum(dim=4, keepdim=True) + 1e-5)

    if stream == "bone":
        return from_storage(x / length(x) * length(partner))
    bones_of = to_bones(layout, x)
    bones = torch.matmul(bones_of, x)
    factor = length(torch.matmul(bones_of, partner)) / length(bones)
    factor[:, :, :, layout.centre] = 1.0  # the centre joint is a position, not a bone
    return from_storage(torch.matmul(from_bones(layout, x), bones * factor))


@dataclass(frozen=True)
class Mix:
    """One drawn skeleton mix, shared by the batch (released code).

    Attributes:
        kind: ``cut``: copy the partner's joints in the window; ``resize``: paste its first frames at double speed;
            ``mixup``: blend whole clips.
        shift: partner distance.
        joints: joints of the chosen body parts.
        start, length: window, in units of 4 frames.
        amount: mixup's share of the partner.
    """

    kind: Literal["cut", "resize", "mixup"]
    shift: int
    joints: tuple[int, ...]
    start: int
    length: int
    amount: float

    def masks(self, frames: int, joints: int, device: torch.device, stride: int = UNIT) -> tuple[Tensor, Tensor]:
        """What of the partner was used, and what of the clip was replaced, as (frames, V).

        Args:
            frames: T' of the encoder's maps.
            joints: V.
            device: of the result.
            stride: frames of the clip per frame of the maps.
        """
        used = torch.zeros(frames, joints, device=device)
        if self.kind == "mixup":
            return used + self.amount, used + self.amount
        chosen = torch.tensor(self.joints, device=device)
        replaced = used.clone()
        first, last = self.start * UNIT // stride, -(-(self.start + self.length) * UNIT // stride)
        replaced[first:last, chosen] = 1.0
        used[:, chosen] = 1.0
        return (replaced if self.kind == "cut" else used), replaced


def draw_mix(count: int, frames: int, layout: Layout, small: bool, generator: Generator) -> Mix:
    """Draw a mix for a batch of ``count`` clips; ``small`` takes 1 or 2 parts and 1 to 3 units instead of 2, 3 and 3 to 5."""

    def uniform(low: int, high: int) -> int:
        """Integer in low..high."""
        return int(torch.randint(low, high + 1, (), generator=generator, device=generator.device))

    units = frames // UNIT
    number = min(uniform(1, 2) if small else uniform(2, 3), len(layout.parts))
    length = min(uniform(1, 3) if small else uniform(3, 5), units)
    start = uniform(0, units - length)
    order = torch.randperm(len(layout.parts), generator=generator, device=generator.device)[:number].tolist()
    joints = tuple(joint for part in sorted(order) for joint in layout.parts[part])
    kind, amount = torch.rand(2, generator=generator, device=generator.device).tolist()
    name: Literal["cut", "resize", "mixup"] = "cut" if kind < 0.5 else "resize" if kind < 0.75 else "mixup"
    return Mix(name, uniform(1, max(count - 2, 1)), joints, start, length, amount)


def skeleton_mix(clips: Tensor, mix: Mix) -> Tensor:
    """Mix every clip (N, C, T, V, M) with its partner."""
    x = to_storage(clips)
    partner = x.roll(-mix.shift, dims=0)
    if mix.kind == "mixup":
        return from_storage((1 - mix.amount) * x + mix.amount * partner)
    first, last = mix.start * UNIT, (mix.start + mix.length) * UNIT
    window = slice(first, min(last, x.shape[2]))
    width = window.stop - window.start
    source = partner[:, :, window] if mix.kind == "cut" else partner[:, :, : 2 * width : 2]
    window = slice(window.start, window.start + source.shape[2])
    chosen = torch.zeros(x.shape[3], dtype=torch.bool, device=x.device)
    chosen[list(mix.joints)] = True
    mixed = x.clone()
    mixed[:, :, window] = torch.where(chosen[:, None], source, x[:, :, window])
    return from_storage(mixed)


def resize_time(weights: Tensor, frames: int) -> Tensor:
    """Stretch (N, M, T', V) to ``frames`` in time, end frames aligned."""
    return F.interpolate(weights, size=(frames, weights.shape[3]), mode="bilinear", align_corners=True)
