"""A method of your own, outside the tree: the query sees a clip with body parts hidden, the key sees all of it."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from datasets.augment import BASIC, AugmentConfig, augment
from datasets.strong import apply_mask, draw_mask
from encoders.base import Encoder
from engine.config import knob
from methods.base import Context, Method, MethodConfig, Step
from methods.blocks import Embedder, MomentumConfig, MomentumCopy, Queue, info_nce, logits
from methods.skeletonclr import QUICK


class MyConfig(MethodConfig):
    """Settings of MyCLR; MethodConfig brings `train`, the training loop."""

    moco: MomentumConfig = knob(MomentumConfig(), "momentum contrast")
    augment: AugmentConfig = knob(AugmentConfig(), "strengths of the augmentations")
    hidden: float = knob(0.2, "share of the body parts that the query does not see (our choice)", ge=0, lt=1)


class MyCLR(Method):
    """Momentum contrast between a clip and the same clip with body parts hidden."""

    title = "MyCLR (example)"
    Config = MyConfig
    config: MyConfig
    cost = 4.0  # query forward 1 and backward 2, key forward 1
    budgets = {"quick": QUICK}
    ablations = {"hidden": {f"hidden {share}": {"hidden": share} for share in (0.0, 0.2, 0.4, 0.6)}}

    def __init__(self, config: MyConfig, context: Context) -> None:
        super().__init__(config, context)
        self.online = Embedder(context.make_encoder(), config.moco.dim)
        self.target = MomentumCopy(self.online, context, config.moco)
        self.queue = Queue(config.moco.queue, config.moco.dim)

    @property
    def encoder(self) -> Encoder:
        """What protocols evaluate."""
        return self.online.encoder

    def project(self, features: Tensor) -> Tensor:
        """Projector output, for protocols that ask for it."""
        return F.normalize(self.online.projector(features), dim=1)

    def views(self, clips: Tensor, step: Step) -> tuple[Tensor, ...]:
        """Query and key view of joint clips (N, C, T, V, M); the trainer turns them into the stream."""
        layout, generator = self.context.layout, step.generator
        query, key = (augment(clips, BASIC, self.config.augment, layout, generator) for _ in range(2))
        hidden = draw_mask(len(clips), clips.shape[2], layout, self.config.hidden, "part", "sample", generator)
        return apply_mask(query, hidden, query.new_zeros(())), key

    def forward(self, views: tuple[Tensor, ...], step: Step) -> dict[str, Tensor]:
        """InfoNCE; the trainer minimises the sum of what is returned."""
        query = self.online(views[0])
        self.target.update(self.online)
        self.key = self.target(views[1])
        return {"nce": info_nce(logits(query, self.key, self.queue.keys, self.config.moco.temperature))}

    def after_step(self, step: Step) -> None:
        """The backward pass needed the old queue; now the new keys may enter."""
        self.queue.push(self.key)
