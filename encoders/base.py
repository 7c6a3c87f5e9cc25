"""What every encoder of the zoo offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from datasets.layout import Layout
from engine.config import BenchError, Overrides
from engine.config import Config as BaseConfig


class Encoder(nn.Module, ABC):
    """Skeleton clips in, un-pooled feature maps out.

    A subclass lives in a file of its own in ``encoders/``; the file's name is the encoder's name. It is built as
    ``cls(config, layout, frames=T, persons=M)``.

    Attributes:
        version: raised whenever the same config gives other numbers.
        Config: settings, defaults as published.
        budgets: changes of the config under a budget, e.g. ``{"quick": {"dropout": 0.0}}``.
        tuned: changes for one dataset under one budget, e.g. ``{"quick:synthetic": {"width": 8}}``.
        recipes: changes under another recipe, e.g. ``{"released": {"read": "forward"}}``.
        dim: feature width D.
        temporal_stride: frames per step of the maps' time axis.
        adjacency: (K, V, V) base adjacency of graph encoders, ``None`` for others.
        depth: number of layers that use the adjacency.
        graph: it has an ``adjacency`` that ``forward`` lets replace (HiCLR's drop/add edges need it).
        local: its maps tell persons, frames and joints apart and ``pool`` averages them, so that a method can weigh or drop
            a part of them (ActCLR's actionlets, AimCLR's EADM).
        fixed_persons: it reads all persons as one input, and so only clips of as many persons as it was built for.
        skip_absent: ``pool`` leaves persons out whose maps are all zero.
        precision: ``bf16`` runs the network under autocast and returns float32 maps; set by the trainer.
        compiled: what takes the place of ``forward`` while training, ``None`` for ``forward`` itself; set by the trainer.
        divide: how the network is applied to a batch while training: in one piece, or by several processes, a share each;
            set by the trainer.
    """

    version: ClassVar[int] = 1
    Config: ClassVar[type[BaseConfig]] = BaseConfig
    budgets: ClassVar[Mapping[str, Overrides]] = {}
    tuned: ClassVar[Mapping[str, Overrides]] = {}
    recipes: ClassVar[Mapping[str, Overrides]] = {}
    graph: ClassVar[bool] = False
    local: ClassVar[bool] = True
    fixed_persons: ClassVar[bool] = False

    dim: int
    temporal_stride: int
    adjacency: Tensor | None
    depth: int

    def __init__(self, config: BaseConfig, layout: Layout, frames: int, persons: int) -> None:
        super().__init__()
        self.config = config
        self.layout = layout
        self.frames = frames
        self.persons = persons
        self.depth = 0
        self.skip_absent = False
        self.precision = "float32"
        self.compiled: Callable[..., Any] | None = None
        self.divide: Callable[..., Any] = in_one_piece
        self.register_buffer("adjacency", None, persistent=False)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: D102  (autocast ends here: heads and losses stay float32)
        if not self.training:
            return self.in_precision(super().__call__, *args, **kwargs)
        network = partial(self.in_precision, self.compiled or super().__call__)
        return self.divide(network, *args, **kwargs)

    def in_precision(self, part: Callable[..., Any], x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Call a part of the network under the encoder's ``precision``, as calling the encoder itself does."""
        if self.precision == "float32":
            return part(x, *args, **kwargs)
        with torch.autocast(x.device.type, torch.bfloat16):
            return part(x, *args, **kwargs).float()

    @abstractmethod
    def forward(self, clips: Tensor, adjacency: Tensor | None = None) -> Tensor:
        """Encode clips (N, C, T, V, M) of one stream to maps (N, M, D, T', V).

        Args:
            clips: see ``datasets.clips.ClipSet``.
            adjacency: (depth, K, V, V) replaces the base adjacency layer by layer (HiCLR's drop/add edges).
        """

    def pool(self, maps: Tensor, weights: Tensor | None = None) -> Tensor:
        """Average maps (N, M, D, T', V) over time and joints, then over person slots -> (N, D).

        Args:
            maps: from ``forward``.
            weights: (N, M, T', V), a weighted average over time and joints instead (ActCLR's SAFP).
        """
        return self.over_persons(weighted_average(maps, weights))

    def pool_joints(self, maps: Tensor) -> Tensor:
        """Average maps (N, M, D, T', V) over time and person slots, joints side by side -> (N, V D); for ``local`` encoders."""
        return self.over_persons(maps.mean(dim=3).transpose(2, 3).flatten(2))

    def counted(self, persons: Tensor) -> Tensor:
        """Which persons (N, M) bool of pooled maps (N, M, D) the average over person slots counts."""
        everyone = torch.ones(persons.shape[:2], dtype=torch.bool, device=persons.device)
        return (persons != 0).any(dim=2) if self.skip_absent else everyone

    def over_persons(self, persons: Tensor, present: Tensor | None = None) -> Tensor:
        """Average (N, M, D) over person slots -> (N, D): those that ``pool`` counts.

        Args:
            persons: features of every slot.
            present: (N, M) bool, where absent persons cannot be told by their zeros.
        """
        if not self.skip_absent:
            return persons.mean(dim=1)
        present = (self.counted(persons) if present is None else present)[:, :, None]
        return (persons * present).sum(dim=1) / present.sum(dim=1).clamp(min=1)

    def dropouts(self) -> list[nn.Dropout]:
        """Its dropout layers."""
        return [module for module in self.modules() if isinstance(module, nn.Dropout)]

    def set_dropout(self, rate: float) -> None:
        """Change the rate of all dropout, e.g. for fine-tuning.

        Raises:
            BenchError: it has none.
        """
        layers = self.dropouts()
        if not layers and rate:
            raise BenchError(f"{type(self).__name__} has no dropout whose rate could be {rate:g}.")
        for layer in layers:
            layer.p = rate

    def levels_above(self, name: str) -> int:
        """Levels of the network between the parameter ``name`` and the features: 0 at the top, most at the input.

        Layer decay multiplies a parameter's learning rate once for each. An encoder whose parameters all are at level 0, as
        here, knows no layer decay.
        """
        return 0

    def flops(self) -> int:
        """Floating-point operations (2 per multiply-add) of one clip's forward pass with all persons, as torch counts them."""
        from torch.nn.attention import SDPBackend, sdpa_kernel
        from torch.utils.flop_counter import FlopCounterMode

        was_training = self.training
        device = next((p.device for p in self.parameters()), torch.device("cpu"))
        clip = torch.ones(1, 3, self.frames, len(self.layout), self.persons, device=device)
        # Fused attention on CPUs is not counted, its plain form is.
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            self.eval()(clip)
        self.train(was_training)
        return int(counter.get_total_flops())


def in_one_piece(network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Apply a network to its input."""
    return network(*args, **kwargs)


def weighted_average(maps: Tensor, weights: Tensor | None) -> Tensor:
    """Average maps (N, M, D, T', V) over time and joints -> (N, M, D)."""
    if weights is None:
        return maps.mean(dim=(3, 4))
    weights = weights[:, :, None]
    return (maps * weights).sum(dim=(3, 4)) / (weights.sum(dim=(3, 4)) + 1e-5)


def levels_above_block(name: str, blocks: int) -> int:
    """``Encoder.levels_above`` where every one of ``blocks`` blocks is a level, and what embeds the input is the lowest."""
    part, _, rest = name.partition(".")
    return blocks - (int(rest.partition(".")[0]) if part == "blocks" else -1)


def shortcut(channels_in: int, channels_out: int, changes: bool) -> nn.Module:
    """What a block's input passes to be added to its output: nothing, or a normalised 1x1 convolution where shapes change."""
    if not changes:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(channels_in, channels_out, 1), nn.BatchNorm2d(channels_out))


def parameter_count(module: nn.Module) -> int:
    """Number of trainable numbers in a module."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
