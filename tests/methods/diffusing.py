"""IGM and MacDiff, small, and clips for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from datasets.clips import from_storage
from datasets.layout import NTU25
from engine.config import resolve
from engine.registry import find
from methods.base import Context, Step
from methods.macdiff import MacDiff

SIZES: Mapping[str, Mapping[str, Any]] = {
    "stgcn": {"width": 2, "dim": 8, "dropout": 0.0, "init": "torch"},
    "skeleton_transformer": {"dim": 16, "blocks": 1, "heads": 2},
}
OTHERS: Mapping[str, Mapping[str, Any]] = {"dsta": {"width": 4, "init": "torch"}, "ctrgcn": {"width": 8}}
SMALL = {"generator.dim": 16, "generator.depth": 1, "generator.heads": 2}


def build(name: str, encoder: str = "skeleton_transformer", **changes: Any) -> MacDiff:
    torch.manual_seed(0)
    method, network = find("methods", name), find("encoders", encoder)
    config = resolve(network.Config, {**SIZES, **OTHERS}[encoder])
    context = Context(lambda: network(config, NTU25, frames=18, persons=2), NTU25, "joint", 18, 2, 24)
    dotted = {key.replace("__", "."): value for key, value in changes.items()}
    built: MacDiff = method(resolve(method.Config, SMALL, dotted), context).train()
    return built


def clips(count: int = 6) -> Tensor:
    """Bodies that swing, every second one alone."""
    generator = torch.Generator().manual_seed(1)
    time = torch.arange(18)[:, None, None] / 18
    phase, place = (torch.randn(count, 2, 1, 25, 3, generator=generator) for _ in range(2))
    stored = 0.3 * place + 0.2 * torch.sin(6 * time + 3 * phase)
    stored[::2, 1] = 0
    return from_storage(stored)


def step(index: int = 0, epoch: int = 1) -> Step:
    return Step(epoch, 10, index, 100, torch.Generator().manual_seed(2))


def losses_of(method: MacDiff, now: Step) -> dict[str, Tensor]:
    return method(method.views(clips(), now), now)  # type: ignore[no-any-return]


def gradients(method: MacDiff, loss: Tensor) -> dict[str, Tensor]:
    method.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    return {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}
