"""CrosSCLR: momentum contrast in three streams at once; each mines its positives by the others (CVPR 2021; aimclr.md 7)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datasets.augment import BASIC, augment
from datasets.streams import STREAMS, to_stream
from encoders.base import Encoder
from engine.config import Config, knob
from methods.base import Context, Method, MethodConfig, Step
from methods.blocks import Embedder, MomentumCopy, Queue, info_nce, mined_nce
from methods.skeletonclr import DSTA, QUICK, MomentumMethodConfig


class CrossConfig(Config):
    """Mining of positives across streams."""

    start_epoch: int = knob(
        150, "mine in the epochs after this one, each stream for itself before (released code)", ge=0
    )
    topk: int = knob(1, "neighbours per query and other stream (released code)", ge=1)
    context: bool = knob(True, "also compare the products of both streams' similarities to the queues (released code)")
    form: Literal["log_sum", "mean_log"] = knob(
        "log_sum", "log of the summed probabilities (paper) or mean of their logs (released code)"
    )


class CrosSCLRConfig(MomentumMethodConfig):
    """CrosSCLR's settings."""

    cross: CrossConfig = knob(CrossConfig(), "mining across streams")


@dataclass(frozen=True)
class Similarities:
    """Cosines of one stream's batch.

    Attributes:
        own: (N, 1) of query and own key.
        query: (N, K) of the query and the stream's queue as it was before this step.
        key: (N, K) of the key and that queue, without gradient.
    """

    own: Tensor
    query: Tensor
    key: Tensor

    def logits(self, temperature: float) -> Tensor:
        """(N, 1 + K)."""
        return torch.cat([self.own, self.query], dim=1) / temperature


class CrosSCLR(Method):
    """CrosSCLR: three encoders, momentum copies and queues, whose rows belong to the same clips.

    Departs from the released code where that is plainly in error: its motion and bone projectors end in the joint stream's, and
    in the second phase only the motion stream's key encoder moves.
    """

    title = "CrosSCLR (Li et al., CVPR 2021)"
    aliases: ClassVar[tuple[str, ...]] = ("crosclr",)
    Config: ClassVar[type[MethodConfig]] = CrosSCLRConfig
    config: MomentumMethodConfig
    recipes = {"released": {"moco.key_init": "independent", "cross.form": "mean_log"}}
    # A short queue, in which a clip seldom meets its own older key: that would be the neighbour which the others mine.
    budgets = {"quick": {**QUICK, "moco.queue": 256, "cross.start_epoch": 15}}
    tuned = {
        "quick:synthetic": {"train.epochs": 10, "train.lr": 2e-3, "cross.start_epoch": 5},
        "quick:dsta": {**DSTA, "cross.start_epoch": 12},
    }
    ablations = {
        "mining": {"without mining": {"cross.start_epoch": 10_000}, "without context": {"cross.context": False}}
    }
    all_streams = True
    cost = 12.0

    def __init__(self, config: MomentumMethodConfig, context: Context) -> None:
        super().__init__(config, context)
        moco = config.moco
        online = {stream: Embedder(context.make_encoder(), moco.dim) for stream in STREAMS}
        self.online = nn.ModuleDict(online)
        self.target = nn.ModuleDict({stream: MomentumCopy(each, context, moco) for stream, each in online.items()})
        self.queue = nn.ModuleDict({stream: Queue(moco.queue, moco.dim) for stream in STREAMS})

    @property
    def encoder(self) -> Encoder:
        """The query encoder of the stream that is evaluated."""
        return self.encoders()[self.context.stream]

    def encoders(self) -> Mapping[str, Encoder]:
        """The query encoders."""
        return {stream: cast(Embedder, each).encoder for stream, each in self.online.items()}

    def project(self, features: Tensor) -> Tensor:
        """Projector output of pooled features of the stream that is evaluated."""
        projected: Tensor = cast(Embedder, self.online[self.context.stream]).projector(features)
        return F.normalize(projected, dim=1)

    def views(self, clips: Tensor, step: Step) -> tuple[Tensor, ...]:
        """Query and key view, the same ones for all streams."""
        config, layout = self.config.augment, self.context.layout
        return tuple(augment(clips, BASIC, config, layout, step.generator) for _ in range(2))

    def contrast(self, views: tuple[Tensor, ...]) -> dict[str, Similarities]:
        """Encode both views in every stream, and keep the keys for the queues."""
        self.keys, found = {}, {}
        for stream in STREAMS:
            online, target = self.online[stream], cast(MomentumCopy, self.target[stream])
            query_view, key_view = (to_stream(view, stream, self.context.layout) for view in views)
            query: Tensor = online(query_view)
            target.update(online)
            key = self.keys[stream] = target(key_view)
            queue = cast(Queue, self.queue[stream]).keys
            found[stream] = Similarities((query * key).sum(dim=1, keepdim=True), query @ queue.T, key @ queue.T)
        return found

    def forward(self, views: tuple[Tensor, ...], step: Step) -> dict[str, Tensor]:
        """InfoNCE of every stream, in the second phase with the positives that the other streams find."""
        assert isinstance(self.config, CrosSCLRConfig)
        found, cross, temperature = self.contrast(views), self.config.cross, self.config.moco.temperature
        if step.epoch <= cross.start_epoch:
            return {f"nce_{stream}": info_nce(each.logits(temperature)) for stream, each in found.items()}
        return {
            f"cross_{stream}": torch.stack(
                [mined(each, other, cross, temperature) for name, other in found.items() if name != stream]
            ).mean()
            for stream, each in found.items()
        }

    def after_step(self, step: Step) -> None:
        """Enqueue the keys; done here because the backward pass needs the old queues."""
        for stream, keys in self.keys.items():
            cast(Queue, self.queue[stream]).push(keys)


def mined(own: Similarities, other: Similarities, config: CrossConfig, temperature: float) -> Tensor:
    """InfoNCE of a stream, where the queue entries that are nearest in another stream count as positives.

    With ``context`` their products with that stream's similarities stand beside the similarities, with gradient through
    both, and the same entries are positive there.
    """
    scores = [own.own, own.query, *([own.query * other.query] if config.context else [])]
    nearest = torch.zeros_like(other.query, dtype=torch.bool)
    nearest.scatter_(1, other.query.detach().topk(config.topk, dim=1).indices, True)
    positives = [torch.ones_like(own.own, dtype=torch.bool)] + [nearest] * (len(scores) - 1)
    return mined_nce(torch.cat(scores, dim=1) / temperature, torch.cat(positives, dim=1), config.form)
