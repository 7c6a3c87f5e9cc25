"""Write an entry of the leaderboard: one small file with records and everything behind them."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import click

from engine.config import BenchError, suggestion
from engine.options import complain, entries_option, results_option


@click.command()
@click.argument("keys", nargs=-1)
@click.option("--method", help="All evaluations of a method, as tables write it: an entry for each of its rows.")
@click.option("--by", default="", help="Who measured, as you want to be named.")
@click.option("--note", default="", help="A line about it.")
@entries_option
@results_option
def submit(keys: tuple[str, ...], method: str | None, by: str, note: str, entries: Path | None, results: Path) -> None:
    """Export the evaluations with KEYS, or the rows of a METHOD, from RESULTS into a folder of entries."""
    from engine.files import json_bytes, write_atomically
    from engine.lookup import circumstances, find, folders, lineage
    from engine.repeat import checksum, result_of
    from leaderboard.entries import FOLDER, Part, make, read

    if bool(keys) == bool(method):
        raise BenchError("Name what to submit: keys of evaluations, or --method NAME.")
    rows = [tuple(find(results, key).name for key in keys)] if keys else _rows(results, method or "")
    known = folders(results)
    for row in rows:
        records = lineage(results, *row)
        for key in row:
            if records[key].kind not in ("evaluate", "fuse"):
                raise BenchError(f"{key} is a stage of kind {records[key].kind}; submit the evaluations that use it.")
        parts = []
        for key, record in records.items():
            left = checksum(result_of(known[key]))
            if not left:
                complain(f"Warning: {result_of(known[key])} is gone; the entry has no checksum of it.", "yellow")
            parts.append(Part(record=record, provenance=circumstances(known[key]), content=left))
        entry = make(parts, dict.fromkeys(row), by, note)
        path = (entries or FOLDER) / entry.file_name
        content = json_bytes(entry.content())
        read(content, path.name)  # what others would refuse is not written
        with write_atomically(path) as file:
            file.write(content)
        click.echo(f"{path}: {len(row)} evaluations, {len(parts)} records, {len(content):,} bytes")


def _rows(results: Path, method: str) -> list[tuple[str, ...]]:
    """Keys of the finished evaluations of a method, by the rows of tables that they stand in."""
    from leaderboard.collect import collect

    done = [run.stage for run in collect(results) if run.stage.status == "done"]
    rows: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for stage in done:
        labels = stage.labels
        if labels.method == method:
            place = labels.dataset, labels.split, labels.source, labels.stream, labels.recipe, labels.budget
            rows[(*place, labels.encoder)].append(stage.key)
    if not rows:
        names = sorted({stage.labels.method for stage in done})
        raise BenchError(
            f"No finished evaluation of {method!r} in {results / 'runs'}.{suggestion(method, names)} "
            f"Known: {', '.join(names) or 'none'}."
        )
    return [tuple(keys) for keys in rows.values()]
