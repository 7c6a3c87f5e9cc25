"""One run of a plan, from the lookup of what is done to the rendered results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from engine.config import BenchError
from engine.estimate import estimate
from engine.execute import execute
from engine.options import complain
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
    recipe: str,
    width: int | None,
    **unused: Any,
) -> int:
    """Plan, show, run and render.

    Args:
        make: builds the plan: from the store, whether there is a GPU, and where to tell that data are generated.
        render: shows what came out of it.
        only_plan: stop before anything runs.
        results: folder of the store.
        device: name, ``None`` for a GPU where there is one.
        threads: CPU threads, ``None`` for all cores.
        recipe: to show.
        width: of the console, ``None`` for that of the terminal.
        unused: other options of the command line.

    Returns:
        The exit status.

    Raises:
        BenchError: no such device.
    """
    if threads:
        torch.set_num_threads(threads)
    place = device_of(device)
    console = Console(width=width)
    reporter = Reporter(console)
    store = RunStore(results, lambda text: complain(f"Warning: {text}", "yellow"))
    plan = make(store, place.type == "cuda", reporter.say)
    guess = estimate(plan, store, place)
    reporter.say(f"{_place_name(place)} · recipe {recipe} · results in {results}/", "bold")
    for note in plan.notes:
        reporter.say(note)
    reporter.say(summary_line(plan, guess))
    if only_plan:
        plan_table(plan, guess).print(console)
        return 0
    summary = execute(plan, store, place, reporter)
    if not plan.todo:
        reporter.say("Nothing to do: every stage of this command is done.", "green")
    render(console)
    if summary.failed:
        reporter.say(f"{len(summary.failed)} stages failed or were skipped; the next run tries them again.", "red")
    if summary.interrupted:
        reporter.say("Interrupted. The same command continues where it stopped.", "yellow")
        return 130
    return 1 if summary.failed else 0


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


def _place_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
