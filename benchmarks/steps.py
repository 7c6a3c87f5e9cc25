"""Training steps of a method at the papers' settings, through the real loop, each case in a process of its own."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ParamSpec, TypeVar

import torch
from torch import nn

from datasets.clips import ClipSet, from_storage
from datasets.layout import KINECT20, NTU25, Layout
from encoders.base import Encoder
from encoders.dropout import Dropout
from engine import train
from engine.config import resolve
from engine.memory import peak_bytes
from engine.registry import find
from engine.train import Progress
from engine.work import deterministic
from methods.base import Context, Method

COCO17 = Layout.from_parents(
    "coco17",
    (
        "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
        "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
        "right_ankle",
    ),
    (-1, 0, 0, 1, 2, 0, 0, 5, 6, 7, 8, 5, 6, 11, 12, 13, 14),
)  # fmt: skip
LAYOUTS = {len(layout): layout for layout in (COCO17, KINECT20, NTU25)}
ABSENT = 0.82
"""Share of NTU RGB+D 60's clips without a second person."""
_ENOUGH = 60.0
"""Seconds after which no further step is timed."""

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Case:
    """What is trained, and how.

    Attributes:
        method: name of the method.
        encoder: name of the encoder, "" for that of the method's paper.
        precision: of the encoder, ``float32`` or ``bf16``.
        threads: of torch.
        batch: clips per step.
        steps: steps that are timed, after one that is not.
        clips: clips of the data set, 0 for as many as the steps need.
        frames: frames per clip.
        joints: 17, 20 or 25.
        settings: changes of the method's config.
        encoder_settings: changes of the encoder's config.
        without: optimisations to leave out: ``dropout`` (ours), ``memory`` (keeping what was freed).
    """

    method: str = "aimclr"
    encoder: str = ""
    precision: str = "float32"
    threads: int = 1
    batch: int = 128
    steps: int = 2
    clips: int = 0
    frames: int = 50
    joints: int = 25
    settings: Mapping[str, Any] = field(default_factory=dict)
    encoder_settings: Mapping[str, Any] = field(default_factory=dict)
    without: tuple[str, ...] = ()


@dataclass(frozen=True)
class Speed:
    """What a case came to: clips per second in its best step, and the largest resident set of its process in GiB."""

    rate: float
    peak: float


def generated(count: int, layout: Layout, frames: int = 50, persons: int = 2, device: str = "cpu") -> ClipSet:
    """Clips of random walks; as many lack a second person as in NTU RGB+D 60."""
    generator = torch.Generator(device).manual_seed(0)
    stored = torch.empty(count, persons, frames, len(layout), 3, device=device)
    for part in torch.split(stored, 4096):  # so that what is drawn takes little memory beside them
        torch.cumsum(torch.randn(part.shape, generator=generator, device=device).mul_(0.01), dim=2, out=part)
        part[:, 1:] *= (torch.rand(len(part), generator=generator, device=device) >= ABSENT)[:, None, None, None, None]
    presence = (stored[:, :, 0, 0] != 0).any(dim=2)
    labels = torch.zeros(count, dtype=torch.int64)
    return ClipSet(from_storage(stored), labels, presence, tuple(map(str, range(count))), {}, labels + frames)


def build(case: Case, clips: ClipSet) -> Method:
    """The method of a case."""
    method = find("methods", case.method)
    encoder = find("encoders", case.encoder or method.default_encoder)
    layout = LAYOUTS[case.joints]
    _, _, frames, _, persons = clips.clips.shape

    def make_encoder() -> Encoder:
        made: Encoder = encoder(resolve(encoder.Config, case.encoder_settings), layout, frames=frames, persons=persons)
        return made

    changes = {"train.precision": case.precision, "train.batch": case.batch, "train.epochs": 1, **case.settings}
    context = Context(make_encoder, layout, "joint", frames, persons, len(clips), clips.clips[:4096].mean(dim=0))
    torch.manual_seed(0)
    built: Method = method(resolve(method.Config, changes), context)
    return built


def steps_of(case: Case) -> Speed:
    """Train a case for one epoch; call it in a process of its own."""
    torch.set_num_threads(case.threads)
    clips = generated(case.clips or case.batch * (case.steps + 1), LAYOUTS[case.joints], case.frames)
    method = build(case, clips)
    if "dropout" in case.without:
        use_torch_dropout(method)
    if "memory" in case.without:
        vars(train).update(keep_freed_memory=lambda: None)
    return Speed(case.batch / min(train_steps(method, clips, case.steps)), peak_gib())


def train_steps(method: Method, clips: ClipSet, steps: int) -> list[float]:
    """Seconds of a method's steps, see :func:`timed_steps`."""
    return timed_steps(lambda report: train.pretrain(method, clips, seed=0, report=report), steps)


def timed_steps(run: Callable[[Callable[[Progress], None]], object], steps: int) -> list[float]:
    """Seconds of the steps after the first one, through the real loop, which is left after so many or when they take long."""
    ends: list[float] = []

    def report(at: Progress) -> None:
        ends.append(time.perf_counter())
        if len(ends) > steps or (len(ends) > 1 and ends[-1] - ends[0] > _ENOUGH):
            raise _EnoughError

    with deterministic(torch.device("cpu")), suppress(_EnoughError):
        run(report)
    return [after - before for before, after in pairwise(ends)]


class _EnoughError(Exception):
    """Leaves the loop."""


def use_torch_dropout(network: nn.Module) -> None:
    """Replace the zoo's dropout by torch's own."""
    for module in network.modules():
        for name, child in module.named_children():
            if isinstance(child, Dropout):
                setattr(module, name, nn.Dropout(child.p, child.inplace))


def peak_gib() -> float:
    """Largest resident set of this process."""
    return peak_bytes() / 2**30


def alone(work: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R:
    """Call a function in a fresh process, so that its memory is its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments, **named).result()
