"""AimCLR: extreme augmentations, energy-based drop, distribution divergence, nearest-neighbour mining (AAAI 2022)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from datasets.augment import BASIC
from encoders.base import Encoder
from engine.config import Config, knob
from methods.base import MethodConfig, Step
from methods.blocks import distribution_loss, energy_drop, info_nce, mined_nce, nearest_neighbours
from methods.skeletonclr import DSTA, QUICK, MomentumMethodConfig, SkeletonCLR

EXTREME = ("flip", "rotate", "time_flip", "noise", "blur", "axis_mask")
"""The paper's six further augmentations, in the order of the code at paper time (aimclr.md 3.2)."""


class EADMConfig(Config):
    """Energy-based attention-guided drop module."""

    on: bool = knob(
        True, "use it; off equals the code published with the paper, where it does nothing (aimclr.md 8.13)"
    )
    threshold: float = knob(0.7, "attention above which positions are dropped (released code)", gt=0.5, lt=1)
    temporal: Literal["frames", "elements"] = knob(
        "frames", "drop joints and frames (paper) or joints and elements (code)"
    )


class MiningConfig(Config):
    """Nearest-neighbour mining (NNM)."""

    on: bool = knob(True, "use it")
    start_epoch: int = knob(150, "mine in the epochs after this one (AimCLR paper, sec. 4)", ge=0)
    topk: int = knob(1, "neighbours per query (AimCLR paper, sec. 4)", ge=1)
    form: Literal["log_sum", "mean_log"] = knob(
        "log_sum", "log of the summed probabilities (paper) or mean of their logs (released code)"
    )


# With the default start, so that it is the same run whatever --set says about when to mine.
_WITHOUT_NNM = {"nnm.on": False, "nnm.start_epoch": MiningConfig().start_epoch}


class AimCLRConfig(MomentumMethodConfig):
    """AimCLR's settings."""

    extreme: tuple[str, ...] = knob(EXTREME, "what the extreme view adds to crop and shear")
    eadm: EADMConfig = knob(EADMConfig(), "energy-based attention-guided drop")
    d3m: bool = knob(True, "distribution divergence minimisation")
    nnm: MiningConfig = knob(MiningConfig(), "nearest-neighbour mining")


class AimCLR(SkeletonCLR):
    """AimCLR."""

    title = "AimCLR (Guo et al., AAAI 2022)"
    Config = AimCLRConfig
    config: AimCLRConfig
    cost = 7.0
    # In a queue that holds every clip of a small set, the nearest neighbour is the clip's own earlier key (aimclr.md 8.16).
    budgets = {"quick": {**QUICK, "nnm.on": False, "train.batch": 16, "train.epochs": 40}}
    tuned = {"quick:synthetic": {"train.batch": 32, "train.epochs": 10, "train.lr": 2e-3}, "quick:dsta": DSTA}
    recipes = {
        "released": {
            "moco.key_init": "independent",
            "augment.noise_absent": True,
            "extreme": ("flip", "rotate", "noise", "blur", "axis_mask"),
            "eadm.temporal": "elements",
            "nnm.form": "mean_log",
        }
    }
    presets = {
        # What the text says beyond the equations: a true blur, statistics of clean clips (aimclr.md 10, paper-intent).
        "intent": {"augment.blur_normalise": True, "train.recalibrate": True},
        # The state of the code on the day of the paper's README (aimclr.md 10, official-2021): EADM without effect.
        "2021": {"eadm.on": False, "extreme": EXTREME, "moco.key_init": "independent", "nnm.form": "mean_log"},
    }
    ablations = {
        "components": {
            "without EADM": {"eadm.on": False},
            "without D3M": {"d3m": False},
            "without NNM": _WITHOUT_NNM,
            "without EADM, D3M": {"eadm.on": False, "d3m": False},
            "without EADM, NNM": {"eadm.on": False, **_WITHOUT_NNM},
            # Without D3M and NNM nothing reads what EADM leaves.
            "without all three": {"eadm.on": False, "d3m": False, **_WITHOUT_NNM},
        }
    }

    @classmethod
    def supports(cls, config: MethodConfig, encoder: type[Encoder]) -> str | None:
        """EADM drops joints and frames of the maps."""
        assert isinstance(config, AimCLRConfig)
        if encoder.local or not config.eadm.on:
            return None
        return (
            "EADM needs maps of joints, which this encoder does not make (--set aimclr.eadm.on=false leaves EADM out)"
        )

    def views(self, clips: Tensor, step: Step) -> tuple[Tensor, ...]:
        """Extreme, normal (query) and normal (key) view."""
        return (
            self.augmented(clips, BASIC + self.config.extreme, step),
            self.augmented(clips, BASIC, step),
            self.augmented(clips, BASIC, step),
        )

    def forward(self, views: tuple[Tensor, ...], step: Step) -> dict[str, Tensor]:
        """InfoNCE (mined in the second phase) plus D3M."""
        extreme, normal, key_view = views
        query = self.online(normal)
        maps = self.online.encoder(extreme)
        students = [self.online.embed(maps)]
        if self.config.eadm.on:
            eadm = self.config.eadm
            students.append(self.online.embed(energy_drop(maps, eadm.threshold, eadm.temporal)))
        key = self.key(key_view)
        return aimclr_losses(self.scores(query, key), [self.scores(z, key) for z in students], self.config, step.epoch)


def aimclr_losses(query: Tensor, students: list[Tensor], config: AimCLRConfig, epoch: int) -> dict[str, Tensor]:
    """AimCLR's losses from logits (N, 1 + K) of the query and of the extreme (and dropped) embeddings."""
    if config.nnm.on and epoch > config.nnm.start_epoch:
        positives = nearest_neighbours(query, *students, topk=config.nnm.topk)
        losses = {"nce": mined_nce(query, positives, config.nnm.form)}
    else:
        losses = {"nce": info_nce(query)}
    if config.d3m:
        losses["d3m"] = sum((distribution_loss(z, query) for z in students), query.new_zeros(())) / len(students)
    return losses
