"""Effective rank: of what runs left behind, and in ablation tables."""

from __future__ import annotations

import numpy as np
import pytest

from leaderboard.ablation import AblationTable, Variant, fill
from leaderboard.ablation_board import board, frame
from leaderboard.collect import collect
from leaderboard.features import effective_rank, mean_rank, singular_values, stored


def test_effective_rank_counts_directions() -> None:
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(64, 12)))[0]
    for count in (1, 5, 12):
        half = np.linalg.qr(rng.normal(size=(50, count)))[0] @ basis[:, :count].T
        features = np.concatenate([half, -half]) + 5 * basis[:, 0]  # where they lie makes no difference
        values = singular_values(features.astype(np.float32))
        assert effective_rank(values) == pytest.approx(count, rel=1e-3)
    values = singular_values(rng.normal(size=(50, 8)).astype(np.float32))
    entropy = 0.0
    for value in values:
        share = value / sum(values) + 1e-7
        entropy -= share * np.log(share)
    assert effective_rank(values) == pytest.approx(np.exp(entropy))


def directions(count: int) -> np.ndarray:
    """Features (200, 8), near 200, that use ``count`` directions alike, around a mean of their own."""
    ways = np.eye(8, dtype=np.float32)[:count]
    return 3 + np.tile(np.concatenate([ways, -ways]), (100 // count, 1))


def test_ablations_show_the_mean_over_seeds(fake) -> None:
    keys = []
    for method, ranks in (("igm", (4, 2)), ("igm[idempotency.feature=0]", (5,)), ("igm[a=1]", ())):
        folders = [fake.evaluate(method, "knn", seed) for seed in range(max(1, len(ranks)))]
        for folder, rank in zip(folders, ranks, strict=False):
            fake.leave(folder, directions(rank))
        keys.append(frozenset(folder.name for folder in folders))
    rows = tuple(Variant(name, "", found) for name, found in zip(("both", "distribution", "none"), keys, strict=True))
    (filled,) = fill(AblationTable("igm.idempotency", "igm", rows, 0), collect(fake.folder), ())
    shown = board(filled)
    assert shown.facts == ("Changes", "Effective rank")
    assert [row.facts[1] for row in shown.rows] == ["3.0 of 8", "5.0 of 8", "-"]
    assert "Effective rank: " in shown.note
    assert frame([filled])["effective_rank"].tolist() == pytest.approx([3, 5, float("nan")], nan_ok=True, rel=1e-4)


def test_without_features_there_is_no_column(fake) -> None:
    key = fake.evaluate("igm", "knn").name
    rows = (Variant("full", "", frozenset({key})),)
    (filled,) = fill(AblationTable("igm.idempotency", "igm", rows, 0), collect(fake.folder), ())
    assert board(filled).facts == ("Changes",)


def test_features_that_cannot_be_read_are_none(fake) -> None:
    folder = fake.evaluate("igm", "knn")
    fake.leave(folder, directions(3))
    (run,) = collect(fake.folder)
    assert stored(run.stage, "train") is not None
    assert mean_rank([run]) == (pytest.approx(3, rel=1e-4), 8)
    (file,) = fake.folder.glob("runs/features/*/*/features.npz")
    for damage in (b"damaged", file.read_bytes()[:200]):
        file.write_bytes(damage)
        assert stored(run.stage, "train") is None
        assert mean_rank([run]) is None
