"""CMD: momentum contrast in three streams at once, which distil their neighbourhoods into one another (ECCV 2022)."""

from __future__ import annotations

from itertools import permutations
from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from engine.config import Config, TrainConfig, knob
from methods.base import MethodConfig, Step
from methods.blocks import MomentumConfig, info_nce
from methods.crossclr import CrosSCLR, Similarities
from methods.skeletonclr import DSTA, QUICK, MomentumMethodConfig


class DistillConfig(Config):
    """Cross-modal mutual distillation."""

    share: float = knob(
        0.5,
        "share of the queue, nearest in the teaching stream, that is compared; 8192 of 16384 as released",
        gt=0,
        le=1,
    )
    teacher: float = knob(0.05, "temperature of the teaching stream (released code)", gt=0)
    student: float = knob(0.1, "temperature of the learning stream (released code)", gt=0)
    weight: float = knob(1.0, "of the sum over the six ordered pairs of streams (released code)", ge=0)


class CMDConfig(MomentumMethodConfig):
    """CMD's settings."""

    train: TrainConfig = knob(
        TrainConfig(epochs=451, batch=64, lr=0.01, milestones=(351,)), "training loop; values of the released script"
    )
    moco: MomentumConfig = knob(MomentumConfig(queue=16384), "momentum contrast; the queue as released")
    distill: DistillConfig = knob(DistillConfig(), "distillation between streams")


class CMD(CrosSCLR):
    """CMD: encoders, copies and queues as CrosSCLR; the projector keeps the encoder's width, as for all methods here."""

    title = "CMD (Mao et al., ECCV 2022)"
    aliases: ClassVar[tuple[str, ...]] = ()
    Config: ClassVar[type[MethodConfig]] = CMDConfig
    config: CMDConfig
    default_encoder = "bigru"
    recipes = {}
    budgets = {"quick": QUICK}
    tuned = {"quick:synthetic": {"train.epochs": 10, "train.lr": 2e-3}, "quick:dsta": DSTA}
    ablations = {"distillation": {"without distillation": {"distill.weight": 0.0}}}

    def forward(self, views: tuple[Tensor, ...], step: Step) -> dict[str, Tensor]:
        """InfoNCE of every stream, and the distillation."""
        found, temperature = self.contrast(views), self.config.moco.temperature
        losses = {f"nce_{stream}": info_nce(each.logits(temperature)) for stream, each in found.items()}
        pairs = [
            distilled(teacher, student, self.config.distill) for teacher, student in permutations(found.values(), 2)
        ]
        return {**losses, "distill": self.config.distill.weight * sum(pairs, pairs[0].new_zeros(()))}


def distilled(teacher: Similarities, student: Similarities, config: DistillConfig) -> Tensor:
    """Divergence of a stream's query from another stream's key, as distributions over that key's nearest queue entries."""
    similar, nearest = teacher.key.topk(max(1, round(config.share * teacher.key.shape[1])), dim=1)
    learned = F.log_softmax(student.query.gather(1, nearest) / config.student, dim=1)
    return F.kl_div(learned, (similar / config.teacher).softmax(dim=1), reduction="batchmean")
