"""Figures of small records: what they show, that they are drawn without a warning, and when there is nothing to show."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy import stats

from datasets.layout import NTU25
from engine.config import BenchError
from leaderboard.cells import aggregate
from leaderboard.collect import collect
from leaderboard.drawings import (
    actionlets,
    confusion,
    curves,
    gain,
    knn_linear,
    labels,
    motion,
    player,
    rank,
    robustness,
    tsne,
)
from leaderboard.experiments import Experiment, experiments
from leaderboard.skeletons import Skeleton
from leaderboard.style import canvas, class_colours, column_colours, method_colours, save

CLASSES = ("wave", "cash $5 & go", "kick", "sit down")
SKELETON = Skeleton(NTU25.bones, NTU25.sides)


@pytest.fixture
def bench(fake) -> list[Experiment]:
    """Two methods and a reference under three protocols, with everything that runs leave."""
    rng = np.random.default_rng(0)
    for method, accuracy in (("random", 0.3), ("aimclr", 0.6), ("hiclr", 0.8)):
        counts = rng.integers(0, 50, (4, 4)).tolist()
        for seed in (0, 1):
            knn = fake.evaluate(method, "knn", seed, rng.random(200) < accuracy, facts={"confusion": counts})
            fake.leave(knn, rng.normal(size=(200, 16)).astype(np.float32), [3.0 + seed, 2.0, 1.5] * (accuracy > 0.3))
            fake.evaluate(method, "linear", seed, rng.random(200) < accuracy + 0.1, facts={"confusion": counts})
    (found,) = experiments(aggregate(collect(fake.folder)), fake.folder).values()
    return found


def drawn(draw: Callable[..., Figure], *data: Any, folder: Path) -> Figure:
    """Draw and save a figure; the picture is not empty."""
    figure = draw(*data)
    for path in save(figure, folder / "a", "a title with $ and _"):
        assert path.stat().st_size > 5000
    assert any(axes.has_data() for axes in figure.axes)
    return figure


def test_every_figure_of_records_is_drawn(bench, tmp_path) -> None:
    with canvas():
        assert [axes.get_title(loc="left") for axes in drawn(curves.draw, bench, folder=tmp_path).axes] == [
            "hiclr",
            "aimclr",
        ]
        drawn(knn_linear.draw, bench, folder=tmp_path)
        drawn(confusion.draw, bench, CLASSES, folder=tmp_path)
        drawn(confusion.draw, bench, folder=tmp_path)
        drawn(gain.draw, bench, CLASSES, folder=tmp_path)
        drawn(rank.draw, bench, folder=tmp_path)
        drawn(tsne.draw, bench, CLASSES, folder=tmp_path)


def test_the_same_records_give_the_same_bytes(bench, tmp_path) -> None:
    files = []
    for _ in range(2):
        with canvas():
            files.append([path.read_bytes() for path in save(knn_linear.draw(bench), tmp_path / "a", "title")])
    assert files[0] == files[1]


@pytest.mark.parametrize("module", [curves, knn_linear, labels, confusion, gain, tsne, rank])
def test_without_anything_to_show_a_figure_says_why(module, fake) -> None:
    fake.evaluate("aimclr", "knn", accuracy=None)
    (found,) = experiments(aggregate(collect(fake.folder)), fake.folder).values()
    with pytest.raises(BenchError, match=r"^no "):
        module.draw(found)


def test_a_method_has_one_colour_whatever_stands_beside_it(bench) -> None:
    known = method_colours(["aimclr", "hiclr", "actclr", "aimclr[nnm.topk=2]", "random", "raw"])
    assert len(set(known.values())) == 6
    assert method_colours(["hiclr"])["hiclr"] == known["hiclr"] == next(e for e in bench if e.method == "hiclr").colour
    assert len({*method_colours(f"mine{i}" for i in range(30)).values()}) > 12
    for count in (2, 10, 11, 20, 60):
        assert len(set(column_colours(count))) == count
        assert len(np.unique(class_colours(count), axis=0)) == count


def test_a_method_on_several_encoders_keeps_its_colour_and_is_told_apart(fake) -> None:
    for method, encoder in product(("random", "aimclr", "hiclr"), ("stgcn", "dsta")):
        fake.evaluate(method, "knn", encoder=encoder)
    fake.evaluate("cmd", "knn", encoder="bigru")
    (found,) = experiments(aggregate(collect(fake.folder)), fake.folder).values()
    assert {one.title for one in found} == {
        *(
            "random encoder, stgcn",
            "random encoder, dsta",
            "aimclr, stgcn",
            "aimclr, dsta",
            "hiclr, stgcn",
            "hiclr, dsta",
        ),
        "cmd",
    }
    for method in ("random", "aimclr", "hiclr"):
        assert {one.colour for one in found if one.method == method} == {method_colours([method])[method]}
    # Gains are over AimCLR on the same encoder, and there is none for bigru.
    titles = [axes.get_title(loc="left") or axes.get_title() for axes in gain.draw(found).axes]
    assert sorted(title.partition("\n")[0] for title in titles) == ["hiclr, dsta", "hiclr, stgcn"]


def test_confusions_are_counted_over_seeds_and_shared_by_row(bench) -> None:
    cell = bench[1].cells["knn"]
    counts = [np.array(run.stage.facts["confusion"]) for run in cell.done]
    total = confusion.counted(cell)
    assert total is not None
    shares = confusion.shares(total)
    for row in range(4):
        for column in range(4):
            expected = sum(int(c[row, column]) for c in counts) / max(sum(int(c[row].sum()) for c in counts), 1)
            assert shares[row, column] == pytest.approx(100 * expected)
    assert not confusion.shares(np.zeros((2, 2))).any()


def test_gains_are_differences_of_recalls(bench) -> None:
    base, other = (next(e for e in bench if e.method == name).cells["linear"] for name in ("aimclr", "hiclr"))
    found = gain.gains(base, other)
    assert found is not None
    scores = [[dict(np.load(run.stage.folder / "scores.npz")) for run in cell.done] for cell in (base, other)]
    for c in range(4):
        recalls = [np.mean([(s["prediction"][s["label"] == c] == c).mean() for s in seeds]) for seeds in scores]
        assert found.mean[c] == pytest.approx(100 * (recalls[1] - recalls[0]))
        inside = scores[0][0]["label"] == c
        first, second = (np.array([s["prediction"] == s["label"] for s in seeds], float)[:, inside] for seeds in scores)
        over_samples = stats.sem((second - first).mean(axis=0)) * stats.t.ppf(0.975, inside.sum() - 1)
        over_seeds = stats.sem((second - first).mean(axis=1)) * stats.t.ppf(0.975, len(first) - 1)
        assert found.error[c] == pytest.approx(100 * np.hypot(over_samples, over_seeds))


def test_gains_are_by_the_first_protocol_that_aimclr_has_too(fake) -> None:
    def found(*methods: str) -> list[Experiment]:
        (every,) = experiments(aggregate(collect(fake.folder)), fake.folder).values()
        return [one for one in every if one.method in methods]

    fake.evaluate("aimclr", "knn")
    for method, protocol in product(("random", "hiclr"), ("knn", "linear")):
        fake.evaluate(method, protocol)
    figure = gain.draw(found("random", "aimclr", "hiclr"))
    told = " ".join(figure.get_supxlabel().split())
    assert "by knn" in told
    assert "not adjusted for their number" in told
    with pytest.raises(BenchError, match="aimclr is not among the methods drawn, or not evaluated by linear or knn"):
        gain.draw(found("random", "hiclr"))
    with pytest.raises(BenchError, match="no method but aimclr is evaluated by knn"):
        gain.draw(found("random", "aimclr"))


def test_the_linear_classifier_is_shown_over_all_seeds(fake) -> None:
    for seed, accuracies in ((0, (40.0, 50.0, 60.0)), (1, (50.0, 70.0))):
        path = fake.evaluate("aimclr", "linear", seed) / "record.json"
        curve = [{"epoch": 5.0 * i, "test_top1": value} for i, value in enumerate(accuracies, 1)]
        path.write_text(json.dumps(json.loads(path.read_text()) | {"curve": curve}))
    (found,) = experiments(aggregate(collect(fake.folder)), fake.folder).values()
    axes = curves.draw(found).axes[0]
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), [(5, 45), (10, 60)])
    band = {tuple(point) for point in axes.collections[0].get_paths()[0].vertices.tolist()}
    assert band == {(5, 40), (5, 50), (10, 50), (10, 70)}


def test_tsne_shows_the_same_clips_of_every_method_and_neighbours_stay_neighbours() -> None:
    many = np.repeat(np.arange(60), 40)
    rows = tsne.chosen(many)
    assert len(np.unique(many[rows])) == 10
    assert len(tsne.chosen(np.zeros(5000, np.int64))) == 1000
    rng = np.random.default_rng(0)
    features = np.repeat(rng.normal(size=(3, 16)), 20, axis=0) + 0.05 * rng.normal(size=(60, 16))
    places = tsne.embed(features.astype(np.float32) * rng.uniform(1, 9, (60, 1)))  # lengths do not matter
    distance = np.linalg.norm(places[:, None] - places[None], axis=-1) + 1e9 * np.eye(60)
    assert (distance.argmin(axis=1) // 20 == np.arange(60) // 20).all()


def test_labels_are_taken_from_the_definition_of_the_protocol(fake, tmp_path) -> None:
    for protocol, percent, accuracy in (("semi:1", 1.0, 0.3), ("semi", 10.0, 0.6), ("finetune", None, 0.8)):
        folder = fake.evaluate(
            "aimclr", protocol, accuracy=accuracy, metrics={"top1_draws_sd": 2.0} if percent else None
        )
        record = json.loads((folder / "record.json").read_text())
        record["identity"]["config"] = {"percent": percent, "stratified": True, "frozen": False}
        (folder / "record.json").write_text(json.dumps(record))
    (one,) = next(iter(experiments(aggregate(collect(fake.folder)), fake.folder).values()))
    points = np.array(labels.fractions(one))
    # One seed of fine-tuning says nothing about its noise.
    np.testing.assert_array_equal(points, [(1.0, 30.0, 2.0), (10.0, 60.0, 2.0), (100.0, 80.0, np.nan)])
    with canvas():
        drawn(labels.draw, [one], folder=tmp_path)


def test_figures_of_skeletons_are_drawn(tmp_path) -> None:
    rng = np.random.default_rng(0)
    clip = rng.normal(size=(20, 2, 25, 3)).astype(np.float32)
    alone = clip.copy()
    alone[:, 1] = 0
    masks = {"actclr": rng.random((2, 20, 25))}
    with canvas():
        assert len(drawn(motion.draw, clip.cumsum(axis=0), alone, SKELETON, "wave", folder=tmp_path).axes) == 2
        shown = [
            actionlets.Masked("a", alone, masks, masks["actclr"] > 0.5, {"actclr": 50.0}),
            actionlets.Masked("b", clip, masks),
        ]
        titles = [axes.get_title(loc="left") for axes in drawn(actionlets.draw, shown, SKELETON, folder=tmp_path).axes]
    assert titles[:3] == ["a · actclr · IoU 50 %", "a · joints that the action moves", "b · actclr"]
    still = np.tile(rng.normal(size=(1, 25, 3)), (5, 1, 1))
    assert motion.speed(still) == 0
    assert motion.speed(still + np.arange(5)[:, None, None] * (0.003, 0.004, 0)) == pytest.approx(5.0)


def test_robustness_is_drawn_with_its_strengths(bench, tmp_path) -> None:
    kinds = {"noise": robustness.Corrupted("Gaussian noise", "m", (0.0, 0.01, 0.1))}
    with canvas():
        curves_of = [(one, [{"noise": [60, 50, 10]}] * 2) for one in bench]
        figure = drawn(robustness.draw, curves_of, kinds, "knn", folder=tmp_path)
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["0", "0.01", "0.1"]
    assert len(figure.axes[0].lines) == len(bench)


def test_a_player_is_an_animation_and_its_frames(tmp_path) -> None:
    from PIL import Image

    clip = np.random.default_rng(0).normal(size=(6, 2, 25, 3)).astype(np.float32)
    clip[:, 1] = 0
    clips = [player.Moving("wave", clip), None, player.Moving("view 1", clip * 2, "aimclr")]
    with canvas():
        gif, data = player.save(clips, SKELETON, tmp_path / "clips", "two clips", columns=2)
        again = [path.read_bytes() for path in (gif, data)]
        assert again == [
            path.read_bytes() for path in player.save(clips, SKELETON, tmp_path / "clips", "two clips", columns=2)
        ]
    with Image.open(gif) as image:
        assert image.n_frames == 6
        assert image.info["loop"] == 0
    content = json.loads(data.read_text())
    assert [one["title"] for one in content["clips"]] == ["wave", "view 1"]
    frames = np.array(content["clips"][1]["frames"])
    assert frames.shape == (6, 1, 25, 3)
    np.testing.assert_allclose(frames, 2 * clip[:, :1], atol=6e-4)
    assert len(content["bones"]) == 24
