"""ActCLR: actionlets, motion-adaptive transformation, semantic-aware pooling, similarity mining (CVPR 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from datasets.augment import BASIC, NORMAL, AugmentConfig, augment
from datasets.clips import from_storage
from datasets.mixing import draw_mix, resize_time, skeleton_mix, style_swap
from datasets.streams import to_stream
from encoders.base import Encoder
from engine.config import BenchError, Config, knob
from methods.actionlet import ActionletConfig, DistillConfig, difference_activation, distill, mixture_weights
from methods.base import Context, MethodConfig, Step
from methods.blocks import MomentumConfig
from methods.skeletonclr import DSTA, QUICK, MomentumMethodConfig, SkeletonCLR

Branch = Literal["mats", "q", "t", "m"]


class ViewConfig(Config):
    """Augmentations and their curriculum."""

    normal: tuple[str, ...] = knob(NORMAL, "T_act: what the normal view adds to crop and shear")
    strong: tuple[str, ...] = knob(
        ("noise",), "T_non on the non-actionlet region; released code: all of normal and more"
    )
    strong_noise_sd: float = knob(0.05, "noise of the strong set (paper, Table 7)", unit="m", ge=0)
    relation: Literal["chained", "independent"] = knob(
        "chained", "strong view refines the normal one (Eq. 7) or is drawn for itself (released code)"
    )
    curriculum: bool = knob(
        False, "3 and 1 (5 and 3) random operations in the second and last third of training (code)"
    )
    plain_tail: float = knob(0.0, "last share of training without any augmentation; released run: 1/7", ge=0, le=1)


class SAFPConfig(Config):
    """Semantic-aware feature pooling."""

    weight: float = knob(
        1.0, "share of the actionlet-pooled embedding in the key: 1 (paper), 0.5 (code), 0 = off", ge=0, le=1
    )
    online: float = knob(0.0, "the same share in the student's embedding (Table 9)", ge=0, le=1)


class ActCLRConfig(MomentumMethodConfig):
    """ActCLR's settings."""

    moco: MomentumConfig = knob(MomentumConfig(queue=65536), "momentum encoder and queue (released code)")
    augment: AugmentConfig = knob(AugmentConfig(), "strengths of the augmentations")
    view: ViewConfig = knob(ViewConfig(), "augmentations")
    actionlet: ActionletConfig = knob(ActionletConfig(), "actionlet masks")
    branches: tuple[Branch, ...] = knob(
        ("mats",), "mats: one motion-adaptive branch (Eq. 7, 8); q, t, m: the released code's three"
    )
    region: Literal["non_actionlet", "full", "full_noise", "full_mix"] = knob(
        "non_actionlet",
        "where T_non acts: beside the actionlet, or everywhere with all, its noise or its mix (Table 7)",
    )
    adain: Literal["length", "moments", "off"] = knob(
        "length", "style swap: bone lengths (code), mean and deviation (Eq. 6), or none"
    )
    mix: bool = knob(True, "skeleton mix")
    safp: SAFPConfig = knob(SAFPConfig(), "semantic-aware feature pooling")
    distill: DistillConfig = knob(DistillConfig(), "similarity mining")


class ActCLR(SkeletonCLR):
    """ActCLR; starts from the AimCLR run of the same data, stream and seed."""

    title = "ActCLR (Lin et al., CVPR 2023)"
    version = 2
    Config = ActCLRConfig
    config: ActCLRConfig
    init_from = "aimclr"
    cost = 5.0
    budgets = {"quick": {**QUICK, "train.batch": 16, "train.epochs": 12, "train.lr": 5e-4}}
    tuned = {
        "quick:synthetic": {"train.batch": 32, "train.epochs": 5, "train.lr": 1e-3},
        "quick:dsta": {**DSTA, "train.epochs": 8},
    }
    recipes = {
        "released": {
            "actionlet.anchor": "batch",
            "actionlet.anchor_norm": "batch",
            "actionlet.encoder": "online",
            "augment.noise_absent": True,
            "branches": ("q", "t", "m"),
            "view.strong": (*NORMAL, "interpolate", "rescale"),
            "view.relation": "independent",
            "view.curriculum": True,
            "safp.weight": 0.5,
            "distill.square_student": True,
            "distill.topk": 8192,
            "distill.drop_above": 0.95,
            "distill.form": "kl",
        }
    }
    ablations = {
        "T7": {
            **{f"Noise {sd} on {area}": {"view.strong_noise_sd": sd, "region": region}
               for sd in (0.01, 0.05, 0.1)
               for area, region in (("Non-Actionlet", "non_actionlet"), ("Full Area", "full_noise"))},
            "Skeleton Mix on Non-Actionlet": {},
            "Skeleton Mix on Full Area": {"region": "full_mix"},
        },
        "T8": {
            "w/o T": {"adain": "off", "mix": False, "view.plain_tail": 1.0},
            "w/o (AdaIN + T_non)": {"adain": "off", "mix": False, "view.strong": ()},
            "w/o T_non": {"mix": False, "view.strong": ()},
            "Full Version": {},
        },
        "T9": {
            "w/o SAFP": {"safp.weight": 0.0},
            "offline w/ SAFP": {},
            "online w/ SAFP": {"safp.weight": 0.0, "safp.online": 1.0},
            "online + offline w/ SAFP": {"safp.online": 1.0},
        },
        "F3": {
            "whole": {},
            "actionlet": {"protocol.features.space": "actionlet"},
            "non-actionlet": {"protocol.features.space": "non_actionlet"},
        },
        "mask": {
            "ramp": {},
            "binary": {"actionlet.mode": "binary"},
            "divided by the clip's maximum": {"actionlet.mode": "relative"},
            "not averaged over body parts": {"actionlet.smooth": "none"},
            "average motion of the batch": {"actionlet.anchor": "batch"},
            "by the online network": {"actionlet.encoder": "online"},
        },
    }  # fmt: skip

    def __init__(self, config: ActCLRConfig, context: Context) -> None:
        super().__init__(config, context)
        if config.actionlet.anchor == "dataset":
            if context.mean_clip is None:
                raise BenchError("actclr.actionlet.anchor=dataset needs the average training clip in the context.")
            mean = to_stream(context.mean_clip[None], context.stream, context.layout)
            self.register_buffer("average_motion", mean.clone(), persistent=False)
        self.logged: dict[str, Tensor] = {}
        self.drawn: tuple[int, tuple[str, ...], tuple[str, ...]] = (0, (), ())

    @classmethod
    def supports(cls, config: MethodConfig, encoder: type[Encoder]) -> str | None:
        """An actionlet is a choice of joints and frames."""
        return None if encoder.local else "actionlets need maps of joints, which this encoder does not make"

    def start_from(self, state: Mapping[str, Tensor]) -> None:
        """Take AimCLR's query encoder and projector, for both networks; the queue starts anew (actclr.md 4.1)."""
        online = {k.removeprefix("online."): v for k, v in state.items() if k.startswith("online.")}
        try:
            self.online.load_state_dict(online)
            self.target.network.load_state_dict(online)
        except RuntimeError as error:
            raise BenchError(f"ActCLR cannot start from this AimCLR run: {error}") from None

    def operations(self, step: Step) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Operations of the normal and strong set in this epoch (one draw per epoch, actclr.md 4.3)."""
        view = self.config.view
        if self.drawn[0] != step.epoch:
            third = 3 * (step.epoch - 1) // max(step.epochs, 1) if view.curriculum else 0

            def draw(names: tuple[str, ...], number: int) -> tuple[str, ...]:
                order = torch.randperm(len(names), generator=step.generator, device=step.generator.device)
                return tuple(names[i] for i in sorted(order[:number].tolist()))

            sizes = ((len(view.normal), len(view.strong)), (3, 5), (1, 3))[third]
            self.drawn = step.epoch, draw(view.normal, sizes[0]), draw(view.strong, sizes[1])
        return self.drawn[1:]

    def views(self, clips: Tensor, step: Step) -> tuple[Tensor, ...]:
        """Normal, strong, weak (student) and weak (key) view; all four are the clip itself in the plain tail."""
        if step.epoch > step.epochs * (1 - self.config.view.plain_tail):
            return clips, clips, clips, clips
        normal, strong = self.operations(step)
        chained = self.config.view.relation == "chained"
        config = self.config.augment.model_copy(update={"noise_sd": self.config.view.strong_noise_sd})
        x = self.augmented(clips, BASIC + normal, step)
        y = augment(
            x if chained else clips, strong if chained else BASIC + strong, config, self.context.layout, step.generator
        )
        return x, y, self.augmented(clips, BASIC, step), self.augmented(clips, BASIC, step)

    def anchor(self, key_view: Tensor) -> Tensor:
        """Embedding (1, d) of the average motion."""
        config = self.config.actionlet
        mean = self.average_motion if config.anchor == "dataset" else key_view.mean(dim=0, keepdim=True)
        assert isinstance(mean, Tensor)
        network = self.target.network
        network.train(config.anchor_norm == "batch")
        with torch.no_grad():
            embedded: Tensor = network.projector(network.encoder.pool(network.encoder(mean)))
        network.train()
        return embedded

    @torch.no_grad()
    def attention(self, maps: Tensor) -> Tensor:
        """Actionlet mask by the trained encoder and projector; the anchor is the average training clip (actclr.md 11, F3)."""
        if self.context.mean_clip is None:
            raise BenchError("actclr: actionlets need the average training clip in the context.")
        mean = to_stream(self.context.mean_clip[None], self.context.stream, self.context.layout)
        encoder, projector = self.online.encoder, self.online.projector
        anchor = projector(encoder.pool(encoder(mean)))
        return difference_activation(maps, self.online, anchor, self.context.layout, self.config.actionlet)

    def actionlet(self, view: Tensor, anchor: Tensor) -> Tensor:
        """Mask (N, M, T', V) of a view."""
        network = self.online if self.config.actionlet.encoder == "online" else self.target.network
        with torch.no_grad():
            maps = network.encoder(view)
        return difference_activation(maps, network, anchor, self.context.layout, self.config.actionlet)

    def safp(self, maps: Tensor, mask: Tensor | None, weight: float) -> Tensor:
        """Mean of average-pooled and actionlet-pooled embedding, unnormalised before the mean."""
        network = self.online if maps.requires_grad else self.target.network
        plain = network.projector(network.encoder.pool(maps))
        if mask is not None and weight > 0:
            plain = (1 - weight) * plain + weight * network.projector(network.encoder.pool(maps, mask))
        return F.normalize(plain, dim=1)

    def swapped(self, view: Tensor, step: Step) -> Tensor:
        """Style swap with a random partner."""
        if self.config.adain == "off" or len(view) < 2:
            return view
        shift = int(torch.randint(1, max(len(view) - 1, 2), (), generator=step.generator, device=view.device))
        context, skip_absent = self.context, self.encoder.skip_absent
        return style_swap(view, shift, context.layout, context.stream, self.config.adain, skip_absent)

    def student(self, inside: Tensor, outside: Tensor, mask: Tensor, everywhere: bool) -> Tensor:
        """Similarities (N, K) to the queue of a clip: ``inside`` in the actionlet, ``outside`` elsewhere or everywhere."""
        region = torch.zeros_like(mask) if everywhere else mask
        blend = from_storage(resize_time(region, inside.shape[2])[..., None])  # (N, 1, T, V, M)
        maps = self.online.encoder(blend * inside + (1 - blend) * outside)
        return self.safp(maps, mask, self.config.safp.online) @ self.queue.keys.T

    def forward(self, views: tuple[Tensor, ...], step: Step) -> dict[str, Tensor]:
        """Distillation loss of every branch."""
        x, y, weak, key_view = views
        config, layout = self.config, self.context.layout
        self.target.update(self.online)
        anchor = self.anchor(key_view)
        with torch.no_grad():
            maps = self.target.network.encoder(key_view)
            key_mask = difference_activation(maps, self.target.network, anchor, layout, config.actionlet)
            self.keys = self.safp(maps, key_mask, config.safp.weight)
            teacher = self.keys @ self.queue.keys.T
        normal_mask = self.actionlet(x, anchor) if {"mats", "q"} & set(config.branches) else key_mask
        weak_mask = self.actionlet(weak, anchor) if {"t", "m"} & set(config.branches) else key_mask
        style = self.swapped(weak, step)  # the m-branch sees it too (actclr.md 13.6)

        def mixed(clips: Tensor, small: bool) -> Tensor:
            if not config.mix:
                return clips
            return skeleton_mix(clips, draw_mix(len(clips), clips.shape[2], layout, small, step.generator))

        late = step.epoch >= step.epochs * 2 / 3
        losses: dict[str, Tensor] = {}
        for branch in config.branches:
            if branch == "mats":
                # Style and mix come after the shared operations, so that inside and outside differ in T_non only.
                style_state = step.generator.get_state()
                inside = self.swapped(y if config.region == "full_noise" else x, step)
                step.generator.set_state(style_state)
                outside, mix_state = self.swapped(y, step), step.generator.get_state()
                outside = mixed(outside, late)
                if config.region == "full_mix":  # with the same partner and the same joints
                    step.generator.set_state(mix_state)
                    inside = mixed(inside, late)
                scores = self.student(inside, outside, normal_mask, config.region == "full")
            elif branch == "q":
                scores = self.student(x, y, normal_mask, config.region in ("full", "full_noise"))
            elif branch == "t":
                scores = self.student(style, mixed(style, late), weak_mask, config.region in ("full", "full_mix"))
            else:
                mix = draw_mix(len(style), style.shape[2], layout, False, step.generator)
                used, replaced = mix.masks(
                    weak_mask.shape[2], weak_mask.shape[3], style.device, self.encoder.temporal_stride
                )
                share = mixture_weights(weak_mask, mix.shift, used, replaced)[:, None]
                target = F.normalize((1 - share) * self.keys + share * self.keys.roll(-mix.shift, dims=0), dim=1)
                scores = self.online(skeleton_mix(style, mix)) @ self.queue.keys.T
                losses[branch] = distill(scores, target @ self.queue.keys.T, config.distill)
                continue
            losses[branch] = distill(scores, teacher, config.distill)
        self.logged = {
            "mask_mean": normal_mask.mean(),
            "mask_zero": (normal_mask == 0).float().mean(),
            "mask_one": (normal_mask == 1).float().mean(),
        }
        return losses

    def metrics(self) -> dict[str, Tensor]:
        """Mean of the actionlet masks and their shares of 0 and 1: healthy when clearly inside (0, 1)."""
        return self.logged
