"""Effective rank: of what runs left behind, and in ablation tables."""

from __future__ import annotations

import numpy as np
import pytest

from leaderboard.ablation import AblationTable, Variant, fill
from leaderboard.ablation_board import board, frame
from leaderboard.collect import collect
from leaderboard.features import mean_rank, stored


def directions(count: int) -> np.ndarray:
    """Features (200, 8), near 200, that use ``count`` directions alike, around a mean of their own."""
    ways = np.eye(8, dtype=np.float32)[:count]
    return 3 + np.tile(np.concatenate([ways, -ways]), (100 // count, 1))


def test_ablations_show_the_mean_over_seeds(fake) -> None:
    keys = []
    for method, ranks in (("igm", (4, 2)), ("igm[idempotency.feature=0]", (5,)), ("igm[a=1]", ())):
        facts = [{"effective_rank": rank, "feature_dim": 8} for rank in ranks] or [{}]
        folders = [fake.evaluate(method, "knn", seed, facts=each) for seed, each in enumerate(facts)]
        keys.append(frozenset(folder.name for folder in folders))
    rows = tuple(Variant(name, "", found) for name, found in zip(("both", "distribution", "none"), keys, strict=True))
    (filled,) = fill(AblationTable("igm.idempotency", "igm", rows, 0), collect(fake.folder), ())
    shown = board(filled)
    assert shown.facts == ("Effective rank", "Changes")
    assert [row.facts[0] for row in shown.rows] == ["3.0 of 8", "5.0 of 8", "-"]
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
    (file,) = fake.folder.glob("runs/features/*/*/features.npz")
    for damage in (b"damaged", file.read_bytes()[:200]):
        file.write_bytes(damage)
        assert stored(run.stage, "train") is None


def test_presets_that_read_other_features_do_not_count(fake) -> None:
    fake.evaluate("aimclr", "knn:actclr", facts={"effective_rank": 3.0, "feature_dim": 8})
    assert mean_rank(collect(fake.folder)) is None
    fake.evaluate("aimclr", "knn", facts={"effective_rank": 5.0, "feature_dim": 16})
    assert mean_rank(collect(fake.folder)) == (5.0, 16)
