"""Weighted sum of the scores of several streams (protocols.md, version 1; actclr.md 9.4, aimclr.md 5.6)."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any, ClassVar

import torch
from pydantic import model_validator
from torch import Tensor
from torch.nn import functional

from engine.config import BenchError, Config, Overrides, knob
from protocols.base import Outcome, Protocol, ScoresContext

_STEPS = 5
"""The weights tried are 0, 1/5, 2/5 ... 1."""


class FusionConfig(Config):
    """Weights of the streams; only their ratios matter to the ranking of classes."""

    joint: float = knob(1.0, "weight of the joint stream", ge=0)
    bone: float = knob(1.0, "weight of the bone stream", ge=0)
    motion: float = knob(1.0, "weight of the motion stream", ge=0)
    choose: bool = knob(False, "choose the weights on the validation part of train instead; needs stored scores of it")

    @model_validator(mode="after")
    def _some_weight(self) -> FusionConfig:
        if not self.joint + self.bone + self.motion:
            raise ValueError("joint, bone and motion are all 0: give at least one stream a weight")
        return self


class Fusion(Protocol[ScoresContext]):
    """Late fusion of raw scores, stream by stream of one method, protocol and seed; runs no network.

    Headline: equal weights. ``fusion:paper`` weighs joint, bone, motion 0.6, 0.6, 0.4 (AimCLR's script);
    ``fusion:validation`` chooses the weights on a validation part of train, never on test.
    """

    title: ClassVar[str] = "joint, bone and motion scores added up, equal weights"
    version: ClassVar[int] = 1
    aliases: ClassVar[tuple[str, ...]] = ("ensemble",)
    Config: ClassVar[type[Config]] = FusionConfig
    presets: ClassVar[Mapping[str, Overrides]] = {
        "paper": {"joint": 0.6, "bone": 0.6, "motion": 0.4},
        "validation": {"choose": True},
    }
    needs = "scores"
    config: FusionConfig

    def combines(self, other: Protocol[Any]) -> str | None:
        """A choice needs validation scores, which not every protocol can spare."""
        if self.config.choose and not other.keeps_validation:
            return "it keeps no scores of a validation part to choose weights by"
        return None

    def run(self, context: ScoresContext) -> Outcome:
        """Add the streams' scores up."""
        weights = {stream: float(getattr(self.config, stream)) for stream in context.scores}
        trials = [tuple(weights.values())]
        facts: dict[str, float | int | str] = {}
        if self.config.choose:
            if missing := [stream for stream in weights if stream not in context.validation]:
                raise BenchError(
                    f"No validation scores of the {', '.join(missing)} stream are stored: an earlier version evaluated it. "
                    "Delete the evaluation's folder in results/runs/evaluate and run again."
                )
            trials = weight_grid(len(weights))
            best, facts["validation_top1"] = _choose(trials, list(context.validation.values()), context.labels)
            weights = dict(zip(weights, best, strict=True))
        facts |= {f"weight_{stream}": weight for stream, weight in weights.items()} | {"n_trials": len(trials)}
        fused = torch.stack([weight * context.scores[stream] for stream, weight in weights.items()]).sum(0)
        return Outcome(fused, facts=facts)


def weight_grid(streams: int) -> list[tuple[float, ...]]:
    """All weights in steps of 1/5 whose largest is 1, so that no ratio comes twice."""
    levels = [step / _STEPS for step in range(_STEPS + 1)]
    return [weights for weights in product(levels, repeat=streams) if max(weights) == 1]


def _choose(trials: list[tuple[float, ...]], scores: list[Tensor], labels: Tensor) -> tuple[tuple[float, ...], float]:
    """The weights with the best top-1, of equals the most even ones, then the lower loss; and that top-1 in percent."""

    def rank(weights: tuple[float, ...]) -> tuple[float, float, float]:
        fused = torch.stack([weight * values for weight, values in zip(weights, scores, strict=True)]).sum(0)
        correct = 100 * (fused.argmax(1) == labels).double().mean()
        return float(correct), sum(weights), -float(functional.cross_entropy(fused, labels))

    best = max(trials, key=rank)
    return best, rank(best)[0]
