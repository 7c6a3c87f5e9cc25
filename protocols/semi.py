"""Few labels, in five fixed draws (protocols.md, version 1; field.md 3.3, aimclr.md 5.4, hiclr.md 4.4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import field_validator

from engine.config import Config, Overrides, TrainConfig, knob
from protocols.base import EncoderContext, EvalContext, FeatureConfig, Outcome
from protocols.finetune import PUBLISHED, QUICK, Finetune, FinetuneConfig
from protocols.linear import Linear, LinearConfig


class SemiConfig(FinetuneConfig):
    """Settings of the semi-supervised protocol."""

    percent: float = knob(10.0, "share of the training labels that are seen; protocols.md v1", unit="%", gt=0, le=100)
    draws: int = knob(5, "fixed draws, one run each; field.md 3.3", unit="draws", ge=1)
    stratified: bool = knob(True, "draw class by class, at least one each; else from all clips at once (CMD, MAMP)")
    frozen: bool = knob(False, "keep the encoder frozen: a linear classifier on its features")
    epoch: Literal["full", "labelled"] = knob(
        "full", "an epoch shows as many clips as the whole training part has, or every labelled clip once; hiclr.md 4.4"
    )
    train: TrainConfig = knob(
        PUBLISHED.model_copy(update={"milestones": (9, 29, 49)}), "training loop; field.md 3.1 (ActCLR)"
    )
    linear: LinearConfig = knob(
        LinearConfig(lr=(0.1,), weight_decay=(1e-3,)), "classifier where the encoder is frozen; one setting, no choice"
    )

    @field_validator("linear")
    @classmethod
    def _one_setting(cls, value: LinearConfig) -> LinearConfig:
        if len(value.lr) * len(value.weight_decay) > 1:
            raise ValueError("few labels are too few to choose by: give one lr and one weight_decay")
        return value


class Semi(Finetune):
    """Fine-tuning on few labels; headline 10 %, stratified, mean and standard deviation over five fixed draws.

    The draws depend on the data alone, so every method, stream and seed sees the same labels, and a larger share
    contains the smaller ones. ``semi:linear`` keeps the encoder frozen.
    """

    title = "10 % of the labels, whole network trained, five fixed draws"
    version = 1
    Config: ClassVar[type[Config]] = SemiConfig
    budgets: ClassVar[Mapping[str, Overrides]] = {"quick": {**QUICK, "train.epochs": 4}}
    tuned: ClassVar[Mapping[str, Overrides]] = {"quick:synthetic": {"train.batch": 16, "train.epochs": 2}}
    presets: ClassVar[Mapping[str, Overrides]] = {
        **{str(percent): {"percent": percent} for percent in (1, 2, 5, 20)},
        "linear": {"frozen": True},
        "random": {"stratified": False},
        "mamp": {**Finetune.presets["mamp"], "stratified": False, "epoch": "labelled"},
    }
    config: SemiConfig

    def __init__(self, config: SemiConfig) -> None:
        super().__init__(config)
        if config.frozen:
            self.needs = "features"

    def supports(self, method: str, has_projector: bool, train_clips: int) -> str | None:
        """Raw coordinates have no weights to train, but may stand in for a frozen encoder."""
        if self.config.frozen:
            return Linear(self.config.linear).supports(method, has_projector, train_clips)
        return super().supports(method, has_projector, train_clips)

    def features(self) -> FeatureConfig:
        """What the classifier of a frozen encoder reads."""
        return self.config.linear.features

    def passes(self, train_clips: int, test_clips: int) -> float:
        """As fine-tuning, draw by draw."""
        if self.config.frozen:
            return 0.0
        shown = train_clips if self.config.epoch == "full" else round(train_clips * self.config.percent / 100)
        return self.config.draws * super().passes(shown, test_clips)

    def label_count(self, labels: NDArray[np.int64]) -> int:
        """The share of all labels, class by class if stratified."""
        counts = np.unique(labels, return_counts=True)[1] if self.config.stratified else [len(labels)]
        return sum(self._share(int(count)) for count in counts)

    def _share(self, count: int) -> int:
        """Rounded half to even, as the released samplers do, but at least one."""
        return max(1, round(count * self.config.percent / 100))

    def draws(self, labels: NDArray[np.int64], split: str) -> Mapping[str, NDArray[np.int64]]:
        """Stratified: the first of every class in a random order; else the first of all."""
        kind = "stratified" if self.config.stratified else "random"
        drawn = {}
        for number in range(1, self.config.draws + 1):
            order = np.random.default_rng([*f"{split} {kind} {number}".encode()]).permutation(len(labels))
            groups = [order[labels[order] == c] for c in np.unique(labels)] if self.config.stratified else [order]
            chosen = np.concatenate([group[: self._share(len(group))] for group in groups])
            drawn[f"{kind}-{self.config.percent:g}-{number}"] = np.sort(chosen)
        return drawn

    def run(self, context: EncoderContext | EvalContext) -> Outcome:
        """Train on the labels of one draw."""
        if isinstance(context, EvalContext):
            return Linear(self.config.linear).run(context)
        return self.train(context, full_length=self.config.epoch == "full")
