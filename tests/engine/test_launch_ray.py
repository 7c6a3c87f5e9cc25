"""Stages as tasks of a Ray cluster of two nodes on this machine."""

from __future__ import annotations

import importlib.util
import io
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from engine import launch_ray
from engine.companions import RelayReporter
from engine.config import BenchError
from engine.launch_ray import Cluster
from engine.progress import Reporter
from engine.records import read_record
from engine.stages import Stage
from engine.store import RunStore
from leaderboard.collect import collect
from tests.engine.test_companions import ROOT, RUN, table

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray (extra 'ray') is not installed")


class Mailbox:
    """A queue of Ray without Ray."""

    def __init__(self) -> None:
        self.messages: list[Any] = []

    def put_nowait(self, message: Any) -> None:
        self.messages.append(message)


def test_without_ray_the_message_says_how_to_get_it(world, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BenchError, match=r"pip install .*\[ray\]"):
        launch_ray.run(world.plan(), world.store, Reporter(Console(file=io.StringIO())), Cluster(()))


def test_options_of_a_cluster_need_its_launcher(cli) -> None:
    for option in ("--ray-address=auto", "--gpus-per-stage=0.5"):
        assert "--launcher ray" in cli(*RUN[2:], option, code=2).output


def test_what_a_worker_says_is_shown_by_the_driver() -> None:
    mail = Mailbox()
    worker: RelayReporter = launch_ray._MailReporter("[ 3/12]", 7, mail)
    worker.jobs = 1
    with worker.stage("knn of x", "x"):
        for done in range(1000):
            worker.update(done, 1000, f"step {done}", milestone=False)
        worker.update(1000, 1000, "all", milestone=True)
        worker.say(f"{worker.counter} knn of x: [b]done[/b]", "green")
    assert len(mail.messages) < 500, "not more than can be read"
    out = io.StringIO()
    driver = Reporter(Console(file=out, width=120, force_terminal=True))
    for who, message in mail.messages:
        driver.hear(who, message)
    driver.hear(7, {"done": 1, "total": 2, "text": "too late", "milestone": True})
    assert "[ 3/12] knn of x: [b]done[/b]" in out.getvalue()
    assert "too late" not in out.getvalue()


class Died(Exception):  # noqa: N818
    """Ray's."""


class FakeRay:
    """Runs tasks in this process, and has the workers die that it is told to."""

    class exceptions:  # noqa: N801
        RayError = Died
        RayTaskError = ZeroDivisionError

    def __init__(self, dying: dict[int, int]) -> None:
        self.dying, self.given = dying, []

    def remote(self, **resources: Any) -> Any:
        self.resources = resources
        ray = self

        class Task:
            def __init__(self, function: Any) -> None: ...

            def remote(self, key: str, *rest: Any, **more: Any) -> int:
                ray.given.append(key)
                return len(ray.given) - 1

        return Task

    def wait(self, refs: list[int], **more: Any) -> tuple[list[int], list[int]]:
        return refs[-1:], refs[:-1]  # not the order they were given in

    def get(self, ref: int) -> tuple[str, str, bool]:
        number = [*dict.fromkeys(self.given)].index(self.given[ref])
        if self.dying.get(number, 0):
            self.dying[number] -= 1
            raise Died
        return "", "", False


def drive(world, monkeypatch, dying: dict[int, int]):
    class Nothing(Mailbox):
        def __init__(self, **options: Any) -> None: ...

        def qsize(self) -> int:
            return 0

    monkeypatch.setitem(sys.modules, "ray", type(sys)("ray"))
    monkeypatch.setitem(sys.modules, "ray.util", type(sys)("ray.util"))
    monkeypatch.setitem(sys.modules, "ray.util.queue", queue := type(sys)("ray.util.queue"))
    queue.Queue = Nothing
    ray, out = FakeRay(dying), io.StringIO()
    plan = world.plan("TinyCLR,TinyNext", "knn,linear")
    reporter = Reporter(Console(file=out, width=200))
    launch_ray.announce(plan, world.store)
    driver = launch_ray._Driver(plan, world.store, reporter, Cluster((), threads=2, gpus=0.5), ray)
    return plan, ray, driver.run(), out.getvalue()


def test_every_stage_is_given_out_once_and_after_its_parents(world, monkeypatch) -> None:
    plan, ray, summary, _ = drive(world, monkeypatch, {})
    assert sorted(ray.given) == sorted(job.stage.key for job in plan.todo)
    assert ray.resources == {"num_cpus": 2, "num_gpus": 0.5, "max_retries": 0}
    for job in plan.todo:
        assert all(ray.given.index(parent.key) < ray.given.index(job.stage.key) for parent in job.stage.parents)
    assert len(summary.ran) == len(plan.todo)


def test_a_stage_whose_worker_dies_is_given_to_another_and_not_for_ever(world, monkeypatch) -> None:
    plan, ray, summary, out = drive(world, monkeypatch, {0: 2})
    assert len(ray.given) == len(plan.todo) + 2
    assert not summary.failed
    assert out.count("its worker died (Died); another one continues, attempt ") == 2
    plan, ray, summary, out = drive(world, monkeypatch, {0: 3})
    lost = next(job.stage for job in plan.todo if job.stage.key == ray.given[0])
    reason = "3 workers in a row died (Died), killed or out of memory; their machines' logs tell more"
    assert summary.failed[lost.key] == reason
    assert len(summary.ran) + len(summary.failed) == len(plan.todo)
    assert out.count(": skipped") == len(summary.failed) - 1
    assert f"{lost}: its worker died (Died); FAILED, since 3 workers in a row did. --retry-failed continues it" in out
    others = {job.stage.key for job in plan.todo if lost.key not in (job.stage.key, *ancestors(job.stage))}
    assert others
    assert {stage.key for stage in summary.ran} == others
    again = world.plan("TinyCLR,TinyNext", "knn,linear")  # as the table and the next command see it
    states = {job.stage.key: (job.state, job.reason) for job in again.jobs}
    assert states[lost.key] == ("failed", reason)
    cells = [one for one in collect(world.results) if one.stage.status == "failed"]
    assert {one.stage.key for one in cells} == {key for key in summary.failed if plan.stages[key].kind == "evaluate"}
    assert all(reason in one.stage.reason for one in cells)


def test_a_worker_that_died_after_its_last_act_has_done_its_stage(world, monkeypatch) -> None:
    first = world.plan("TinyCLR,TinyNext", "knn,linear")
    ready = next(job.stage for job in first.todo if not job.stage.parents)
    monkeypatch.setattr(RunStore, "record", lambda self, stage: stage.key == ready.key or None)
    monkeypatch.setattr(RunStore, "state", lambda self, stage: ("to do", ""))
    _, ray, summary, out = drive(world, monkeypatch, {0: 1})
    assert ray.given[0] == ready.key
    assert ray.given.count(ready.key) == 1
    assert not summary.failed
    assert "died" not in out


def ancestors(stage: Stage) -> list[str]:
    return [key for parent in stage.parents for key in (parent.key, *ancestors(parent))]


@pytest.fixture
def address(monkeypatch):
    """A cluster of two nodes, whose workers are slow enough to be killed."""
    monkeypatch.setenv("TINY_PAUSE", "0.5")
    from ray.cluster_utils import Cluster as Nodes

    node = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    nodes = Nodes(initialize_head=True, head_node_args=node)
    nodes.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    yield nodes.address
    nodes.shutdown()


@pytest.mark.slow
@needs_ray
@pytest.mark.filterwarnings("ignore")
def test_two_nodes_give_the_table_of_one_process_and_survive_a_killed_worker(tmp_path, address) -> None:
    for name in ("here", "ray"):
        (tmp_path / name).mkdir()
    quick = {**os.environ, "TINY_PAUSE": "0"}
    subprocess.run([*RUN, "--jobs", "1"], cwd=tmp_path / "here", env=quick, check=True, stdout=subprocess.DEVNULL)
    folder = tmp_path / "ray"
    shown = killing_one(RUN, folder, address)
    assert "nodes 2" in shown
    assert "its worker died (" in shown
    assert table(folder) == table(tmp_path / "here")
    assert records(folder) == records(tmp_path / "here")


def killing_one(command: Sequence[str], folder: Path, address: str) -> str:
    """What a command on a cluster prints, one of whose workers is killed behind the first checkpoint of a pre-training."""
    process = subprocess.Popen(
        [*command, "--launcher", "ray", "--ray-address", address], cwd=folder, stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 900
    while not (found := [*folder.glob("results/runs/pretrain/*/*/checkpoint.pt")]):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    owner = int(re.findall(r"pid=(\d+)", (found[0].parent / ".lease").read_text())[0])
    assert owner not in (process.pid, os.getpid())
    os.kill(owner, signal.SIGKILL)
    shown, _ = process.communicate(timeout=1800)
    assert process.returncode == 0, shown
    return shown


README = (sys.executable, str(ROOT / "run_bench.py"), "--methods", "actclr,hicl", "--protocols", "linear,knn")
SHORTER = (
    *(f"--set={name}.train.epochs=2" for name in ("aimclr", "actclr", "hiclr")),
    "--set=linear.epochs=2",
)


@pytest.mark.slow
@needs_ray
@pytest.mark.filterwarnings("ignore")
def test_the_command_of_the_readme_runs_on_two_nodes_and_survives_a_killed_worker(tmp_path, address) -> None:
    """Data, methods, encoder and stages are those of the README; only trainings are cut to two epochs, for minutes' sake."""
    command = [*README, *SHORTER]

    def planned() -> tuple[int, int]:
        plan = subprocess.run([*command, "--plan"], cwd=tmp_path, stdout=subprocess.PIPE, text=True, check=True).stdout
        return tuple(map(int, re.findall(r"(\d+) stages to do, (\d+) done", plan)[0]))  # type: ignore[return-value]

    stages, none = planned()
    assert stages >= 20
    assert none == 0
    shown = killing_one(command, tmp_path, address)
    assert "nodes 2" in shown
    assert shown.count("its worker died (") == shown.count("another one continues, attempt 2 of 3") == 1
    assert "FAILED" not in shown
    assert planned() == (0, stages)
    found = records(tmp_path).values()
    assert len(found) == stages
    methods = {record.labels.method.partition("[")[0] for record in found}
    assert methods == {"random", "raw", "aimclr", "actclr", "hiclr"}


def records(folder: Path) -> dict[str, Any]:
    found = [read_record(path.parent) for path in folder.glob("results/runs/*/*/*/record.json")]
    return {record.key: record for record in found}
