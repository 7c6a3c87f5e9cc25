"""A small classification problem and the context that protocols get."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from protocols.base import EvalContext

Points = list[tuple[int, float | None, Tensor | None]]
MakeContext = Callable[..., EvalContext]


@pytest.fixture
def make_context() -> MakeContext:
    def make(
        train: tuple[Tensor, Tensor], test: Tensor, classes: int, seed: int = 0, points: Points | None = None
    ) -> EvalContext:
        count = len(train[1])
        return EvalContext(
            train_features=train[0],
            train_labels=train[1],
            test_features=test,
            classes=classes,
            fit=np.arange(0, count * 4 // 5),
            held_out=np.arange(count * 4 // 5, count),
            seed=seed,
            report=lambda *point: points.append(point) if points is not None else None,
        )

    return make


@pytest.fixture
def clouds() -> Callable[..., tuple[Tensor, Tensor]]:
    """``clouds(samples, seed, spread)``: features (n, 8) around one of four centres, and labels."""

    def make(samples: int, seed: int = 0, spread: float = 1.0) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        centres = torch.randn(4, 8, generator=torch.Generator().manual_seed(99)) * 1.5
        labels = torch.randint(0, 4, (samples,), generator=generator)
        return centres[labels] + spread * torch.randn(samples, 8, generator=generator), labels

    return make
