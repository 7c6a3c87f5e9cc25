"""How many dimensions features use: lossy coding length, effective rank (igm.md 2.5, 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor


def coding_length(z: Tensor, distortion: float) -> Tensor:
    """Maximum-entropy coding length (m + d) / 2 log det(I + d / (m eps^2) Z^T Z) of m rows of d numbers.

    The logarithm is of base e; the smaller of the two Gram matrices gives the same determinant.

    Args:
        z: (m, d).
        distortion: eps^2, squared error that the code may make in a row.
    """
    count, dim = z.shape
    gram = z @ z.T if count < dim else z.T @ z
    inside = torch.eye(len(gram), device=z.device) + dim / (count * distortion) * gram
    length: Tensor = (count + dim) / 2 * torch.linalg.slogdet(inside).logabsdet
    return length


def coding_series(z: Tensor, distortion: float, order: int) -> Tensor:
    """The same by its power series, Tr(mu sum_n (-1)^(n - 1) / n (lambda Z^T Z)^n), cut off after ``order`` terms.

    It converges where lambda times the largest eigenvalue of Z^T Z is below 1. For unit rows the first term is constant,
    and the second is the spectral contrastive loss's sum of squared similarities.
    """
    count, dim = z.shape
    scaled = dim / (count * distortion) * (z @ z.T if count < dim else z.T @ z)
    power, total = scaled, scaled.trace()
    for n in range(2, order + 1):
        power = power @ scaled
        total = total + (-1) ** (n - 1) / n * power.trace()
    return (count + dim) / 2 * total


def effective_rank(z: Tensor) -> Tensor:
    """RankMe (Garrido et al., ICML 2023) of centred rows (m, d): exponential of the entropy of the singular values."""
    values = torch.linalg.svdvals(z - z.mean(dim=0))
    shares: Tensor = values / values.sum().clamp(min=1e-12)
    return torch.exp(-torch.xlogy(shares, shares).sum())
