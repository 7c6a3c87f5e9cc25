"""What the killed processes of the tests do; they are forked from a server that has imported this file."""

from __future__ import annotations

import io
import multiprocessing
import os
import resource
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from datasets.clips import ClipSet
from datasets.layout import NTU25
from engine.config import TrainConfig
from engine.registry import find
from engine.train import Training, fit, pretrain
from methods.base import Step
from tests.methods.test_contract import build, clips

EPOCHS = 6
SEED = 3
forks = multiprocessing.get_context("forkserver")
forks.set_forkserver_preload(["__main__", __name__])  # the former is pytest, which every fork would read otherwise

Trained = tuple[dict[str, Tensor], list[dict[str, float]]]


def start(target: Callable[..., None], *arguments: Any) -> multiprocessing.process.BaseProcess:
    """A process of its own."""
    process = forks.Process(target=_quiet, args=(target, *arguments), daemon=True)
    process.start()
    return process


def _quiet(target: Callable[..., None], *arguments: Any) -> None:
    torch.set_num_threads(1)
    target(*arguments)


def train_method(
    name: str, checkpoint: Path | None, tell: Callable[[str], None] = print, pause: float = 0.0, seed: int = SEED
) -> Trained:
    """Train a method of the registry for ``EPOCHS``, from the checkpoint if there is one."""
    method = build(name, {"train.epochs": EPOCHS, "train.batch": 2})
    if earlier := find("methods", name).init_from:
        method.start_from(build(earlier, {}).state_dict())
    points = clips(NTU25, 2)
    count = len(points)
    present = torch.ones(count, 2, dtype=torch.bool)
    whole = ClipSet(points, torch.arange(count), present, tuple(map(str, range(count))), {}, torch.full((count,), 20))
    with torch.random.fork_rng():
        torch.manual_seed(int(time.time_ns() % 2**31))  # what a new process starts from must not matter
        curve = pretrain(
            method, whole, seed=seed, checkpoint=checkpoint, tell=tell, report=lambda at: time.sleep(pause)
        )
    return dict(method.state_dict()), curve


def train_method_slowly(name: str, checkpoint: Path, pause: float) -> None:
    """To be killed."""
    train_method(name, checkpoint, pause=pause)


class Line(nn.Module):
    """Momentum and noise on a few numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(0, 1, 9))
        self.register_buffer("seen", torch.zeros(()))

    def losses(self, index: Tensor, step: Step) -> dict[str, Tensor]:
        self.seen += 1
        noise = torch.randn(9, generator=step.generator)
        return {"square": ((self.weight - noise * index.float().mean()) ** 2).sum()}


def train_line(checkpoint: Path | None, tell: Callable[[str], None] = print) -> Trained:
    """Train a tiny network for four epochs."""
    line = Line()
    training = Training(line, TrainConfig(epochs=4, batch=4, lr=0.01), 8, line.losses, torch.device("cpu"))
    curve = fit(training, seed=SEED, checkpoint=checkpoint, tell=tell)
    return dict(line.state_dict()), curve


def train_line_and_die(checkpoint: Path, point: int) -> None:
    """Train, and be killed at the ``point``-th thing that is done to a file: opened, half written, synced, renamed."""
    done = 0

    def dies() -> bool:
        nonlocal done
        done += 1
        return done == point

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **more: Any) -> Any:
            if dies():
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **more)

        return wrapper

    class Torn(io.FileIO):
        def write(self, content: Any) -> int:
            if dies():
                super().write(bytes(content)[: len(content) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return super().write(content)

    os.fdopen = Torn  # type: ignore[assignment, misc]
    os.fsync = counted(os.fsync)
    tempfile.mkstemp = counted(tempfile.mkstemp)
    for name in ("chmod", "replace"):
        setattr(Path, name, counted(getattr(Path, name)))
    train_line(checkpoint)


def train_line_on_a_full_disk(checkpoint: Path, most: int, answer: Any) -> None:
    """Train where no file may become larger than ``most`` bytes, which fails as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    try:
        train_line(checkpoint)
    except Exception as error:
        answer.put(f"{type(error).__name__}: {error}")
