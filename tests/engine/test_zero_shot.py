"""Corrupted test clips through the frozen encoder, and their record."""

from __future__ import annotations

import json

import pytest

SHORT = ("zero_shot.linear.epochs=2", "linear.epochs=2")


def records(world, protocol):
    found = map(
        json.loads, (path.read_text() for path in world.results.glob(f"runs/evaluate/{protocol}/*/record.json"))
    )
    return {record["labels"]["method"]: record for record in found}


def test_the_number_is_the_mean_over_conditions(world) -> None:
    assert not world.run("TinyCLR", "zero_shot,linear", sets=SHORT).failed
    for method in ("tinyclr", "raw", "random"):
        record = records(world, "zero_shot")[method]
        metrics, conditions = record["metrics"], record["facts"]["conditions"]
        assert metrics["top1"] == pytest.approx(sum(metrics[f"top1_{name}"] for name in conditions) / len(conditions))
        assert "top1_draws_sd" not in metrics
        assert "best_on_test" not in metrics
        assert sum(map(sum, record["facts"]["confusion"])) == len(conditions) * record["facts"]["test_clips"]
        assert metrics["top1"] < metrics["top1_clean"]
        # Both read the same features, which were extracted once.
        features, _ = record["parents"]
        assert [features] == records(world, "linear")[method]["parents"]
    assert world.run("TinyCLR", "zero_shot,linear", sets=SHORT).ran == []


def test_methods_without_a_generator_say_so(world) -> None:
    world.run("TinyCLR", "zero_shot:generated", sets=SHORT)
    found = world.results.glob("runs/evaluate/zero_shot/*/unsupported.json")
    reasons = {json.loads(path.read_text())["reason"] for path in found}
    assert reasons == {f"{name} generates no clips" for name in ("tinyclr", "raw", "random")}


def test_strength_zero_gives_the_clean_accuracy(world, other_world) -> None:
    zero = tuple(f"zero_shot.{kind}=[0]" for kind in ("noise", "frames", "part", "gap", "rotation"))
    for one in (world, other_world):
        assert not one.run("TinyCLR", "zero_shot", sets=(SHORT[0], *zero)).failed
    found = [{r["key"]: r["metrics"] for r in records(one, "zero_shot").values()} for one in (world, other_world)]
    assert found[0] == found[1]  # bit for bit
    for metrics in found[0].values():
        assert metrics["top1"] == metrics["top1_clean"] == metrics["top1_noise_0"] == metrics["top1_rotation_0"]
