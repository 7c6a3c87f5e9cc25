"""One run of a plan, from the lookup of what is done to the rendered results."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch
from rich.console import Console

from engine import launch_ray, logs, work
from engine.bench import Bench
from engine.companions import RelayReporter, companions, ending_with_parent, longest_chain, useful
from engine.config import BenchError
from engine.estimate import estimate
from engine.execute import Summary, execute
from engine.files import UnwritableError
from engine.launch_ray import Cluster
from engine.options import ARGUMENTS, complain
from engine.plan import Plan
from engine.progress import Reporter
from engine.ranks import Ranks, joined
from engine.show import plan_table, summary_line
from engine.store import RunStore

Make = Callable[[RunStore, bool, Callable[[str], None]], Plan]
"""Builds a plan: from the store, whether there is a GPU, and where to tell that data are generated."""


def carry_out(
    make: Make,
    render: Callable[[Console], None],
    *,
    only_plan: bool,
    results: Path,
    device: str | None,
    threads: int | None,
    jobs: int | None = None,
    companion: bool = False,
    launcher: str = "local",
    ray_address: str | None = None,
    gpus_per_stage: float | None = None,
    recipe: str,
    width: int | None,
    retry_failed: bool = False,
    **unused: Any,
) -> int:
    """Plan, show, run and render.

    Args:
        make: builds the plan.
        render: shows what came out of it.
        only_plan: stop before anything runs.
        results: folder of the store.
        device: name, ``None`` for a GPU where there is one.
        threads: CPU threads of each process, ``None`` for an equal share of the cores.
        jobs: processes that share the stages, ``None`` for as many as there is work for.
        companion: help a process that runs the same command, and leave the rest to it.
        launcher: ``local`` or ``ray``.
        ray_address: of a running cluster, ``None`` for one of its own.
        gpus_per_stage: on Ray, ``None`` for one where this machine has any.
        recipe: to show.
        width: of the console, ``None`` for that of the terminal.
        retry_failed: run again what failed before.
        unused: other options of the command line.

    Returns:
        The exit status.

    Raises:
        BenchError: no such device, options that do not go together, or a cluster that cannot be used.
    """
    place = device_of(device)
    console = Console(width=width)
    reporter = Reporter(console)

    warn = partial(_warn, reporter)
    store = RunStore(results, warn, retry_failed and not companion, read_only=only_plan)
    if companion:
        return _accompany(make, store, place, threads, console)
    gpus = float(place.type == "cuda") if gpus_per_stage is None else gpus_per_stage
    context = click.get_current_context(silent=True)
    if context and context.obj:  # on a worker of Ray, which wants the plan alone
        context.obj(make(store, place.type == "cuda", lambda line: None), store, place)
        return 0
    if launcher != "ray" and (ray_address or gpus_per_stage is not None):
        raise BenchError("--ray-address and --gpus-per-stage are for --launcher ray.")
    cluster = None
    if launcher == "ray":
        arguments = context.meta[ARGUMENTS] if context else ()
        cluster = Cluster(arguments, ray_address, jobs, threads or 1, gpus)
    with joined(place) as ranks:
        if (cluster or (jobs or 1) > 1) and ranks.size > 1:
            raise BenchError(
                "torchrun starts the processes of one training; --launcher ray and --jobs share out stages. Use one."
            )
        if not ranks.first:
            return _follow(make, store, place, threads, ranks)
        plan = make(store, place.type == "cuda" or (cluster is not None and gpus > 0), reporter.say)
        if not only_plan:  # a request that is refused leaves nothing behind
            reporter.log = logs.begin(results, context.meta[ARGUMENTS] if context else (), warn)
        cores = torch.get_num_threads()
        if cluster:
            processes = jobs or max(1, cores // cluster.threads)
        elif ranks.size > 1:
            processes = 1
        else:
            processes = jobs or useful(plan, estimate(plan, store, place), place, cores // (threads or 1))
        torch.set_num_threads(threads or max(1, cores // processes))
        guess = estimate(plan, store, place)
        elapsed = max(guess.total / processes, longest_chain(plan, guess))
        where = f"Ray, {cluster.wanted}" if cluster else _place_name(place, processes, ranks.size)
        reporter.say(f"{where} · recipe {recipe} · results in {results}/", "bold")
        for note in plan.notes:
            reporter.say(note)
        reporter.say(summary_line(plan, guess, elapsed))
        if only_plan:
            plan_table(plan, guess).print(console)
            return 0
        try:
            summary = _run(plan, store, place, reporter, processes, cluster, ranks)
        except UnwritableError as error:
            reporter.log(str(error), "red")
            complain(f"Error: {error}", "red")
            return 1
        except BaseException as error:
            reporter.log(f"Stopped by {type(error).__name__}: {error}", "red")
            raise
    if not plan.todo and not plan.count("failed"):
        reporter.say("Nothing to do: every stage of this command is done.", "green")
    render(console)
    if failed := len(summary.failed) + plan.count("failed"):
        reporter.say(f"{failed} stages failed, or need one that did; --retry-failed runs them again.", "red")
    if summary.interrupted:
        reporter.say("Interrupted. The same command continues where it stopped.", "yellow")
        return 130
    return 1 if failed else 0


def _warn(reporter: Reporter, text: str) -> None:
    reporter.log(text, "yellow")
    complain(f"Warning: {text}", "yellow")


def _run(
    plan: Plan,
    store: RunStore,
    place: torch.device,
    reporter: Reporter,
    processes: int,
    cluster: Cluster | None,
    ranks: Ranks,
) -> Summary:
    """Run a plan on a cluster, by several processes of this machine, or here."""
    if cluster:
        return launch_ray.run(plan, store, reporter, cluster)
    reporter.shared = processes > 1
    arguments = click.get_current_context().meta[ARGUMENTS] if reporter.shared else ()
    ranks.tell(b"planned")
    with companions(processes - 1, arguments, torch.get_num_threads(), reporter):
        return execute(plan, store, place, reporter, ranks)


def _accompany(make: Make, store: RunStore, place: torch.device, threads: int | None, console: Console) -> int:
    """Share the stages with the process that started this one, and leave the rest to it."""
    torch.set_num_threads(threads or 1)
    try:
        with ending_with_parent():
            execute(make(store, place.type == "cuda", lambda line: None), store, place, RelayReporter(console))
    except KeyboardInterrupt:
        return 130
    return 0


def _follow(make: Make, store: RunStore, place: torch.device, threads: int | None, ranks: Ranks) -> int:
    """Help the first rank with its pre-trainings, and leave the rest to it."""
    torch.set_num_threads(threads or torch.get_num_threads())
    try:
        if ranks.tell():  # it has planned, and generated what data there were to generate
            plan = make(store, place.type == "cuda", lambda line: None)
            bench = Bench(store, plan.splits, place, Reporter(Console(quiet=True)), ranks)
            work.follow(plan.stages, bench)
    except KeyboardInterrupt:
        return 130
    return 0


def device_of(name: str | None) -> torch.device:
    """The device asked for, a GPU where there is one by default.

    Raises:
        BenchError: no such device.
    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        if device.type == "cuda" and device.index is None and "LOCAL_RANK" in os.environ:  # set by torchrun
            device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise BenchError(f"--device {name}: {str(error).splitlines()[0]}") from None
    if device.type not in ("cpu", "cuda"):
        raise BenchError(f"--device {name}: only cpu and cuda are supported.")
    return device


def _place_name(device: torch.device, processes: int, ranks: int) -> str:
    together = f"{ranks} ranks of " if ranks > 1 else ""
    if device.type == "cuda":
        return together + torch.cuda.get_device_name(device)
    threads = f"{torch.get_num_threads()} thread{'s' if torch.get_num_threads() > 1 else ''}"
    return f"CPU, {processes} processes of {threads}" if processes > 1 else f"CPU, {together}{threads}"
