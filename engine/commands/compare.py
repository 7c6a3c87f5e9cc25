"""Statistics over the records."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from engine.options import WIDTH, changed_option, results_option


@click.command()
@results_option
@changed_option
def compare(results: Path, changed: bool) -> None:
    """Test differences, rank methods over data, and compare protocols, from the records in RESULTS."""
    from leaderboard.comparison_report import write

    Console(width=WIDTH).print(write(results, changed=changed))
