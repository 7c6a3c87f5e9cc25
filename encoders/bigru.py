"""The bidirectional GRU of the recurrent family (CMD, ECCV 2022; PCM3; HaLP): field.md 3.1 and CMD's released code."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from datasets.layout import Layout
from encoders.base import Encoder
from encoders.bodies import checked
from engine.config import BenchError, Config, knob


class BiGRUConfig(Config):
    """Settings of the bidirectional GRU."""

    hidden: int = knob(1024, "state of each direction; features are twice as wide (released CMD)", ge=1)
    layers: int = knob(3, "layers (released CMD)", ge=1)
    read: Literal["both", "forward"] = knob(
        "both",
        "the second GRU of every layer reads backwards (as its name says), or forwards like the first: released CMD feeds "
        "single frames, so that its state, too, is carried from the past",
    )


class BiGRU(Encoder):
    """Three layers of two GRUs over the frames of the whole clip, all persons and joints side by side.

    The maps have one person and one joint. Features are the state with which every GRU of the last layer ends: of the last
    frame, or of the first where it reads backwards (our reading of "last step", which released CMD takes). A clip whose
    persons change places has other features, and absent persons are zeros like any other coordinate, as released.
    """

    Config = BiGRUConfig
    config: BiGRUConfig
    version = 2  # time first: sums are rounded otherwise
    recipes = {"released": {"read": "forward"}}
    # 45 million weights are beyond a CPU: our choice, a fiftieth of the operations.
    budgets = {"quick": {"hidden": 128}}
    local = False
    fixed_persons = True

    def __init__(self, config: BiGRUConfig, layout: Layout, frames: int, persons: int) -> None:
        super().__init__(config, layout, frames, persons)
        width = persons * len(layout) * 3
        self.dim, self.temporal_stride = 2 * config.hidden, 1
        self.norm = nn.BatchNorm1d(width)
        self.layers = nn.ModuleList(
            nn.ModuleList(nn.GRU(size, config.hidden) for _ in range(2))
            for size in (width, *[self.dim] * (config.layers - 1))
        )
        for parameter in self.layers.parameters():
            if parameter.ndim == 2:
                nn.init.xavier_uniform_(parameter)  # released CMD

    def forward(self, clips: Tensor, adjacency: Tensor | None = None) -> Tensor:
        """Clips (N, C, T, V, M) -> (N, 1, D, T, 1), the states of the last layer; ``adjacency`` has no meaning here.

        Raises:
            BenchError: other joints, coordinates or persons than it was built for.
        """
        stored = checked(clips, self.layout)
        if stored.shape[1] != self.persons:
            raise BenchError(f"bigru was built for clips of {self.persons} person(s), these have {stored.shape[1]}.")
        # Time first in memory: otherwise torch, where weights need no gradient (momentum encoders, evaluation), copies the
        # weights for every frame.
        x = stored.permute(2, 0, 1, 3, 4).flatten(2)
        x = self.norm(x.flatten(0, 1)).view(x.shape)
        for pair in self.layers:
            assert isinstance(pair, nn.ModuleList)
            first, second = pair
            other = _states(second, x.flip(0)).flip(0) if self.config.read == "both" else _states(second, x)
            x = torch.cat([_states(first, x), other], dim=2)
        return x.permute(1, 2, 0)[:, None, ..., None]

    def pool(self, maps: Tensor, weights: Tensor | None = None) -> Tensor:
        """The last states of maps (N, 1, D, T, 1) -> (N, D); with ``weights`` see ``Encoder.pool``."""
        if weights is not None:
            return super().pool(maps, weights)
        first, second = maps[:, 0, :, :, 0].chunk(2, dim=1)
        return torch.cat([first[..., -1], second[..., 0 if self.config.read == "both" else -1]], dim=1)


def _states(gru: nn.Module, x: Tensor) -> Tensor:
    """All states (T, N, H) of a GRU over (T, N, D); on CPUs its weights are brought to autocast's precision once.

    There autocast remembers converted weights only if they need gradients: those of momentum encoders were converted in every
    frame. On GPUs a whole sequence is one call, and replacing weights would have them laid out anew.
    """
    if x.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        return gru(x)[0]  # type: ignore[no-any-return]
    precision = torch.get_autocast_dtype("cpu")
    weights = {name: weight.to(precision) for name, weight in gru.named_parameters()}
    return torch.func.functional_call(gru, weights, (x,))[0]  # type: ignore[no-any-return]
