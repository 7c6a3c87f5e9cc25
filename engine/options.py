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

F = TypeVar("F", bound=Callable[..., Any])

WIDTH = None if sys.stdout.isatty() else 160
"""Columns of what is printed; ``None``: as many as the terminal has."""


class Commands(click.Group):
    """Shows a user's mistake as one message, and suggests names of sub-commands."""

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
        if not first.isdecimal() or not (last or first).isdecimal() or int(last or first) < int(first):
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
data_option = folder("--data", "data", "Folder of prepared data.")
_RUNNING = (
    listed("--seeds", "0", "Seeds, each a run of its own.", seeds),
    click.option("--budget", metavar="quick|full", help="Short or published settings.  [default: by size of the data]"),
    click.option(
        "--recipe", metavar="paper|released", default="paper", show_default=True, help="As published, or as coded."
    ),
    click.option(
        "--set", "sets", multiple=True, metavar="KEY=VALUE", help="PLUGIN.KEY=VALUE, encoder=NAME[,NAME] or frames=N."
    ),
    results_option,
    data_option,
    click.option("--device", help="cpu, cuda, cuda:1 …  [default: a GPU where there is one]"),
    click.option("--threads", type=click.IntRange(1), help="CPU threads.  [default: all cores]"),
    click.option("--plan", "only_plan", is_flag=True, help="Show what would run and how long, and run nothing."),
)


def running(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options of commands that run stages."""
    return reduce(lambda wrapped, option: option(wrapped), reversed(_RUNNING), command)
