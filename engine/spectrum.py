"""How many directions features use: their singular values, and numbers that sum them up (igm.md 3.3)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ROWS = 20_000
"""Of more rows, so many spread evenly (RankMe's paper: 25,600)."""
_WIDEST = 4096
"""Wider features (raw coordinates, joints side by side) are not summed up: it would take minutes."""
_EPSILON = 1e-7
_SHARES = (0.90, 0.95, 0.99)


def singular_values(features: NDArray[np.float32]) -> NDArray[np.float64]:
    """Singular values of centred features (N, D), descending; of many rows some, spread evenly.

    Centred, as igm.md 3.3 asks and the curves of MacDiff and IGM are, since most of features lies along their mean; RankMe's
    paper does not centre.
    """
    rows = np.linspace(0, len(features) - 1, min(_ROWS, len(features))).round().astype(int)
    chosen = features[rows].astype(np.float64)
    return np.asarray(np.linalg.svd(chosen - chosen.mean(axis=0), compute_uv=False))


def effective_rank(values: NDArray[np.float64]) -> float:
    """The exponential of the entropy of the singular values' shares (RankMe: Garrido et al., ICML 2023, Eq. 1)."""
    shares = values / max(float(np.abs(values).sum()), 1e-300) + _EPSILON
    return float(np.exp(-(shares * np.log(shares)).sum()))


def summary(features: NDArray[np.float32]) -> dict[str, float | int]:
    """Effective rank, participation ratio, and how many components hold 90, 95 and 99 % of the variance of features (N, D).

    The participation ratio is (sum s^2)^2 / sum s^4 over singular values s. Nothing where features are too wide.
    """
    if features.shape[1] > _WIDEST:
        return {}
    values = singular_values(features)
    energy = values**2
    reached = np.cumsum(energy) / max(float(energy.sum()), 1e-300)
    return {
        "effective_rank": effective_rank(values),
        "participation_ratio": float(energy.sum() ** 2 / max(float((energy**2).sum()), 1e-300)),
        **{f"components_{share:.0%}".rstrip("%"): int((reached < share).sum()) + 1 for share in _SHARES},
    }
