from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from rich.console import Console

from engine.companions import RelayReporter, longest_chain, useful
from engine.estimate import Estimate
from engine.progress import Reporter
from tests.engine.conftest import PLUGINS

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
RUN = (
    sys.executable, str(ROOT / "run_bench.py"), "--methods", f"{PLUGINS}:TinyCLR", "--datasets", f"{PLUGINS}:Tiny",
    "--set", f"encoder={PLUGINS}:TinyEncoder", "--set", "linear.epochs=5", "--seeds", "0-2",
)  # fmt: skip


def guess(plan, seconds):
    return Estimate({job.stage.key: seconds for job in plan.todo}, "")


def test_the_longest_chain_is_that_of_all_paths(world):
    plan = world.plan("TinyCLR,TinyNext", "knn,linear", seeds=(0, 1))
    seconds = {job.stage.key: float(number % 7 + 1) for number, job in enumerate(plan.todo)}

    def paths(stage):
        here = seconds[stage.key]
        return [here + path for parent in stage.parents for path in paths(parent)] or [here]

    expected = max(path for job in plan.jobs for path in paths(job.stage))
    assert longest_chain(plan, Estimate(seconds, "")) == expected


def test_as_many_processes_as_there_is_work_for(world):
    plan = world.plan("TinyCLR", "knn", seeds=(0, 1, 2))  # 9 chains of 3 stages
    assert useful(plan, guess(plan, 100.0), CPU, cores=8) == 4
    assert useful(plan, guess(plan, 100.0), CPU, cores=2) == 2
    assert useful(plan, guess(plan, 0.1), CPU, cores=8) == 1, "not worth a start"
    assert useful(plan, guess(plan, 100.0), torch.device("cuda"), cores=8) == 1
    one = {job.stage.key: 1000.0 * (job.stage.labels.method == "tinyclr") for job in world.plan("TinyCLR", "knn").todo}
    assert useful(world.plan("TinyCLR", "knn"), Estimate(one, ""), CPU, cores=8) == 1, "one chain"


def test_what_a_companion_says_is_shown_by_its_parent(capsys):
    companion = RelayReporter(Console(file=io.StringIO()))
    companion.jobs = 12
    with companion.stage("knn of x", "x"):
        companion.update(1, 4, "half")
        companion.say(f"{companion.counter} knn of x: [b]done[/b]", "green")
    messages = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    out = io.StringIO()
    parent = Reporter(Console(file=out, width=120, force_terminal=True))
    for message in messages:
        parent.hear(7, message)
    shown = out.getvalue()
    assert "[ +/12] knn of x: [b]done[/b]" in shown
    assert "half" in shown
    assert shown.rstrip().endswith("\x1b[2K"), "the bar is erased"


def table(folder):
    return (folder / "results" / "leaderboard.csv").read_bytes()


@pytest.mark.slow
def test_two_processes_give_the_table_of_one(tmp_path):
    shown = {}
    for jobs, pause in (("1", "0"), ("2", "3")):
        folder = tmp_path / jobs
        folder.mkdir()
        command = [*RUN, "--jobs", jobs, "--threads", "1"]
        environment = {**os.environ, "TINY_PAUSE": pause}  # time enough for the other process to start
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, check=True)
        shown[jobs] = done.stdout
        assert not done.stderr
    assert "[ +/" in shown["2"]
    assert "[ +/" not in shown["1"]
    assert "2 processes of 1 thread" in shown["2"]
    assert table(tmp_path / "1") == table(tmp_path / "2")


@pytest.mark.slow
def test_a_companion_ends_with_its_parent(tmp_path):
    command = [*RUN, "--jobs", "2"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, env={**os.environ, "TINY_SLOW": "2"})
    deadline = time.monotonic() + 240
    while not (found := _children(process.pid)) or len(list(tmp_path.glob("results/runs/*/*/*/.lease"))) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    while any(Path(f"/proc/{pid}").exists() for pid in found):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    if not path.parent.exists():
        pytest.skip("needs /proc")
    return [int(word) for word in path.read_text().split()]
