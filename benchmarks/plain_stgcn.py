"""ST-GCN written straightforwardly, (N, C, T, V) in memory and the adjacency after the 1x1 convolution.

The yardstick for the zoo's channels-last version, and its slow twin in the tests: the same modules, another ``forward``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from encoders.stgcn import STGCN, Block


def plain_block(block: Block, x: Tensor, adjacency: Tensor) -> Tensor:
    """One block on contiguous (B, C, T, V)."""
    partitions = adjacency.shape[0]
    linear = block.graph.conv
    y = F.conv2d(x, linear.weight[:, :, None, None], linear.bias)
    batch, channels, frames, joints = y.shape
    y = y.view(batch, partitions, channels // partitions, frames, joints)
    y = torch.einsum("nkctv,kvw->nctw", y, adjacency * block.graph.importance).contiguous()
    y = F.relu(block.norm_in(y), inplace=True)
    y = F.dropout(block.norm_out(block.temporal(y)), block.dropout.p, block.training)
    if block.residual and block.shortcut is not None:
        one_by_one, norm = block.shortcut
        assert isinstance(one_by_one, nn.Conv2d)
        x = norm(F.conv2d(x, one_by_one.weight, one_by_one.bias, (block.stride, 1)))
    return F.relu(y + x if block.residual else y)


def plain_forward(encoder: STGCN, clips: Tensor) -> Tensor:
    """Maps (N, M, D, T', V) of contiguous clips (N, C, T, V, M); convolution weights should be contiguous, too."""
    count, coordinates, frames, joints, persons = clips.shape
    x = clips.permute(0, 4, 3, 1, 2).reshape(count * persons, joints * coordinates, frames)
    x = encoder.data_norm(x).view(-1, joints, coordinates, frames).permute(0, 2, 3, 1).contiguous()
    for block in encoder.blocks:
        assert isinstance(block, Block)
        x = plain_block(block, x, encoder.adjacency)
    return x.view(count, persons, *x.shape[1:])
