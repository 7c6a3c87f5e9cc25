"""Dropout whose noise costs little on a CPU, and dropout of whole branches."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Dropout(nn.Dropout):
    """``nn.Dropout`` with cheap noise on CPUs; ``inplace`` as there.

    torch draws a Bernoulli number per element, which took a tenth of a training step of ST-GCN. Here a random bit decides per
    number if the rate is a half, else a random byte, so that other rates are multiples of 1/256. Kept numbers are scaled by
    the rate that is really used: the expectation is exact. The noise comes from torch's global generator.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Any shape and memory format -> the same."""
        dropped = round(256 * self.p)
        # torch.compile draws torch's noise in the same pass as what comes before it, and cannot follow random_().
        torchs = x.device.type != "cpu" or torch.compiler.is_compiling()
        if not self.training or torchs or dropped in (0, 256):
            return super().forward(x)
        noise = _halves(x.numel(), x.dtype) if self.p == 0.5 and x.dtype in _TWO else _bytes(x, dropped)
        noise = noise.as_strided(x.shape, torch.empty_like(x).stride())
        return x.mul_(noise) if self.inplace else x * noise


_TWO = {torch.bfloat16: (16, 14), torch.float16: (16, 14), torch.float32: (32, 30)}
"""Bits of a number, and the one bit that alone makes it 2."""


def _halves(count: int, dtype: torch.dtype) -> Tensor:
    """Numbers (count,), each 0 or 2 by one random bit."""
    size, two = _TWO[dtype]
    numbers = 64 // size  # side by side in a word of 64 bits
    words = _words(-(-count // (numbers * (two + 1))))
    # Shifted by 0 to `two` places, every bit of a number at or below that of 2 comes to lie there once.
    shifted = words << torch.arange(two + 1)[:, None]
    mask = sum(1 << (size * place + two) for place in range(numbers))
    return shifted.bitwise_and_(mask).view(-1).view(dtype)[:count]


def _bytes(x: Tensor, dropped: int) -> Tensor:
    """Numbers (x.numel(),), each 0 with probability ``dropped`` / 256 or as large as keeps the expectation at 1."""
    kept = _words(-(-x.numel() // 8)).view(torch.uint8)[: x.numel()] >= dropped
    return kept.to(x.dtype).mul_(256 / (256 - dropped))


def _words(count: int) -> Tensor:
    """Random integers (count,) of 64 bits; random_() alone leaves the sign bit at 0."""
    return torch.empty(count, dtype=torch.int64).random_(-(2**63), None)


class DropPath(nn.Dropout):
    """Stochastic depth: in training a branch is left out for whole samples, and scaled up where it stays (MAMP fine-tuning)."""

    def forward(self, x: Tensor) -> Tensor:
        """Samples (B, ...) -> the same."""
        if not self.training or not self.p:
            return x
        kept = torch.rand(len(x), *[1] * (x.ndim - 1), device=x.device) >= self.p
        return x * (kept / (1 - self.p)).to(x.dtype)
