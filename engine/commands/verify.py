"""Check entries of the leaderboard, and repeat them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from engine.commands.reproduce import data_names, rerun, verdict
from engine.options import repeating


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="ENTRY...", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--rerun", "again", is_flag=True, help="Also repeat it in a fresh folder, and note in RESULTS what came out."
)
@repeating
@click.pass_context
def verify(ctx: click.Context, /, files: tuple[Path, ...], again: bool, **options: Any) -> None:
    """Check ENTRY: schema, sizes, checksum, keys, versions, labels, and numbers that follow from each other.

    With --rerun everything is computed again and compared as by `reproduce`; an entry that is confirmed counts as verified
    on the leaderboard of RESULTS. Exit status 1 where it is not confirmed.
    """
    from engine.files import write_json
    from engine.rebuild import outside_plugins, rebuild
    from leaderboard.entries import parse, receipt

    confirmed = True
    for file in files:
        entry = parse(file)
        rebuild(entry.records, data_names(options["asked"]), outside_plugins(options["plugins"]))
        click.echo(f"{file.name}: valid, {len(entry.evaluations)} evaluations, {len(entry.parts)} records")
        if not again:
            continue
        contents = {part.record.key: part.content for part in entry.parts}
        ran = {part.record.key: part.provenance for part in entry.parts}
        outcomes = rerun(entry.records, contents, ran, **options)
        good = verdict(outcomes, options["tolerance"])
        noted = {
            "checksum": entry.checksum,
            "confirmed": good,
            "identical": all(one.identical for one in outcomes),
            "difference": max(min(one.difference, 100.0) for one in outcomes),
            "tolerance": options["tolerance"],
        }
        write_json(receipt(options["results"], entry), noted)
        confirmed &= good
    ctx.exit(0 if confirmed else 1)
