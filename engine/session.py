"""One run of a plan, from the lookup of what is done to the rendered results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import torch
from rich.console import Console

from engine.companions import RelayReporter, companions, end_with_parent, longest_chain, useful
from engine.config import BenchError
from engine.estimate import estimate
from engine.execute import execute
from engine.files import UnwritableError
from engine.options import ARGUMENTS, complain
from engine.plan import Plan
from engine.progress import Reporter
from engine.show import plan_table, summary_line
from engine.store import RunStore


def carry_out(
    make: Callable[[RunStore, bool, Callable[[str], None]], Plan],
    render: Callable[[Console], None],
    *,
    only_plan: bool,
    results: Path,
    device: str | None,
    threads: int | None,
    jobs: int | None = None,
    companion: bool = False,
    recipe: str,
    width: int | None,
    retry_failed: bool = False,
    **unused: Any,
) -> int:
    """Plan, show, run and render.

    Args:
        make: builds the plan: from the store, whether there is a GPU, and where to tell that data are generated.
        render: shows what came out of it.
        only_plan: stop before anything runs.
        results: folder of the store.
        device: name, ``None`` for a GPU where there is one.
        threads: CPU threads of each process, ``None`` for an equal share of the cores.
        jobs: processes that share the stages, ``None`` for as many as there is work for.
        companion: help a process that runs the same command, and leave the rest to it.
        recipe: to show.
        width: of the console, ``None`` for that of the terminal.
        retry_failed: run again what failed before.
        unused: other options of the command line.

    Returns:
        The exit status.

    Raises:
        BenchError: no such device.
    """
    place = device_of(device)
    console = Console(width=width)
    reporter = RelayReporter(console) if companion else Reporter(console)
    store = RunStore(results, lambda text: complain(f"Warning: {text}", "yellow"), retry_failed and not companion)
    if companion:
        torch.set_num_threads(threads or 1)
        try:
            end_with_parent()
            execute(make(store, place.type == "cuda", lambda line: None), store, place, reporter)
        except KeyboardInterrupt:
            return 130
        return 0
    plan = make(store, place.type == "cuda", reporter.say)
    cores = torch.get_num_threads()
    processes = jobs or useful(plan, estimate(plan, store, place), place, cores // (threads or 1))
    torch.set_num_threads(threads or max(1, cores // processes))
    guess = estimate(plan, store, place)
    elapsed = max(guess.total / processes, longest_chain(plan, guess))
    reporter.say(f"{_place_name(place, processes)} · recipe {recipe} · results in {results}/", "bold")
    for note in plan.notes:
        reporter.say(note)
    reporter.say(summary_line(plan, guess, elapsed))
    if only_plan:
        plan_table(plan, guess).print(console)
        return 0
    reporter.shared = processes > 1
    arguments = click.get_current_context().meta[ARGUMENTS] if reporter.shared else ()
    try:
        with companions(processes - 1, arguments, torch.get_num_threads(), reporter):
            summary = execute(plan, store, place, reporter)
    except UnwritableError as error:
        complain(f"Error: {error}", "red")
        return 1
    if not plan.todo and not plan.count("failed"):
        reporter.say("Nothing to do: every stage of this command is done.", "green")
    render(console)
    if failed := len(summary.failed) + plan.count("failed"):
        reporter.say(f"{failed} stages failed, or need one that did; --retry-failed runs them again.", "red")
    if summary.interrupted:
        reporter.say("Interrupted. The same command continues where it stopped.", "yellow")
        return 130
    return 1 if failed else 0


def device_of(name: str | None) -> torch.device:
    """The device asked for, a GPU where there is one by default.

    Raises:
        BenchError: no such device.
    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise BenchError(f"--device {name}: {str(error).splitlines()[0]}") from None
    if device.type not in ("cpu", "cuda"):
        raise BenchError(f"--device {name}: only cpu and cuda are supported.")
    return device


def _place_name(device: torch.device, processes: int) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = f"{torch.get_num_threads()} thread{'s' if torch.get_num_threads() > 1 else ''}"
    return f"CPU, {processes} processes of {threads}" if processes > 1 else f"CPU, {threads}"
