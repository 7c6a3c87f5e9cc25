"""SkeletonCLR: momentum contrast of two normally augmented views (baseline of CrosSCLR, CVPR 2021)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from datasets.augment import BASIC, AugmentConfig, augment
from encoders.base import Encoder
from engine.config import knob
from methods.base import Context, Method, MethodConfig, Step
from methods.blocks import Embedder, MomentumConfig, MomentumCopy, Queue, info_nce, logits


class MomentumMethodConfig(MethodConfig):
    """Settings that SkeletonCLR, AimCLR and HiCLR have in common."""

    moco: MomentumConfig = knob(MomentumConfig(), "momentum contrast")
    augment: AugmentConfig = knob(AugmentConfig(), "strengths of the augmentations")


QUICK = {
    "train.epochs": 30,
    "train.batch": 32,
    "train.optimiser": "adamw",
    "train.lr": 1e-3,
    "train.schedule": "cosine",
    "train.warmup_steps": 50,
    "train.precision": "auto",
    "train.recalibrate": True,
    "moco.queue": 1024,
    "moco.momentum": 0.99,
}
"""Budget ``quick``: settings that learn within minutes on a thousand clips (docs/methods.md says what was measured)."""

DSTA = {"train.epochs": 24, "train.batch": 16, "train.lr": 5e-4, "moco.queue": 128}
"""Budget ``quick`` on ``dsta``, whose features drift so fast that age alone would tell old keys from new ones (our choice)."""


class SkeletonCLR(Method):
    """SkeletonCLR."""

    title = "SkeletonCLR (Li et al., CVPR 2021)"
    Config = MomentumMethodConfig
    config: MomentumMethodConfig
    recipes = {"released": {"moco.key_init": "independent"}}
    budgets = {"quick": QUICK}
    tuned = {"quick:synthetic": {"train.epochs": 10, "train.lr": 2e-3}, "quick:dsta": DSTA}
    cost = 4.0

    def __init__(self, config: MomentumMethodConfig, context: Context) -> None:
        super().__init__(config, context)
        moco = config.moco
        self.online = Embedder(context.make_encoder(), moco.dim)
        self.target = MomentumCopy(self.online, context, moco)
        self.queue = Queue(moco.queue, moco.dim)

    @property
    def encoder(self) -> Encoder:
        """The query encoder."""
        return self.online.encoder

    def project(self, features: Tensor) -> Tensor:
        """Projector output of pooled features."""
        projected: Tensor = self.online.projector(features)
        return F.normalize(projected, dim=1)

    def augmented(self, clips: Tensor, operations: tuple[str, ...], step: Step) -> Tensor:
        """One view with its own random parameters."""
        return augment(clips, operations, self.config.augment, self.context.layout, step.generator)

    def key(self, view: Tensor) -> Tensor:
        """Update the momentum encoder, encode the key view, and keep its keys for the queue."""
        self.target.update(self.online)
        keys: Tensor = self.target(view)
        self.keys = keys
        return keys

    def scores(self, query: Tensor, key: Tensor) -> Tensor:
        """Logits (N, 1 + K) against the own key and the queue as it was before this step."""
        return logits(query, key, self.queue.keys, self.config.moco.temperature)

    def views(self, clips: Tensor, step: Step) -> tuple[Tensor, ...]:
        """Query and key view."""
        return self.augmented(clips, BASIC, step), self.augmented(clips, BASIC, step)

    def forward(self, views: tuple[Tensor, ...], step: Step) -> dict[str, Tensor]:
        """InfoNCE."""
        query = self.online(views[0])
        key = self.key(views[1])
        return {"nce": info_nce(self.scores(query, key))}

    def after_step(self, step: Step) -> None:
        """Enqueue the keys; done here because the backward pass needs the old queue."""
        self.queue.push(self.keys)
