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
from tests.engine.test_companions import RUN, table

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
    driver = launch_ray._Driver(plan, Reporter(Console(file=out, width=200)), Cluster((), threads=2, gpus=0.5), ray)
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
    assert out.count("its worker died (Died); another one continues") == 2
    plan, ray, summary, out = drive(world, monkeypatch, {0: 3})
    lost = next(job.stage for job in plan.todo if job.stage.key == ray.given[0])
    assert summary.failed[lost.key] == "3 workers died of it (Died)"
    assert len(summary.ran) + len(summary.failed) == len(plan.todo)
    assert out.count(": skipped") == len(summary.failed) - 1


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
    command = [*RUN, "--launcher", "ray", "--ray-address", address]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while not (found := [*folder.glob("results/runs/pretrain/*/*/checkpoint.pt")]):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    owner = int(re.findall(r"pid=(\d+)", (found[0].parent / ".lease").read_text())[0])
    assert owner not in (process.pid, os.getpid())
    os.kill(owner, signal.SIGKILL)
    shown, _ = process.communicate(timeout=600)
    assert process.returncode == 0, shown
    assert "nodes 2" in shown
    assert "its worker died (" in shown
    assert table(folder) == table(tmp_path / "here")
    assert records(folder) == records(tmp_path / "here")


def records(folder: Path) -> dict[str, Any]:
    found = [read_record(path.parent) for path in folder.glob("results/runs/*/*/*/record.json")]
    return {record.key: record for record in found}
