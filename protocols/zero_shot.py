"""Adaptation without a label or a step: a classifier of clean clips meets corrupted ones (our definition; igm.md 3.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from datasets.corruptions import VERSION, corrupt
from engine.config import BenchError, Config, Overrides, knob
from protocols.base import FeatureConfig, FrozenContext, Outcome, Protocol
from protocols.linear import Linear, LinearConfig

Share = Annotated[float, Field(ge=0, lt=1)]
Strength = Annotated[float, Field(ge=0)]


class ZeroShotConfig(Config):
    """Settings: the strengths of every kind of corruption, each with each kind a condition, and those of the classifier.

    Shares of frames are igm.md's numbers of frames out of 120.
    """

    noise: tuple[Strength, ...] = knob(
        (0.01, 0.03, 0.05, 0.1), "standard deviation of Gaussian noise; igm.md 3.2", unit="m"
    )
    frames: tuple[Share, ...] = knob(
        (0.5, 0.75, 0.875), "share of frames dropped, the holes filled linearly: 60, 30, 15 of 120 stay; igm.md 3.2"
    )
    part: tuple[Annotated[int, Field(ge=0)], ...] = knob(
        (1, 2, 3, 4, 5),
        "body part that is hidden, 1 the trunk; numbers that a skeleton does not have are left out; igm.md 3.2",
    )
    gap: tuple[Share, ...] = knob((0.08, 0.17, 0.33), "share of frames lost in a row: 10, 20, 40 of 120; igm.md 3.2")
    rotation: tuple[Strength, ...] = knob(
        (30.0, 60.0, 90.0), "turn about the vertical, the side drawn clip by clip; igm.md 3.2", unit="degrees"
    )
    grades: Literal["all", "middle"] = knob(
        "all", "every strength, or the middle one of each kind alone (budget quick)"
    )
    generated: int | None = knob(
        None,
        "also encode what the method's generator makes of a corrupted clip in one step from this one of its diffusion, and "
        "average both features; igm.md 3.2, row b",
        late=True,
        ge=0,
        lt=1000,
    )
    linear: LinearConfig = knob(LinearConfig(), "the classifier, as under linear")

    @model_validator(mode="after")
    def _something_to_report(self) -> ZeroShotConfig:
        if not any(self.strengths.values()):
            raise ValueError(
                "no corruption is left: name at least one strength of noise, frames, part, gap or rotation"
            )
        return self

    @property
    def strengths(self) -> Mapping[str, tuple[float, ...]]:
        """By kind, in the order of the definition."""
        found = {kind: getattr(self, kind) for kind in KINDS}
        if self.grades == "middle":
            return {kind: strengths[len(strengths) // 2 :][:1] for kind, strengths in found.items()}
        return found


KINDS = ("noise", "frames", "part", "gap", "rotation")


class ZeroShot(Protocol[FrozenContext]):
    """``linear`` trained on the clean training clips; the number is the mean top-1 over all conditions of the test clips.

    The paper says only that cases become recognisable that were not (its abstract); kinds and strengths are the choice of
    this suite. No step is made on corrupted clips and no label of theirs is seen. ``zero_shot:noise`` and so on are single
    kinds; ``zero_shot:generated`` lets the method's generator mend the clips first, for methods that have one.
    """

    title: ClassVar[str] = (
        "linear classifier of clean clips on corrupted test clips, mean over corruptions (our definition)"
    )
    version: ClassVar[int] = 1
    Config: ClassVar[type[Config]] = ZeroShotConfig
    budgets: ClassVar[Mapping[str, Overrides]] = {"quick": {"grades": "middle"}}
    presets: ClassVar[Mapping[str, Overrides]] = {
        **{kind: {other: () for other in KINDS if other != kind} for kind in KINDS},
        "generated": {"generated": 500},
    }
    needs = "frozen"
    config: ZeroShotConfig

    def __init__(self, config: ZeroShotConfig) -> None:
        super().__init__(config)
        self.linear = Linear(config.linear)
        self.keeps_validation = self.linear.keeps_validation

    @classmethod
    def version_under(cls, config: ZeroShotConfig) -> int:
        """New versions of the classifier and of the corruptions are new ones of this."""
        return cls.version + Linear.version - 1 + VERSION - 1

    def features(self) -> FeatureConfig:
        """The features that ``linear`` reads."""
        return self.linear.features()

    @property
    def needs_generator(self) -> bool:
        """Only to pass corrupted clips through it."""
        return self.config.generated is not None or super().needs_generator

    def passes(self, train_clips: int, test_clips: int) -> float:
        """The test clips once for every condition, and as often what is generated."""
        return float(
            test_clips * sum(map(len, self.config.strengths.values())) * (1 + (self.config.generated is not None))
        )

    def run(self, context: FrozenContext) -> Outcome:
        """Train on clean features, then score the test clips under every condition; ``clean`` is an extra."""
        fitted = self.linear.fit(replace(context, report=lambda epoch, loss, scores: context.report(epoch, loss, None)))
        parts = len(context.layout.parts)
        wanted = [
            (kind, strength)
            for kind, strengths in self.config.strengths.items()
            for strength in strengths
            if kind != "part" or strength <= parts
        ]
        if not wanted:
            raise BenchError(
                f"Layout {context.layout.name} has {parts} body part(s); zero_shot.part names others only."
            )

        def features(clips: Tensor) -> Tensor:
            seen = context.encode(clips)
            step = self.config.generated
            return seen if step is None else (seen + context.encode(clips, step)) / 2

        scores = [
            fitted(features(corrupt(context.test_clips, kind, strength, context.layout))) for kind, strength in wanted
        ]
        return Outcome(
            torch.stack(scores),
            {"clean": fitted(context.test_features)},
            fitted.facts,
            fitted.validation,
            tuple(f"{kind}_{strength:g}" for kind, strength in wanted),
        )
