"""Ablations as the leaderboard's table, so that they render in every format it has, and as CSV."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table as Grid
from rich.text import Text

from leaderboard import render
from leaderboard.ablation import AblationTable, Filled, FilledAblation, Place, Reported, Variant
from leaderboard.cells import HEADLINE, Summary
from leaderboard.tables import (
    Entry,
    Row,
    Table,
    base_name,
    measure_title,
    one_line,
    place_title,
    protocol_title,
    short_keys,
)

LEGEND = (
    "In percent, last epoch, mean ± sd over n seeds. Δ: difference to the full row in points, over the n seeds that both have "
    "run, with its 95 % interval (paired by test sample and, from two seeds on, by seed; not adjusted for the number of rows). "
    "≈ marks differences inside the noise: 0 is in the interval. † differs over test samples, but only one seed is common, so "
    "nothing is known about the noise of training; ‡ could not be compared. "
    "Reported: as the paper prints it, on its data, and the difference to its full row; ? where it is suspect."
)
COLUMNS = (
    "ablation", "row", "full", "changes", *Place.__dataclass_fields__, "recipe", "protocol", "metric", "mean", "sd", "n",
    "delta", "low", "high", "pairs", "mark", "status", "reported", "reported_delta", "reported_on", "printed_in",
    "effective_rank", "keys",
)  # fmt: skip
"""Columns of an ablation's CSV; published numbers have rows of their own, with the status ``reported``."""
_NOTHING = "-"
_NOT_RUN = "not run yet"


def board(filled: FilledAblation) -> Table:
    """A table with every protocol's number, its difference to the full row, and the published ones beside."""
    table, full = filled.table, filled.table.rows[filled.table.full]
    heads: list[str] = []
    columns: list[list[Entry]] = []
    for i, protocol in enumerate(filled.protocols):
        name = one_line(protocol_title(protocol))
        for one in filled.reported:
            if base_name(one.protocol) == base_name(protocol):
                heads.append(f"{name} reported, {one.place}")
                columns.append([_reported(one, row, full) for row in table.rows])
        heads += [f"{name} {measure_title(_metric(filled, i))}", f"{name} Δ"]
        columns += [[_measured(line[i]) for line in filled.lines], [_gap(line[i], full) for line in filled.lines]]
    ranks = [(_rank(found),) for found in filled.ranks] if any(filled.ranks) else [()] * len(table.rows)
    rows = []
    for i, row in enumerate(table.rows):
        name = row.name if row is not full or row.name == "full" else f"{row.name} (full)"
        keys = tuple(short_keys(one.cell) for one in filled.lines[i] if one.cell)
        entries = tuple(column[i] for column in columns)
        rows.append(Row(one_line(name), False, entries, (*ranks[i], one_line(row.changes or _NOTHING)), keys))
    facts = (*(["Effective rank"] if any(filled.ranks) else []), "Changes")
    return Table(_title(filled), tuple(heads), tuple(rows), _note(filled), facts=facts, first="Variant")


def frame(tables: Sequence[FilledAblation]) -> pd.DataFrame:
    """One ablation in all its places as the long table with the columns ``COLUMNS``.

    There is one row per cell or published number; missing numbers are left empty.
    """
    rows: list[dict[str, object]] = []
    for filled in tables:
        table, full = filled.table, filled.table.rows[filled.table.full]
        for line, rank in zip(filled.lines, filled.ranks, strict=True):
            for i, one in enumerate(line):
                metric = _metric(filled, i)
                summary = one.cell.metrics.get(metric) if one.cell else None
                rows.append(
                    {
                        "ablation": table.name,
                        "row": one.row.name,
                        "full": one.row is full,
                        "changes": one.row.changes,
                        **vars(filled.place),
                        "recipe": one.cell.bench.recipe if one.cell else "",
                        "protocol": one.protocol,
                        "metric": metric,
                        "mean": summary.mean if summary else None,
                        "sd": summary.sd if summary else None,
                        "n": summary.n if summary else 0,
                        "delta": one.gap.mean if one.gap else 0.0 if one.same and summary else None,
                        "low": one.gap.low if one.gap else None,
                        "high": one.gap.high if one.gap else None,
                        "pairs": one.gap.seeds if one.gap else 0,
                        "mark": one.gap.mark if one.gap else "",
                        "status": one.cell.status if one.cell else "pending",
                        "effective_rank": rank[0] if rank else None,
                        "keys": " ".join(run.stage.key for run in one.cell.runs) if one.cell else "",
                    }
                )
    for filled in tables[:1]:  # the same in all places
        named = [(said, row) for said in filled.reported for row in filled.table.rows if row.name in said.numbers]
        rows += [_printed(filled, said, row) for said, row in named]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _printed(filled: FilledAblation, said: Reported, row: Variant) -> dict[str, object]:
    number, full = said.numbers[row.name], filled.table.rows[filled.table.full]
    return {
        "ablation": filled.table.name,
        "row": row.name,
        "full": row is full,
        "protocol": said.protocol,
        "metric": number.metric,
        "status": "reported",
        "reported": number.value,
        "reported_delta": said.gap(row, full),
        "reported_on": said.place,
        "printed_in": f"{number.source} {number.place}".strip(),
    }


def write(tables: Sequence[FilledAblation], folder: Path) -> tuple[list[Table], tuple[Path, ...]]:
    """Write an ablation, in all places it was run in, into ``folder`` as Markdown, CSV, LaTeX (booktabs) and a page.

    Returns:
        The tables, for the terminal, and the files.
    """
    boards = [board(filled) for filled in tables]
    name = tables[0].table.name
    csv = frame(tables).to_csv(index=False, float_format="%.4f", lineterminator="\n")
    return boards, render.write(boards, csv, folder / name, f"Ablation {name}", LEGEND)


def overview(tables: Iterable[AblationTable]) -> Grid:
    """All tables with their rows, for the terminal."""
    grid = Grid(box=SIMPLE_HEAD, pad_edge=False)
    for head in ("table", "row", "changes"):
        grid.add_column(head, overflow="fold")
    for table in tables:
        for i, row in enumerate(table.rows):
            last = i == len(table.rows) - 1
            grid.add_row(table.name if i == 0 else "", Text(row.name), Text(row.changes), end_section=last)
    return grid


def _metric(filled: FilledAblation, column: int) -> str:
    """What the protocol of a column ranks by."""
    cells = (line[column].cell for line in filled.lines)
    return next((cell.headline for cell in cells if cell and cell.done), HEADLINE)


def _title(filled: FilledAblation) -> str:
    place, table = filled.place, filled.table
    where = place_title(place.dataset, place.split, place.source)
    parts = (table.name, where, f"{place.stream} stream", place.encoder, f"budget {place.budget}", table.common)
    return one_line(" · ".join(filter(None, parts)))


def _note(filled: FilledAblation) -> str:
    said = {number.source: number.place for one in filled.reported for number in one.numbers.values()}
    recipes = {one.cell.bench.recipe for one in filled.lines[filled.table.full] if one.cell}
    parts = [f"Recipe {recipe} where a row does not name another." for recipe in recipes]
    if any(filled.ranks):
        parts.append(
            "Effective rank: of centred training features (RankMe's are not), the mean over seeds, of all dimensions."
        )
    parts += [f"Reported by {source}, {place}." for source, place in said.items()]
    marked = {n.note: n for one in filled.reported for n in one.numbers.values() if n.mark}
    parts += [f"? {number.variant}: {number.mark}, {one_line(note)}." for note, number in marked.items()]
    if any(one.same and one.row is not filled.table.rows[filled.table.full] for line in filled.lines for one in line):
        parts.append("Same runs: under these settings the row comes to what the full row is.")
    return " ".join(parts)


def _reported(said: Reported, row: Variant, full: Variant) -> Entry:
    number, gap = said.numbers.get(row.name), said.gap(row, full)
    if number is None:
        return Entry(_NOTHING)
    text = f"{number.value:.{number.decimals}f}{' ?' if number.mark else ''}"
    detail = "" if gap is None else f"{gap:+.{number.decimals}f}"
    return Entry(text, detail, summary=Summary(number.value, None, 0))


def _measured(one: Filled) -> Entry:
    summary = one.cell.metrics.get(one.cell.headline) if one.cell else None
    if one.cell is None or summary is None:
        return Entry(one_line(one.cell.gap), key=one.cell.key) if one.cell else Entry(_NOT_RUN)
    text = f"{summary.mean:.1f}" if summary.sd is None else f"{summary.mean:.1f} ± {summary.sd:.1f}"
    return Entry(text, f"n={summary.n}", one_line(one.cell.gap), summary=summary, key=one.cell.key)


def _rank(found: tuple[float, int] | None) -> str:
    return f"{found[0]:.1f} of {found[1]}" if found else _NOTHING


def _gap(one: Filled, full: Variant) -> Entry:
    if one.same:
        return Entry("full" if one.row is full else "same runs")
    if one.gap is None:
        return Entry(_NOTHING)
    gap = one.gap
    band = f"[{gap.low:+.1f}, {gap.high:+.1f}] " if gap.low == gap.low else ""
    return Entry(f"{gap.mean:+.1f}", f"{band}n={gap.seeds}", mark=gap.mark, summary=Summary(gap.mean, None, gap.seeds))
