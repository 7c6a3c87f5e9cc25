"""ST-GCN at a quarter of its width: the encoder of AimCLR, ActCLR and HiCLR (aimclr.md 2, actclr.md 2, hiclr.md 2.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datasets.layout import Layout
from encoders.base import Encoder
from encoders.bodies import BodiesConfig, bodies_of
from encoders.dropout import Dropout
from encoders.graph import spatial_adjacency
from engine.config import knob


class STGCNConfig(BodiesConfig):
    """Settings of ST-GCN."""

    width: int = knob(
        16, "channels of the first block; the published network is 64 wide, the field uses a quarter", ge=1
    )
    dim: int = knob(256, "feature width, the last block's channels (ActCLR paper, sec. 4.1)", ge=1)
    kernel: int = knob(9, "temporal kernel", unit="frames", ge=1)
    dropout: float = knob(0.5, "dropout in blocks 2 to 10 (released code)", ge=0, lt=1)
    init: Literal["normal", "torch"] = knob(
        "normal",
        "normal: N(0, 0.02) weights, zero biases, BatchNorm weights N(1, 0.02) (released code); torch: its defaults",
    )


class GraphConvolution(nn.Module):
    """1x1 convolution to K partitions, each mixed over joints by its adjacency and summed.

    Written with the adjacency before the 1x1 convolution, which costs C_in instead of C_out channels per partition.
    """

    def __init__(self, channels_in: int, channels_out: int, partitions: int, joints: int) -> None:
        super().__init__()
        self.conv = nn.Linear(channels_in, partitions * channels_out)  # rows partition-major, as released weights
        self.importance = nn.Parameter(torch.ones(partitions, joints, joints))

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        """Features (R, V, C_in), adjacency (K, V, V) -> (R, V, C_out)."""
        partitions, joints, _ = adjacency.shape
        weighted = adjacency * self.importance
        mixing = weighted.permute(2, 0, 1).reshape(joints * partitions, joints)  # row (w, k), column v
        # bmm, since matmul would transpose x in memory to make one product of it.
        mixed = torch.bmm(mixing.to(x.dtype).expand(len(x), -1, -1), x).view(-1, partitions * x.shape[2])
        out = self.conv.out_features // partitions
        weight = self.conv.weight.view(partitions, out, -1).transpose(0, 1).reshape(out, -1)  # (C_out, K * C_in)
        bias = weighted.sum(dim=1).T @ self.conv.bias.view(partitions, out)  # (V, C_out)
        return F.linear(mixed, weight).view(-1, joints, out).add_(bias.to(x.dtype))


class Block(nn.Module):
    """Graph convolution, then temporal convolution, with a residual connection."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        stride: int,
        residual: bool,
        dropout: float,
        kernel: int,
        shape: tuple[int, int],
    ) -> None:
        super().__init__()
        self.graph = GraphConvolution(channels_in, channels_out, *shape)
        self.norm_in = nn.BatchNorm2d(channels_out)
        self.temporal = nn.Conv2d(channels_out, channels_out, (kernel, 1), (stride, 1), (kernel // 2, 0))
        self.norm_out = nn.BatchNorm2d(channels_out)
        self.dropout = Dropout(dropout, inplace=True)
        self.residual = residual
        self.stride = stride
        self.shortcut: nn.Sequential | None = None
        if residual and (channels_in != channels_out or stride != 1):
            self.shortcut = nn.Sequential(nn.Conv2d(channels_in, channels_out, 1), nn.BatchNorm2d(channels_out))

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        """Channels-last features (B, C, T, V) -> (B, C', T', V)."""
        batch, channels, frames, joints = x.shape
        rows = x.permute(0, 2, 3, 1).reshape(batch * frames, joints, channels)  # a view of channels-last memory
        y = self.graph(rows, adjacency).view(batch, frames, joints, -1).permute(0, 3, 1, 2)
        y = F.relu(self.norm_in(y), inplace=True)
        y = self.dropout(self.norm_out(self.temporal(y)))
        if self.residual:
            # Frames are dropped here and not by a strided 1x1 convolution: torch 2.13's, with 8 channels, writes past its
            # memory in backward on CPUs (oneDNN's brgconv_strided).
            y += x if self.shortcut is None else self.shortcut(x[:, :, :: self.stride])
        return F.relu(y, inplace=True)


class STGCN(Encoder):
    """ST-GCN: ten blocks, T -> T/4."""

    version = 3
    Config = STGCNConfig
    config: STGCNConfig
    graph = True
    budgets = {"quick": {"dropout": 0.0, "init": "torch", "absent": "skip"}}
    tuned = {"quick:synthetic": {"width": 8, "dim": 128}}  # minutes for three methods on two cores

    def __init__(self, config: STGCNConfig, layout: Layout, frames: int, persons: int) -> None:
        super().__init__(config, layout, frames, persons)
        w = config.width
        channels = (3, w, w, w, w, 2 * w, 2 * w, 2 * w, 4 * w, 4 * w, config.dim)
        self.dim, self.temporal_stride, self.depth = config.dim, 4, 10
        self.skip_absent = config.absent == "skip"
        self.adjacency: Tensor = spatial_adjacency(layout)
        self.data_norm = nn.BatchNorm1d(len(layout) * 3)
        self.blocks = nn.ModuleList(
            Block(
                channels[i],
                channels[i + 1],
                stride=2 if i in (4, 7) else 1,
                residual=i > 0,
                dropout=config.dropout if i > 0 else 0.0,
                kernel=config.kernel,
                shape=(self.adjacency.shape[0], len(layout)),
            )
            for i in range(10)
        )
        if config.init == "normal":
            self.apply(normal_init)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def dropouts(self) -> list[nn.Dropout]:
        """Those of all blocks but the first, which has none in the released code."""
        return super().dropouts()[1:]

    def forward(self, clips: Tensor, adjacency: Tensor | None = None) -> Tensor:
        """See ``Encoder.forward``; maps are channels-last in memory."""
        bodies = bodies_of(clips, self.layout, self.skip_absent)
        _, frames, joints, coordinates = bodies.x.shape
        x = self.data_norm(bodies.x.reshape(-1, joints * coordinates))
        x = x.view(-1, frames, joints, coordinates).permute(0, 3, 1, 2)
        layers = self.adjacency.expand(self.depth, -1, -1, -1) if adjacency is None else adjacency
        for block, weights in zip(self.blocks, layers, strict=True):
            x = block(x, weights)
        return bodies.maps(x.permute(0, 2, 3, 1))


def normal_init(module: nn.Module) -> None:
    """The released initialisation: N(0, 0.02) convolution and linear weights, BatchNorm weights N(1, 0.02), zero biases."""
    if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
    else:
        return
    if module.bias is not None:
        nn.init.zeros_(module.bias)


def convert_released(state: Mapping[str, Tensor], prefix: str = "encoder_q.") -> dict[str, Tensor]:
    """Rename a released AimCLR / ActCLR / HiCLR state to this file's names; heads and other prefixes are left out.

    Args:
        state: released tensors (key map: aimclr.md 2.4, hiclr.md 8.1); a ``module.`` prefix is dropped.
        prefix: which encoder to take.
    """
    names = {
        "tcn.0": "norm_in",
        "tcn.2": "temporal",
        "tcn.3": "norm_out",
        "residual": "shortcut",
        "gcn.conv": "graph.conv",
    }
    converted: dict[str, Tensor] = {}
    for key, value in state.items():
        key = key.removeprefix("module.")
        if not key.startswith(prefix):
            continue
        key = key.removeprefix(prefix)
        if key.startswith("data_bn."):
            converted[key.replace("data_bn", "data_norm")] = value
        elif key.startswith("edge_importance"):
            digits = key.removeprefix("edge_importance")
            index = int(digits[1:]) if digits.startswith(".") else int(digits) - 1
            converted[f"blocks.{index}.graph.importance"] = value
        elif key.startswith("st_gcn_networks."):
            _, index_text, rest = key.split(".", 2)
            for old, new in names.items():
                if rest.startswith(old):
                    rest = new + rest.removeprefix(old)
                    break
            if rest == "graph.conv.weight":
                value = value.flatten(1)
            converted[f"blocks.{index_text}.{rest}"] = value
    return converted
