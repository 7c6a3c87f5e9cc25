from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier

from engine.config import BenchError, resolve
from protocols.base import FeatureConfig
from protocols.knn import Knn, KnnConfig, neighbour_scores

VOTES = [("majority", 1), ("majority", 5), ("majority", 20), ("weighted", 20)]


def slow_twin(gallery, labels, query, classes, rule, k, temperature):
    """One query at a time, as the definition reads."""
    similar = [float(query @ row / (np.linalg.norm(query) * np.linalg.norm(row))) for row in gallery]
    nearest = sorted(range(len(labels)), key=lambda i: (-similar[i], labels[i]))[:k]
    score = np.zeros(classes)
    for i in nearest:
        score[labels[i]] += np.exp(similar[i] / temperature) if rule == "weighted" else 1 + similar[i] / 1000
    return score.argmax()


def test_released_monitor_predicts_the_same(shared: Path) -> None:
    data = np.load(shared / "fixtures" / "actclr_extra.npz")
    config = resolve(KnnConfig, Knn.presets["actclr"])
    scores = neighbour_scores(
        torch.tensor(data["knn_bank"].T),
        torch.tensor(data["knn_labels"]),
        torch.tensor(data["knn_query"]),
        int(data["knn_labels"].max()) + 1,
        [("weighted", k) for k in config.weighted],
        config.temperature,
    )
    for k, score in zip(config.weighted, scores, strict=True):
        assert score.argmax(1).tolist() == data[f"knn_pred_{k}"].tolist()


def test_agrees_with_slow_twin_and_scikit_learn(clouds) -> None:
    (gallery, labels), (queries, _) = clouds(150, 0, 3.0), clouds(40, 1, 3.0)
    scores = neighbour_scores(gallery, labels, queries, 4, VOTES, 0.1)
    for (rule, k), score in zip(VOTES, scores, strict=True):
        twin = [slow_twin(gallery.numpy(), labels.numpy(), q, 4, rule, k, 0.1) for q in queries.numpy()]
        assert score.argmax(1).tolist() == twin
    nearest = KNeighborsClassifier(1, metric="cosine").fit(gallery, labels).predict(queries)
    assert scores[0].argmax(1).tolist() == nearest.tolist()


def test_one_neighbour_scores_are_the_largest_similarity_of_each_class(clouds) -> None:
    (gallery, labels), (queries, _) = clouds(60), clouds(9, 1)
    (score,) = neighbour_scores(gallery, labels, queries, 5, [("majority", 1)], 0.1)
    similar = torch.nn.functional.cosine_similarity(queries[:, None], gallery[None], dim=2)
    for c in range(4):
        torch.testing.assert_close(score[:, c], similar[:, labels == c].amax(1))
    assert (score[:, 4] == -2).all()  # a class without training samples comes last


@given(chunk=st.integers(1, 4000), seed=st.integers(0, 10))
def test_independent_of_chunk_and_order(chunk: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    # Few distinct directions: exact ties everywhere.
    gallery = torch.eye(4)[torch.randint(0, 4, (60,), generator=generator)]
    labels = torch.randint(0, 3, (60,), generator=generator)
    queries = torch.eye(4)[torch.randint(0, 4, (11,), generator=generator)] + torch.eye(4)[0]
    expected = neighbour_scores(gallery, labels, queries, 3, VOTES, 0.1)
    order, other = torch.randperm(60, generator=generator), torch.randperm(11, generator=generator)
    actual = neighbour_scores(gallery[order], labels[order], queries[other], 3, VOTES, 0.1, chunk)
    for one, two in zip(expected, actual, strict=True):
        torch.testing.assert_close(one[other], two)


def test_majority_ties_go_to_the_larger_similarity() -> None:
    gallery = torch.tensor([[1.0, 0.05], [1.0, 0.6], [1.0, 0.1], [1.0, 0.2], [0.0, 1.0]])
    labels = torch.tensor([0, 0, 1, 1, 2])
    (score,) = neighbour_scores(gallery, labels, torch.tensor([[1.0, 0.0]]), 3, [("majority", 4)], 0.1)
    assert score.argmax() == 1
    assert score[0, 2] == 0


def test_more_neighbours_than_gallery_and_zero_features() -> None:
    gallery, labels = torch.zeros(3, 2), torch.tensor([2, 1, 1])
    for score in neighbour_scores(gallery, labels, torch.zeros(2, 2), 3, VOTES, 0.1):
        assert torch.isfinite(score).all()
        assert (score.argmax(1) == 1).all()


def test_perfect_features_and_shuffled_labels(clouds, make_context) -> None:
    train, (test, truth) = clouds(2000, 0, 0.05), clouds(1000, 1, 0.05)
    outcome = Knn(KnnConfig()).run(make_context(train, test, 4))
    assert (outcome.scores.argmax(1) == truth).all()
    assert list(outcome.extras) == ["k5", "k20", "k20_weighted"]
    assert all((extra.argmax(1) == truth).all() for extra in outcome.extras.values())
    # Overlapping clouds: with tight ones whole clouds would be right or wrong together, by luck.
    (features, labels), (test, truth) = clouds(2000, 0, 4.0), clouds(1000, 1, 4.0)
    outcome = Knn(KnnConfig()).run(make_context((features, labels[torch.randperm(2000)]), test, 4))
    for scores in (outcome.scores, *outcome.extras.values()):
        assert abs((scores.argmax(1) == truth).float().mean() - 0.25) < 0.06


def test_presets_and_settings() -> None:
    protocol = Knn(resolve(KnnConfig, Knn.presets["actclr"]))
    assert protocol.features() == FeatureConfig(space="projector", augment=True)
    assert protocol.supports("raw", False, 100) == "raw has no projector"
    assert protocol.supports("aimclr", True, 100) is None
    assert Knn(KnnConfig()).supports("raw", False, 100) is None
    assert Knn(KnnConfig()).features() == FeatureConfig()
    assert resolve(KnnConfig, {"majority": "3"}).majority == (3,)
    with pytest.raises(BenchError, match="name at least one k"):
        resolve(KnnConfig, {"majority": [], "weighted": []}, owner="knn")
    with pytest.raises(BenchError, match="majority"):
        resolve(KnnConfig, {"majority": 0}, owner="knn")


def test_headline_of_the_variant_is_k40(clouds, make_context) -> None:
    train, (test, _) = clouds(100), clouds(10, 1)
    outcome = Knn(resolve(KnnConfig, Knn.presets["actclr"])).run(make_context(train, test, 4))
    assert outcome.facts["k"] == 40
    assert list(outcome.extras) == ["k10_weighted", "k20_weighted"]


@pytest.mark.slow
def test_memory_is_bounded_at_the_size_of_ntu() -> None:
    code = """
import resource, torch
from protocols.knn import neighbour_scores
gallery, queries, labels = torch.randn(40_000, 256), torch.randn(16_500, 256), torch.arange(40_000) % 60
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
neighbour_scores(gallery, labels, queries, 60, [("majority", 1), ("majority", 20), ("weighted", 20)], 0.1)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 512  # MiB; all similarities at once would take 2,518
