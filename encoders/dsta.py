"""DSTA: the transformer of HiCLR's second half, DSTA-Net with attention among joints only (hiclr.md 2.2)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datasets.layout import Layout
from encoders.base import Encoder, levels_above_block, shortcut
from encoders.bodies import BodiesConfig, bodies_of
from encoders.dropout import Dropout
from encoders.stgcn import normal_init
from engine.config import knob

SLOPE = 0.1
"""Slope of every LeakyReLU."""


class DSTAConfig(BodiesConfig):
    """Settings of DSTA."""

    width: int = knob(32, "channels of the first block, doubled three times (released code)", ge=4, multiple_of=4)
    heads: int = knob(3, "attention maps per block (released code)", ge=1)
    kernel: int = knob(7, "temporal kernel (released code)", unit="frames", ge=1)
    dropout: float = knob(
        0.5, "dropout on the temporal skip path, pre-training; the released fine-tuning has 0", ge=0, lt=1
    )
    init: Literal["normal", "torch"] = knob(
        "normal",
        "normal: N(0, 0.02) weights, zero biases, BatchNorm weights N(1, 0.02) (released code); torch: its defaults",
    )


def joint_code(channels: int, joints: int) -> Tensor:
    """Sinusoidal position code (C, 1, V) of the joints' numbers, the same in all frames."""
    channel = torch.arange(channels, dtype=torch.float64)[:, None]
    angle = torch.arange(joints) * 10000.0 ** (-(channel - channel % 2) / channels)
    return torch.where(channel % 2 == 1, angle.cos(), angle.sin())[:, None].float()


class JointAttention(nn.Module):
    """Attention maps among the joints of a clip, one per head for all frames; tanh instead of softmax."""

    def __init__(self, channels: int, inner: int, heads: int, joints: int) -> None:
        super().__init__()
        self.query_key = nn.Conv2d(channels, 2 * heads * inner, 1)
        self.gain = nn.Parameter(torch.ones(heads, 1, 1))
        self.shared = nn.Parameter(torch.full((heads, joints, joints), 1 / joints))
        self.code: Tensor
        self.register_buffer("code", joint_code(channels, joints), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, C, T, V) -> (B, S, V, V); entry (u, v) weighs input joint u for output joint v."""
        batch, _, _, joints = x.shape
        # Query and key of a head are rows of length C T: their product sums over channels and frames.
        both = self.query_key(x + self.code).view(batch, 2, len(self.gain), -1, joints)
        scores = both[:, 0].transpose(2, 3) @ both[:, 1] / both.shape[3]
        return torch.tanh(scores) * self.gain + self.shared


class Block(nn.Module):
    """Mixing of joints by attention, a layer on every joint, then a temporal convolution; each with a shortcut."""

    def __init__(self, channels_in: int, channels_out: int, inner: int, stride: int, config: DSTAConfig, joints: int):
        super().__init__()
        self.attention = JointAttention(channels_in, inner, config.heads, joints)
        self.mixed = _normed(nn.Conv2d(config.heads * channels_in, channels_out, 1))
        self.layer = _normed(nn.Conv2d(channels_out, channels_out, 1))
        kernel = (config.kernel, 1)
        self.temporal = _normed(
            nn.Conv2d(channels_out, channels_out, kernel, (stride, 1), padding=(config.kernel // 2, 0))
        )
        self.dropout = Dropout(config.dropout)
        self.stride = stride
        changes = channels_in != channels_out or stride != 1
        self.to_mixed = shortcut(channels_in, channels_out, changes)
        self.to_layer = shortcut(channels_in, channels_out, changes)
        self.to_temporal = shortcut(channels_out, channels_out, changes)

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        """Features (B, C, T, V), adjacency (S, V, V) that scales the attention -> (B, C', T', V)."""
        batch, channels, frames, joints = x.shape
        attention = self.attention(x) * adjacency
        y = x.reshape(batch, 1, channels * frames, joints) @ attention.to(x.dtype)
        y = y.view(batch, -1, frames, joints)  # head-major: channel s C + c
        y = F.leaky_relu(self.mixed(y) + self.to_mixed(x), SLOPE)
        y = F.leaky_relu(self.layer(y) + self.to_layer(x), SLOPE)
        # Frames are dropped before the shortcut's 1x1 convolution, which then needs no stride (as in ST-GCN).
        kept = self.to_temporal(y[:, :, :: self.stride])
        return F.leaky_relu(self.temporal(y) + self.dropout(kept), SLOPE)


def _normed(convolution: nn.Conv2d) -> nn.Sequential:
    return nn.Sequential(convolution, nn.BatchNorm2d(convolution.out_channels))


class DSTA(Encoder):
    """DSTA: eight blocks of joint attention and temporal convolution, T -> T/4.

    The base adjacency is all ones: every joint sees every joint. Replacing it drops or scales cells of the attention.
    The released code draws dropped cells per sample (and its rates never arrive, hiclr.md 1.4b); here they are drawn for
    the batch, as for graph encoders.
    """

    version = 2
    Config = DSTAConfig
    config: DSTAConfig
    graph = True
    budgets = {"quick": {"dropout": 0.0, "absent": "skip"}}
    tuned = {"quick:synthetic": {"width": 8}}

    def __init__(self, config: DSTAConfig, layout: Layout, frames: int, persons: int) -> None:
        super().__init__(config, layout, frames, persons)
        w, joints = config.width, len(layout)
        channels = (w, w, w, 2 * w, 2 * w, 4 * w, 4 * w, 4 * w, 8 * w)
        self.dim, self.temporal_stride, self.depth = 8 * w, 4, 8
        self.skip_absent = config.absent == "skip"
        self.adjacency: Tensor = torch.ones(config.heads, joints, joints)
        self.input = _normed(nn.Conv2d(3, w, 1))
        self.blocks = nn.ModuleList(
            Block(
                channels[i],
                channels[i + 1],
                inner=w // 2 if i < 4 else w,
                stride=2 if i in (2, 4) else 1,
                config=config,
                joints=joints,
            )
            for i in range(self.depth)
        )
        if config.init == "normal":
            self.apply(normal_init)

    def levels_above(self, name: str) -> int:
        """See ``levels_above_block``."""
        return levels_above_block(name, len(self.blocks))

    def forward(self, clips: Tensor, adjacency: Tensor | None = None) -> Tensor:
        """See ``Encoder.forward``."""
        bodies = bodies_of(clips, self.layout, self.skip_absent)
        x = F.leaky_relu(self.input(bodies.x.permute(0, 3, 1, 2).contiguous()), SLOPE)
        layers = self.adjacency.expand(self.depth, -1, -1, -1) if adjacency is None else adjacency
        for block, weights in zip(self.blocks, layers, strict=True):
            x = block(x, weights)
        return bodies.maps(x.permute(0, 2, 3, 1))
