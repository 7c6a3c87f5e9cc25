"""HiCLR: a chain of ever stronger augmentations, each branch a student of the weaker one (AAAI 2023)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datasets.augment import BASIC, NORMAL
from datasets.strong import MaskKind, Scope, adain, apply_mask, cyclic_partner, draw_mask, drop_edges
from encoders.base import Encoder
from engine.config import BenchError, Config, knob
from methods.base import Context, MethodConfig, Step
from methods.blocks import info_nce, mined_nce, nearest_neighbours
from methods.skeletonclr import DSTA, QUICK, MomentumMethodConfig, SkeletonCLR

SETS = ("BA", "NA", "MASK", "DAE", "ADAIN")


class MaskConfig(Config):
    """Random mask."""

    ratio: float = knob(0.1, "share of joints hidden in every frame (slides)", ge=0, le=1)
    kind: MaskKind = knob("frame_joint", "what is hidden together")
    scope: Scope = knob("batch", "one mask for the whole batch (released code) or one per sample")
    fill: Literal["learned", "zero"] = knob("learned", "a learned scalar (released code) or zero")


class DAEConfig(Config):
    """Drop/add edges."""

    drop_max: float = knob(0.1, "largest drop rate (released code)", ge=0, lt=1)
    add_max: float = knob(0.0, "largest add rate; named 0.05, never active in released code (hiclr.md 7.6)", ge=0, le=1)


class AdaINConfig(Config):
    """Skeleton AdaIN."""

    statistics: Literal["TV", "V"] = knob("TV", "over frames and joints, or over joints")
    skip_absent: bool = knob(False, "leave absent persons alone; always where the encoder skips them")


class HierarchyConfig(Config):
    """The asymmetric hierarchical loss."""

    weights: tuple[float, ...] = knob((0.5, 0.5), "weight of every student's loss (released code)")
    form: Literal["kl", "ce", "l1", "cos"] = knob(
        "kl", "KL (slides), cross-entropy (code; equal gradients), or distance of the embeddings (code, hiclr.md 6.2)"
    )
    teacher: Literal["chain", "base"] = knob("chain", "the next weaker branch, or branch 0 for all")
    stop_gradient: Literal["teacher", "none", "student"] = knob("teacher", "where the gradient is stopped")


class HierarchicalMiningConfig(Config):
    """Nearest-neighbour mining, as AimCLR's; not on the slides, but in the code that gave the numbers (hiclr.md 7.4)."""

    on: bool = knob(True, "use it")
    start_epoch: int = knob(150, "mine in the epochs after this one (released code)", ge=0)
    topk: int = knob(1, "neighbours per branch (released code)", ge=1)
    union: Literal["all", "branch0"] = knob("all", "whose neighbours count")


class HiCLRConfig(MomentumMethodConfig):
    """HiCLR's settings."""

    branches: tuple[tuple[str, ...], ...] = knob(
        (("BA",), ("BA", "NA"), ("BA", "NA", "MASK")), f"cumulative sets of every branch, out of {', '.join(SETS)}"
    )
    key_set: tuple[str, ...] = knob(("BA",), "sets of the key view")
    normal: tuple[str, ...] = knob(NORMAL, "operations of the normal set NA (released code)")
    growth: Literal["independent", "nested"] = knob("independent", "branches draw for themselves, or refine one sample")
    mask: MaskConfig = knob(MaskConfig(), "random mask")
    dae: DAEConfig = knob(DAEConfig(), "drop/add edges")
    adain: AdaINConfig = knob(AdaINConfig(), "skeleton AdaIN")
    hierarchy: HierarchyConfig = knob(HierarchyConfig(), "hierarchical loss")
    nnm: HierarchicalMiningConfig = knob(HierarchicalMiningConfig(), "nearest-neighbour mining")


def _arrangement(*last: tuple[str, ...], weights: tuple[float, ...]) -> dict[str, object]:
    return {"branches": (("BA",), *(("BA", *sets) for sets in last)), "hierarchy.weights": weights}


def _direct(*query: str) -> dict[str, object]:
    sets = ("BA", "NA")
    return {"branches": ((*sets, *query),), "key_set": sets, "hierarchy.weights": (), "nnm.on": False}


class HiCLR(SkeletonCLR):
    """HiCLR."""

    title = "HiCLR (Zhang et al., AAAI 2023)"
    version = 2
    aliases = ("hicl",)
    Config = HiCLRConfig
    config: HiCLRConfig
    cost = 10.0
    budgets = {"quick": {**QUICK, "train.epochs": 32, "moco.queue": 256, "nnm.on": False}}
    tuned = {
        "quick:synthetic": {"train.epochs": 12, "train.lr": 2e-3, "train.batch": 16, "moco.queue": 1024},
        "quick:dsta": DSTA,
    }
    recipes = {
        "released": {"moco.key_init": "independent", "augment.noise_absent": True, "hierarchy.form": "ce"},
    }
    presets = {
        "dae": _arrangement(("NA",), ("NA", "DAE"), weights=(0.5, 0.5)),
        "adain": _arrangement(("NA",), ("NA", "ADAIN"), weights=(0.5, 0.5)),
        # Released settings for DSTA; its mask hides 0.1 there, and 0.2 in some of the authors' runs (hiclr.md 1.4a, 4.1).
        "transformer": {"train.weight_decay": 5e-4},
    }
    preset_encoders = {"transformer": "dsta"}
    ablations = {
        "arrangement": {
            "k=1, BA": {**_arrangement(weights=()), "nnm.on": False},
            "k=2, BA,NA": _arrangement(("NA",), weights=(1.0,)),
            "k=3, BA,NA,Mask": {},
            "k=3, BA,NA,AdaIN": presets["adain"],
            "k=3, BA,NA,Drop/Add Edges": presets["dae"],
            "k=4, BA,NA,Drop/Add Edges,Mask": _arrangement(
                ("NA",), ("NA", "DAE"), ("NA", "DAE", "MASK"), weights=(0.5, 0.3, 0.2)
            ),
            "k=4, BA,NA,Drop/Add Edges,AdaIN": {
                **_arrangement(("NA",), ("NA", "DAE"), ("NA", "DAE", "ADAIN"), weights=(0.5, 0.3, 0.2)),
                "adain.statistics": "V",
            },
        },
        # Directly: plain contrast of two strongly augmented views (hiclr.md 6.2); hierarchically: as in ``arrangement``.
        "strong": {
            "NA directly": _direct(),
            "Mask directly": _direct("MASK"),
            "Drop/Add Edges directly": _direct("DAE"),
            "AdaIN directly": {**_direct("ADAIN"), "key_set": ("BA", "NA", "ADAIN")},
            "NA hierarchically": _arrangement(("NA",), weights=(1.0,)),
            "Mask hierarchically": {},
            "Drop/Add Edges hierarchically": presets["dae"],
            "AdaIN hierarchically": presets["adain"],
            "two branches, the strong one without a step between": _arrangement(("NA", "MASK"), weights=(0.5,)),
            "base already normal": {
                "branches": (("BA", "NA"), ("BA", "NA", "MASK")), "key_set": ("BA", "NA"), "hierarchy.weights": (0.5,),
            },
        },
        "loss": {
            "KL": {},
            "cross-entropy": {"hierarchy.form": "ce"},
            "L1 between embeddings": {"hierarchy.form": "l1", "hierarchy.weights": (1.0, 1.0)},
            "cosine between embeddings": {"hierarchy.form": "cos", "hierarchy.weights": (1.0, 1.0)},
            "the first branch teaches all": {"hierarchy.teacher": "base"},
            "half the weight": {"hierarchy.weights": (0.25, 0.25)},
            "twice the weight": {"hierarchy.weights": (1.0, 1.0)},
            "without the hierarchical loss": {"hierarchy.weights": (0.0, 0.0)},
        },
        "stop_gradient": {
            "stopped to the teacher": {},
            "not stopped": {"hierarchy.stop_gradient": "none"},
            "stopped to the student": {"hierarchy.stop_gradient": "student"},
        },
        "nnm": {
            "neighbours of all branches": {},
            "of the first branch": {"nnm.union": "branch0"},
            # With the default start, so that it is the same run whatever --set says about when to mine.
            "without NNM": {"nnm.on": False, "nnm.start_epoch": HierarchicalMiningConfig().start_epoch},
        },
    }  # fmt: skip

    def __init__(self, config: HiCLRConfig, context: Context) -> None:
        super().__init__(config, context)
        students = len(config.branches) - 1
        if len(config.hierarchy.weights) != students:
            raise BenchError(
                f"hiclr.hierarchy.weights has {len(config.hierarchy.weights)} entries, "
                f"one per student branch = {students} needed."
            )
        unknown = {name for branch in (*config.branches, config.key_set) for name in branch} - set(SETS)
        if unknown:
            raise BenchError(
                f"Unknown augmentation set {', '.join(sorted(unknown))} in hiclr.branches. Known: {', '.join(SETS)}."
            )
        if hidden := {"MASK", "DAE"} & set(config.key_set):
            raise BenchError(f"hiclr.key_set: {', '.join(sorted(hidden))} act on branches only. Use BA, NA or ADAIN.")
        if reason := self.supports(config, type(self.encoder)):
            raise BenchError(f"hiclr: {reason}.")
        self.fill = nn.Parameter(torch.zeros(1), requires_grad=config.mask.fill == "learned")

    @classmethod
    def supports(cls, config: MethodConfig, encoder: type[Encoder]) -> str | None:
        """Dropping edges needs some."""
        assert isinstance(config, HiCLRConfig)
        if encoder.graph or not any("DAE" in branch for branch in config.branches):
            return None
        return "drop/add edges (DAE) needs an encoder with a graph or attention between joints, such as stgcn"

    def views(self, clips: Tensor, step: Step) -> tuple[Tensor, ...]:
        """The key view, then one view per branch; MASK, DAE and ADAIN follow after the stream conversion."""

        def operations(sets: tuple[str, ...]) -> tuple[str, ...]:
            return (BASIC if "BA" in sets else ()) + (self.config.normal if "NA" in sets else ())

        views = [self.augmented(clips, operations(self.config.key_set), step)]
        done: tuple[str, ...] = ()
        base = clips
        for sets in self.config.branches:
            todo = operations(sets)
            if self.config.growth == "nested":
                todo, done = tuple(name for name in todo if name not in done), todo
                base = self.augmented(base, todo, step)
                views.append(base)
            else:
                views.append(self.augmented(clips, todo, step))
        return tuple(views)

    def restyled(self, view: Tensor, step: Step) -> Tensor:
        """Skeleton AdaIN with another clip of the batch."""
        partner = cyclic_partner(len(view), step.generator)
        skip_absent = self.config.adain.skip_absent or self.encoder.skip_absent
        return adain(view, partner, self.config.adain.statistics, skip_absent)

    def branch(self, view: Tensor, sets: tuple[str, ...], step: Step) -> Tensor:
        """Embed one branch's view with its strong augmentations."""
        config, generator = self.config, step.generator
        adjacency = None
        if "ADAIN" in sets:
            view = self.restyled(view, step)
        if "MASK" in sets:
            mask = config.mask
            hidden = draw_mask(
                len(view), view.shape[2], self.context.layout, mask.ratio, mask.kind, mask.scope, generator
            )
            view = apply_mask(view, hidden, self.fill, self.encoder.skip_absent)
        if "DAE" in sets:
            assert self.encoder.adjacency is not None
            adjacency = drop_edges(
                self.encoder.adjacency, self.encoder.depth, config.dae.drop_max, config.dae.add_max, generator
            )
        embedding: Tensor = self.online(view, adjacency)
        return embedding

    def forward(self, views: tuple[Tensor, ...], step: Step) -> dict[str, Tensor]:
        """InfoNCE on branch 0 and the hierarchical loss of the others."""
        key_view, *branch_views = views
        # Three separate passes: every branch has its own batch statistics (hiclr.md 3).
        embeddings = [self.branch(v, s, step) for v, s in zip(branch_views, self.config.branches, strict=True)]
        key = self.key(self.restyled(key_view, step) if "ADAIN" in self.config.key_set else key_view)
        return hiclr_losses([self.scores(z, key) for z in embeddings], embeddings, self.config, step.epoch)


def hiclr_losses(scores: list[Tensor], embeddings: list[Tensor], config: HiCLRConfig, epoch: int) -> dict[str, Tensor]:
    """HiCLR's losses from the logits (N, 1 + K) and unit embeddings (N, d) of every branch, the weakest first."""
    if config.nnm.on and epoch > config.nnm.start_epoch:
        sources = scores if config.nnm.union == "all" else scores[:1]
        losses = {"nce": mined_nce(scores[0], nearest_neighbours(*sources, topk=config.nnm.topk), "mean_log")}
    else:
        losses = {"nce": info_nce(scores[0])}
    hierarchy = config.hierarchy
    compared = embeddings if hierarchy.form in ("l1", "cos") else scores
    for number, weight in enumerate(hierarchy.weights, start=1):
        teacher = compared[number - 1 if hierarchy.teacher == "chain" else 0]
        losses[f"hierarchy{number}"] = weight * hierarchical_loss(compared[number], teacher, hierarchy)
    return losses


def hierarchical_loss(student: Tensor, teacher: Tensor, config: HierarchyConfig) -> Tensor:
    """KL or cross-entropy from the teacher's to the student's distribution over keys, or the distance of embeddings."""
    teacher = teacher.detach() if config.stop_gradient == "teacher" else teacher
    student = student.detach() if config.stop_gradient == "student" else student
    if config.form == "l1":
        return 5 * F.l1_loss(student, teacher)  # this factor and the next are the released code's
    if config.form == "cos":
        return -7 * (student * teacher).sum(dim=1).mean()
    aims = teacher.softmax(dim=1)
    loss = -(aims * F.log_softmax(student, dim=1)).sum(dim=1).mean()
    if config.form == "ce":
        return loss
    return loss + (aims * F.log_softmax(teacher, dim=1)).sum(dim=1).mean()
