"""HiCLR's strong augmentations: random mask, drop/add edges, skeleton AdaIN (hiclr.md 1.4). All act on stream clips."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Generator, Tensor

from datasets.clips import from_storage, present_persons, to_storage
from datasets.layout import Layout

MaskKind = Literal["frame_joint", "joint", "part", "frame"]
Scope = Literal["batch", "sample"]


def draw_mask(
    count: int, frames: int, layout: Layout, ratio: float, kind: MaskKind, scope: Scope, generator: Generator
) -> Tensor:
    """Hidden positions (N, T, V) bool.

    Args:
        count: N.
        frames: T.
        layout: skeleton.
        ratio: share hidden, rounded down to whole joints, parts or frames.
        kind: ``frame_joint``: other joints in every frame (released); ``joint``: the same joints in all frames;
            ``part``: whole body parts; ``frame``: whole frames.
        scope: one mask for the batch (released) or one per sample.
        generator: source of randomness.
    """
    draws = 1 if scope == "batch" else count
    device = generator.device

    def choose(rows: int, width: int) -> Tensor:
        order = torch.rand((rows, width), generator=generator, device=device).argsort(dim=1).argsort(dim=1)
        return order < int(width * ratio)

    joints = len(layout)
    if kind == "frame_joint":
        hidden = choose(draws * frames, joints).view(draws, frames, joints)
    elif kind == "joint":
        hidden = choose(draws, joints)[:, None].expand(-1, frames, -1)
    elif kind == "part":
        member = torch.zeros(len(layout.parts), joints, device=device)
        for number, part in enumerate(layout.parts):
            member[number, list(part)] = 1
        hidden = (choose(draws, len(layout.parts)).float() @ member).bool()[:, None].expand(-1, frames, -1)
    else:
        hidden = choose(draws, frames)[:, :, None].expand(-1, -1, joints)
    return hidden.expand(count, -1, -1)


def apply_mask(clips: Tensor, hidden: Tensor, fill: Tensor, skip_absent: bool = False) -> Tensor:
    """Replace positions of clips by one value.

    Args:
        clips: (N, C, T, V, M).
        hidden: (N, T, V) bool.
        fill: scalar tensor, may be learned.
        skip_absent: leave absent persons zero; the released code fills them, too.
    """
    where = hidden[:, None, :, :, None]  # (N, 1, T, V, 1)
    if skip_absent:
        where = where & present_persons(clips)[:, :, None, None, None]
    return from_storage(torch.where(where, fill, to_storage(clips)))


def drop_edges(adjacency: Tensor, layers: int, drop_max: float, add_max: float, generator: Generator) -> Tensor:
    """Perturbed adjacencies (L, K, V, V), drawn independently for every layer.

    Args:
        adjacency: base (K, V, V).
        layers: L.
        drop_max: r ~ U(0, drop_max), then inverted dropout of the entries with rate r.
        add_max: if positive, r' ~ U(0, add_max): entries that are zero become 1 with rate r', and everything is scaled
            so that the total mass stays. The released GCN never does this (hiclr.md 7.6).
        generator: source of randomness.
    """

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=generator.device)

    base = adjacency.expand(layers, -1, -1, -1)
    rate = uniform(layers, 1, 1, 1) * drop_max
    dropped = base * (uniform(*base.shape) >= rate) / (1 - rate)
    if add_max == 0:
        return dropped
    added = ((uniform(*base.shape) < uniform(layers, 1, 1, 1) * add_max) & (dropped == 0)).to(base.dtype)
    mass = dropped.sum(dim=(1, 2, 3), keepdim=True)
    return (dropped + added) * mass / (mass + added.sum(dim=(1, 2, 3), keepdim=True))


def adain(clips: Tensor, partner: Tensor, statistics: Literal["TV", "V"] = "TV", skip_absent: bool = False) -> Tensor:
    """Give every clip the mean and deviation, per person and coordinate, of its partner's clip (skeleton AdaIN).

    Args:
        clips: (N, C, T, V, M).
        partner: (N,) index of the style clip.
        statistics: over frames and joints (``TV``) or over the joints of each frame (``V``).
        skip_absent: leave persons alone that are absent in either clip; the released code lets them collapse.
    """
    over = (2, 3) if statistics == "TV" else (3,)
    mean = clips.mean(dim=over, keepdim=True)
    deviation = torch.sqrt(clips.var(dim=over, keepdim=True) + 1e-5)
    styled = (clips - mean) / deviation * deviation[partner] + mean[partner]
    if skip_absent:
        present = present_persons(clips)
        styled = torch.where((present & present[partner])[:, None, None, None, :], styled, clips)
    return styled


def cyclic_partner(count: int, generator: Generator) -> Tensor:
    """Every sample's partner under one cyclic shift, uniform in 1..N-2 (released code); 1 in batches of two."""
    shift = torch.randint(1, max(count - 1, 2), (), generator=generator, device=generator.device)
    return (torch.arange(count, device=generator.device) + shift) % count
