"""The stages of a plan as tasks of a Ray cluster (``--launcher ray``).

A task makes the plan anew from the command line, once per worker process, and runs one stage of it under its lease. The
results folder is the truth: a task that is given twice finds the record, or waits for the lease of the one before it.
"""

from __future__ import annotations

import importlib
import os
import platform
import time
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from engine.companions import RelayReporter
from engine.config import BenchError
from engine.execute import Summary, announce, execute
from engine.files import UnwritableError
from engine.plan import Job, Plan
from engine.progress import Reporter
from engine.registry import ROOT
from engine.stages import Stage
from engine.store import RunStore

_ATTEMPTS = 3
"""How often a stage is given to a worker that dies of it."""
_PAUSE = 0.25
"""Seconds between two looks at the cluster, and between two messages of a worker about the same epoch."""
_OBJECTS = 100 * 2**20
"""Bytes of shared memory of a local cluster; only messages pass through it."""


@dataclass(frozen=True)
class Cluster:
    """Where the stages run, and what each of them takes.

    Attributes:
        arguments: of the command line, without the name of the program.
        address: of a cluster; ``None`` starts one on this machine.
        jobs: stages at the same time on this machine's, ``None`` for as many as fit.
        threads: CPUs of a stage.
        gpus: of a stage; a half lets two stages share one.
    """

    arguments: tuple[str, ...]
    address: str | None = None
    jobs: int | None = None
    threads: int = 1
    gpus: float = 0.0

    @property
    def wanted(self) -> str:
        """E.g. ``1 CPU and 0.5 GPU each``."""
        cpus = f"{self.threads} CPU{'s' if self.threads > 1 else ''}"
        return f"{cpus} and {self.gpus:g} GPU each" if self.gpus else f"{cpus} each"


def run(plan: Plan, store: RunStore, reporter: Reporter, cluster: Cluster) -> Summary:
    """Run what is not done, as :func:`engine.execute.execute` does.

    Raises:
        UnwritableError: a worker cannot write results; nothing is noted as failed.
        BenchError: Ray is missing, or cannot be reached, or a worker does not come to the same plan.
    """
    announce(plan, store)
    if not plan.todo:
        return Summary()
    with _joined(cluster, reporter) as ray:
        return _Driver(plan, store, reporter, cluster, ray).run()


@contextmanager
def _joined(cluster: Cluster, reporter: Reporter) -> Iterator[Any]:
    """Ray, connected to a cluster while the block runs."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError:
        raise BenchError("--launcher ray needs Ray: pip install -c constraints.txt -e '.[ray]'.") from None
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    options: dict[str, Any] = {"address": cluster.address} if cluster.address else {"address": "local"}
    if not cluster.address:
        cpus = (cluster.jobs or max(1, (os.cpu_count() or 1) // cluster.threads)) * cluster.threads
        options |= {"num_cpus": cpus, "object_store_memory": _OBJECTS, "include_dashboard": False}
    try:
        ray.init(**options, runtime_env={"env_vars": {"PYTHONPATH": path}}, logging_level="ERROR")
    except Exception as error:  # whatever Ray throws when nobody answers
        raise BenchError(f"No Ray cluster at {options['address']}: {str(error).splitlines()[0]}") from None
    try:
        has: Mapping[str, float] = ray.cluster_resources()
        nodes = sum(node["Alive"] for node in ray.nodes())
        there = f"nodes {nodes}, CPUs {has.get('CPU', 0):g}, GPUs {has.get('GPU', 0):g}"
        reporter.say(f"Ray: {there}; stages take {cluster.wanted}")
        if not any(
            node["Alive"]
            and node["Resources"].get("CPU", 0) >= cluster.threads
            and node["Resources"].get("GPU", 0) >= cluster.gpus
            for node in ray.nodes()
        ):
            reporter.say("  no node has that much yet; waiting for one that has", "yellow")
        yield ray
    finally:
        ray.shutdown()


class _Driver:
    """Gives stages to the cluster as soon as their parents are done, and shows what becomes of them."""

    def __init__(self, plan: Plan, store: RunStore, reporter: Reporter, cluster: Cluster, ray: Any) -> None:
        self.store, self.reporter, self.ray, self.summary = store, reporter, ray, Summary()
        stages = {job.stage.key: job.stage for job in plan.todo}
        self.ready = deque[Stage]()
        self.children: dict[str, list[Stage]] = defaultdict(list)
        self.missing: dict[str, int] = {}
        self.attempts: dict[str, int] = defaultdict(int)
        self.counters: dict[str, str] = {}
        self.running: dict[Any, Stage] = {}
        known = {job.stage.key: job.reason for job in plan.jobs if job.state == "failed"}
        reporter.jobs = len(stages)
        for stage in stages.values():
            for parent in stage.parents:
                self.children[parent.key].append(stage)
            self.missing[stage.key] = sum(parent.key in stages for parent in stage.parents)
        for stage in stages.values():
            blamed = next((parent for parent in stage.parents if parent.key in known), None)
            if blamed:
                self.skip(stage, blamed.blamed(known[blamed.key]))
            elif not self.missing[stage.key]:
                self.ready.append(stage)
        gpus = ("--device", "cuda") if cluster.gpus else ("--device", "cpu")
        queue: Any = importlib.import_module("ray.util.queue")
        self.mail = queue.Queue(actor_options={"num_cpus": 0})
        task = ray.remote(num_cpus=cluster.threads, num_gpus=cluster.gpus, max_retries=0)(_task)
        self.submit = partial(
            task.remote,
            arguments=(*cluster.arguments, *gpus),
            folder=str(Path.cwd()),
            threads=cluster.threads,
            mail=self.mail,
        )

    def run(self) -> Summary:
        """Until nothing is left, or the user stops it."""
        try:
            while self.ready or self.running:
                while self.ready:
                    stage = self.ready.popleft()
                    self.running[self.submit(stage.key, self.counter(stage))] = stage
                done, _ = self.ray.wait([*self.running], num_returns=1, timeout=_PAUSE)
                self.show()
                for one in done:
                    self.settle(one, self.running.pop(one))
        except KeyboardInterrupt:
            self.summary.interrupted = True
            for one in self.running:
                self.ray.cancel(one)
        finally:
            for stage in self.running.values():
                self.reporter.hear(int(stage.key, 16), {"end": True})
        return self.summary

    def counter(self, stage: Stage) -> str:
        """``[ 3/12]``, the same one when a stage is given to a second worker."""
        if stage.key not in self.counters:
            self.reporter.number += 1
            self.counters[stage.key] = self.reporter.counter
        return self.counters[stage.key]

    def show(self) -> None:
        """Pass on what the workers have said since the last time."""
        if number := self.mail.qsize():
            for who, message in self.mail.get_nowait_batch(number):
                self.reporter.hear(who, message)

    def settle(self, one: Any, stage: Stage) -> None:
        """See what became of a task: done, failed, or its worker died."""
        self.attempts[stage.key] += 1
        try:
            failed, stopped, is_full = self.ray.get(one)
        except self.ray.exceptions.RayTaskError:
            raise
        except self.ray.exceptions.RayError as error:
            self.reporter.hear(int(stage.key, 16), {"end": True})
            self.lose(stage, f"{type(error).__name__}{_first_line(error)}")
            return
        if stopped:
            raise (UnwritableError if is_full else BenchError)(stopped)
        if failed:
            self.fail(stage, failed)
            return
        self.done(stage)

    def done(self, stage: Stage) -> None:
        """Make ready what waited for this stage."""
        self.summary.ran.append(stage)
        for child in self.children[stage.key]:
            self.missing[child.key] -= 1
            if not self.missing[child.key] and child.key not in self.summary.failed:
                self.ready.append(child)

    def lose(self, stage: Stage, how: str) -> None:
        """A worker died of a stage: give it to another one, and after three note that it failed."""
        if self.store.record(stage):  # that was the last thing it did
            self.done(stage)
            return
        died = f"{self.counter(stage)} {stage}: its worker died ({how})"
        attempts = self.attempts[stage.key]
        if attempts < _ATTEMPTS:
            self.reporter.say(f"{died}; another one continues, attempt {attempts + 1} of {_ATTEMPTS}", "yellow")
            self.ready.append(stage)
            return
        reason = f"{attempts} workers in a row died ({how}), killed or out of memory; their machines' logs tell more"
        self.store.fail(stage, reason)
        self.reporter.say(f"{died}; FAILED, since {attempts} workers in a row did. --retry-failed continues it", "red")
        self.fail(stage, reason)

    def fail(self, stage: Stage, reason: str) -> None:
        """Skip all stages that need this one."""
        self.summary.failed[stage.key] = reason
        for child in self.children[stage.key]:
            self.skip(child, stage.blamed(reason))

    def skip(self, stage: Stage, reason: str) -> None:
        """Note that a stage cannot be run."""
        if stage.key not in self.summary.failed:
            self.reporter.say(f"{self.counter(stage)} {stage}: skipped", "dim")
            self.fail(stage, reason)


def _first_line(error: Exception) -> str:
    """``: Task was killed due to the node running low on memory.``, "" for an error that says nothing."""
    line = str(error).split("\n")[0].strip()[:200]
    return f": {line}" if line else ""


def _task(
    key: str, counter: str, arguments: tuple[str, ...], folder: str, threads: int, mail: Any
) -> tuple[str, str, bool]:
    """Run a stage in a worker.

    Returns:
        Why it failed ("" if it did not); why nothing can be run here; whether that is since the disk is full.
    """
    try:
        os.chdir(folder)
        torch.set_num_threads(threads)
        plan, store, place = _prepared(arguments)
        stage = plan.stages.get(key)
        if stage is None:
            if any(store.results.glob(f"runs/*/*/{key}/record.json")):  # done meanwhile, and needed by nothing
                return "", "", False
            raise BenchError(
                f"{platform.node()} plans other stages than the machine that gave them out: data differ, or a setting is "
                "chosen by the machine. Name --budget, and train.precision of every method by --set."
            )
        only = Plan((Job(stage, "to do"),), plan.splits)
        summary = execute(only, store, place, _MailReporter(counter, int(key, 16), mail))
        return summary.failed.get(key, ""), "", False
    except (BenchError, OSError) as error:
        return "", f"On {platform.node()}: {error}", isinstance(error, UnwritableError)


@cache
def _prepared(arguments: tuple[str, ...]) -> tuple[Plan, RunStore, torch.device]:
    """The plan that a command line comes to on this machine; kept with the data that it has read."""
    found: list[tuple[Plan, RunStore, torch.device]] = []
    main: Any = importlib.import_module("run_bench").main  # by name, as companions start it: the engine is below it
    main.main([*arguments], standalone_mode=False, obj=lambda *made: found.append(made))
    if not found:
        raise BenchError("the command cannot be planned there; its output says why.")
    return found[0]


class _MailReporter(RelayReporter):
    """Sends what a worker says to the driver, not more often than somebody can read."""

    def __init__(self, counter: str, who: int, mail: Any) -> None:
        super().__init__(Console(quiet=True), self._post)
        self._counter, self._who, self._mail = counter, who, mail
        self._posted = 0.0

    @property
    def counter(self) -> str:
        """That of the driver."""
        return self._counter

    def _post(self, message: Mapping[str, Any]) -> None:
        if "done" in message and not message["milestone"] and time.monotonic() < self._posted + _PAUSE:
            return
        self._posted = time.monotonic()
        with suppress(Exception):  # whoever listened is gone; the results are kept all the same
            self._mail.put_nowait((self._who, message))
