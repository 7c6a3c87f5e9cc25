"""Many processes on one results folder: every stage is done once, whoever is killed."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from engine import execute, provenance, store, work
from engine.choices import Choice
from engine.files import read_arrays, write_arrays
from engine.plan import Job, Plan
from engine.progress import Reporter
from engine.records import Labels, Provenance, Record, read_record
from engine.registry import locate
from engine.stages import Data, Stage
from engine.store import RunStore
from tests.engine.killing import start

PROCESSES, STAGES, KILLS = 8, 50, 24


def stages() -> list[Stage]:
    """25 pre-trainings, and an extraction of features of each."""
    plugin = locate("methods", "random")
    choice, data = Choice(plugin, plugin.load().Config()), Data("x", "x/y", "0")
    found = []
    for seed in range(STAGES // 2):
        labels = Labels(
            dataset="x",
            split="y",
            stream="joint",
            method="random",
            encoder="e",
            recipe="paper",
            budget="quick",
            seed=seed,
        )
        parent = Stage("pretrain", choice, data, seed, labels)
        found += [parent, Stage("features", choice, data, seed, labels, parents=(parent,))]
    return found


def run(results: Path, log: Path, seconds: float) -> None:
    """What one process does: the real plan, leases and records around work that takes some milliseconds."""

    def note(*words: str) -> None:
        descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, f"{' '.join(words)}\n".encode())
        os.close(descriptor)

    def stub(stage: Stage, bench: Any) -> Record:
        note("began", stage.key)
        for parent in stage.parents:
            assert read_arrays(bench.store.result(parent))["x"].tolist() == [parent.seed] * 100
        time.sleep(random.uniform(0, seconds))
        write_arrays(bench.store.result(stage), {"x": np.full(100, stage.seed)})
        return stage.record(metrics={"top1": float(stage.seed)}, facts={"feature_dim": 1})

    def commit(self: RunStore, stage: Stage, *rest: Any) -> None:
        whole(self, stage, *rest)
        note("committed", stage.key)

    whole = RunStore.commit
    RunStore.commit = commit  # type: ignore[method-assign]
    work.run = stub  # type: ignore[assignment]
    store.RESULT = dict.fromkeys(store.RESULT, "result.npz")
    execute._WAIT = 0.02
    execute.amount_of_work = lambda *given: (1.0, "clips")
    circumstances = Provenance(
        seconds=1, finished="", device="", threads=1, peak_memory_mb=1, commit="", source="", versions={}
    )
    provenance.collect = lambda **given: circumstances  # type: ignore[assignment]
    own = RunStore(results)
    plan = Plan(tuple(Job(stage, *own.state(stage)) for stage in stages()), None)  # type: ignore[arg-type]
    with Path(os.devnull).open("w") as nowhere:
        summary = execute.execute(plan, own, torch.device("cpu"), Reporter(Console(file=nowhere)))
    assert not summary.failed
    note("ended")


def assert_complete(results: Path) -> None:
    records = [read_record(path.parent) for path in results.glob("runs/*/*/*/record.json")]
    assert sorted((record.kind, record.labels.seed) for record in records) == sorted(
        (stage.kind, stage.seed) for stage in stages()
    )
    for record in records:
        assert record.metrics == {"top1": float(record.labels.seed)}
    for folder in results.glob("runs/*/*/*/"):
        names = {path.name for path in folder.iterdir() if path.name[0] != "."}  # a killed owner leaves its lease
        assert names == {"stage.json", "record.json", "provenance.json", "checksums.json", "result.npz"}


def test_identical_commands_at_the_same_time_do_every_stage_once(tmp_path: Path) -> None:
    results, log = tmp_path / "results", tmp_path / "log"
    running = [start(run, results, log, 0.03) for _ in range(3)]
    for process in running:
        process.join(600)
        assert process.exitcode == 0
    assert_complete(results)
    counts = Counter(log.read_text().splitlines())
    assert counts.pop("ended") == 3
    assert len(counts) == 2 * STAGES
    assert set(counts.values()) == {1}


@pytest.mark.slow
def test_kills_of_many_processes_lose_no_record_and_break_none(tmp_path: Path) -> None:
    results, log = tmp_path / "results", tmp_path / "log"
    draw = random.Random(8)
    running = [start(run, results, log, 0.1) for _ in range(PROCESSES)]
    for number in range(KILLS):  # one kill for every two stages that are done
        while len([*results.glob("runs/*/*/*/record.json")]) < 2 * number and any(p.is_alive() for p in running):
            time.sleep(0.005)
        time.sleep(draw.uniform(0, 0.02))
        at = draw.randrange(PROCESSES)
        running[at].kill()
        running[at].join()
        running[at] = start(run, results, log, 0.1)
    for process in running:
        process.join(600)
        assert process.exitcode == 0
    counts = Counter(line for line in log.read_text().splitlines() if line.startswith("committed"))
    assert set(counts.values()) == {1}
    assert len(counts) >= STAGES - KILLS  # a kill may fall between the record and the line about it
    assert_complete(results)
