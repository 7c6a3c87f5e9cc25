"""The prepared clip itself as features: the raw-coordinates reference row."""

from __future__ import annotations

from torch import Tensor

from datasets.clips import to_storage
from datasets.layout import Layout
from encoders.base import Encoder
from engine.config import Config


class Coordinates(Encoder):
    """No network: maps are the coordinates, features are all of them."""

    def __init__(self, config: Config, layout: Layout, frames: int, persons: int) -> None:
        super().__init__(config, layout, frames, persons)
        self.dim, self.temporal_stride = persons * frames * len(layout) * 3, 1

    def forward(self, clips: Tensor, adjacency: Tensor | None = None) -> Tensor:
        """Clips (N, C, T, V, M) -> (N, M, C, T, V)."""
        return to_storage(clips).permute(0, 1, 4, 2, 3)

    def pool(self, maps: Tensor, weights: Tensor | None = None) -> Tensor:
        """Flatten instead of averaging -> (N, M C T V); ``weights`` have no meaning here."""
        return maps.flatten(1)

    def pool_joints(self, maps: Tensor) -> Tensor:
        """All coordinates, as :meth:`pool`: they are kept apart anyway."""
        return self.pool(maps)

    def flops(self) -> int:
        """None."""
        return 0
