"""Diffusion of arrays of any shape: noise schedules, the clean array from one step, and DDIM sampling (igm.md 1.6)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Generator, Tensor, nn

from engine.config import Config, knob


class DiffusionConfig(Config):
    """The noise and what is predicted of it."""

    steps: int = knob(1000, "T, number of noise levels (MacDiff paper; IGM's is unknown: our choice)", ge=2)
    schedule: Literal["inverse_cosine", "cosine", "linear"] = knob(
        "inverse_cosine", "share of the signal over time (MacDiff paper, Table 8; IGM's is unknown: our choice)"
    )
    tau: float = knob(
        1.0,
        "inverse_cosine: bend; -1 is the cosine schedule (MacDiff paper, Table 8: 1 is best; IGM: our choice for that)",
    )
    target: Literal["noise", "clean", "velocity"] = knob(
        "noise",
        "what the generator predicts: the noise (IGM poster), the clean clip, or v (MacDiff supplement, Table 2)",
    )


def signal_shares(config: DiffusionConfig) -> Tensor:
    """Cumulative alpha (T,) float64: at step t a noisy clip holds sqrt(alpha) of the clip and sqrt(1 - alpha) of noise."""
    steps = config.steps
    if config.schedule == "linear":
        betas = torch.linspace(1e-4, 0.02, steps, dtype=torch.float64)
    else:
        tau = config.tau if config.schedule == "inverse_cosine" else -1.0
        u = torch.arange(steps + 1, dtype=torch.float64) / steps
        cosine = torch.cos(math.pi / 2 * (u + 0.008) / 1.008) ** 2
        share = cosine[0] * (1 + tau) * (1 - u) - tau * cosine
        betas = (1 - share[1:] / share[:-1]).clamp(max=0.999)
    return (1 - betas).cumprod(0)


class Diffusion(nn.Module):
    """Noise on arrays (B, ...), and the way back by a network's prediction."""

    def __init__(self, config: DiffusionConfig) -> None:
        super().__init__()
        self.target = config.target
        self.shares: Tensor
        self.register_buffer("shares", signal_shares(config).float(), persistent=False)

    def signal(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """sqrt(alpha) and sqrt(1 - alpha) of steps ``t`` (B,), shaped to multiply ``like``."""
        share = self.shares[t].view(-1, *[1] * (like.ndim - 1))
        return share.sqrt(), (1 - share).sqrt()

    def noised(self, clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """x_t = sqrt(alpha) x + sqrt(1 - alpha) noise."""
        keep, spread = self.signal(t, clean)
        return keep * clean + spread * noise

    def wanted(self, clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """What the network is to predict at step ``t``."""
        keep, spread = self.signal(t, clean)
        return {"noise": noise, "clean": clean, "velocity": keep * noise - spread * clean}[self.target]

    def denoised(self, noisy: Tensor, predicted: Tensor, t: Tensor) -> Tensor:
        """The clean array from one prediction: x0 = (x_t - sqrt(1 - alpha) noise) / sqrt(alpha) and its like."""
        keep, spread = self.signal(t, noisy)
        if self.target == "noise":
            return (noisy - spread * predicted) / keep
        return predicted if self.target == "clean" else keep * noisy - spread * predicted

    @torch.no_grad()
    def sample(
        self,
        predict: Callable[[Tensor, Tensor], Tensor],
        noise: Tensor,
        steps: int,
        clip: float = 5.0,
        least_signal: float = 0.05,
    ) -> Tensor:
        """Walk from pure noise to a clean array by DDIM (Song et al., ICLR 2021) without added noise.

        Args:
            predict: the network, of x_t (B, ...) and steps (B,).
            noise: (B, ...) standard normal, x_T.
            steps: network calls, evenly spaced over the noise levels.
            clip: largest absolute value of a clean array.
            least_signal: the walk begins at the noise level with this share of signal; where there is next to none, a
                clean array is an error of the prediction many times enlarged (our choice).
        """
        x = noise
        first = int((self.shares >= least_signal).sum()) - 1
        times = torch.linspace(first, 0, steps).round().long().tolist()
        for now, then in zip(times, [*times[1:], -1], strict=True):
            t = torch.full((len(x),), now, device=x.device)
            keep, spread = self.signal(t, x)
            clean = self.denoised(x, predict(x, t), t).clamp(-clip, clip)
            if then < 0:
                return clean
            x = self.noised(clean, (x - keep * clean) / spread, torch.full_like(t, then))
        return x


class Standardise(nn.Module):
    """Coordinates in standard deviations; mean and deviation per axis are gathered over the first epoch and kept."""

    def __init__(self) -> None:
        super().__init__()
        self.sums: Tensor
        self.register_buffer("sums", torch.zeros(3, 3))  # count, sum, sum of squares

    def observe(self, bodies: Tensor) -> None:
        """Take bodies (B, T, V, 3) into account."""
        x = bodies.detach().flatten(0, 2)
        self.sums += torch.stack([torch.full_like(x[0], len(x)), x.sum(dim=0), (x**2).sum(dim=0)])

    def _moments(self) -> tuple[Tensor, Tensor]:
        count, total, squares = self.sums
        mean = total / count.clamp(min=1)
        return mean, (squares / count.clamp(min=1) - mean**2).clamp(min=1e-8).sqrt()

    def forward(self, bodies: Tensor) -> Tensor:
        """Bodies of the stream's unit -> standard deviations."""
        mean, deviation = self._moments()
        return (bodies - mean) / deviation

    def back(self, bodies: Tensor) -> Tensor:
        """The inverse."""
        mean, deviation = self._moments()
        return bodies * deviation + mean


def draw_steps(count: int, below: int, generator: Generator, least: int = 0) -> Tensor:
    """Uniform steps (count,) in ``least`` .. ``below`` - 1."""
    return torch.randint(least, below, (count,), generator=generator, device=generator.device)


def draw_noise(like: Tensor, generator: Generator) -> Tensor:
    """Standard normal noise of the shape of ``like``."""
    return torch.randn(like.shape, generator=generator, device=like.device)
