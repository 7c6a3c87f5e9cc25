"""Tiny plug-ins outside the tree: seconds become milliseconds, and methods can be told to stop or break."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from datasets.base import Cut, Dataset
from datasets.clips import ClipSet, Split, from_storage
from datasets.layout import Layout
from datasets.prepare import Preparation
from datasets.untrimmed import BACKGROUND, RecordingSet, UntrimmedSplit
from encoders.base import Encoder
from engine.config import BenchError, Config, TrainConfig, knob
from methods.base import Context, Method, MethodConfig, Step
from protocols.base import EvalContext, Outcome, Protocol

LAYOUT = Layout.from_parents("tiny4", ("hip", "neck", "left_hand", "right_hand"), (-1, 0, 1, 1))


class Tiny(Dataset):
    """Three classes of waving at three speeds, six subjects."""

    title = "tiny"
    splits = {"subject": "odd subjects train", "other": "even subjects train"}
    embedded = True
    joints: ClassVar = LAYOUT
    persons: ClassVar = 1
    seed: ClassVar = 0

    def prepare(self, source, tell, on_bad="skip"):
        raise NotImplementedError

    def cut(self, samples: pd.DataFrame, split: str) -> Cut:
        raise NotImplementedError

    def load(self, split: str) -> Split:
        draw = np.random.default_rng(self.seed)
        count = 60
        labels, subjects = np.arange(count) % 3, np.arange(count) // 3 % 6
        time_axis = np.linspace(0, 2 * np.pi, self.frames)
        stored = draw.normal(0, 0.02, (count, self.persons, self.frames, len(self.joints), 3)).astype(np.float32)
        hand = next(v for v, name in enumerate(self.joints.joints) if "left" in name.lower())
        stored[:, 0, :, hand, 0] += np.sin(time_axis * (1 + labels[:, None]))
        train = subjects % 2 == (split == "other")
        parts = [
            ClipSet(
                from_storage(torch.from_numpy(stored[rows])),
                torch.from_numpy(labels[rows]),
                torch.ones(len(rows), self.persons, dtype=torch.bool),
                tuple(f"clip{i}" for i in rows),
                {"subject": subjects[rows]},
                torch.full((len(rows),), self.frames),
            )
            for rows in (np.flatnonzero(train), np.flatnonzero(~train))
        ]
        digest = f"{self.name}-{split}-{self.frames}"
        classes = ("slow", "medium", "fast")
        return Split(f"{self.name}/{split}", self.joints, parts[0], parts[1], classes, "subject", digest)


class Turned(Tiny):
    """The same kind of clips, joints in another order and spelling."""

    joints = Layout.from_parents("turned", ("RightHand", "Neck", "LeftHand", "Hip"), (1, 3, 1, -1))
    seed = 1
    name = "turned"


class Pairs(Turned):
    """Clips of two persons."""

    persons = 2
    name = "pairs"


class Legs(Tiny):
    """A skeleton that Tiny's encoder cannot read."""

    joints = Layout.from_parents("legs", ("hip", "left_foot", "right_foot"), (-1, 0, 0))
    seed = 1
    name = "legs"


class Stream(Tiny):
    """Untrimmed recordings only."""

    name = "stream"

    def load(self, split: str) -> Split:
        raise BenchError("stream holds untrimmed recordings; trimmed clips are needed here")

    def load_untrimmed(self, split: str) -> UntrimmedSplit:
        draw = np.random.default_rng(2)
        parts = [
            RecordingSet(
                torch.from_numpy(draw.normal(0, 1, (90, self.persons, 4, 3)).astype(np.float32)),
                torch.from_numpy(np.arange(90) // 10 % 3),
                np.array([0, 40, 90]),
                (f"{part}1", f"{part}2"),
                {"subject": np.array([1, 2])},
            )
            for part in ("train", "test")
        ]
        classes = (BACKGROUND, "one", "two")
        rules = Preparation(frames=self.frames, length="all")
        return UntrimmedSplit(
            f"{self.name}/{split}", Turned.joints, parts[0], parts[1], classes, "subject", 30.0, rules, self.name
        )


class PairStream(Stream):
    """Untrimmed recordings of two persons."""

    persons = 2
    name = "pair_stream"


class TinyEncoderConfig(Config):
    width: int = knob(6, "features", ge=1)


class TinyEncoder(Encoder):
    """Speed of every joint, through one linear layer."""

    Config: ClassVar = TinyEncoderConfig
    budgets = {"quick": {"width": 5}}

    def __init__(self, config: TinyEncoderConfig, layout: Layout, frames: int, persons: int) -> None:
        super().__init__(config, layout, frames, persons)
        self.dim, self.temporal_stride = config.width, 1
        self.layer = nn.Linear(6, config.width)

    def forward(self, clips: Tensor, adjacency: Tensor | None = None) -> Tensor:
        x = clips.permute(0, 4, 2, 3, 1)
        speed = torch.zeros_like(x)
        speed[:, :, 1:] = (x[:, :, 1:] - x[:, :, :-1]).abs()
        return self.layer(torch.cat([x, speed], -1)).relu().permute(0, 1, 4, 2, 3)


class MiningConfig(Config):
    topk: int = knob(1, "neighbours", ge=1)


class TinyConfig(MethodConfig):
    train: TrainConfig = knob(TrainConfig(epochs=4, batch=8, lr=0.05), "training loop")
    scale: float = knob(1.0, "scale of the views", gt=0)
    mining: MiningConfig = knob(MiningConfig(), "mining")


class TinyCLR(Method):
    """Pulls two noisy views together, pushes the batch apart.

    What the environment asks for (``TINY_STOP``, ``TINY_BREAK``, ``TINY_SLOW``: an epoch; ``TINY_PAUSE``: seconds per
    step) changes no key.
    """

    title = "TinyCLR"
    Config: ClassVar = TinyConfig
    recipes = {"released": {"scale": 2.0}}
    budgets = {"quick": {"train.epochs": 3}}
    tuned = {"quick:tiny": {"mining.topk": 2}}
    presets = {"wide": {"scale": 3.0}}
    ablations = {"mining": {"without": {"mining.topk": 1}}}
    cost = 4.0
    config: TinyConfig

    def __init__(self, config: TinyConfig, context: Context) -> None:
        super().__init__(config, context)
        self._encoder = context.make_encoder()
        self.head = nn.Linear(self._encoder.dim, 4)

    @property
    def encoder(self) -> Encoder:
        return self._encoder

    def project(self, features: Tensor) -> Tensor:
        return self.head(features)

    def views(self, clips: Tensor, step: Step) -> tuple[Tensor, ...]:
        noise = torch.randn(clips.shape, generator=step.generator)
        return clips, clips * self.config.scale + 0.01 * noise

    def forward(self, views: tuple[Tensor, ...], step: Step) -> dict[str, Tensor]:
        if step.epoch == int(os.environ.get("TINY_STOP", 0)):
            raise KeyboardInterrupt
        if step.epoch == int(os.environ.get("TINY_BREAK", 0)):
            raise RuntimeError("out of luck")
        if step.epoch >= int(os.environ.get("TINY_SLOW", 999)):
            time.sleep(60)
        time.sleep(float(os.environ.get("TINY_PAUSE", 0)))
        one, other = (nn.functional.normalize(self.project(self.encoder.pool(self.encoder(v)))) for v in views)
        return {"nce": nn.functional.cross_entropy(one @ other.T / 0.1, torch.arange(len(one)))}


class TinyNext(TinyCLR):
    """Starts from TinyCLR's run."""

    title = "TinyNext"
    init_from = "tiny.py:TinyCLR"
    presets = {}
    tuned = {}

    def start_from(self, state) -> None:
        self.load_state_dict(state)


class Breaking(TinyCLR):
    """Cannot be built."""

    def __init__(self, config: TinyConfig, context: Context) -> None:
        raise BenchError("breaking is broken")


class MeansConfig(Config):
    epochs: int = knob(3, "points of the curve", ge=1)


class Means(Protocol):
    """Nearest class mean, with a made-up curve."""

    title = "nearest class mean"
    Config: ClassVar = MeansConfig
    presets = {"long": {"epochs": 5}}
    seen: ClassVar[list[EvalContext]] = []

    def supports(self, method: str, has_projector: bool, train_clips: int) -> str | None:
        return "raw coordinates are refused" if method == "raw" else None

    def run(self, context: EvalContext) -> Outcome:
        type(self).seen.append(context)
        means = torch.stack([context.train_features[context.train_labels == c].mean(0) for c in range(context.classes)])
        scores = -torch.cdist(context.test_features, means)
        for epoch in range(1, self.config.epochs + 1):
            context.report(epoch, 1.0 / epoch, scores if epoch < self.config.epochs else scores.flip(1))
        return Outcome(scores, {"flipped": scores.flip(1)}, {"n_trials": 1})


PATH = Path(__file__)
