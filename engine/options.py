"""Pieces of the command line: groups of commands, options that are lists, and errors as one message."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console

from engine import registry
from engine.config import BenchError, suggestion

_MOST_SEEDS = 10_000
F = TypeVar("F", bound=Callable[..., Any])

ARGUMENTS = "run_bench.arguments"
"""Where a click context keeps the arguments of the whole command."""
WIDTH = None if sys.stdout.isatty() else 160
"""Columns of what is printed; ``None``: as many as the terminal has."""


class Commands(click.Group):
    """Shows a user's mistake as one message, and suggests names of sub-commands."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> click.Context:
        """Remember the arguments for processes that are to run the same command."""
        arguments = tuple(args)
        context = super().make_context(info_name, args, parent, **extra)
        if parent is None:
            context.meta[ARGUMENTS] = arguments
        return context

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Find the sub-command.

        Raises:
            BenchError: there is none of that name.
        """
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            known = ", ".join(self.list_commands(ctx))
            raise BenchError(f"Unknown command {name!r}.{suggestion(name, self.list_commands(ctx))} Known: {known}.")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run, turning errors into exit codes."""
        try:
            return super().invoke(ctx)
        except BenchError as error:
            complain(f"Error: {error}", "red")
            ctx.exit(2)
        except OSError as error:  # a folder that may not be read, a name that is too long ...
            place = f"{error.filename}: " if error.filename else ""
            complain(f"Error: {place}{error.strerror or error}", "red")
            ctx.exit(2)
        except KeyboardInterrupt:
            complain("Stopped.", "yellow")
            ctx.exit(130)


def names(ctx: click.Context, option: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """Split at commas; behind a ``#`` they belong to the split rule of a dataset, up to the name of another one."""
    parts: list[str] = []
    for value in values:
        in_rule = False
        for part in value.split(","):
            if in_rule and re.split("[:/]", part.strip())[0] not in registry.names("datasets"):
                parts[-1] += f",{part}"
            else:
                parts.append(part)
                in_rule = "#" in part
    found = tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))
    if values and not found:
        raise click.BadParameter("name at least one")
    return found


def seeds(ctx: click.Context, option: click.Parameter, values: tuple[str, ...]) -> tuple[int, ...]:
    """Whole numbers and ranges: ``0,3-5``."""
    found: list[int] = []
    for part in names(ctx, option, values):
        first, _, last = part.partition("-")
        is_range = first.isdecimal() and (last or first).isdecimal() and max(len(first), len(last)) <= 18
        if not is_range or not 0 <= int(last or first) - int(first) < _MOST_SEEDS:
            raise click.BadParameter(f"{part!r}: write whole numbers and ranges, such as 0,1,2 or 0-4")
        found += range(int(first), int(last or first) + 1)
    return tuple(dict.fromkeys(found))


def listed(name: str, default: str | None, text: str, callback: Any = names) -> Callable[[F], F]:
    """An option whose values are separated by commas, or given several times; none are wanted where there is no default."""
    metavar = "N,A-B" if callback is seeds else "A,B"
    values, shown = ((default,), True) if default else ((), False)
    return click.option(
        name, default=values, show_default=shown, multiple=True, callback=callback, metavar=metavar, help=text
    )


def folder(name: str, default: str, text: str) -> Callable[[F], F]:
    """An option that names a folder."""
    return click.option(
        name, type=click.Path(path_type=Path, file_okay=False), default=default, show_default=True, help=text
    )


def complain(text: str, style: str) -> None:
    """Print a message on the error output."""
    Console(stderr=True, soft_wrap=True).print(text, style=style, markup=False, highlight=False)


results_option = folder("--results", "results", "Folder for everything that a run writes.")
entries_option = click.option(
    "--entries",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of entries.  [default: leaderboard/entries of the suite]",
)
changed_option = click.option(
    "--changed", is_flag=True, help="Show cells with changed settings too, NAME[...], which ablations leave."
)
data_option = folder("--data", "data", "Folder of prepared data.")
_RUNNING = (
    listed("--seeds", "0", "Seeds, each a run of its own.", seeds),
    click.option("--budget", metavar="quick|full", help="Short or published settings.  [default: by size of the data]"),
    click.option(
        "--recipe", metavar="paper|released", default="paper", show_default=True, help="As published, or as coded."
    ),
    click.option(
        "--set",
        "sets",
        multiple=True,
        metavar="KEY=VALUE",
        help="PLUGIN.KEY=VALUE, encoder=NAME[,NAME] or all, frames=N.",
    ),
    results_option,
    data_option,
    click.option("--device", help="cpu, cuda, cuda:1 …  [default: a GPU where there is one]"),
    click.option(
        "--threads", type=click.IntRange(1), help="CPU threads of each process.  [default: the cores over JOBS]"
    ),
    click.option(
        "--jobs",
        type=click.IntRange(1),
        help="Processes that share the stages.  [default: as many as there is work for]",
    ),
    click.option("--companion", is_flag=True, hidden=True),
    click.option(
        "--launcher",
        type=click.Choice(["local", "ray"]),
        default="local",
        show_default=True,
        help="Processes of this machine, or tasks of a Ray cluster.",
    ),
    click.option("--ray-address", metavar="ADDRESS", help="A running Ray cluster.  [default: one on this machine]"),
    click.option(
        "--gpus-per-stage",
        type=click.FloatRange(0),
        help="GPUs, or a part of one, that a stage takes on Ray.  [default: 1 where there is a GPU here, else 0]",
    ),
    click.option("--retry-failed", is_flag=True, help="Run again what failed; what was interrupted continues anyway."),
    click.option("--plan", "only_plan", is_flag=True, help="Show what would run and how long, and run nothing."),
)

read_option = click.option(
    "--read", "asked", multiple=True, metavar="NAME=DATA", help="Where data lie that a record names."
)
_REPEATING = (
    read_option,
    click.option("--plugin", "plugins", multiple=True, metavar="FILE.py:CLASS", help="A plug-in outside the suite."),
    click.option(
        "--tolerance",
        type=click.FloatRange(0, 100),
        default=3.0,
        show_default=True,
        help="Points that metrics may differ by on another machine, or with other versions or threads.",
    ),
    click.option(
        "--into", type=click.Path(path_type=Path, file_okay=False), help="Empty folder to repeat in, which is kept."
    ),
    results_option,
    data_option,
    click.option("--device", help="cpu, cuda, cuda:1 …  [default: the CPU or GPU of the record]"),
    click.option("--threads", type=click.IntRange(1), help="CPU threads.  [default: those of the record]"),
)


def repeating(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options of commands that repeat records."""
    return reduce(lambda wrapped, option: option(wrapped), reversed(_REPEATING), command)


def running(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options of commands that run stages."""
    return reduce(lambda wrapped, option: option(wrapped), reversed(_RUNNING), command)
