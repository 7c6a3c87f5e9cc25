"""Paper tables as the leaderboard's table, so that they render in every format it has, and as CSV."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from string import ascii_lowercase

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table as Grid
from rich.text import Text

from leaderboard import render
from leaderboard.cells import Summary
from leaderboard.differences import Mark
from leaderboard.paper import Filled, FilledTable
from leaderboard.published import Number
from leaderboard.tables import Entry, Row, Table, one_line, rank_marks, short_keys

LEGEND = (
    "Reported: as the source prints it, percent; ? where sources contradict it or it is said to be another number. "
    "Measured: by this suite, last epoch, mean ± sd over n seeds, and its difference to the reported one. "
    "Only measured numbers are ranked: best in bold, ≈ cannot be told apart from it (as in the leaderboard), "
    "† differs over test samples, but only one seed is common, ‡ could not be compared; reference rows are not ranked. "
    "A letter says why there is no number."
)
COLUMNS = (
    "table", "row", "method", "stream", "dataset", "split", "source", "protocol", "metric", "reported", "mark", "printed_in",
    "measured", "sd", "n", "gap", "recipe", "budget", "missing", "keys",
)  # fmt: skip
"""Columns of a paper table's CSV; ``protocol`` is the measured one, ``missing`` says why there is no measured number."""
_BARE = "-"


def board(filled: FilledTable) -> Table:
    """A table with the reported and the measured number of every cell side by side."""
    table = filled.table
    lines = [*filled.references, *filled.rows]
    letters = _letters(chain.from_iterable(filled.rows))
    best = _best(filled)
    with_reported = [any(line[i].number for line in filled.rows) for i in range(len(table.columns))]
    heads, heads_params = [], any(one.number and one.number.params for line in filled.rows for one in line)
    for column, reported in zip(table.columns, with_reported, strict=True):
        heads += [f"{column.title} reported"] * reported + [f"{column.title} measured"]
    rows = []
    for line in lines:
        is_reference = line in filled.references
        entries: list[Entry] = []
        for one, reported in zip(line, with_reported, strict=True):
            entries += [_reported(one.number)] * reported
            letter = "" if is_reference else letters.get(one.missing, "")
            entries.append(_measured(one, best.get(id(one), ""), letter))
        runs = dict.fromkeys(short_keys(one.cell) for one in line if one.cell)
        rows.append(Row(line[0].spot.row.name, is_reference, tuple(entries), _facts(line, heads_params), tuple(runs)))
    facts = (*(["Parameters reported"] if heads_params else []), "Parameters", "Encoder")
    return Table(_title(filled), tuple(heads), tuple(rows), _note(filled, letters), facts=facts)


def frame(tables: Iterable[FilledTable]) -> pd.DataFrame:
    """The long table with the columns ``COLUMNS``: one row per cell, missing numbers left empty."""
    rows = []
    for filled in tables:
        for one in chain.from_iterable([*filled.references, *filled.rows]):
            spot, number, summary = one.spot, one.number, one.summary
            dataset, split = spot.column.place.split("/", 1)
            rows.append(
                {
                    "table": filled.table.name,
                    "row": spot.row.name,
                    "method": spot.row.suite,
                    "stream": spot.row.measured_stream,
                    "dataset": dataset,
                    "split": split,
                    "source": spot.column.source,
                    "protocol": spot.protocol,
                    "metric": spot.column.metric,
                    "reported": number.value if number else None,
                    "mark": number.mark if number else "",
                    "printed_in": f"{number.source} {number.place}".strip() if number else "",
                    "measured": summary.mean if summary else None,
                    "sd": summary.sd if summary else None,
                    "n": summary.n if summary else 0,
                    "gap": one.gap,
                    "recipe": filled.recipe,
                    "budget": filled.budget,
                    "missing": one.missing,
                    "keys": " ".join(run.stage.key for run in one.cell.done) if one.cell else "",
                }
            )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def write(filled: FilledTable, folder: Path) -> tuple[Table, tuple[Path, ...]]:
    """Write a table into ``folder`` as Markdown, CSV, LaTeX (booktabs) and a page.

    Returns:
        The table, for the terminal, and the files.
    """
    table = board(filled)
    csv = frame([filled]).to_csv(index=False, float_format="%.4f", lineterminator="\n")
    return table, render.write([table], csv, folder / filled.table.name, filled.table.title, LEGEND)


def _title(filled: FilledTable) -> str:
    measured = ", ".join(filter(None, (f"recipe {filled.recipe}", f"budget {filled.budget}", filled.changes)))
    read = dict.fromkeys(f"{c.dataset}/{c.split} read from {c.known_as}" for c in filled.table.columns if c.known_as)
    title = one_line(" · ".join([filled.table.title, f"measured: {measured}", *read]))
    stand_ins = dict.fromkeys(c.place for c in filled.table.columns if c.substitute)
    return f"{title} · on {', '.join(stand_ins)}, NOT THE PAPER'S DATA" if stand_ins else title


def _letters(cells: Iterable[Filled]) -> dict[str, str]:
    """``a``, ``b`` ... for every reason why a number is missing."""
    reasons = dict.fromkeys(one.missing for one in cells if one.missing)
    return {reason: ascii_lowercase[i % 26] * (1 + i // 26) for i, reason in enumerate(reasons)}


def _best(filled: FilledTable) -> dict[int, Mark]:
    """Marks of every column, by its own metric, among the rows of one stream; by identity of the cell."""
    found: dict[int, Mark] = {}
    for i, column in enumerate(filled.table.columns):
        for stream in {line[i].spot.row.measured_stream for line in filled.rows}:
            same = [line[i] for line in filled.rows if line[i].cell and line[i].spot.row.measured_stream == stream]
            named = rank_marks([one.cell for one in same if one.cell], column.metric)
            found |= {id(one): named.get((one.cell.method, one.cell.encoder), "") for one in same if one.cell}
    return found


def _reported(number: Number | None) -> Entry:
    if number is None:
        return Entry(_BARE)
    text = f"{number.value:.{number.decimals}f}{' ?' if number.mark else ''}"
    return Entry(text, summary=Summary(number.value, None, 0))


def _measured(one: Filled, mark: Mark, letter: str) -> Entry:
    summary = one.summary
    if summary is None or one.cell is None:
        return Entry(f"({letter})" if letter else _BARE)
    text = f"{summary.mean:.1f}" if summary.sd is None else f"{summary.mean:.1f} ± {summary.sd:.1f}"
    gap = f"{one.gap:+.1f}, " if one.gap is not None else ""
    return Entry(text, f"{gap}n={summary.n}", one_line(one.cell.gap), mark, summary, one.cell.key)


def _facts(line: Sequence[Filled], reported: bool) -> tuple[str, ...]:
    numbers = [one.number for one in line if one.number]
    printed = next(([number.encoder] for number in numbers if number.encoder), [])
    encoders = dict.fromkeys([*printed, *(one.cell.encoder for one in line if one.cell)])
    params = next((f"{number.params} M" for number in numbers if number.params), _BARE)
    counted = dict.fromkeys(f"{count:,}" for one in line if one.cell and (count := one.cell.fact("params")) is not None)
    own = " / ".join(counted) or _BARE
    return (*([params] if reported else []), own, one_line(" / ".join(encoders) or _BARE))


def _note(filled: FilledTable, letters: dict[str, str]) -> str:
    table = filled.table
    parts = [table.note] if table.note else []
    if any(column.substitute for column in table.columns):
        parts.append("Data that stand in for the paper's show nothing reported: there it is the table's form only.")
    named = {*table.measured.values(), *(row.measured for row in table.rows)}
    own = {one.spot.protocol for line in filled.rows for one in line} & named
    parts += [f"Measured by {', '.join(sorted(own))}."] if own else []
    parts += [f"({letter}) {one_line(reason)}." for reason, letter in letters.items()]
    for one in chain.from_iterable(filled.rows):
        if one.number and one.number.mark:
            parts.append(
                f"? {one.spot.row.name}, {one.spot.column.title}: {one.number.mark}, {one_line(one.number.note)}."
            )
    return " ".join(part.replace("..", ".") for part in parts)


def overview(rows: Iterable[tuple[FilledTable, str]]) -> Grid:
    """All tables, each with its number of cells and what is left to do, for the terminal."""
    grid = Grid(box=SIMPLE_HEAD, pad_edge=False)
    for head in ("table", "what", "cells", "reported", "measured", "missing stages"):
        grid.add_column(head, justify="right" if head in ("cells", "reported", "measured") else "left", overflow="fold")
    for filled, todo in rows:
        cells = list(chain.from_iterable(filled.rows))
        counts = len(cells), sum(one.number is not None for one in cells), sum(one.summary is not None for one in cells)
        grid.add_row(filled.table.name, Text(filled.table.title), *map(str, counts), Text(todo))
    return grid
