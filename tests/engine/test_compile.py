"""Compiled training passes: the same numbers, only where asked for, and no new keys where not."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from datasets.clips import ClipSet, from_storage
from datasets.layout import KINECT20
from encoders.dropout import Dropout
from encoders.stgcn import STGCN, STGCNConfig
from engine.config import identifying, resolve
from engine.train import pretrain
from methods.base import Context
from methods.skeletonclr import SkeletonCLR


def train(**changes: object) -> tuple[SkeletonCLR, list[dict[str, float]]]:
    torch.manual_seed(0)
    count = 12
    clips = ClipSet(
        from_storage(torch.randn(count, 2, 16, 20, 3, generator=torch.Generator().manual_seed(1))),
        torch.zeros(count, dtype=torch.int64),
        torch.ones(count, 2, dtype=torch.bool),
        tuple(map(str, range(count))),
        {},
        torch.full((count,), 16),
    )
    context = Context(
        lambda: STGCN(STGCNConfig(width=2, dim=8, dropout=0.0), KINECT20, 16, 2), KINECT20, "joint", 16, 2, count
    )
    settings = {"train.epochs": 1, "train.batch": 4, "moco.queue": 16, "moco.dim": 8, "train.recalibrate": True}
    method = SkeletonCLR(resolve(SkeletonCLR.Config, settings, changes), context)
    return method, pretrain(method, clips, seed=0)


@pytest.mark.slow
def test_compiled_passes_give_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    graphs: list[Any] = []

    def as_traced(graph: Any, inputs: object) -> Any:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=as_traced))
    plain, expected = train()
    assert not graphs
    compiled, curve = train(**{"train.compile": True})
    assert len(graphs) == 2  # the query's and the key's, each whole; evaluation stays as it is
    assert curve[0]["loss"] == pytest.approx(expected[0]["loss"], rel=1e-5)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[name], value, rtol=1e-4, atol=1e-5)
    assert compiled.encoder.flops() == plain.encoder.flops()


@pytest.mark.parametrize("dropout", [0.3, 0.5])
def test_dropout_does_not_cut_a_compiled_pass(dropout: float) -> None:
    torch.manual_seed(0)
    compiled = torch.compile(Dropout(dropout), backend="eager", fullgraph=True)
    kept = (compiled(torch.ones(4000)) > 0).float().mean().item()
    assert kept == pytest.approx(1 - dropout, abs=0.04)


def test_keys_stay_where_nothing_is_compiled() -> None:
    config = SkeletonCLR.Config()
    assert "compile" not in identifying(config)["train"]
    assert identifying(resolve(SkeletonCLR.Config, {"train.compile": True}))["train"]["compile"] is True
