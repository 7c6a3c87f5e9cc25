"""Training curves of every encoder, and of IGM on each that it runs on: finite, without spikes, in float32 and bf16."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from datasets.clips import ClipSet, from_storage
from datasets.layout import NTU25
from engine import train
from engine.config import resolve
from engine.registry import find, names
from methods.base import Context

ENCODERS: Mapping[str, Mapping[str, Any]] = {
    "stgcn": {"width": 4, "dim": 16},
    "dsta": {"width": 4, "init": "torch"},
    "skeleton_transformer": {"dim": 16, "blocks": 2, "heads": 2},
    "bigru": {"hidden": 16, "layers": 1},
    "ctrgcn": {"width": 8},
}
METHODS: Mapping[str, Mapping[str, Any]] = {
    "skeletonclr": {"moco.queue": 32, "moco.dim": 16},
    "igm": {"generator.dim": 16, "generator.depth": 1, "generator.heads": 2},
    "mamp": {"decoder.dim": 16, "decoder.blocks": 1, "decoder.heads": 2, "decoder.every": 1},
}
CLIPS, BATCH, EPOCHS = 32, 8, 10


def moving() -> ClipSet:
    """Bodies that swing, every second one alone."""
    generator = torch.Generator().manual_seed(1)
    time = torch.arange(16)[:, None, None] / 16
    phase, place = (torch.randn(CLIPS, 2, 1, 25, 3, generator=generator) for _ in range(2))
    stored = 0.3 * place + 0.2 * torch.sin(6 * time + 3 * phase)
    stored[::2, 1] = 0
    ids, masks = tuple(map(str, range(CLIPS))), torch.ones(CLIPS, 2, dtype=torch.bool)
    return ClipSet(
        from_storage(stored), torch.zeros(CLIPS, dtype=torch.int64), masks, ids, {}, torch.full((CLIPS,), 16)
    )


def losses_by_step(name: str, preset: str, encoder: str, precision: str) -> np.ndarray:
    """The loss that tells learning, of every step."""
    method, network = find("methods", name), find("encoders", encoder)
    config = resolve(network.Config, network.budgets.get("quick", {}), ENCODERS[encoder])
    loop = {"epochs": EPOCHS, "batch": BATCH, "precision": precision, "warmup_steps": 4, "lr": 2e-3}
    settings = {f"train.{key}": value for key, value in loop.items()}
    chosen = resolve(
        method.Config, method.presets.get(preset, {}), method.budgets["quick"], METHODS[name], settings
    )  # fmt: skip
    torch.manual_seed(0)
    context = Context(lambda: network(config, NTU25, frames=16, persons=2), NTU25, "joint", 16, 2, CLIPS)
    seen: list[dict[str, float]] = []
    curve = train.pretrain(method(chosen, context), moving(), seed=0, report=lambda at: seen.append(at.losses))
    assert np.isfinite([list(row.values()) for row in curve]).all()
    told = "generation" if name == "igm" else next(iter(seen[0]))
    return np.array([losses[told] for losses in seen])


PAIRS = [
    *(("skeletonclr", "", encoder) for encoder in names("encoders") if encoder != "coordinates"),
    *((name, "", encoder) for name in ("igm", "mamp") for encoder in ENCODERS if encoder != "bigru"),
    *(("igm", "literal", encoder) for encoder in ("skeleton_transformer", "stgcn")),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "preset", "encoder"), PAIRS)
def test_curves_are_finite_smooth_and_alike_in_both_precisions(name: str, preset: str, encoder: str) -> None:
    found = {precision: losses_by_step(name, preset, encoder, precision) for precision in ("float32", "bf16")}
    for losses in found.values():
        assert len(losses) == EPOCHS * CLIPS // BATCH
        assert np.isfinite(losses).all()
        epochs = losses.reshape(EPOCHS, -1).mean(axis=1)
        assert all(later < 1.25 * earlier + 0.05 for earlier, later in pairwise(epochs)), epochs  # no spike
        assert epochs[-1] < epochs[0], epochs  # and something learnt
    assert found["bf16"][0] == pytest.approx(found["float32"][0], rel=0.02)
    assert found["bf16"][-CLIPS // BATCH :].mean() == pytest.approx(
        found["float32"][-CLIPS // BATCH :].mean(), rel=0.15
    )
