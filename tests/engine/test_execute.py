from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.bench import stage_seed
from engine.data import Splits
from engine.execute import Summary
from engine.files import UnwritableError
from engine.registry import ROOT, locate
from engine.stages import Stage

PLUGINS = Path(__file__).parent / "plugins" / "tiny.py"
EVERYTHING = ("TinyNext,TinyCLR", "Means,knn")


def files(world, name: str) -> dict[str, bytes]:
    return {str(path.relative_to(world.results)): path.read_bytes() for path in world.results.rglob(name)}


def records(world, kind: str = "evaluate") -> dict[str, dict]:
    """Records of a kind by ``method protocol``."""
    found = [json.loads(path.read_text()) for path in world.results.glob(f"runs/{kind}/*/*/record.json")]
    return {f"{r['labels']['method']} {r['labels']['protocol']}".strip(): r for r in found}


def test_a_run_leaves_complete_stages(world):
    summary = world.run(*EVERYTHING)
    assert (summary.failed, summary.interrupted) == ({}, False)
    assert len(summary.ran) == len(world.plan(*EVERYTHING).jobs) - 1  # one is unsupported
    for stage in summary.ran:
        left = {path.name for path in world.store.folder(stage).iterdir()}
        result = {"pretrain": "weights.safetensors", "features": "features.npz", "evaluate": "scores.npz"}[stage.kind]
        assert left == {"stage.json", "record.json", "provenance.json", "checksums.json", result}
    assert not list(world.results.rglob("failure.json"))
    (refused,) = files(world, "unsupported.json").values()
    assert json.loads(refused)["reason"] == "raw coordinates are refused"
    assert json.loads(refused)["labels"]["method"] == "raw"


def test_a_second_run_executes_nothing(world):
    world.run(*EVERYTHING)
    before = {path: path.stat().st_mtime_ns for path in world.results.rglob("*.*") if path.name != "unsupported.json"}
    summary = world.run(*EVERYTHING)
    assert summary.ran == []
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_other_protocols_reuse_the_pretraining(world):
    world.run("TinyNext", "Means,knn")
    for epochs in (2, 3):
        ran = world.run("TinyNext", "Means,linear", sets=(f"linear.epochs={epochs}",)).ran
        assert {(stage.kind, stage.choice.plugin.name) for stage in ran} == {("evaluate", "linear")}
        assert len(ran) == 4  # random, raw, tinyclr that tinynext starts from, tinynext


def test_an_override_reruns_descendants_only(world):
    world.run(*EVERYTHING)
    ran = world.run(*EVERYTHING, sets=("tinynext.scale=2",)).ran
    assert {(s.kind, s.labels.method) for s in ran} == {
        (kind, "tinynext[scale=2.0]") for kind in ("pretrain", "features", "evaluate")
    }


def test_two_runs_give_the_same_bytes(world, other_world):
    world.run(*EVERYTHING)
    torch.manual_seed(99)
    torch.rand(7)
    other_world.run("TinyCLR,TinyNext", "knn,Means", datasets=(f"{PLUGINS}:Tiny/subject",))
    for name in ("record.json", "weights.safetensors", "features.npz", "scores.npz", "stage.json"):
        assert files(world, name) == files(other_world, name) != {}


def test_seeds_and_methods_draw_differently(world):
    world.run("TinyCLR", "Means", seeds=(0, 1))
    weights = list(files(world, "weights.safetensors").values())
    assert len(set(weights)) == len(weights) == 4


def test_results_are_those_of_a_twin_written_out(world):
    """Features and scores agree with what one gets by hand from the stored weights."""
    import safetensors.torch

    world.run("TinyCLR", "Means", streams=("motion",))
    split = Splits(world.results)(f"{PLUGINS}:Tiny")
    weights = safetensors.torch.load(
        next(data for path, data in files(world, "weights.safetensors").items() if "tinyclr" in path)
    )

    def features(clips):
        x = clips.clips.permute(0, 4, 2, 3, 1)
        motion = torch.zeros_like(x)
        motion[:, :, :-1] = x[:, :, 1:] - x[:, :, :-1]
        speed = torch.zeros_like(x)
        speed[:, :, 1:] = (motion[:, :, 1:] - motion[:, :, :-1]).abs()
        weight, bias = weights["_encoder.layer.weight"], weights["_encoder.layer.bias"]
        return (torch.cat([motion, speed], -1) @ weight.T + bias).relu().mean((1, 2, 3))

    train, test = features(split.train), features(split.test)
    stored = np.load(next(world.results.glob("runs/features/tinyclr/*/features.npz")))
    np.testing.assert_allclose(stored["train"], train.numpy(), atol=1e-5)
    np.testing.assert_allclose(stored["test"], test.numpy(), atol=1e-5)
    assert stored["train"].dtype == np.float32
    means = torch.stack([train[split.train.labels == c].mean(0) for c in range(3)])
    prediction = torch.cdist(test, means).argmin(1)
    found = np.load(
        next(
            path
            for path in world.results.glob("runs/evaluate/means/*/scores.npz")
            if "tinyclr" in (path.parent / "stage.json").read_text()
        )
    )
    assert found["prediction"].tolist() == prediction.tolist()
    assert found["label"].tolist() == split.test.labels.tolist()
    assert found["id"].tolist() == list(split.test.ids)
    top1 = 100 * (prediction == split.test.labels).double().mean().item()
    assert records(world)["tinyclr means"]["metrics"]["top1"] == pytest.approx(top1)


def test_records_hold_curve_extras_and_facts(world):
    world.run("TinyNext", "Means")
    found = records(world)["tinynext means"]
    assert [point["epoch"] for point in found["curve"]] == [1, 2, 3]
    assert found["curve"][0]["loss"] == 1
    metrics = found["metrics"]
    assert metrics["top1_flipped"] == found["curve"][-1]["test_top1"]
    assert metrics["best_on_test"] == max(p["test_top1"] for p in found["curve"])
    assert {"top1", "top5", "mean_class", "ece", "ci_low", "ci_high"} <= set(metrics)
    facts = found["facts"]
    assert facts["pretrain_epochs"] == 3 + 3  # TinyCLR's run counts too
    assert (facts["feature_dim"], facts["params"], facts["train_clips"], facts["test_clips"]) == (5, 6 * 5 + 5, 30, 30)
    assert (facts["frames"], facts["persons"], facts["n_trials"]) == (50, 1, 1)
    assert facts["flops"] == 2 * 50 * 4 * 6 * 5
    assert np.array(facts["confusion"]).sum() == 30
    assert len(facts["recall"]) == 3
    assert records(world)["random means"]["facts"]["pretrain_epochs"] == 0
    assert len(records(world, "pretrain")["tinynext"]["curve"]) == 3


def test_a_method_starts_from_the_run_of_its_ancestor(world):
    world.run("TinyNext", "Means", sets=("tinynext.train.epochs=0",))
    weights = {path.split("/")[2]: data for path, data in files(world, "weights.safetensors").items()}
    assert weights["tinynext"] == weights["tinyclr"]


def test_protocols_see_no_test_labels(world, other_world, monkeypatch):
    """With every test label replaced, scores stay the same; only the metrics move."""
    world.run("TinyCLR", "Means,knn,linear", sets=("linear.epochs=5",))
    load = Splits.__call__

    def poisoned(self, *names):
        split = load(self, *names)
        return replace(split, test=replace(split.test, labels=(split.test.labels + 1) % 3))

    monkeypatch.setattr(Splits, "__call__", poisoned)
    other_world.run("TinyCLR", "Means,knn,linear", sets=("linear.epochs=5",))
    for path in world.results.glob("runs/evaluate/*/*/scores.npz"):
        one, other = np.load(path), np.load(other_world.results / path.relative_to(world.results))
        np.testing.assert_array_equal(one["scores"], other["scores"])
        assert (one["label"] != other["label"]).all()
    for path in world.results.glob("runs/[pf]*/*/*/record.json"):
        assert path.read_bytes() == (other_world.results / path.relative_to(world.results)).read_bytes()
    assert records(world)["tinyclr means"]["metrics"] != records(other_world)["tinyclr means"]["metrics"]


def test_projector_features_on_augmented_clips_are_deterministic(world, other_world):
    world.run("TinyCLR", "knn:actclr")
    other_world.run("TinyCLR", "knn:actclr,Means")
    assert records(world)["tinyclr knn:actclr"] == records(other_world)["tinyclr knn:actclr"]
    assert records(world)["tinyclr knn:actclr"]["facts"]["feature_dim"] == 4


def test_a_failure_stops_its_descendants_only(world, monkeypatch):
    summary = world.run("Breaking,TinyCLR", "Means")
    assert set(summary.failed.values()) == {"breaking is broken", "pretrain of breaking failed: breaking is broken"}
    assert len(summary.failed) == 3
    (failure,) = files(world, "failure.json").values()
    assert json.loads(failure)["reason"] == "breaking is broken"
    assert {"random means", "tinyclr means"} == set(records(world))
    assert "pretrain of breaking on tiny/subject, joint, seed 0: FAILED" in world.log


def test_failures_are_remembered_until_somebody_asks_again(world, monkeypatch):
    world.run("Breaking,TinyCLR", "Means")
    plan = world.plan("Breaking,TinyCLR", "Means")
    assert plan.todo == ()
    assert {(job.stage.kind, job.reason.rpartition(" failed: ")[2]) for job in plan.jobs if job.state == "failed"} == {
        (kind, "breaking is broken") for kind in ("pretrain", "features", "evaluate")
    }
    assert world.run("Breaking,TinyCLR", "Means") == Summary()
    world.retry_failed = True
    assert [job.state for job in world.plan("Breaking,TinyCLR", "Means").todo] == ["retry", "to do", "to do"]
    assert len(world.run("Breaking,TinyCLR", "Means").failed) == 3
    breaking = locate("methods", f"{PLUGINS}:Breaking").load()
    monkeypatch.setattr(breaking, "__init__", locate("methods", f"{PLUGINS}:TinyCLR").load().__init__)
    assert len(world.run("Breaking,TinyCLR", "Means").ran) == 3
    assert not files(world, "failure.json")


def test_another_protocol_on_what_failed_is_not_run_either(world):
    world.run("Breaking", "Means")
    todo = world.plan("Breaking", "Means,knn").todo
    assert {job.stage.labels.method for job in todo} == {"random", "raw"}


def test_an_unexpected_error_is_kept_with_its_traceback_and_can_be_repeated(world, monkeypatch):
    monkeypatch.setenv("TINY_BREAK", "2")
    summary = world.run("TinyNext", "Means")
    assert "RuntimeError: out of luck" in summary.failed.values()
    assert len(summary.failed) == 6  # tinyclr and tinynext, each with features and evaluation
    failure = next(
        json.loads(data) for path, data in files(world, "failure.json").items() if "pretrain/tinyclr" in path
    )
    assert "Traceback" in failure["detail"]
    assert "in forward" in failure["detail"]
    monkeypatch.delenv("TINY_BREAK")
    world.retry_failed = True
    assert not world.run("TinyNext", "Means").failed
    assert not files(world, "failure.json")


def test_scores_and_features_that_are_not_finite_fail_with_a_reason(world, monkeypatch):
    means = locate("protocols", f"{PLUGINS}:Means").load()
    run = means.run

    def broken(self, context):
        outcome = run(self, context)
        outcome.scores[3] = float("nan")
        return outcome

    monkeypatch.setattr(means, "run", broken)
    assert {reason[:40] for reason in world.run().failed.values()} == {"1 of 30 test samples have scores that ar"}
    tiny = locate("methods", f"{PLUGINS}:TinyCLR").load()
    monkeypatch.setattr(tiny, "project", lambda self, features: features * float("nan"))
    failed = world.run("TinyCLR", "knn:actclr", sets=("tinyclr.train.epochs=0",)).failed.values()
    assert any("hold NaN or infinite values" in reason for reason in failed)


def test_a_diverged_training_fails_with_the_trainers_message(world):
    reasons = world.run(sets=("tinyclr.train.lr=1e30",)).failed.values()
    assert any("Loss is not finite in epoch" in reason for reason in reasons)


def test_an_interrupted_run_continues_bit_for_bit(world, other_world, monkeypatch):
    monkeypatch.setenv("TINY_STOP", "3")
    summary = world.run(*EVERYTHING)
    assert summary.interrupted
    assert [stage.labels.method for stage in summary.ran] == ["random"] * 4 + ["raw"] * 3
    states = {j.stage.labels.method: j.state for j in world.plan(*EVERYTHING).jobs if j.stage.kind == "pretrain"}
    assert states == {"random": "done", "raw": "done", "tinyclr": "resume", "tinynext": "to do"}
    assert len(list(world.results.glob("runs/*/*/*/stage.json"))) == len(
        world.plan(*EVERYTHING).jobs
    )  # pending ones too
    monkeypatch.delenv("TINY_STOP")

    epochs: list[int] = []
    tiny = locate("methods", f"{PLUGINS}:TinyCLR").load()
    forward = tiny.forward
    monkeypatch.setattr(
        tiny, "forward", lambda self, views, step: (epochs.append(step.epoch), forward(self, views, step))[1]
    )
    world.run("TinyCLR", "Means")
    assert set(epochs) == {3}
    monkeypatch.undo()
    world.run(*EVERYTHING)
    other_world.run(*EVERYTHING)
    assert files(world, "record.json") == files(other_world, "record.json")
    assert files(world, "weights.safetensors") == files(other_world, "weights.safetensors")
    assert not list(world.results.rglob("checkpoint.pt"))
    resumed = {
        path.split("/")[2]: json.loads(data)["resumed"]
        for path, data in files(world, "provenance.json").items()
        if "/pretrain/" in path
    }
    assert resumed == {"random": False, "raw": False, "tinyclr": True, "tinynext": False}


@pytest.mark.slow
def test_a_killed_process_continues_bit_for_bit(world, other_world, tmp_path):
    code = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}, {str(Path(__file__).parent)!r}]
from pathlib import Path
import conftest
conftest.World(Path({str(world.results)!r}), [], []).run()
"""
    process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "TINY_SLOW": "3"})
    deadline = time.monotonic() + 60
    while not list(world.results.glob("runs/pretrain/tinyclr/*/checkpoint.pt")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert "resume" in {job.state for job in world.plan().jobs}
    world.run()
    other_world.run()
    assert files(world, "record.json") == files(other_world, "record.json")


def test_features_deleted_to_save_space_come_back_only_when_needed(world):
    world.run("TinyCLR", "Means")
    for path in world.results.rglob("features.npz"):
        path.unlink()
    assert world.plan("TinyCLR", "Means").todo == ()
    todo = {(job.stage.kind, job.stage.labels.protocol) for job in world.plan("TinyCLR", "Means,Means:long").todo}
    assert todo == {("features", ""), ("evaluate", "means:long")}


@pytest.mark.parametrize("damage", [lambda whole: whole[:50], lambda whole: whole[:-1] + bytes([whole[-1] ^ 1])])
def test_damaged_weights_are_set_aside_and_made_again(world, damage):
    """A cut file is noticed when the plan is made, a changed bit when the file is needed."""
    world.run("TinyCLR", "Means")
    before = files(world, "weights.safetensors")
    (path,) = world.results.glob("runs/pretrain/tinyclr/*/weights.safetensors")
    path.write_bytes(damage(path.read_bytes()))
    summary = world.run("TinyCLR", "knn:actclr")
    assert not summary.failed
    assert [stage.kind for stage in summary.ran if stage.labels.method == "tinyclr"] == [
        "pretrain",
        "features",
        "evaluate",
    ]
    assert files(world, "weights.safetensors") == before
    assert (path.parent / "weights.safetensors.damaged1").exists()
    assert "damaged; set aside in" in world.log


def test_a_full_disk_stops_the_run_and_nothing_is_noted_as_failed(world, other_world, monkeypatch):
    sync, calls = os.fsync, []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 40:  # in the middle of a training
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UnwritableError, match="No space left on device"):
        world.run(*EVERYTHING)
    monkeypatch.undo()
    assert files(world, "failure.json") == {}
    assert list(world.results.rglob(".lease")) == []
    assert not world.run(*EVERYTHING).failed
    other_world.run(*EVERYTHING)
    assert files(world, "record.json") == files(other_world, "record.json")


def test_global_state_is_left_alone(world):
    before = torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory
    world.run()
    assert (torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory) == before


def test_seeds_depend_on_seed_kind_and_plugin_only(world):
    def seeds(**more) -> dict[str, int]:
        return {f"{j.stage.kind} {j.stage.choice.plugin.name}": stage_seed(j.stage) for j in world.plan(**more).jobs}

    assert seeds() == seeds(sets=("tinyclr.scale=2", "frames=20")) == seeds(streams=("bone",))
    assert len(set(seeds().values())) == len(seeds())
    assert not set(seeds().values()) & set(seeds(seeds=(1,)).values())
    assert isinstance(world.plan().jobs[0].stage, Stage)
