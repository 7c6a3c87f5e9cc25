"""CTR-GCN (ICCV 2021): a topology of its own for every channel and clip, and multi-scale temporal convolutions.

After the paper and its released code, without its classifier; the design of most graph encoders since.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datasets.layout import Layout
from encoders.base import Encoder, shortcut
from encoders.bodies import BodiesConfig, bodies_of
from encoders.graph import directed_adjacency
from engine.config import knob


class CTRGCNConfig(BodiesConfig):
    """Settings of CTR-GCN."""

    width: int = knob(64, "channels of the first block, doubled twice (released code)", ge=8, multiple_of=8)
    kernel: int = knob(5, "temporal kernel of the dilated branches (released code)", unit="frames", ge=1)


class TopologyRefinement(nn.Module):
    """Channel-wise topology refinement graph convolution, summed over the partitions of the graph.

    A partition's topology is learned and shared by all clips; to it comes, for every channel, tanh of the differences
    between any two joints, averaged over time.
    """

    def __init__(self, channels_in: int, channels_out: int, adjacency: Tensor) -> None:
        super().__init__()
        self.partitions = len(adjacency)
        relations = 8 if channels_in == 3 else channels_in // 8
        self.relate = nn.Conv2d(channels_in, 2 * self.partitions * relations, 1)  # both joints' sides of all partitions
        self.refine = nn.ModuleList(nn.Linear(relations, channels_out) for _ in adjacency)
        self.value = nn.Conv2d(channels_in, self.partitions * channels_out, 1)
        self.shared = nn.Parameter(adjacency.clone())
        self.gain = nn.Parameter(torch.zeros(1))
        self.norm = nn.BatchNorm2d(channels_out)
        self.shortcut = shortcut(channels_in, channels_out, channels_in != channels_out)

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        """Features (B, C, T, V), adjacency (K, V, V) that scales the topologies -> (B, C', T, V)."""
        batch, _, frames, joints = x.shape
        # A 1x1 convolution commutes with the average over time.
        sides = self.relate(x.mean(dim=2, keepdim=True)).view(batch, 2, self.partitions, -1, 1, joints)
        # (B, K, R, V, V) from here on: input joint first, output joint second.
        differences = torch.tanh(sides[:, 0] - sides[:, 1].transpose(-1, -2)) * adjacency.mT[:, None]
        values = self.value(x).view(batch, self.partitions, -1, frames, joints)
        mixed: Tensor | None = None
        for k, refine in enumerate(self.refine):
            # One product instead of a chain of sums as large as the topologies of all channels: the refinement's bias and
            # the shared topology are two further inputs.
            assert isinstance(refine, nn.Linear)
            constant = torch.stack([adjacency[k].mT, adjacency[k].mT * self.shared[k].mT]).expand(batch, -1, -1, -1)
            inputs = torch.cat([differences[:, k], constant], dim=1).flatten(2)
            weight = torch.cat([self.gain * refine.weight, self.gain * refine.bias[:, None]], dim=1)
            weight = F.pad(weight, (0, 1), value=1.0)
            topology = (weight @ inputs).view(-1, joints, joints)
            rows = values[:, k].reshape(-1, frames, joints)
            mixed = torch.bmm(rows, topology) if mixed is None else torch.baddbmm(mixed, rows, topology)
        assert mixed is not None
        return F.relu(self.norm(mixed.view(batch, -1, frames, joints)) + self.shortcut(x))


class TemporalConvolution(nn.Module):
    """Four branches of a quarter of the channels: dilation 1, dilation 2, maximum, 1x1."""

    def __init__(self, channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        part = channels // 4
        self.stride = stride
        self.entry = nn.Conv2d(channels, 3 * part, 1)  # of the first three branches, which normalise and rectify it
        self.norm_entry = nn.BatchNorm2d(3 * part)
        self.dilated = nn.ModuleList(
            nn.Conv2d(part, part, (kernel, 1), (stride, 1), ((kernel - 1) * dilation // 2, 0), (dilation, 1))
            for dilation in (1, 2)
        )
        self.pool = nn.MaxPool2d((3, 1), (stride, 1), (1, 0))
        self.point = nn.Conv2d(channels, part, 1)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, C, T, V) -> (B, C, T', V)."""
        entered = F.relu(self.norm_entry(self.entry(x))).chunk(3, dim=1)
        branches = [convolution(part) for convolution, part in zip(self.dilated, entered, strict=False)]
        # Frames are dropped before the 1x1 convolution, which then needs no stride (as in ST-GCN).
        branches += [self.pool(entered[2]), self.point(x[:, :, :: self.stride])]
        return self.norm(torch.cat(branches, dim=1))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Graph convolution, then temporal convolution, with a residual connection."""

    def __init__(
        self, channels_in: int, channels_out: int, stride: int, residual: bool, kernel: int, adjacency: Tensor
    ) -> None:
        super().__init__()
        self.graph = TopologyRefinement(channels_in, channels_out, adjacency)
        self.temporal = TemporalConvolution(channels_out, kernel, stride)
        changes = channels_in != channels_out or stride != 1
        self.shortcut = shortcut(channels_in, channels_out, changes) if residual else None
        self.stride = stride

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        """Features (B, C, T, V), adjacency (K, V, V) -> (B, C', T', V)."""
        y = self.temporal(self.graph(x, adjacency))
        return F.relu(y if self.shortcut is None else y + self.shortcut(x[:, :, :: self.stride]))


class CTRGCN(Encoder):
    """CTR-GCN: ten blocks with channel-wise topologies, T -> T/4.

    The base adjacency is all ones, since the graph itself is learned; replacing it drops or scales edges of all channels.
    Persons are normalised alike, as in ST-GCN; the released code has statistics of its own for every slot.
    """

    version = 2
    Config = CTRGCNConfig
    config: CTRGCNConfig
    graph = True
    # Our choice: a twelfth of the operations, on the synthetic set a thirtieth, so that CPUs train it.
    budgets = {"quick": {"width": 16, "absent": "skip"}}
    tuned = {"quick:synthetic": {"width": 8}}

    def __init__(self, config: CTRGCNConfig, layout: Layout, frames: int, persons: int) -> None:
        super().__init__(config, layout, frames, persons)
        w = config.width
        channels = (3, w, w, w, w, 2 * w, 2 * w, 2 * w, 4 * w, 4 * w, 4 * w)
        self.dim, self.temporal_stride, self.depth = 4 * w, 4, 10
        self.skip_absent = config.absent == "skip"
        graph = directed_adjacency(layout)
        self.adjacency: Tensor = torch.ones_like(graph)
        self.data_norm = nn.BatchNorm1d(len(layout) * 3)
        self.blocks = nn.ModuleList(
            Block(channels[i], channels[i + 1], 2 if i in (4, 7) else 1, i > 0, config.kernel, graph)
            for i in range(self.depth)
        )
        self.apply(_init)

    def forward(self, clips: Tensor, adjacency: Tensor | None = None) -> Tensor:
        """See ``Encoder.forward``."""
        bodies = bodies_of(clips, self.layout, self.skip_absent)
        _, frames, joints, coordinates = bodies.x.shape
        x = self.data_norm(bodies.x.reshape(-1, joints * coordinates))
        x = x.view(-1, frames, joints, coordinates).permute(0, 3, 1, 2).contiguous()
        layers = self.adjacency.expand(self.depth, -1, -1, -1) if adjacency is None else adjacency
        for block, weights in zip(self.blocks, layers, strict=True):
            x = block(x, weights)
        return bodies.maps(x.permute(0, 2, 3, 1))


def _init(module: nn.Module) -> None:
    """The released initialisation: He by outputs, and graph convolutions that start almost without effect."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight, mode="fan_out")
        nn.init.zeros_(module.bias)  # type: ignore[arg-type]
    elif isinstance(module, TopologyRefinement):
        nn.init.constant_(module.norm.weight, 1e-6)
        _as_if_apart(module.relate, 2 * module.partitions)
        _as_if_apart(module.value, module.partitions)
    elif isinstance(module, TemporalConvolution):
        _as_if_apart(module.entry, 3)
        for norm in (module.norm_entry, module.norm):
            nn.init.normal_(norm.weight, 1.0, 0.02)


def _as_if_apart(convolution: nn.Conv2d, parts: int) -> None:
    """Scale weights to what they would be, had the convolutions that are one here been initialised one by one."""
    with torch.no_grad():
        convolution.weight *= parts**0.5
