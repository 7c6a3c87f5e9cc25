"""MacDiff: masked conditional diffusion; the condition is what an encoder sees of a clip (Wu et al., ECCV 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from datasets.clips import to_storage
from datasets.resized import ResizedConfig, resized
from encoders.base import Encoder
from encoders.bodies import bodies_of
from encoders.skeleton_transformer import patchify, unpatchify
from engine.config import BenchError, TrainConfig, knob
from methods.base import Context, Method, MethodConfig, Step
from methods.diffusion import Diffusion, DiffusionConfig, Standardise, draw_noise, draw_steps
from methods.entropy import effective_rank
from methods.generator import GeneratorConfig, PatchGenerator
from methods.glimpse import Glimpse, MaskConfig, glimpse, tokens_of
from methods.masked import RELEASED

PUBLISHED = RELEASED.model_copy(update={"lr_end": 1e-5, "precision": "bf16", "recalibrate": True})
"""Released settings, but for the precision (float16 there), and the cosine ends with the last epoch, 20 earlier there.

Recalibrating is ours, for other encoders: their BatchNorm sees bodies with gaps, and under IGM generated ones, in training.
"""

_DRAWS = 4
"""Noises over which features of the generator are averaged (igm.md 3.1)."""

QUICK = {
    "train.epochs": 30,
    "train.batch": 32,
    "train.weight_decay": 1e-4,
    "train.decay_vectors": True,
    "train.beta2": 0.999,
    "train.warmup_share": 0.0,
    "train.warmup_steps": 50,
    "train.precision": "auto",
    "train.lr_end": 0.0,
    "train.clip_norm": None,
    "train.recalibrate": True,
    "generator.dim": 64,
    "generator.depth": 1,
    "generator.heads": 2,
    "generator.ratio": 2,
}
"""Budget ``quick``: a generator as small as the transformer is there (docs/methods.md says what was measured)."""


class MacDiffConfig(MethodConfig):
    """Settings of masked conditional diffusion, IGM's as well."""

    train: TrainConfig = knob(PUBLISHED, "training loop (released MacDiff)")
    view: ResizedConfig = knob(ResizedConfig(), "augmentation (MacDiff; IGM's is unknown: our choice)")
    noise: float = knob(
        0.005,
        "deviation of the noise on what the encoder sees (released MacDiff; IGM: as there, our choice)",
        unit="m",
        ge=0,
    )
    target: Literal["same", "other"] = knob(
        "same",
        "what is generated: the view that the encoder sees, or another one of the clip (MacDiff; IGM: as there, our choice)",
    )
    persons: Literal["first", "all"] = knob("first", "bodies trained on (released MacDiff; IGM: as there, our choice)")
    mask: MaskConfig = knob(MaskConfig(), "what is hidden from the encoder")
    condition: Literal["local", "global"] = knob(
        "local",
        "places seen get their token and others the mean, or all the mean (MacDiff supplement, Table 3: local is better; "
        "for IGM our choice for that reason)",
    )
    drop: float = knob(
        0.1,
        "chance that a clip is generated without condition (released MacDiff; IGM: as there, our choice)",
        ge=0,
        lt=1,
    )
    diffusion: DiffusionConfig = knob(DiffusionConfig(), "noise")
    generator: GeneratorConfig = knob(GeneratorConfig(depth=5), "generator")
    error_on: Literal["hidden", "all"] = knob("hidden", "places whose error counts (released MacDiff: hidden ones)")
    uniformity: float = knob(0.02, "weight of the squared cosines among a body's tokens (released MacDiff)", ge=0)


@dataclass(frozen=True)
class Generation:
    """One step of conditional denoising.

    Attributes:
        seen: what the encoder saw of the bodies.
        t: (B,) noise steps.
        conditioned: (B,) bool, False where the condition was dropped.
        clean: (B, T, V, 3) bodies as generated from one noisy version, in standard deviations.
        error: (B, L) mean squared error of the prediction in every place.
    """

    seen: Glimpse
    t: Tensor
    conditioned: Tensor
    clean: Tensor
    error: Tensor


class MacDiff(Method):
    """MacDiff."""

    title = "MacDiff (Wu et al., ECCV 2024)"
    Config = MacDiffConfig
    config: MacDiffConfig
    default_encoder = "skeleton_transformer"
    cost = 6.0
    budgets = {"quick": QUICK}
    tuned = {"full:stgcn": {"train.weight_decay": 1e-4}}  # our choice: igm.md 8

    def __init__(self, config: MacDiffConfig, context: Context) -> None:
        super().__init__(config, context)
        self.network = context.make_encoder()
        length, joints = self.network.temporal_stride, len(context.layout)
        self.generator = PatchGenerator(
            config.generator, -(-context.frames // length), joints, 3 * length, self.network.dim
        )
        self.diffusion = Diffusion(config.diffusion)
        self.standardise = Standardise()
        self.adapter: nn.Module = nn.Identity()

    @classmethod
    def supports(cls, config: MethodConfig, encoder: type[Encoder]) -> str | None:
        """Every patch of the generator has its place in the encoder's maps, and some place has an error that counts."""
        assert isinstance(config, MacDiffConfig)
        if not encoder.local:
            return "generation is conditioned on maps of joints, which this encoder does not make"
        if config.error_on == "hidden" and not (config.mask.on and config.mask.ratio):
            return (
                f"nothing is hidden, so no error would count (--set {cls.__module__.rpartition('.')[2]}.error_on=all)"
            )
        return None

    @property
    def encoder(self) -> Encoder:
        """The encoder that conditions generation."""
        return self.network

    def views(self, clips: Tensor, step: Step) -> tuple[Tensor, ...]:
        """What the encoder sees, with noise, and what is generated."""
        config, generator = self.config, step.generator
        target = resized(clips, config.view, generator)
        source = resized(clips, config.view, generator) if config.target == "other" else target
        return source + config.noise * draw_noise(source, generator), target

    def bodies(self, views: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Source and target as single bodies (B, T, V, 3); absent ones are left out."""
        source, target = (to_storage(view) for view in views)
        if self.config.persons == "first":
            return source[:, 0], target[:, 0]
        present = (target != 0).flatten(2).any(dim=2)
        return source[present], target[present]

    def generation(self, source: Tensor, target: Tensor, generator: Generator) -> Generation:
        """Encode what is visible of ``source``, and denoise ``target`` on that condition; bodies (B, T, V, 3)."""
        config, length = self.config, self.encoder.temporal_stride
        seen = glimpse(self.encoder, source, config.mask, generator)
        clean = patchify(self.standardise(target), length)
        t = draw_steps(len(clean), len(self.diffusion.shares), generator)
        noise = draw_noise(clean, generator)
        noisy = self.diffusion.noised(clean, noise, t)
        conditioned = torch.rand(len(clean), generator=generator, device=clean.device) >= config.drop
        predicted = self.predict(noisy, self.condition(seen) * conditioned[:, None, None], t)
        error = ((predicted - self.diffusion.wanted(clean, noise, t)) ** 2).mean(dim=3).flatten(1)
        made = unpatchify(self.diffusion.denoised(noisy, predicted, t), target.shape[1])
        return Generation(seen, t, conditioned, made, error)

    def condition(self, seen: Glimpse) -> Tensor:
        """Conditions (B, L, D) of all places."""
        return seen.spread(self.adapter(seen.tokens), self.config.condition == "local")

    def predict(self, noisy: Tensor, condition: Tensor, t: Tensor) -> Tensor:
        """The generator's prediction, in the encoder's precision."""
        predicted: Tensor = self.encoder.in_precision(self.generator, noisy, condition, t)
        return predicted

    def forward(self, views: tuple[Tensor, ...], step: Step) -> dict[str, Tensor]:
        """Error of the predicted noise, and uniformity of the tokens."""
        source, target = self.bodies(views)
        if step.epoch == 1:
            self.standardise.observe(target)
        made = self.generation(source, target, step.generator)
        self.pooled = made.seen.pooled.detach()
        return self.generation_losses(made)

    def generation_losses(self, made: Generation) -> dict[str, Tensor]:
        """Mean error over the places that count, and the squared cosines among a body's tokens."""
        if self.config.error_on == "all":
            losses = {"generation": made.error.mean()}
        else:
            hidden = made.seen.hidden()
            losses = {"generation": (made.error * hidden).sum() / hidden.sum().clamp(min=1)}
        if self.config.uniformity:
            unit = F.normalize(made.seen.tokens, dim=2)
            losses["uniformity"] = self.config.uniformity * ((unit @ unit.transpose(1, 2)) ** 2).mean()
        return losses

    def inner(self, part: str, clips: Tensor, maps: Tensor, noise_level: int) -> Tensor | None:
        """Tokens of the adapter, or the generator's last ones, averaged over places and persons (igm.md 3.1).

        Nothing is hidden, as for the encoder's own features; the generator's are the mean over four noises, the same for all.
        """
        count, persons = maps.shape[:2]
        tokens = self.adapter(tokens_of(self.encoder, maps.flatten(0, 1)))
        features = tokens.mean(dim=1)
        if part == "generator":
            condition = tokens if self.config.condition == "local" else features[:, None].expand_as(tokens)
            clean = patchify(self.standardise(to_storage(clips).flatten(0, 1)), self.encoder.temporal_stride)
            t = self.level(noise_level, clean)
            noises = torch.randn(_DRAWS, *clean.shape[1:], generator=torch.Generator().manual_seed(0)).to(clean.device)
            noisy = (self.diffusion.noised(clean, noise.expand_as(clean), t) for noise in noises)
            drawn = [self.encoder.in_precision(self.generator.tokens, each, condition, t).mean(dim=1) for each in noisy]
            features = torch.stack(drawn).mean(dim=0)
        present = self.encoder.counted(maps.mean(dim=(3, 4)))
        return self.encoder.over_persons(features.view(count, persons, -1), present)

    def level(self, step: int, clean: Tensor) -> Tensor:
        """A step of the diffusion for every body (B, ...).

        Raises:
            BenchError: there are not that many steps.
        """
        if step >= len(self.diffusion.shares):
            raise BenchError(
                f"Noise level {step} of a diffusion of {len(self.diffusion.shares)} steps: name a lower one."
            )
        return torch.full((len(clean),), step, device=clean.device)

    @torch.no_grad()
    def generate(
        self, clips: Tensor, noise_levels: Sequence[int], calls: int, generator: Generator
    ) -> dict[str, Tensor]:
        """Clips denoised in one step from ``noise_levels``, and sampled by DDIM; the condition is seen through a mask."""
        bodies = bodies_of(clips, self.context.layout, skip_absent=True)
        clean = patchify(self.standardise(bodies.x), self.encoder.temporal_stride)
        condition = self.condition(glimpse(self.encoder, bodies.x, self.config.mask, generator))

        def predict(noisy: Tensor, t: Tensor) -> Tensor:
            return self.predict(noisy, condition, t)

        made: dict[str, Tensor] = {}
        for level in noise_levels:
            t = self.level(level, clean)
            noisy = self.diffusion.noised(clean, draw_noise(clean, generator), t)
            made[f"one step from t = {level}"] = self.diffusion.denoised(noisy, predict(noisy, t), t)
        if calls:
            made[f"DDIM, {calls} steps"] = self.diffusion.sample(predict, draw_noise(clean, generator), calls)
        frames = clips.shape[2]
        unfolded = {
            name: bodies.maps(self.standardise.back(unpatchify(patches, frames))) for name, patches in made.items()
        }
        return {name: maps.permute(0, 2, 3, 4, 1) for name, maps in unfolded.items()}

    def metrics(self) -> dict[str, Tensor]:
        """Effective rank of the batch's features: at most clips in a batch, or feature width."""
        return {"effective_rank": effective_rank(self.pooled)}
