"""Segmentation of untrimmed recordings through whole runs on the tiny world."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from engine.data import Splits
from leaderboard.build import write
from leaderboard.cells import aggregate
from leaderboard.collect import collect
from leaderboard.tables import tables
from protocols.segmentation import Segmentation
from protocols.segmentation_metrics import evaluate_frames, majority

STREAM = f"{Path(__file__).parent / 'plugins' / 'tiny.py'}:Stream"
SHORT = ("segmentation.window=20", "segmentation.stride=10", "segmentation.epochs=10", "segmentation.batch=4")


def segment(world, methods: str = "TinyCLR", **more):
    return world.run(methods, "segmentation", targets=(STREAM,), sets=SHORT, **more)


def records(world, kind: str = "evaluate") -> dict[str, tuple[dict, dict]]:
    found = {}
    plugin = "segmentation" if kind == "evaluate" else "fusion"
    for path in world.results.glob(f"runs/{kind}/{plugin}/*/record.json"):
        record = json.loads(path.read_text())
        with np.load(path.with_name("scores.npz")) as scores:
            found[record["labels"]["method"]] = record, dict(scores)
    return found


def test_a_run_measures_what_it_stores(world):
    assert not segment(world).failed
    found = records(world)
    assert set(found) == {"random", "raw", "tinyclr"}
    split = world.plan("TinyCLR", "segmentation", targets=(STREAM,)).splits.load_untrimmed(STREAM)
    record, scores = found["tinyclr"]
    np.testing.assert_array_equal(scores["label"], split.test.labels)
    np.testing.assert_array_equal(scores["prediction"], scores["scores"].argmax(1))
    np.testing.assert_array_equal(scores["offsets"], [0, 40, 90])
    assert scores["id"].tolist() == ["test1", "test2"]
    measured = evaluate_frames(scores["prediction"], scores["label"], scores["offsets"], 3)
    constant = majority(split.train.labels.numpy(), split.test.labels.numpy(), 3)
    expected = measured.values | {f"majority_{name}": value for name, value in constant.items()}
    for name in expected:
        assert record["metrics"][name] == pytest.approx(expected[name])
    assert record["metrics"]["best_on_test"] >= record["metrics"]["miou"]
    assert record["curve"][-1]["test_miou"] == record["metrics"]["miou"]
    facts = {"headline": "miou", "labels": 90, "fps": 30.0, "test_recordings": 2, "window": 20, "params": 35}
    assert {name: record["facts"][name] for name in facts} == facts
    assert record["facts"]["background"] == pytest.approx(100 * float((split.test.labels == 0).float().mean()))
    assert segment(world).ran == []


def test_poisoned_test_labels_change_no_training(world, other_world, monkeypatch):
    segment(world)
    load = Splits.load_untrimmed

    def poisoned(self, *names, **more):
        split = load(self, *names, **more)
        return replace(split, test=replace(split.test, labels=(split.test.labels + 1) % 3))

    monkeypatch.setattr(Splits, "load_untrimmed", poisoned)
    segment(other_world)
    for method, (record, scores) in records(world).items():
        other_record, other = records(other_world)[method]
        np.testing.assert_array_equal(scores["scores"], other["scores"])
        assert (scores["label"] != other["label"]).all()
        assert record["facts"]["lr"] == other_record["facts"]["lr"]
        assert [p["loss"] for p in record["curve"]] == [p["loss"] for p in other_record["curve"]]


def test_streams_are_fused_frame_by_frame(world):
    assert not segment(world, streams=("joint", "bone", "motion")).failed
    parts = [
        np.load(path.with_name("scores.npz"))["scores"]
        for path in world.results.glob("runs/evaluate/segmentation/*/record.json")
        if json.loads(path.read_text())["labels"]["method"] == "tinyclr"
    ]
    record, fused = records(world, "fuse")["tinyclr"]
    assert len(parts) == 3
    np.testing.assert_allclose(fused["scores"], np.sum(parts, axis=0), rtol=1e-4, atol=1e-5)
    expected = evaluate_frames(fused["scores"].argmax(1), fused["label"], fused["offsets"], 3).values
    assert record["metrics"]["miou"] == pytest.approx(expected["miou"])


def test_pooling_by_actionlets_names_the_methods_without(world):
    world.run("TinyCLR", "segmentation:safp", targets=(STREAM,), sets=SHORT)
    reasons = [json.loads(path.read_text())["reason"] for path in world.results.rglob("unsupported.json")]
    assert sorted(reasons) == [f"{name} has no actionlets to pool by" for name in ("random", "raw", "tinyclr")]


def test_fewer_labels_than_the_definition_asks_for_are_an_error(world, monkeypatch):
    monkeypatch.setattr(Segmentation, "label_count", lambda self, labels: len(labels) + 1)
    summary = segment(world)
    assert summary.failed
    assert all("sees 90 labels" in reason for reason in summary.failed.values())


def test_a_result_depends_on_no_other_recording(world, other_world, monkeypatch):
    """Test recordings in another order: the same scores for each."""
    segment(world)
    load = Splits.load_untrimmed

    def turned(self, *names, **more):
        split = load(self, *names, **more)
        test = split.test
        if test.ids[0] == "test2":  # loaded once more, in the layout of the encoder
            return split
        frames, labels = (torch.cat([one[40:], one[:40]]) for one in (test.frames, test.labels))
        test = replace(test, frames=frames, labels=labels, offsets=np.array([0, 50, 90]), ids=test.ids[::-1])
        return replace(split, test=test)

    monkeypatch.setattr(Splits, "load_untrimmed", turned)
    segment(other_world)
    for method, (record, scores) in records(world).items():
        other_record, other = records(other_world)[method]
        np.testing.assert_array_equal(np.r_[scores["scores"][40:], scores["scores"][:40]], other["scores"])
        for metric in ("miou", "edit", "f1_25"):
            assert record["metrics"][metric] == pytest.approx(other_record["metrics"][metric])


def test_tables_show_the_measures_and_a_picture_is_drawn(world):
    world.run("TinyCLR", "segmentation,Means", targets=(STREAM,), sets=SHORT)
    boards = {board.title: board for board in tables(aggregate(collect(world.results)))}
    (title,) = [title for title in boards if "segmentation" in title]
    assert title.startswith("stream/subject from tiny/subject")
    board = boards[title]
    assert board.columns[:4] == ("mIoU", "ACC", "MACC", "FWIoU")
    assert [row.name for row in board.rows] == ["majority class", "raw coordinates", "random encoder", "tinyclr"]
    metrics = records(world)["tinyclr"][0]["metrics"]
    names = ("miou", "acc", "macc", "fwiou", "edit", "f1_10")
    assert [entry.text for entry in board.rows[3].entries[:6]] == [f"{metrics[name]:.1f}" for name in names]
    assert [entry.text for entry in board.rows[0].entries[:2]] == [f"{metrics[f'majority_{n}']:.1f}" for n in names[:2]]
    low, high = (float(number) for number in board.rows[3].entries[0].detail.strip("[]n=1 ").split("] ")[0].split(", "))
    assert low <= metrics["miou"] <= high
    assert f"{100 * 30 / 90:.1f} % of the frames of the 2 test recordings are background" in board.note
    assert "Windows of 20 frames, stride 10, pooling gap, 30 frames per second" in board.note
    write(world.results, changed=True)
    (picture,) = (world.results / "figures").glob("timelines-*.png")
    first = picture.read_bytes()
    write(world.results, changed=True)
    assert picture.read_bytes() == first
    csv = pd.read_csv(world.results / "leaderboard.csv")
    own = csv[(csv.method == "tinyclr") & (csv.metric == "miou")]
    assert own["mean"].item() == pytest.approx(metrics["miou"], abs=1e-3)
    assert own["ci_low"].notna().all()
