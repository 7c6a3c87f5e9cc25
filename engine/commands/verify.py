"""Check entries of the leaderboard, and repeat them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from engine.commands.reproduce import data_names, rerun, verdict
from engine.config import BenchError
from engine.options import complain, repeating

if TYPE_CHECKING:
    from leaderboard.entries import Entry

T = TypeVar("T")
_LONGEST = 1e9
"""Seconds that a stage may have taken."""


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="ENTRY...", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--rerun/--no-rerun",
    "again",
    default=True,
    help="Run all its stages again and compare, or check the file only, in seconds.  [default: rerun]",
)
@repeating
@click.pass_context
def verify(ctx: click.Context, /, files: tuple[Path, ...], again: bool, **options: Any) -> None:
    """Check ENTRY, repeat it in a fresh folder, and compare.

    The file is refused if its schema, sizes, checksum, keys, versions, settings or labels are wrong, or its numbers
    contradict each other. Then all its stages are computed again and compared as by `reproduce`. What came out is noted in
    RESULTS; an entry that is confirmed, with the default tolerance or a smaller one, counts as verified on its leaderboard.

    Of several files all are checked first; one that fails keeps no other from its turn. Exit status 1 where one is not
    confirmed, 2 where one is refused or cannot be repeated.
    """
    if options["into"] and len(files) > 1:
        raise BenchError("--into is a fresh folder for one entry: name one file, or leave --into out.")
    entries = {file: _attempt(partial(_check, file, options)) for file in files}
    whole = {file: entry for file, entry in entries.items() if entry}
    refused = len(whole) < len(entries)
    if not again:
        click.echo("Nothing was repeated (--no-rerun): whether the numbers are true is not known.")
        ctx.exit(2 if refused else 0)
    confirmed = [_attempt(partial(_repeat, file, entry, options)) for file, entry in whole.items()]
    ctx.exit(2 if refused or None in confirmed else 0 if all(confirmed) else 1)


def _attempt(work: Callable[[], T]) -> T | None:
    """The outcome of what is done with one file; ``None`` where that failed, and it was said why."""
    try:
        return work()
    except BenchError as error:
        complain(f"Error: {error}", "red")
        return None


def _check(file: Path, options: dict[str, Any]) -> Entry:
    """The entry in a file.

    Raises:
        BenchError: it is refused.
    """
    from engine.rebuild import outside_plugins, rebuild
    from leaderboard.entries import parse

    entry = parse(file)
    try:
        rebuild(entry.records, data_names(options["asked"]), outside_plugins(options["plugins"]))
    except BenchError as error:
        raise BenchError(f"{file.name}: {error}") from None
    size = f"{len(entry.evaluations)} evaluations, {len(entry.parts)} records"
    click.echo(f"{file.name}: whole and consistent (schema, checksum, keys, versions, labels, numbers), {size}")
    return entry


def _repeat(file: Path, entry: Entry, options: dict[str, Any]) -> bool:
    """Run an entry's stages again, tell and note what came out; whether it is confirmed.

    Raises:
        BenchError: it cannot be repeated here.
    """
    from engine.files import write_json
    from engine.progress import duration
    from leaderboard.collect import TOLERANCE, Repetition
    from leaderboard.entries import receipt

    kinds = Counter(part.record.kind for part in entry.parts)
    stages = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    took = [part.provenance.get("seconds") for part in entry.parts]
    known = [seconds for seconds in took if isinstance(seconds, (int, float)) and 0 <= seconds < _LONGEST]
    there = f"{duration(sum(known))} there" if len(known) == len(took) else "how long they took is not known"
    click.echo(f"{file.name}: repeating all {len(entry.parts)} stages in a fresh folder ({stages}; {there})")
    contents = {part.record.key: part.content for part in entry.parts}
    ran = {part.record.key: part.provenance for part in entry.parts}
    try:
        outcomes = rerun(entry.records, contents, ran, **options)
    except BenchError as error:
        raise BenchError(f"{file.name} is consistent, but was not repeated. {error}") from None
    good = verdict(outcomes, options["tolerance"])
    noted = Repetition(
        checksum=entry.checksum,
        confirmed=good,
        identical=all(one.identical for one in outcomes),
        difference=max(min(one.difference, 100.0) for one in outcomes),
        tolerance=options["tolerance"],
    )
    path = receipt(options["results"], entry)
    write_json(path, asdict(noted))
    wide = good and not noted.verifies
    limit = f" within {noted.tolerance:g} points; only up to {TOLERANCE:g} it counts as verified" if wide else ""
    click.echo(f"{file.name}: {'confirmed' if good else 'NOT confirmed'}{limit}, noted in {path}")
    return good
