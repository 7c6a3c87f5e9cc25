"""Two processes at one pre-training (gloo) do what one does."""

from __future__ import annotations

import os
import socket
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from datasets.clips import ClipSet, from_storage
from datasets.layout import NTU25
from encoders.stgcn import STGCN, STGCNConfig
from engine.config import BenchError, TrainConfig, digest, identifying, resolve
from engine.ranks import ALONE, Ranks, joined
from engine.registry import find
from engine.train import Training, fit, pretrain
from methods.base import Context, Method
from tests.engine.killing import start

METHODS = ("skeletonclr", "aimclr", "actclr", "hiclr")
COUNT, BATCH = 11, 5


def clips() -> Tensor:
    """One clip has a single person, one has none: shares differ in bodies."""
    stored = torch.randn(COUNT, 2, 20, 25, 3, generator=torch.Generator().manual_seed(1))
    stored[3, 1] = stored[7] = 0
    return from_storage(stored)


def build(name: str, batch_norm: str, epochs: int) -> Method:
    torch.manual_seed(0)
    config = STGCNConfig(width=2, dim=8, dropout=0.0, init="torch", absent="skip")
    context = Context(lambda: STGCN(config, NTU25, 20, 2), NTU25, "bone", 20, 2, COUNT, clips().mean(dim=0))
    changes = {
        "train.epochs": epochs, "train.batch": BATCH, "train.lr": 0.01, "train.batch_norm": batch_norm,
        "train.recalibrate": True, "moco.queue": 12, "moco.dim": 8, "moco.momentum": 0.9,
    }  # fmt: skip
    cls = find("methods", name)
    mined = {"nnm.start_epoch": 1} if name in ("aimclr", "hiclr") else {}
    method: Method = cls(resolve(cls.Config, changes, mined), context)
    return method.train()


def train(name: str, ranks: Ranks = ALONE, batch_norm: str = "sync", epochs: int = 2, checkpoint: Path | None = None):
    method = build(name, batch_norm, epochs)
    x = clips()
    whole = ClipSet(x, torch.arange(COUNT), torch.ones(COUNT, 2) > 0, tuple("x" * COUNT), {}, torch.full((COUNT,), 20))
    with torch.random.fork_rng():
        curve = pretrain(method, whole, seed=3, ranks=ranks, checkpoint=checkpoint)
    return method.state_dict(), curve


@contextmanager
def precisely():
    """In double precision, rounding cannot be taken for an error, nor an error for rounding."""
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def train_as_rank(rank: int, port: int, folder: Path) -> None:
    """What one of two processes does; what it comes to lies in the folder."""
    place = {"RANK": rank, "WORLD_SIZE": 2, "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in place.items()}
    found = {}
    with joined(torch.device("cpu")) as ranks:
        found["float32"] = train("skeletonclr", ranks)
        with precisely():
            found |= {name: train(name, ranks) for name in METHODS}
        found["plain"], found["local"] = train("actclr", ranks), train("actclr", ranks, "local-2")
        path = folder / "checkpoint.pt" if rank == 0 else folder / "nobody.pt"
        train("aimclr", ranks, epochs=1, checkpoint=path)
        found["resumed"] = train("aimclr", ranks, checkpoint=path)
        found["unbroken"] = train("aimclr", ranks)
        found["said"] = [ranks.tell(word if rank == 0 else b"").decode() for word in (b"a key", b"x" * 1000)]
        found["same"] = ranks.same({"x": torch.arange(3), "y": [1.5]} if rank == 0 else None)
        if rank:
            found["end"] = ranks.tell().decode()
    torch.save(found, folder / f"{rank}.pt")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory):
    """What two processes came to."""
    folder = tmp_path_factory.mktemp("pair")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = [start(train_as_rank, rank, port, folder) for rank in (0, 1)]
    for process in running:
        process.join(600)
        assert process.exitcode == 0
    assert not (folder / "nobody.pt").exists(), "the first rank writes"
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


def assert_close(found, expected, tolerance: float) -> None:
    (state, curve), (known, rows) = found, expected
    for row, other in zip(curve, rows, strict=True):
        assert row == pytest.approx(other, abs=tolerance, rel=0)
    for name, value in known.items():
        torch.testing.assert_close(
            state[name], value, atol=tolerance, rtol=tolerance, msg=lambda m, name=name: f"{name}: {m}"
        )


@pytest.mark.parametrize("name", METHODS)
def test_two_processes_give_the_losses_weights_and_queue_of_one(name, pair) -> None:
    with precisely():
        alone = train(name)
    for found in pair:
        assert_close(found[name], alone, 1e-10)


def test_in_single_precision_they_do_so_to_rounding(pair) -> None:
    alone = train("skeletonclr")
    for found in pair:
        assert_close(found["float32"], alone, 1e-5)


def test_a_continued_run_of_two_is_theirs_without_a_break(pair) -> None:
    for found in pair:
        assert_close(found["resumed"], found["unbroken"], 0.0)


def test_statistics_of_shares_differ_from_those_of_batches_and_are_averaged(pair) -> None:
    first, second = (found["local"] for found in pair)
    assert_close(first, second, 0.0)
    assert first[1][0]["loss"] != pytest.approx(pair[0]["plain"][1][0]["loss"], abs=1e-4)


def test_ranks_hear_the_first_one(pair) -> None:
    for found in pair:
        assert found["said"] == ["a key", "x" * 1000]
        assert found["same"]["x"].tolist() == [0, 1, 2]
        assert found["same"]["y"] == [1.5]
    assert pair[1]["end"] == "", "the first rank has left"


def test_alone_nothing_is_divided_or_told() -> None:
    layer = nn.BatchNorm1d(2)
    ALONE.divide(layer, "sync")
    assert "forward" not in vars(layer)
    assert ALONE.tell(b"key") == b"key"
    assert ALONE.same(None) is None


def test_statistics_of_shares_are_part_of_the_key_and_need_as_many_processes() -> None:
    plain, local = TrainConfig(), TrainConfig(batch_norm="local-2")
    assert "batch_norm" not in identifying(plain)
    assert digest(identifying(plain)) != digest(identifying(local))
    layer = nn.Linear(2, 2)
    training = Training(layer, local, 8, lambda index, step: {}, torch.device("cpu"))
    with pytest.raises(BenchError, match="local-2 is for a pre-training by that many processes"):
        fit(training, seed=0)
    with pytest.raises(BenchError, match="batch_norm"):
        resolve(TrainConfig, {"batch_norm": "local"})
