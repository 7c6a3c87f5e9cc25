"""MAMP: of a body most of which is hidden, the motion of the hidden part is predicted (Mao et al., ICCV 2023; igm.md 7)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from datasets.clips import from_storage
from datasets.resized import ResizedConfig, resized
from encoders.base import Encoder
from encoders.bodies import bodies_of
from encoders.skeleton_transformer import SkeletonTransformer, patchify, take
from engine.config import BenchError, Config, TrainConfig, knob
from methods.base import Context, Method, MethodConfig, Step
from methods.masked import RELEASED, Decoder, DecoderConfig, blinded, hiding_order, parted, standardised, steps_of

PUBLISHED = RELEASED.model_copy(update={"lr_end": 5e-4, "recalibrate": True})
"""Released settings; recalibrating is ours and for other encoders, whose BatchNorm never sees a whole body in training."""

QUICK = {
    "train.epochs": 60,
    "train.batch": 32,
    "train.lr_end": 0.0,
    "train.precision": "auto",
    "decoder.dim": 64,
    "decoder.blocks": 1,
    "decoder.heads": 2,
    "decoder.ratio": 2,
    "decoder.every": 4,
}


class MotionMaskConfig(Config):
    """What is hidden of a body."""

    ratio: float = knob(
        0.9, "share of tokens that are left out; the number kept is rounded (75 of 750; released: 74)", gt=0, lt=1
    )
    tau: float = knob(0.8, "the larger, the less motion decides what is hidden; 0: chance alone (released)", ge=0)
    cells: float = knob(
        0.5, "share set to zero for encoders that cannot leave tokens out (our choice: igm.md 8)", gt=0, lt=1
    )


class MAMPConfig(MethodConfig):
    """MAMP's settings."""

    train: TrainConfig = knob(PUBLISHED, "training loop; igm.md 4")
    view: ResizedConfig = knob(ResizedConfig(), "the one view of a clip")
    mask: MotionMaskConfig = knob(MotionMaskConfig(), "what is hidden")
    decoder: DecoderConfig = knob(DecoderConfig(), "decoder")
    stride: int = knob(1, "motion is the way to the frame so many later (released)", unit="frames", ge=1)
    target: Literal["motion", "joints"] = knob("motion", "predict steps to the next frame (MAMP), or coordinates (MAE)")


class MAMP(Method):
    """MAMP."""

    title = "MAMP (Mao et al., ICCV 2023)"
    Config = MAMPConfig
    config: MAMPConfig
    default_encoder = "skeleton_transformer"
    cost = 1.4
    budgets = {"quick": QUICK}
    tuned = {
        "quick:synthetic": {"train.epochs": 30, "train.lr": 2e-3, "train.batch": 16},
        "full:ntu120": {"decoder.blocks": 5, "mask.tau": 0.75},
        "full:pku_mmd1": {"decoder.blocks": 5},
        "full:pku_mmd2": {"decoder.blocks": 5},
    }
    presets = {"mae": {"target": "joints", "mask.tau": 0.0}}
    ablations = {
        "mask": {
            **{f"{ratio:.0%} hidden": {"mask.ratio": ratio} for ratio in (0.5, 0.8, 0.95)},
            "by chance": {"mask.tau": 0.0},
        },
        "target": {"joints": {"target": "joints"}, "joints, by chance": presets["mae"]},
    }

    def __init__(self, config: MAMPConfig, context: Context) -> None:
        super().__init__(config, context)
        self._encoder = context.make_encoder()
        if reason := self.supports(config, type(self._encoder)):
            raise BenchError(f"mamp: {reason}.")
        self.length = self._encoder.temporal_stride
        steps = -(-context.frames // self.length)
        if steps < 2:
            raise BenchError(f"mamp needs clips of more than {self.length} frames, these have {context.frames}.")
        self.decoder = Decoder(config.decoder, self._encoder.dim, steps, len(context.layout), 3 * self.length)

    @classmethod
    def supports(cls, config: MethodConfig, encoder: type[Encoder]) -> str | None:
        """What is hidden are moments of joints."""
        return (
            None
            if encoder.local
            else "what is hidden is predicted from maps of joints, which this encoder does not make"
        )

    @property
    def encoder(self) -> Encoder:
        """The encoder; protocols show it whole bodies."""
        return self._encoder

    def views(self, clips: Tensor, step: Step) -> tuple[Tensor, ...]:
        """One view: a stretch of the clip at another pace, turned."""
        return (resized(clips, self.config.view, step.generator),)

    def forward(self, views: tuple[Tensor, ...], step: Step) -> dict[str, Tensor]:
        """Squared error of the hidden tokens."""
        bodies = bodies_of(views[0], self.context.layout, self._encoder.skip_absent).x
        patches = patchify(bodies, self.length)
        mask, encoder = self.config.mask, self._encoder
        order = hiding_order(patches, mask.tau, step.generator)
        leaves_out = isinstance(encoder, SkeletonTransformer)
        kept, hidden = parted(order, mask.ratio if leaves_out else mask.cells)
        # The order knows which tokens move: every n-th of it is a fair choice of them, the first ones are not.
        hidden = hidden[:, :: self.config.decoder.every]
        if isinstance(encoder, SkeletonTransformer):
            tokens = encoder.tokens(patches, kept)
        else:
            tokens = take(self.blinded(bodies, kept), kept)
        predicted = encoder.in_precision(self.decoder, tokens, kept, hidden)
        wanted = (
            patchify(steps_of(bodies, self.config.stride), self.length) if self.config.target == "motion" else patches
        )
        error = predicted - take(standardised(wanted).flatten(1, 2), hidden)
        return {self.config.target: error.square().mean()}

    def blinded(self, bodies: Tensor, kept: Tensor) -> Tensor:
        """Tokens (B, L, D) of an encoder that sees bodies (B, T, V, 3) with zeros in all places but ``kept`` (our choice)."""
        places = -(-bodies.shape[1] // self.length) * bodies.shape[2]
        shown = torch.zeros(len(bodies), places, dtype=torch.bool, device=kept.device).scatter(1, kept, True)
        maps: Tensor = self._encoder(from_storage(blinded(bodies, shown, self.length)[:, None]))
        return maps[:, 0].flatten(2).transpose(1, 2)
