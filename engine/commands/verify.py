"""Check entries of the leaderboard, and repeat them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engine.commands.reproduce import data_names, rerun, verdict
from engine.config import BenchError
from engine.options import repeating

if TYPE_CHECKING:
    from leaderboard.entries import Entry


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
    RESULTS; an entry that is confirmed counts as verified on its leaderboard. Exit status 1 where it is not confirmed, 2
    where it is refused or cannot be repeated.
    """
    from engine.rebuild import outside_plugins, rebuild
    from leaderboard.entries import parse

    entries = {file: parse(file) for file in files}
    for file, entry in entries.items():
        rebuild(entry.records, data_names(options["asked"]), outside_plugins(options["plugins"]))
        size = f"{len(entry.evaluations)} evaluations, {len(entry.parts)} records"
        click.echo(f"{file.name}: whole and consistent (schema, checksum, keys, versions, labels, numbers), {size}")
    if not again:
        click.echo("Nothing was repeated (--no-rerun): whether the numbers are true is not known.")
        return
    confirmed = [_repeat(file, entry, options) for file, entry in entries.items()]
    ctx.exit(0 if all(confirmed) else 1)


def _repeat(file: Path, entry: Entry, options: dict[str, Any]) -> bool:
    """Run an entry's stages again, tell and note what came out; whether it is confirmed."""
    from engine.files import write_json
    from engine.progress import duration
    from leaderboard.entries import receipt

    kinds = Counter(part.record.kind for part in entry.parts)
    stages = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    took = [part.provenance.get("seconds") for part in entry.parts]
    there = duration(sum(seconds for seconds in took if isinstance(seconds, float)))
    click.echo(f"{file.name}: repeating all {len(entry.parts)} stages in a fresh folder ({stages}; {there} there)")
    contents = {part.record.key: part.content for part in entry.parts}
    ran = {part.record.key: part.provenance for part in entry.parts}
    try:
        outcomes = rerun(entry.records, contents, ran, **options)
    except BenchError as error:
        raise BenchError(f"{file.name} is consistent, but was not repeated. {error}") from None
    good = verdict(outcomes, options["tolerance"])
    noted = {
        "checksum": entry.checksum,
        "confirmed": good,
        "identical": all(one.identical for one in outcomes),
        "difference": max(min(one.difference, 100.0) for one in outcomes),
        "tolerance": options["tolerance"],
    }
    path = receipt(options["results"], entry)
    write_json(path, noted)
    click.echo(f"{file.name}: {'confirmed' if good else 'NOT confirmed'}, noted in {path}")
    return good
