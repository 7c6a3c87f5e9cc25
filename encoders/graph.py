"""The spatial graph of a layout."""

from __future__ import annotations

import torch
from torch import Tensor

from datasets.layout import Layout


def spatial_adjacency(layout: Layout) -> Tensor:
    """Normalised adjacency (3, V, V) in ST-GCN's "spatial" partition; entry (v, w) weighs input v for output w.

    Partition 0 holds the self loops, 2 the edges that lead away from the centre joint, 1 all others. As in the released
    code the hop distance stops at one hop, so beyond the centre's neighbours all distances are infinite, compare as equal
    and fall into partition 1 (aimclr.md 2.1). Columns sum to one over the three partitions.
    """
    count = len(layout)
    linked = torch.eye(count, dtype=torch.float64)
    for child, parent in enumerate(layout.bones):
        linked[child, parent] = linked[parent, child] = 1.0
    normalised = linked / linked.sum(dim=0, keepdim=True)
    distance = torch.full((count,), torch.inf, dtype=torch.float64)
    distance[linked[layout.centre] > 0] = 1.0
    distance[layout.centre] = 0.0
    loops = torch.eye(count, dtype=torch.bool)
    outward = (distance[:, None] < distance[None, :]) & ~loops
    parts = [normalised * mask for mask in (loops, ~loops & ~outward, outward)]
    return torch.stack(parts).float()


def directed_adjacency(layout: Layout) -> Tensor:
    """Adjacency (3, V, V) by the direction of bones: self, towards the centre, away from it; entry (u, v) weighs input v.

    Partition 1 adds up a joint's children, partition 2 gives it its parent's share of 1 / number of children: as in CTR-GCN,
    every column sums to one or, at the ends of the tree, to zero.
    """
    count = len(layout)
    towards = torch.zeros(count, count)
    for child, parent in enumerate(layout.bones):
        if child != parent:
            towards[parent, child] = 1.0
    away = towards.T / towards.sum(dim=1).clamp(min=1)
    return torch.stack([torch.eye(count), towards, away])
