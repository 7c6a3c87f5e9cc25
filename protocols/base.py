"""What an evaluation protocol offers, and the little it gets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Generator, Tensor, device, nn

from datasets.layout import Layout
from datasets.prepare import Preparation
from datasets.untrimmed import RecordingSet
from encoders.base import Encoder
from engine.config import Config as BaseConfig
from engine.config import Overrides, TrainConfig, knob

Needs = Literal["features", "frozen", "encoder", "untrimmed", "scores"]
"""What a protocol works on: cached features (``EvalContext``), these and the frozen encoder (``FrozenContext``), the encoder
itself and clips (``EncoderContext``), the frozen encoder and untrimmed recordings (``UntrimmedContext``), or stored scores of
other evaluations (``ScoresContext``)."""


class FeatureConfig(BaseConfig):
    """Which features of a frozen method a protocol reads; extracted once and shared by all that ask for the same."""

    space: Literal["encoder", "projector", "joints", "actionlet", "non_actionlet", "adapter", "generator", "fused"] = (
        knob(
            "encoder",
            "pooled encoder output, the projector's output, the encoder's output with joints kept apart, encoder output pooled "
            "inside or outside of the method's actionlets, what a generative method's adapter or generator makes of it, or "
            "fused, the generator's beside the encoder's",
        )
    )
    noise_level: int = knob(
        100, "spaces generator, fused: step of the diffusion whose noise it sees; igm.md 3.1", late=True, ge=0, lt=1000
    )
    augment: bool = knob(False, "one random crop + shear per clip (ActCLR's monitor), else the clips as they are")


INNER: Mapping[str, Overrides] = {part: {"features.space": part} for part in ("adapter", "generator", "fused")}
"""Presets of protocols on features: those of a generative method's parts behind its encoder (igm.md 3.1)."""


@dataclass(frozen=True)
class EvalContext:
    """All that a protocol on features may see. There are no test labels in it: the engine scores what it returns.

    Attributes:
        train_features: (N, D) float32, rows in the split's order.
        train_labels: (N,) int64.
        test_features: (n, D) float32.
        classes: number of classes.
        fit, held_out: indices into train: the part to fit on while something is chosen, the part to choose by; both
            empty in a draw of labels, which is too small to choose by.
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
class FrozenContext(EvalContext):
    """All that a protocol on features of changed test clips may see.

    Attributes:
        test_clips: (n, C, T, V, M), joint stream; ``test_features`` are theirs.
        layout: skeleton layout.
        encode: features (k, D) of joint clips (k, C, T, V, M), as those of ``train_features`` were made; with a second
            argument, a step of the method's diffusion, of what is generated from the clips with the noise of that step.
    """

    test_clips: Tensor
    layout: Layout
    encode: Callable[..., Tensor]


@dataclass(frozen=True)
class NetworkTraining:
    """What a protocol asks the engine's training loop to do.

    Attributes:
        network: its trainable parameters are optimised in place; holds the context's encoder.
        config: settings of the loop.
        losses: ``losses(index, generator)``: named scalar losses of the labelled clips ``index`` (n,), everything random
            drawn from the generator. The loop draws the batches, so that no label is left out.
        scores: (n, classes) of the test clips as the network stands, for the curve.
        full_length: an epoch shows as many clips as the whole training part has, however few are labelled.
        rate: what the learning rate of the network's parameter of that name is multiplied by (layer decay).
        warmup_epochs: linear warm-up of the learning rate in steps of an epoch.
    """

    network: nn.Module
    config: TrainConfig
    losses: Callable[[Tensor, Generator], Mapping[str, Tensor]]
    scores: Callable[[], Tensor]
    full_length: bool = False
    rate: Callable[[str], float] = lambda name: 1.0
    warmup_epochs: int = 0


@dataclass(frozen=True)
class EncoderContext:
    """All that a protocol on the encoder may see: no test labels, and no labels outside its draw.

    Attributes:
        encoder: with the weights of the pre-training (of method ``random``: freshly initialised), to be changed at will.
        clips: (N, C, T, V, M) labelled training clips, joint stream.
        labels: (N,) int64.
        test_clips: (n, C, T, V, M).
        classes: number of classes.
        layout: skeleton layout.
        stream: stream that the encoder reads; convert after augmenting.
        seed: seed of this stage and draw.
        train: runs the engine's loop (schedule, precision, checkpoint after every epoch, resuming bit for bit), and returns the
            scores of the test clips by the last epoch's weights.
    """

    encoder: Encoder
    clips: Tensor
    labels: Tensor
    test_clips: Tensor
    classes: int
    layout: Layout
    stream: str
    seed: int
    train: Callable[[NetworkTraining], Tensor]


@dataclass(frozen=True)
class ScoresContext:
    """All that a protocol on stored scores may see: no test labels.

    Attributes:
        scores: by stream, (n, classes) or, for a protocol with R draws, (R, n, classes).
        validation: by stream, (m, classes) scores of held-out training clips by a classifier fitted on the others; empty
            where the evaluations stored none.
        labels: (m,) int64, of those clips.
    """

    scores: Mapping[str, Tensor]
    validation: Mapping[str, Tensor]
    labels: Tensor


@dataclass(frozen=True)
class UntrimmedContext:
    """All that a protocol on untrimmed recordings may see: no test labels.

    Attributes:
        encoder: frozen, in evaluation mode; expects clips of ``encoder.frames`` frames.
        attention: ``attention(maps)``: the method's weights (N, M, T', V) of joints and moments for a weighted average of the
            encoder's maps (N, M, D, T', V); ``None`` for methods that have none.
        layout: skeleton layout of recordings and encoder.
        stream: stream that the encoder reads.
        rules: how a window is prepared.
        train: training recordings with labels, in main memory.
        group: the entry of ``train.groups`` along which the split is cut.
        test_frames: (F, M, V, 3), as ``RecordingSet.frames``.
        test_offsets: (R + 1,) int64, as ``RecordingSet.offsets``.
        test_ids: R names.
        classes: number of classes, 0 is background.
        seed: seed of this stage.
        device: where the encoder is.
        progress: ``progress(done, total)``: windows encoded so far, shown to the user.
        report: ``report(epoch, loss, test_scores)`` adds a point to the stored curve; the engine scores it unseen.
    """

    encoder: Encoder
    attention: Callable[[Tensor], Tensor | None]
    layout: Layout
    stream: str
    rules: Preparation
    train: RecordingSet
    group: str
    test_frames: Tensor
    test_offsets: NDArray[np.int64]
    test_ids: tuple[str, ...]
    classes: int
    seed: int
    device: device
    progress: Callable[[int, int], None]
    report: Callable[[int, float, Tensor], None]


@dataclass(frozen=True)
class Outcome:
    """What a protocol returns.

    Attributes:
        scores: (n, classes) float32 per test sample (untrimmed recordings: per frame), the largest wins; of R draws or
            conditions (R, n, classes).
        extras: further score matrices, e.g. ``{"k5": ...}``; their top-1 become metrics ``top1_k5`` ...
        facts: what was chosen and tried, e.g. ``{"lr": 0.1, "n_trials": 6}``.
        validation: (m, classes) scores of ``context.held_out`` by a classifier that was fitted on ``context.fit``.
        conditions: names of R conditions that the test clips were scored under: metrics are means over them, ``top1_<name>``
            is that of one.
    """

    scores: Tensor
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    facts: Mapping[str, float | int | str] = field(default_factory=dict)
    validation: Tensor | None = None
    conditions: tuple[str, ...] = ()


ContextT = TypeVar("ContextT", bound=EvalContext | EncoderContext | ScoresContext | UntrimmedContext)


class Protocol(ABC, Generic[ContextT]):
    """An evaluation protocol; a file in ``protocols/`` whose name is the protocol's.

    Attributes:
        title: one line.
        version: raised whenever the definition changes.
        Config: settings; the defaults are the headline definition under budget ``full``.
        budgets: changes under another budget.
        tuned: changes for one dataset under one budget, e.g. ``{"quick:synthetic": {"train.epochs": 8}}``.
        presets: the papers' variants, asked for as ``name:preset`` (``linear:aimclr``).
        headlines: presets that the bare name stands for; several are as many columns.
        on_targets: whether it evaluates on other data than those of the pre-training (``--targets``).
        needs: what it works on, which decides the context it gets; may depend on the config, but not whether it is
            ``untrimmed`` or ``scores``.
        keeps_validation: whether its outcome will hold validation scores.
    """

    title: ClassVar[str] = ""
    version: ClassVar[int] = 1
    aliases: ClassVar[tuple[str, ...]] = ()
    Config: ClassVar[type[BaseConfig]] = BaseConfig
    budgets: ClassVar[Mapping[str, Overrides]] = {}
    tuned: ClassVar[Mapping[str, Overrides]] = {}
    presets: ClassVar[Mapping[str, Overrides]] = {}
    headlines: ClassVar[tuple[str, ...]] = ("",)
    on_targets: ClassVar[bool] = False
    needs: Needs = "features"
    keeps_validation: bool = False

    def __init__(self, config: BaseConfig) -> None:
        self.config = config

    @property
    def space(self) -> str:
        """Where the features that it reads come from (:class:`FeatureConfig`), "" if it reads none."""
        return self.features().space if self.needs in ("features", "frozen") else ""

    @property
    def needs_attention(self) -> bool:
        """Whether it pools by :meth:`methods.base.Method.attention`, which not every method has."""
        return self.space in ("actionlet", "non_actionlet")

    @property
    def needs_generator(self) -> bool:
        """Whether it looks at a method's generative model, which most methods do not have."""
        return self.space in INNER

    @classmethod
    def version_under(cls, config: Any) -> int:
        """The version that a config runs: of a protocol that runs others, theirs counts, too."""
        return cls.version

    def features(self) -> FeatureConfig:
        """The features it reads."""
        return FeatureConfig()

    def keeps_joints(self) -> bool:
        """Whether it reads features of every joint, which need an encoder that is ``local``."""
        return self.space == "joints"

    def supports(self, method: str, has_projector: bool, train_clips: int) -> str | None:
        """``None``, or the reason why this protocol cannot evaluate that method on that split."""
        return f"{method} has no projector" if self.space == "projector" and not has_projector else None

    def combines(self, other: Protocol[Any]) -> str | None:
        """For protocols on scores: ``None``, or the reason why they cannot combine the other protocol's scores."""
        return None

    def label_count(self, labels: NDArray[np.int64]) -> int:
        """Number of the training labels (N,) that the definition asks for; a run that sees fewer is an error."""
        return len(labels)

    def draws(self, labels: NDArray[np.int64], split: str) -> Mapping[str, NDArray[np.int64]]:
        """Sets of training clips whose labels it may see, one run each; none (the default): one run with all labels.

        Args:
            labels: (N,) of the training part.
            split: digest of the split, the only source of randomness: the same draws for every method, stream and seed.

        Returns:
            Ascending indices into train by the draw's name, under which they are stored.
        """
        return {}

    def passes(self, train_clips: int, test_clips: int) -> float:
        """Clips that the encoder has to pass, those with a backward pass counting three times; for time estimates.

        A protocol on untrimmed recordings is told their frames instead of clips.
        """
        return 0.0

    @abstractmethod
    def run(self, context: ContextT) -> Outcome:
        """Evaluate; must not depend on the order of the samples (beyond seeded shuffling) or on chunk sizes."""
