from __future__ import annotations

import json

import pytest
import torch

from engine.estimate import estimate, work
from engine.show import summary_line

CPU = torch.device("cpu")
FLOPS = 2 * 50 * 4 * 6 * 5
"""Of one clip through the tiny encoder: 50 frames, 4 joints, 6 inputs, 5 outputs, 2 per multiply-add."""


def test_work_is_counted_in_operations_of_the_encoder(world):
    plan = world.plan("TinyCLR", "knn")
    found = {f"{j.stage.kind} {j.stage.labels.method}": work(j.stage, plan.splits)[0] for j in plan.jobs}
    assert found == {
        "pretrain random": 0,
        "features random": FLOPS * 60,
        "evaluate random": 60,
        "pretrain raw": 0,
        "features raw": 0,
        "evaluate raw": 60,
        "pretrain tinyclr": 4.0 * FLOPS * 30 * 3,  # cost x clips x epochs
        "features tinyclr": FLOPS * 60,
        "evaluate tinyclr": 60,
    }


def test_nominal_rates_until_there_are_measured_ones(world):
    plan = world.plan()
    first = estimate(plan, world.store, CPU)
    assert first.basis == "nominal rates, a rough guess"
    assert set(first.seconds) == {job.stage.key for job in plan.todo}
    assert estimate(plan, world.store, torch.device("cuda")).total < first.total
    world.run()
    assert estimate(world.plan(), world.store, CPU).total == 0
    longer = ("tinyclr.train.epochs=300",)
    plan = world.plan(sets=longer)
    (pretrain,) = [job.stage for job in plan.todo if job.stage.kind == "pretrain"]
    (measured,) = [
        json.loads(path.read_text()) for path in world.results.glob("runs/pretrain/tinyclr/*/provenance.json")
    ]
    guess = estimate(plan, world.store, CPU)
    assert guess.basis == "from earlier runs in this folder"
    assert guess.seconds[pretrain.key] == pytest.approx(100 * measured["seconds"])
    other = estimate(world.plan("TinyNext"), world.store, CPU)  # another method, but it counts the same operations
    assert other.basis == "from earlier runs in this folder"
    mixed = estimate(world.plan("TinyCLR", "Means,knn"), world.store, CPU)
    assert mixed.basis == "2 of 5 from earlier runs, the others nominal rates"


def test_runs_that_were_resumed_or_are_damaged_are_not_measured(world):
    world.run()
    (path,) = world.results.glob("runs/pretrain/tinyclr/*/provenance.json")
    run = json.loads(path.read_text())
    path.write_text(json.dumps(run | {"resumed": True}))
    plan = world.plan(sets=("tinyclr.scale=2",))
    assert estimate(plan, world.store, CPU).basis.startswith("2 of 3 from earlier runs")
    path.write_text("{")
    assert estimate(plan, world.store, CPU).basis.startswith("2 of 3 from earlier runs")


def test_an_encoder_that_cannot_be_built_does_not_spoil_the_plan(world, monkeypatch):
    from encoders.coordinates import Coordinates

    def broken(self):
        raise RuntimeError

    monkeypatch.setattr("engine.estimate._counted", {})
    monkeypatch.setattr(Coordinates, "flops", broken)
    assert estimate(world.plan("TinyCLR", "knn"), world.store, CPU).total > 0


def test_the_summary_line_counts_states(world, monkeypatch):
    def line(*names, **more):
        plan = world.plan(*names, **more)
        return summary_line(plan, estimate(plan, world.store, CPU))

    assert line() == "6 stages to do, 0 done, 1 unsupported; under 1 s (nominal rates, a rough guess)"
    monkeypatch.setenv("TINY_STOP", "2")
    world.run()
    assert line().startswith("3 stages to do, 1 of them resumed, 3 done, 1 unsupported; ")
    monkeypatch.delenv("TINY_STOP")
    monkeypatch.setenv("TINY_BREAK", "2")
    world.run()
    assert line() == "0 stages to do, 3 done, 3 failed before (--retry-failed repeats them), 1 unsupported"
    world.retry_failed = True
    assert line().startswith("3 stages to do, 1 of them failed before, 3 done, 1 unsupported; ")
    monkeypatch.delenv("TINY_BREAK")
    world.run()
    assert line() == "0 stages to do, 6 done, 1 unsupported"


def test_protocols_that_train_are_counted_in_operations_too(world):
    plan = world.plan("TinyCLR", "finetune", sets=("finetune.train.epochs=10",))
    (job,) = (j for j in plan.jobs if j.stage.labels.method == "supervised")
    amount, unit = work(job.stage, plan.splits)
    assert (amount, unit) == (
        FLOPS * (3 * 10 * 30 + 2 * 30),
        "flops",
    )  # forward and backward, two looks at the test clips
