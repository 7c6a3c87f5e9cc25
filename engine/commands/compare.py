"""Statistics over the records."""

from __future__ import annotations

from functools import cache
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

    Console(width=WIDTH).print(write(results, cache(own_encoder), changed=changed))


def own_encoder(method: str) -> str:
    """The encoder that a method of a table (``hiclr[...] #1f2e``) runs on unless asked otherwise, "" where it is not known."""
    from engine.config import BenchError
    from engine.selection import encoders
    from leaderboard.command import split_label

    try:
        return encoders(split_label(method.partition(" #")[0])[0], ())[0]
    except BenchError:
        return ""
