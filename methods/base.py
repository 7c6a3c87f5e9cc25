"""What a pre-training method offers, and what it gets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn

from datasets.layout import Layout
from encoders.base import Encoder
from engine.config import Config, Overrides, TrainConfig, knob


@dataclass(frozen=True)
class Context:
    """What a method is built from.

    Attributes:
        make_encoder: builds a freshly initialised encoder of the zoo; call it once per encoder needed.
        layout: skeleton layout of the clips.
        stream: ``joint``, ``bone`` or ``motion``; of a method that trains all of them, the one that is evaluated.
        frames: T.
        persons: M.
        train_clips: number of clips trained on.
        mean_clip: (C, T, V, M), the average of all training clips (joint stream), for methods that compare with it.
    """

    make_encoder: Callable[[], Encoder]
    layout: Layout
    stream: str
    frames: int
    persons: int
    train_clips: int
    mean_clip: Tensor | None = None


@dataclass(frozen=True)
class Step:
    """Where training stands.

    Attributes:
        epoch: current epoch, 1-based.
        epochs: number of epochs.
        index: steps done before this one, over all epochs.
        steps: steps of the whole run.
        generator: the run's random generator, on the clips' device; draw everything from it (dropout excepted).
    """

    epoch: int
    epochs: int
    index: int
    steps: int
    generator: torch.Generator


class MethodConfig(Config):
    """Base of every method's config."""

    train: TrainConfig = knob(TrainConfig(), "training loop")


class Method(nn.Module, ABC):
    """A self-supervised method: views of a clip in, named losses out.

    A subclass lives in a file of its own in ``methods/``; the file's name is the method's name. The trainer owns optimiser,
    schedule, precision and checkpoints. Everything with state (queues, momentum copies) is a parameter or a buffer.

    Attributes:
        title: one line: full name, venue, year.
        version: raised whenever the same config gives other numbers.
        aliases: other names it answers to.
        Config: settings; the defaults are recipe ``paper`` under budget ``full``.
        recipes: changes under another recipe, e.g. ``{"released": {"key_init": "independent"}}``.
        budgets: changes under another budget, e.g. ``{"quick": {"train.epochs": 30}}``.
        tuned: changes for one dataset, or one encoder, under one budget: ``{"quick:synthetic": {"train.epochs": 8}}``.
        presets: named variants, asked for as ``name:preset``.
        ablations: tables of named rows of changes, each by itself against the method as it is; a path that begins with
            ``protocol.`` changes the protocols instead. A row is named as its paper prints it (``leaderboard/published.csv``),
            and one without changes is the method as it is.
        init_from: method whose finished run (same dataset, stream, seed) this one starts from.
        encoder_name: encoder that this method always uses; ``None`` leaves the choice to the user.
        default_encoder: encoder of its paper, taken where the user chooses none.
        preset_encoders: the same of presets that are about another one.
        all_streams: one run trains encoders for all streams: its views stay joint clips, which it converts itself, and
            ``encoder`` is the one of ``context.stream``.
        imports: starts from weights that ``import-weights`` kept; ``name:preset`` says which.
        cost: encoder forward passes per clip and step, a backward pass counting as two; for time estimates.
    """

    title: ClassVar[str] = ""
    version: ClassVar[int] = 1
    aliases: ClassVar[tuple[str, ...]] = ()
    Config: ClassVar[type[MethodConfig]] = MethodConfig
    recipes: ClassVar[Mapping[str, Overrides]] = {}
    budgets: ClassVar[Mapping[str, Overrides]] = {}
    tuned: ClassVar[Mapping[str, Overrides]] = {}
    presets: ClassVar[Mapping[str, Overrides]] = {}
    ablations: ClassVar[Mapping[str, Mapping[str, Overrides]]] = {}
    init_from: ClassVar[str | None] = None
    encoder_name: ClassVar[str | None] = None
    default_encoder: ClassVar[str] = "stgcn"
    preset_encoders: ClassVar[Mapping[str, str]] = {}
    all_streams: ClassVar[bool] = False
    imports: ClassVar[bool] = False
    cost: ClassVar[float] = 0.0

    def __init__(self, config: MethodConfig, context: Context) -> None:
        super().__init__()
        self.config = config
        self.context = context

    @classmethod
    def usual_encoder(cls, preset: str = "") -> str:
        """The encoder that it is run with, as a preset or as it is, where the user chooses none."""
        return cls.preset_encoders.get(preset, cls.default_encoder)

    @classmethod
    def supports(cls, config: MethodConfig, encoder: type[Encoder]) -> str | None:
        """``None``, or the reason why the method cannot use that encoder under these settings."""
        return None

    @property
    @abstractmethod
    def encoder(self) -> Encoder:
        """The encoder that protocols evaluate."""

    def encoders(self) -> Mapping[str, Encoder]:
        """The encoders that protocols may evaluate, by stream: one, or those of ``all_streams``."""
        return {self.context.stream: self.encoder}

    def project(self, features: Tensor) -> Tensor | None:
        """Projector output (N, d) of pooled features (N, D); ``None`` for methods without a projector."""
        return None

    def attention(self, maps: Tensor) -> Tensor | None:
        """Weights (N, M, T', V) in 0..1 of the encoder's maps (N, M, D, T', V), for a weighted average of joints and moments.

        ``None`` for methods that attend to nothing; called in evaluation mode.
        """
        return None

    def inner(self, part: str, clips: Tensor, maps: Tensor, noise_level: int) -> Tensor | None:
        """Features (N, D') of a part of the method behind the encoder; ``None`` for methods without it. In evaluation mode.

        Args:
            part: ``adapter``, what conditions the generator, or ``generator``, what it makes of a noisy clip on that condition.
            clips: (N, C, T, V, M) of the stream.
            maps: the encoder's of them.
            noise_level: step of the diffusion whose noise the generator sees.
        """
        return None

    @abstractmethod
    def views(self, clips: Tensor, step: Step) -> tuple[Tensor, ...]:
        """Augmented views of joint clips (N, C, T, V, M); then converted to the stream unless ``all_streams``."""

    @abstractmethod
    def forward(self, views: tuple[Tensor, ...], step: Step) -> dict[str, Tensor]:
        """Named scalar losses of one batch of stream views; the trainer minimises their sum."""

    def generate(
        self, clips: Tensor, noise_levels: Sequence[int], calls: int, generator: Generator
    ) -> dict[str, Tensor]:
        """Clips as the method's generative model makes them; nothing for methods without one. Called in evaluation mode.

        Args:
            clips: (N, C, T, V, M) of the stream; what is generated is conditioned on them.
            noise_levels: steps of the diffusion from which one prediction is to lead back to a clip.
            calls: predictions on the way from pure noise to a clip; 0: no such clip.
            generator: draws everything.

        Returns:
            Generated clips (N, C, T, V, M) by the name of how they were made.
        """
        return {}

    def metrics(self) -> dict[str, Tensor]:
        """Scalars of the last step worth logging (mask shares and the like); never optimised."""
        return {}

    def start_from(self, state: Mapping[str, Tensor]) -> None:
        """Take over the finished run of ``init_from`` (its ``state_dict``), or imported weights. Called once, before training.

        Raises:
            BenchError: the state does not fit.
        """
        raise NotImplementedError(f"{type(self).__name__} declares init_from but does not take a state over")

    def after_step(self, step: Step) -> None:
        """Called after the optimiser's step."""
