"""An ablation filled in: what every row measured, how far it is from the full row, and what its paper prints."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from leaderboard.cells import HEADLINE, Bench, Cell
from leaderboard.collect import Run
from leaderboard.differences import Difference, difference
from leaderboard.features import mean_rank
from leaderboard.published import Number, by_evidence
from leaderboard.tables import base_name, protocol_order


@dataclass(frozen=True)
class Variant:
    """A row: a method with changed settings.

    Attributes:
        name: as shown, and among published numbers.
        changes: what it changes, in words.
        keys: of its evaluations, finished or not.
    """

    name: str
    changes: str
    keys: frozenset[str]


@dataclass(frozen=True)
class AblationTable:
    """What is to be filled in.

    Attributes:
        name: ``actclr.t7``.
        method: the suite's method.
        rows: its variants.
        full: the row that the others are compared with.
        common: settings that all rows share beside the defaults, in words.
    """

    name: str
    method: str
    rows: tuple[Variant, ...]
    full: int
    common: str = ""


@dataclass(frozen=True)
class Place:
    """What a filled table is about: rows of one place are compared with each other, whatever their recipes."""

    dataset: str
    split: str
    source: str
    stream: str
    encoder: str
    budget: str


@dataclass(frozen=True)
class Filled:
    """A row under a protocol.

    Attributes:
        row: which.
        protocol: as asked for, without changes.
        cell: what was measured, with the seeds asked for; ``None`` where nothing was begun.
        gap: difference to the full row; ``None`` for that row itself, for rows whose settings came to the same, and where
            nothing can be compared.
        same: whether these are the full row's runs.
    """

    row: Variant
    protocol: str
    cell: Cell | None
    gap: Difference | None
    same: bool


@dataclass(frozen=True)
class FilledAblation:
    """An ablation in one place: ``lines`` has one entry per row, with one per protocol.

    ``ranks`` has the effective rank of every row's training features and their width, ``None`` where none are stored.
    """

    table: AblationTable
    place: Place
    protocols: tuple[str, ...]
    lines: tuple[tuple[Filled, ...], ...]
    reported: tuple[Reported, ...]
    ranks: tuple[tuple[float, int] | None, ...]


@dataclass(frozen=True)
class Reported:
    """Published numbers of a table's rows: by one protocol on one stream and data, by the row's name."""

    protocol: str
    place: str
    numbers: dict[str, Number]

    def gap(self, row: Variant, full: Variant) -> float | None:
        """Points above the full row, as printed."""
        own, other = self.numbers.get(row.name), self.numbers.get(full.name)
        return own.value - other.value if own and other and own is not other else None


def fill(table: AblationTable, runs: Iterable[Run], numbers: Sequence[Number]) -> list[FilledAblation]:
    """Fill in a table, once for every place that its rows were run in.

    Args:
        table: any.
        runs: of a results folder.
        numbers: published ones.
    """
    wanted = frozenset().union(*(row.keys for row in table.rows))
    places: dict[Place, dict[str, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        if run.stage.key in wanted:
            labels = run.stage.labels
            place = Place(*(getattr(labels, name) for name in Place.__dataclass_fields__))
            places[place][_plain(labels.protocol)].append(run)
    reported = published(table, numbers)
    filled = []
    for place, by_protocol in sorted(places.items(), key=lambda item: tuple(vars(item[0]).values())):
        protocols = tuple(sorted(by_protocol, key=protocol_order))
        grid = {name: _column(table, name, by_protocol[name]) for name in protocols}
        lines = tuple(tuple(grid[name][i] for name in protocols) for i in range(len(table.rows)))
        ranks = tuple(mean_rank(run for one in line if one.cell for run in one.cell.runs) for line in lines)
        filled.append(FilledAblation(table, place, protocols, lines, reported, ranks))
    return filled


def published(table: AblationTable, numbers: Sequence[Number]) -> tuple[Reported, ...]:
    """Published numbers of the method whose variant is the name of a row; up to a ``;`` where that says more."""
    names = {row.name for row in table.rows}
    found: dict[tuple[str, str], dict[str, Number]] = defaultdict(dict)
    for number in sorted(numbers, key=by_evidence):
        row = number.variant.partition(";")[0]
        if number.method.lower() == base_name(table.method) and row in names and number.metric == HEADLINE:
            place = "/".join(filter(None, (number.dataset, number.split)))
            found[number.protocol, f"{place} {number.stream}".strip()].setdefault(row, number)
    # One number alone compares nothing.
    return tuple(Reported(*where, rows) for where, rows in sorted(found.items()) if len(rows) > 1)


def _column(table: AblationTable, protocol: str, runs: Sequence[Run]) -> list[Filled]:
    cells = [_cell([run for run in runs if run.stage.key in row.keys]) for row in table.rows]
    full = cells[table.full]
    column = []
    for row, cell in zip(table.rows, cells, strict=True):
        same = bool(cell and full and {r.stage.key for r in cell.runs} == {r.stage.key for r in full.runs})
        gap = difference(cell, full) if cell and full and not same else None
        column.append(Filled(row, protocol, cell, gap, same))
    return column


def _cell(runs: Sequence[Run]) -> Cell | None:
    if not runs:
        return None
    labels = runs[0].stage.labels
    bench = Bench(*(getattr(labels, name) for name in Bench.__dataclass_fields__))
    ordered = tuple(sorted(runs, key=lambda run: run.stage.labels.seed))
    return Cell(bench, labels.method, labels.encoder, labels.protocol, ordered)


def _plain(protocol: str) -> str:
    """A protocol's label without changes, of which a fused one has some for each part: ``linear:aimclr``."""
    shorter = re.sub(r"\[[^\[\]]*\]", "", protocol)
    return protocol if shorter == protocol else _plain(shorter)
