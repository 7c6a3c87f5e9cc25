"""Reference row: the encoder as it is initialised, without any training."""

from __future__ import annotations

from torch import Tensor

from encoders.base import Encoder
from engine.config import TrainConfig, knob
from methods.base import Context, Method, MethodConfig, Step


class RandomConfig(MethodConfig):
    """Nothing to set: no training."""

    train: TrainConfig = knob(TrainConfig(epochs=0), "no training")


class Random(Method):
    """Random encoder."""

    title = "Random encoder (reference)"
    Config = RandomConfig

    def __init__(self, config: RandomConfig, context: Context) -> None:
        super().__init__(config, context)
        self._encoder = context.make_encoder()

    @property
    def encoder(self) -> Encoder:
        """The untrained encoder."""
        return self._encoder

    def views(self, clips: Tensor, step: Step) -> tuple[Tensor, ...]:
        """The clips."""
        return (clips,)

    def forward(self, views: tuple[Tensor, ...], step: Step) -> dict[str, Tensor]:
        """No loss."""
        return {}
