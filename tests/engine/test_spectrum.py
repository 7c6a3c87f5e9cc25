"""How many directions features use."""

from __future__ import annotations

import numpy as np
import pytest

from engine.spectrum import effective_rank, singular_values, summary


def test_effective_rank_counts_directions() -> None:
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(64, 12)))[0]
    for count in (1, 5, 12):
        half = np.linalg.qr(rng.normal(size=(50, count)))[0] @ basis[:, :count].T
        features = np.concatenate([half, -half]) + 5 * basis[:, 0]  # where they lie makes no difference
        found = summary(features.astype(np.float32))
        assert found["effective_rank"] == pytest.approx(count, rel=1e-3)
        assert found["participation_ratio"] == pytest.approx(count, rel=1e-3)
        assert [found[f"components_{share}"] for share in (90, 95, 99)] == [-(-count * s // 100) for s in (90, 95, 99)]
    values = singular_values(rng.normal(size=(50, 8)).astype(np.float32))
    entropy = 0.0
    for value in values:
        share = value / sum(values) + 1e-7
        entropy -= share * np.log(share)
    assert effective_rank(values) == pytest.approx(np.exp(entropy))


def test_components_are_those_of_a_slow_count() -> None:
    features = (np.random.default_rng(1).normal(size=(300, 6)) * [9, 5, 3, 2, 1, 0.1]).astype(np.float32)
    variances = sorted(np.linalg.eigvalsh(np.cov(features.T.astype(np.float64))), reverse=True)
    for share in (90, 95, 99):
        count = next(n for n in range(1, 7) if sum(variances[:n]) >= share / 100 * sum(variances))
        assert summary(features)[f"components_{share}"] == count


def test_equal_and_wide_features() -> None:
    found = summary(np.ones((20, 5), np.float32))
    assert all(np.isfinite(value) for value in found.values())
    assert summary(np.zeros((3, 5000), np.float32)) == {}
