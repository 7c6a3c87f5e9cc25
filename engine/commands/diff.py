"""Why two numbers differ."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from engine.options import WIDTH, results_option

if TYPE_CHECKING:
    from engine.differences import Side


@click.command()
@click.argument("first", metavar="KEY")
@click.argument("second", metavar="KEY")
@click.option(
    "--against",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of results with the second one, e.g. of another machine.  [default: RESULTS]",
)
@results_option
def diff(first: str, second: str, against: Path | None, results: Path) -> None:
    """Tell what differs between two finished stages and all before them: settings, versions, data, machine, numbers."""
    from engine.differences import differences
    from engine.long_table import LongTable
    from engine.lookup import describe, find

    folders = find(results, first), find(against or results, second)
    console = Console(width=WIDTH)
    for folder in folders:
        console.print(describe(folder), markup=False, highlight=False, soft_wrap=True)
    found = differences(_side(results, folders[0]), _side(against or results, folders[1]))
    if not found:
        console.print("Nothing differs.", style="green")
        return
    table = LongTable("stage", "part", "what", "first", "second", whole=("part",))
    for one in found:
        table.add(one.stage, one.part, one.name, one.first, one.second)
    table.print(console)


def _side(results: Path, folder: Path) -> Side:
    from engine.differences import Side
    from engine.lookup import circumstances, folders, lineage, read
    from engine.repeat import checksum, result_of

    known = folders(results)
    sides: dict[str, Side] = {}
    for key, record in lineage(results, read(folder).key).items():
        parents = tuple(sides[parent] for parent in record.parents)
        sides[key] = Side(record, circumstances(known[key]), checksum(result_of(known[key])), parents)
    return sides[folder.name]
