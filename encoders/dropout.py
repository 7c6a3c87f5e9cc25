"""Dropout whose noise costs a twentieth of torch's on a CPU, and dropout of whole branches."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Dropout(nn.Dropout):
    """``nn.Dropout``; on CPUs one random byte decides per number, so that the rate is a multiple of 1/256.

    torch draws a Bernoulli number per element there, which took a tenth of a training step of ST-GCN. Kept numbers are
    scaled by the rate that is really used: the expectation is exact. The noise comes from torch's global generator.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Any shape and memory format -> the same."""
        dropped = round(256 * self.p)
        if not self.training or x.device.type != "cpu" or dropped in (0, 256):
            return super().forward(x)
        # The whole range of int64: random_() alone leaves the sign bit at 0.
        words = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
        kept = words.view(torch.uint8)[: x.numel()] >= dropped
        noise = kept.to(x.dtype).mul_(256 / (256 - dropped))
        return x * noise.as_strided(x.shape, torch.empty_like(x).stride())


class DropPath(nn.Dropout):
    """Stochastic depth: in training a branch is left out for whole samples, and scaled up where it stays (MAMP fine-tuning)."""

    def forward(self, x: Tensor) -> Tensor:
        """Samples (B, ...) -> the same."""
        if not self.training or not self.p:
            return x
        kept = torch.rand(len(x), *[1] * (x.ndim - 1), device=x.device) >= self.p
        return x * (kept / (1 - self.p)).to(x.dtype)
