"""Statistics on the page: the tables that ``compare`` left as CSV, in groups that can be read."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from leaderboard.cells import Bench
from leaderboard.tables import bench_title, measure_title, one_line, protocol_title

TITLES = {
    "ranks": "Average ranks over tables",
    "best": "Against the best method",
    "agreement": "Do protocols agree? Rank correlation of every two (Kendall's tau)",
}
"""What is made of the files that are known, in the order of the page; others keep their names."""
_BENCH = tuple(Bench.__dataclass_fields__)
_GROUPED = {
    "ranks": ("protocol", "recipe", "budget", "over", "tables", "p", "critical"),
    "best": (*_BENCH, "within", "protocol"),
}
"""Columns that become headings; the rest of a file becomes one table per heading."""
_SAID = {
    "within": "encoder",
    "p_seeds": "p over seeds",
    "p_samples": "p over samples",
    "pairs": "seeds in common",
    "one": "protocol",
    "other": "and protocol",
    "tau": "Kendall's tau",
    "critical": "critical difference",
}
_SMALL = 0.001


@dataclass(frozen=True)
class Grid:
    """A table; what all rows share stands in ``title`` and ``shared``, ``words`` tells which columns hold no numbers."""

    title: str
    shared: str
    columns: tuple[str, ...]
    words: tuple[bool, ...]
    rows: tuple[tuple[str, ...], ...]


def grids(path: Path) -> list[Grid]:
    """The tables of a CSV file. Columns of words that say the same in every row stand above, and empty ones nowhere."""
    try:
        with path.open(encoding="utf-8", errors="replace", newline="") as file:
            heads, *rows = csv.reader(file)
    except (OSError, ValueError, csv.Error):
        return []
    by = [heads.index(name) for name in _GROUPED.get(path.stem, ()) if name in heads]
    rows = [row for row in rows if len(row) == len(heads)]
    groups = [list(group) for _, group in groupby(rows, key=lambda row: [row[i] for i in by])]
    # One method alone has nothing to be compared with.
    return [_grid(heads, by, group) for group in groups if len(group) > 1 or not by]


def _grid(heads: Sequence[str], by: Sequence[int], rows: Sequence[Sequence[str]]) -> Grid:
    rest = [i for i in range(len(heads)) if i not in by and any(row[i] for row in rows)]
    words = {i for i in rest if all(_number(row[i]) is None for row in rows)}
    same = [i for i in rest if i in words and len(rows) > 1 and len({row[i] for row in rows}) == 1]
    left = [i for i in rest if i not in same]
    return Grid(
        _heading({heads[i]: rows[0][i] for i in by}),
        " · ".join(f"{_said(heads[i])} {_shown(heads[i], rows[0][i])}" for i in same),
        tuple(_said(heads[i]) for i in left),
        tuple(i in words for i in left),
        tuple(tuple(_shown(heads[i], row[i]) for i in left) for row in rows),
    )


def _heading(where: Mapping[str, str]) -> str:
    if set(_BENCH) <= set(where):
        bench = Bench(**{name: where[name] for name in _BENCH})
        within, protocol = one_line(where.get("within", "")), one_line(protocol_title(where["protocol"]))
        return " · ".join(filter(None, (bench_title(bench), within, protocol)))
    return one_line(" · ".join(f"{_said(name)} {_shown(name, text)}" for name, text in where.items()))


def _said(column: str) -> str:
    return _SAID.get(column, one_line(column.replace("_", " ")))


def _shown(column: str, text: str) -> str:
    number = _number(text)
    if column == "metric":
        return measure_title(text)
    if number is None:
        return one_line(text) or "-"
    if column == "p" or column.startswith("p_"):
        return f"{number:.3f}" if number >= _SMALL else f"< {_SMALL}"
    if text.lstrip("-").isdigit():
        return text
    return f"{number:+.1f}" if column in ("gap", "low", "high") else f"{number:.2f}"


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
