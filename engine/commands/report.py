"""Render the leaderboard from records."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from engine.options import WIDTH, results_option


def render(results: Path, console: Console) -> None:
    """Write the leaderboard of a folder of results, and show it."""
    from leaderboard.build import write

    console.print(write(results))


@click.command()
@results_option
def report(results: Path) -> None:
    """Render the leaderboard from the records in RESULTS, running nothing."""
    render(results, Console(width=WIDTH))
