"""Render the leaderboard from records."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import click
from rich.console import Console

from engine.options import WIDTH, changed_option, complain, entries_option, results_option


def render(
    results: Path,
    console: Console,
    entries: Path | None = None,
    *,
    changed: bool = False,
    asked: Collection[str] = (),
) -> None:
    """Write the leaderboard of a folder of results, with entries of others in tables of their own, and show it.

    Cells with changed settings are left out, unless they are all wanted (``changed``) or their runs' keys are ``asked`` for.
    """
    from leaderboard.build import write
    from leaderboard.entries import FOLDER, load, submitted

    found, problems = load(entries or FOLDER)
    for problem in problems:
        complain(f"Warning: entry left out: {problem}", "yellow")
    console.print(write(results, others=submitted(found, results), changed=changed, asked=asked))


@click.command()
@results_option
@entries_option
@changed_option
def report(results: Path, entries: Path | None, changed: bool) -> None:
    """Render the leaderboard from the records in RESULTS, running nothing."""
    render(results, Console(width=WIDTH), entries, changed=changed)
