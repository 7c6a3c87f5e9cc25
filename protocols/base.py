"""What an evaluation protocol offers, and the little it gets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from engine.config import Config as BaseConfig
from engine.config import Overrides, knob


class FeatureConfig(BaseConfig):
    """Which features of a frozen method a protocol reads; extracted once and shared by all that ask for the same."""

    space: Literal["encoder", "projector"] = knob("encoder", "pooled encoder output, or the projector's output")
    augment: bool = knob(False, "one random crop + shear per clip (ActCLR's monitor), else the clips as they are")


@dataclass(frozen=True)
class EvalContext:
    """All that a protocol may see. There are no test labels in it: the engine scores what the protocol returns.

    Attributes:
        train_features: (N, D) float32, rows in the split's order.
        train_labels: (N,) int64.
        test_features: (n, D) float32.
        classes: number of classes.
        fit, held_out: indices into train: the part to fit on while something is chosen, the part to choose by.
        seed: seed of this stage.
        report: ``report(epoch, loss, test_scores)`` adds a point to the stored curve; the engine scores it unseen.
    """

    train_features: Tensor
    train_labels: Tensor
    test_features: Tensor
    classes: int
    fit: NDArray[np.int64]
    held_out: NDArray[np.int64]
    seed: int
    report: Callable[[int, float | None, Tensor | None], None]


@dataclass(frozen=True)
class Outcome:
    """What a protocol returns.

    Attributes:
        scores: (n, classes) float32 per test sample, the largest wins.
        extras: further score matrices, e.g. ``{"k5": ...}``; their top-1 become metrics ``top1_k5`` ...
        facts: what was chosen and tried, e.g. ``{"lr": 0.1, "n_trials": 6}``.
    """

    scores: Tensor
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    facts: Mapping[str, float | int | str] = field(default_factory=dict)


class Protocol(ABC):
    """An evaluation protocol; a file in ``protocols/`` whose name is the protocol's.

    Attributes:
        title: one line.
        version: raised whenever the definition changes.
        Config: settings; the defaults are the headline definition under budget ``full``.
        budgets: changes under another budget.
        presets: the papers' variants, asked for as ``name:preset`` (``linear:aimclr``).
        needs: what it works on.
    """

    title: ClassVar[str] = ""
    version: ClassVar[int] = 1
    aliases: ClassVar[tuple[str, ...]] = ()
    Config: ClassVar[type[BaseConfig]] = BaseConfig
    budgets: ClassVar[Mapping[str, Overrides]] = {}
    presets: ClassVar[Mapping[str, Overrides]] = {}
    needs: ClassVar[Literal["features", "encoder", "untrimmed"]] = "features"

    def __init__(self, config: BaseConfig) -> None:
        self.config = config

    def features(self) -> FeatureConfig:
        """The features it reads."""
        return FeatureConfig()

    def supports(self, method: str, has_projector: bool, train_clips: int) -> str | None:
        """``None``, or the reason why this protocol cannot evaluate that method on that split."""
        return None

    @abstractmethod
    def run(self, context: EvalContext) -> Outcome:
        """Evaluate; must not depend on the order of the samples (beyond seeded shuffling) or on chunk sizes."""
