"""Clips as a batch of single bodies: what encoders that see one person at a time work on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from datasets.clips import to_storage
from datasets.layout import Layout
from engine.config import BenchError, Config, knob


class BodiesConfig(Config):
    """Setting of all encoders that see one person at a time."""

    absent: Literal["keep", "skip"] = knob(
        "keep", "keep: absent persons pass through and count in the average (released code); skip: neither"
    )


@dataclass(frozen=True)
class Bodies:
    """The bodies of a batch of clips.

    Attributes:
        x: (B, T, V, 3), a view of the clips' memory unless absent persons were left out.
        rows: (B,) place of every body among all N M slots; ``None`` when all are there.
        shape: N and M of the clips.
    """

    x: Tensor
    rows: Tensor | None
    shape: tuple[int, int]

    def maps(self, features: Tensor) -> Tensor:
        """Features (B, T', V', D) of the bodies as maps (N, M, D, T', V'); zero for bodies that were left out."""
        count, persons = self.shape
        if self.rows is not None:
            full = features.new_zeros(count * persons, *features.shape[1:])
            features = full.index_copy(0, self.rows, features)
        return features.reshape(count, persons, *features.shape[1:]).permute(0, 1, 4, 2, 3)


def checked(clips: Tensor, layout: Layout) -> Tensor:
    """Clips (N, C, T, V, M) as (N, M, T, V, C).

    Raises:
        BenchError: not the joints of the layout, or not three coordinates.
    """
    stored = to_storage(clips)
    joints, coordinates = stored.shape[3:]
    if joints != len(layout) or coordinates != 3:
        raise BenchError(f"Encoder for layout {layout.name!r} ({len(layout)} joints x 3) got {joints} x {coordinates}.")
    return stored


def bodies_of(clips: Tensor, layout: Layout, skip_absent: bool) -> Bodies:
    """Fold persons into the batch.

    Args:
        clips: (N, C, T, V, M).
        layout: what the clips must have.
        skip_absent: leave out bodies that are all zero; a single person is never left out.

    Raises:
        BenchError: see :func:`checked`.
    """
    stored = checked(clips, layout)
    count, persons = stored.shape[:2]
    x = stored.reshape(count * persons, *stored.shape[2:])
    rows: Tensor | None = None
    if skip_absent and persons > 1:
        rows = (x != 0).flatten(1).any(dim=1).nonzero()[:, 0]
        x = x[rows]
    return Bodies(x, rows, (count, persons))
