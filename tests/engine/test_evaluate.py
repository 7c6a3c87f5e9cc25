"""Protocols that train the encoder, draws of labels, and fusion, through whole runs on the tiny world."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import pytest
import torch

from engine.data import Splits
from protocols.finetune import Classifier
from protocols.semi import Semi

PLUGINS = Path(__file__).parent / "plugins" / "tiny.py"
_TRAIN = ("train.epochs=3", "train.batch=8", "train.lr=0.01", "train.precision=float32")
_SHORT = {"finetune": _TRAIN, "semi": (*_TRAIN, "percent=20", "draws=2"), "linear": ("epochs=5",)}
TRAINED = ("TinyCLR", "finetune,semi")
STREAMS = ("joint", "bone", "motion")


def short(protocols: str, *more: str) -> tuple[str, ...]:
    """Settings that make the protocols quick."""
    names = dict.fromkeys(name.split(":")[0] for name in protocols.split(","))
    return (*(f"{name}.{change}" for name in names for change in _SHORT.get(name, ())), *more)


def records(world, kind: str = "evaluate") -> dict[str, dict]:
    found = [json.loads(path.read_text()) for path in world.results.glob(f"runs/{kind}/*/*/record.json")]
    return {f"{r['labels']['method']} {r['labels']['protocol'].split('[')[0]}": r for r in found}


def scores(world, name: str, kind: str = "evaluate") -> dict[str, np.ndarray]:
    record = records(world, kind)[name]
    (path,) = world.results.glob(f"runs/{kind}/*/{record['key']}/scores.npz")
    return dict(np.load(path))


def results(world) -> dict[str, bytes]:
    found = [path for name in ("record.json", "scores.npz", "*.csv") for path in world.results.rglob(name)]
    return {str(path.relative_to(world.results)): path.read_bytes() for path in found}


def test_the_untrained_encoder_becomes_the_supervised_row(world):
    summary = world.run("TinyCLR", "finetune,semi,linear", sets=short("finetune,semi,linear"))
    assert not summary.failed
    assert set(records(world)) == {
        "supervised finetune", "supervised semi", "tinyclr finetune", "tinyclr semi",
        "random linear", "raw linear", "tinyclr linear",
    }  # fmt: skip
    reasons = {json.loads(path.read_text())["reason"] for path in world.results.rglob("unsupported.json")}
    assert reasons == {"raw coordinates have no weights to train"}
    found = records(world)["tinyclr finetune"]
    assert [point["epoch"] for point in found["curve"]] == [1, 2, 3]
    assert [("test_top1" in point) for point in found["curve"]] == [False, False, True]
    assert found["curve"][-1]["test_top1"] == found["metrics"]["top1"] == found["metrics"]["best_on_test"]
    assert found["facts"].items() >= {"labels": 30, "feature_dim": 5, "pretrain_epochs": 3, "n_trials": 1}.items()
    assert records(world)["supervised finetune"]["facts"]["pretrain_epochs"] == 0
    assert world.run("TinyCLR", "finetune,semi,linear", sets=short("finetune,semi,linear")).ran == []


def test_training_starts_from_the_weights_of_the_pretraining(world, monkeypatch):
    """With no epochs the network is the stored encoder below a fresh layer."""
    import safetensors.torch

    seen: dict[str, dict] = {}
    init = Classifier.__init__

    def spy(self, encoder, classes, seed, frozen=False):
        init(self, encoder, classes, seed, frozen)
        seen[str(len(seen))] = {k: v.clone() for k, v in self.encoder.state_dict().items()}

    monkeypatch.setattr(Classifier, "__init__", spy)
    world.run("TinyCLR", "finetune", sets=("finetune.train.epochs=0",))
    for method, state in zip(("random", "tinyclr"), seen.values(), strict=True):
        (path,) = world.results.glob(f"runs/pretrain/{method}/*/weights.safetensors")
        stored = safetensors.torch.load_file(path)
        for name, value in state.items():
            assert torch.equal(stored[f"_encoder.{name}"], value)


def test_the_test_clips_are_scored_once_for_every_point_of_the_curve(world, monkeypatch):
    """The last point's scores are the result; nobody computes them again."""
    calls: list[int] = []
    score = Classifier.scores

    def spy(self, clips, *batch):
        calls.append(len(clips))
        return score(self, clips, *batch)

    monkeypatch.setattr(Classifier, "scores", spy)
    world.run("random", "finetune", sets=short("finetune", "finetune.train.epochs=7"))
    assert len(calls) == 2
    stored = scores(world, "supervised finetune")
    assert records(world)["supervised finetune"]["curve"][-1]["test_top1"] == pytest.approx(
        100 * (stored["prediction"] == stored["label"]).mean()
    )


def test_poisoned_test_labels_change_no_training(world, other_world, monkeypatch):
    world.run(*TRAINED, sets=short(TRAINED[1]))
    load = Splits.__call__

    def poisoned(self, *names):
        split = load(self, *names)
        return replace(split, test=replace(split.test, labels=(split.test.labels + 1) % 3))

    monkeypatch.setattr(Splits, "__call__", poisoned)
    other_world.run(*TRAINED, sets=short(TRAINED[1]))
    assert len(records(world)) == 4
    for name, record in records(world).items():
        one, other = scores(world, name), scores(other_world, name)
        np.testing.assert_array_equal(one["scores"], other["scores"])
        assert (one["label"] != other["label"]).all()
        losses = [[point["loss"] for point in r["curve"]] for r in (record, records(other_world)[name])]
        assert losses[0] == losses[1]


@pytest.mark.parametrize(("protocol", "stop"), [("finetune", 6), ("semi", 18)])
def test_an_interrupted_training_continues_bit_for_bit(world, other_world, monkeypatch, protocol, stop):
    """Stopped in the second epoch of fine-tuning, and in the second draw of semi: 4 steps an epoch, 12 a draw."""
    forward, calls = Classifier.forward, []

    def interrupted(self, clips):
        calls.extend([0] * self.training)
        if len(calls) == stop:
            raise KeyboardInterrupt
        return forward(self, clips)

    monkeypatch.setattr(Classifier, "forward", interrupted)
    assert world.run("random", protocol, sets=short(protocol)).interrupted
    left = {path.name for path in world.results.rglob("checkpoint*.pt")}
    assert left == (
        {"checkpoint.pt"}
        if protocol == "finetune"
        else {"checkpoint-stratified-20-1.previous.pt", *(f"checkpoint-stratified-20-{i}.pt" for i in (1, 2))}
    )
    assert "resume" in {job.state for job in world.plan("random", protocol, sets=short(protocol)).jobs}
    monkeypatch.undo()
    torch.manual_seed(5)
    assert not world.run("random", protocol, sets=short(protocol)).failed
    other_world.run("random", protocol, sets=short(protocol))
    assert results(world) == results(other_world) != {}
    assert not list(world.results.rglob("checkpoint*.pt"))


def test_draws_are_published_and_named_in_the_record(world):
    world.run("TinyCLR", "semi", sets=short("semi"), seeds=(0, 1), streams=("joint",))
    record = records(world)["tinyclr semi"]
    split = Splits(world.results)(f"{PLUGINS}:Tiny")
    assert record["facts"].items() >= {"draws": 2, "labels": 6}.items()
    assert sorted(record["facts"]["draw_files"]) == sorted(
        str(path.relative_to(world.results)) for path in world.results.rglob("draws/*/*.csv")
    )
    for name in record["facts"]["draw_files"]:
        rows = list(csv.DictReader((world.results / name).read_text().splitlines()))
        assert len(rows) == 6
        assert {row["class"] for row in rows} == set(split.classes)
        for row in rows:
            assert split.train.ids[int(row["index"])] == row["id"]
            assert split.classes[split.train.labels[int(row["index"])]] == row["class"]
    (results_folder,) = {Path(name).parent for name in record["facts"]["draw_files"]}
    path = next((world.results / results_folder).glob("*.csv"))
    path.write_text(path.read_text().replace("clip", "klip"))
    failed = world.run("TinyCLR", "semi", sets=short("semi", "semi.train.epochs=1")).failed.values()
    assert any("does not hold the draw that belongs to this data" in reason for reason in failed)


def test_numbers_of_draws_are_means_with_a_standard_deviation(world):
    world.run("TinyCLR", "semi", sets=short("semi"))
    record, stored = records(world)["tinyclr semi"], scores(world, "tinyclr semi")
    assert stored["scores"].shape == (2, 30, 3)
    top1 = [100 * (one.argmax(1) == stored["label"]).mean() for one in stored["scores"]]
    assert record["metrics"]["top1"] == pytest.approx(fmean(top1))
    assert record["metrics"]["top1_draws_sd"] == pytest.approx(stdev(top1))
    assert (stored["prediction"] == stored["scores"].argmax(2)).all()
    assert np.sum(record["facts"]["confusion"]) == 2 * 30
    assert [point["draw"] for point in record["curve"]] == [1] * 3 + [2] * 3


def test_an_epoch_of_few_labels_is_as_long_as_one_of_all(world, monkeypatch):
    forward, shown = Classifier.forward, []
    monkeypatch.setattr(
        Classifier, "forward", lambda self, x: (shown.extend([len(x)] * self.training), forward(self, x))[1]
    )
    world.run("random", "semi", sets=short("semi", "semi.draws=1"))
    assert sum(shown) == 3 * 30
    shown.clear()
    world.run("random", "semi", sets=short("semi", "semi.draws=1", "semi.epoch=labelled"))
    assert sum(shown) == 3 * 6


def test_fewer_labels_than_the_definition_are_an_error(world, monkeypatch):
    draws = Semi.draws
    monkeypatch.setattr(Semi, "draws", lambda self, *given: {k: v[1:] for k, v in draws(self, *given).items()})
    failed = world.run("TinyCLR", "semi", sets=short("semi")).failed.values()
    assert {reason.split(",")[0] for reason in failed} == {"Semi sees 5 labels in draw stratified-20-1 of tiny/subject"}
    world.retry_failed = True
    monkeypatch.setattr(Semi, "draws", lambda self, *given: {k: v[[0] * 6] for k, v in draws(self, *given).items()})
    assert any(
        "Semi sees 1 labels" in reason for reason in world.run("TinyCLR", "semi", sets=short("semi")).failed.values()
    )


def test_features_of_fewer_clips_are_an_error(world):
    world.run("TinyCLR", "Means")
    for path in world.results.rglob("features.npz"):
        arrays = dict(np.load(path))
        np.savez(path, train=arrays["train"][:10], test=arrays["test"])
        (path.parent / "checksums.json").unlink()
    reasons = set(world.run("TinyCLR", "linear", sets=("linear.epochs=2",)).failed.values())
    assert any("Linear sees 10 labels in tiny/subject, but its definition asks for 30 of 30" in r for r in reasons)


def test_a_frozen_encoder_is_evaluated_on_shared_features(world):
    summary = world.run("TinyCLR", "semi:linear,linear", sets=short("semi:linear,linear"))
    assert not summary.failed
    assert {s.labels.method for s in summary.ran if s.choice.plugin.name == "semi"} == {"random", "raw", "tinyclr"}
    assert sum(s.kind == "features" for s in summary.ran) == 3
    assert scores(world, "tinyclr semi:linear")["scores"].shape == (2, 30, 3)


def test_streams_are_fused_from_stored_scores_alone(world, monkeypatch):
    world.run("TinyCLR", "knn,finetune,semi", sets=short("knn,finetune,semi"), streams=STREAMS)
    fused = records(world, "fuse")
    assert {"tinyclr knn", "tinyclr finetune", "tinyclr semi", "supervised semi", "raw knn"} <= set(fused)
    assert {record["labels"]["stream"] for record in fused.values()} == {"joint+bone+motion"}
    for name in ("tinyclr knn", "tinyclr semi"):
        parents = [
            np.load(next(world.results.glob(f"runs/evaluate/*/{key}/scores.npz"))) for key in fused[name]["parents"]
        ]
        expected = parents[0]["scores"] + parents[1]["scores"] + parents[2]["scores"]
        np.testing.assert_allclose(scores(world, name, "fuse")["scores"], expected, rtol=1e-6)
        top1 = 100 * (expected.argmax(-1) == parents[0]["label"]).mean()
        assert fused[name]["metrics"]["top1"] == pytest.approx(top1)
    facts = fused["tinyclr finetune"]["facts"]
    assert facts.items() >= {"params": 3 * 35, "pretrain_epochs": 9, "labels": 30, "weight_bone": 1}.items()
    reasons = {json.loads(p.read_text())["reason"] for p in world.results.glob("runs/fuse/*/*/unsupported.json")}
    assert reasons == {"raw coordinates have no weights to train"}

    def refuse(*given):
        raise AssertionError("a network was built")

    monkeypatch.setattr("engine.bench.make_encoder", refuse)
    for path in [*world.results.rglob("weights.safetensors"), *world.results.rglob("features.npz")]:
        path.unlink()
    again = world.run(
        "TinyCLR",
        "knn,finetune,semi,fusion:paper",
        sets=short("knn,finetune,semi,fusion:paper"),
        streams=("motion", "joint", "bone"),
    )
    assert not again.failed
    assert {(stage.kind, stage.choice.name) for stage in again.ran} == {("fuse", "fusion:paper")}
    assert "tinyclr knn fusion:paper" in records(world, "fuse")


def test_weights_are_chosen_where_validation_scores_are_stored(world):
    plan = world.plan(
        "TinyCLR",
        "knn,linear,fusion:validation",
        sets=short("knn,linear,fusion:validation"),
        streams=("joint", "motion"),
    )
    reasons = {job.stage.labels.protocol.split("[")[0]: job.reason for job in plan.jobs if job.state == "unsupported"}
    assert reasons == {"knn fusion:validation": "it keeps no scores of a validation part to choose weights by"}
    assert not world.run(
        "TinyCLR", "linear,fusion:validation", sets=short("linear,fusion:validation"), streams=("joint", "motion")
    ).failed
    found = [r for r in records(world, "fuse").values() if "validation" in r["labels"]["protocol"]]
    assert {record["labels"]["stream"] for record in found} == {"joint+motion"}
    assert all(0 <= record["facts"]["validation_top1"] <= 100 for record in found)


def test_fusion_alone_or_of_one_stream_has_nothing_to_join(world):
    from engine.config import BenchError

    with pytest.raises(BenchError, match="fusion combines the scores of other protocols: name at least one"):
        world.plan("TinyCLR", "fusion")
    plan = world.plan("TinyCLR", "knn,fusion")
    assert "fusion: nothing to combine with one stream (--streams joint,bone,motion)" in plan.notes
    assert {job.stage.kind for job in plan.jobs} == {"pretrain", "features", "evaluate"}
