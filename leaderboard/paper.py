"""A paper's table filled in: what is published, what the suite measured, the gap, and why a number is missing."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from engine.config import BenchError, suggestion
from engine.records import Labels
from leaderboard.cells import Cell, Summary
from leaderboard.paper_tables import SUPERVISED, TABLES, Column, PaperTable, Row
from leaderboard.published import Number, by_evidence
from leaderboard.tables import REFERENCES

_SHOWN = ("raw", "random", SUPERVISED)
"""Reference rows that a paper's table is read against."""


@dataclass(frozen=True)
class Suite:
    """What the suite has.

    Attributes:
        lacks_method: why it does not have a method, ``name`` or ``name:preset``; "" if it does.
        lacks_protocol: the same of a protocol.
        lacks_data: why a place (``dataset/split``) cannot be used, by place.
    """

    lacks_method: Callable[[str], str]
    lacks_protocol: Callable[[str], str]
    lacks_data: Mapping[str, str] = field(default_factory=dict)


NOTHING = Suite(lambda name: "not looked up", lambda name: "not looked up")
"""A suite of which nothing is known."""


def obstacle(table: PaperTable, suite: Suite) -> str:
    """Why nothing of a table can be run."""
    reasons = dict.fromkeys(spot.missing(suite) for spot in spots(table) if not suite.lacks_method(spot.row.suite))
    return "; ".join(reasons) or "the suite has none of its methods yet"


def find(name: str) -> PaperTable:
    """A table by its name.

    Raises:
        BenchError: there is none.
    """
    if name not in TABLES:
        raise BenchError(f"Unknown table {name!r}.{suggestion(name, TABLES)} Known: {', '.join(TABLES)}.")
    return TABLES[name]


def choose(
    table: PaperTable, datasets: Sequence[str], named: Callable[[str], str]
) -> tuple[PaperTable, dict[str, str]]:
    """The table on the data asked for.

    Args:
        table: any.
        datasets: as on the command line: a dataset or split of the table, ``dataset/split=DATA`` for one that is read under
            another name, or others to stand in; none: all of its own.
        named: ``dataset/split`` of data that stand in, as records name them.

    Returns:
        The table, and what was asked for by the name in records.

    Raises:
        BenchError: see :func:`on`.
    """
    asked: dict[str, str] = {}
    places: list[str] = []
    for text in datasets:
        one, equals, data = text.partition("=")
        if equals and any(one == column.place for column in table.columns):
            asked[known := named(data)] = data
            columns = (replace(c, known_as=known) if c.place == one else c for c in table.columns)
            table, one = replace(table, columns=tuple(columns)), known
        else:
            one = text
        own = [c.source + "->" * bool(c.source) + c.place for c in table.columns if one in (c.dataset, c.place)]
        if not own:
            asked |= {named(part): part for part in one.split("->")}
            own = ["->".join(map(named, one.split("->")))]
        places += own
    return on(table, tuple(dict.fromkeys(places))) if places else table, asked


def on(table: PaperTable, places: Sequence[str]) -> PaperTable:
    """The table on other data, or on some of its own.

    Args:
        table: any.
        places: ``dataset/split``, and ``source->target`` where the table pre-trains on other data than it evaluates on.
            Those of the table keep their columns and published numbers, others stand in for the paper's data and have none.

    Raises:
        BenchError: an arrow is missing, or has no place in this table.
    """
    columns: list[Column] = []
    for place in places:
        source, _, target = place.rpartition("->")
        dataset, _, split = target.partition("/")
        transfers = any(column.source for column in table.columns)
        if bool(source) != transfers:
            how = (
                "SOURCE->TARGET, it pre-trains on other data" if transfers else "DATASET/SPLIT, it has no other source"
            )
            raise BenchError(f"--datasets {place}: {table.name} needs {how}.")
        own = [column for column in table.columns if (column.source, column.place) == (source, target)]
        stand_ins = {
            (column.protocol, column.metric): replace(
                column, title=place, dataset=dataset, split=split, source=source, substitute=True, known_as=""
            )
            for column in table.columns
        }
        several = len({protocol for protocol, _ in stand_ins}) > 1, len({metric for _, metric in stand_ins}) > 1
        columns += own or [
            replace(column, title=" ".join([place, *(name for name, shown in zip(key, several, strict=True) if shown)]))
            for key, column in stand_ins.items()
        ]
    return replace(table, columns=tuple(columns))


@dataclass(frozen=True)
class Spot:
    """A cell of a paper's table: a row on a column."""

    table: PaperTable
    row: Row
    column: Column

    @property
    def protocol(self) -> str:
        """The suite's protocol for it."""
        printed = self.row.protocol or self.column.protocol
        return {SUPERVISED: "finetune"}.get(printed) or self.table.measured.get(printed, printed)

    def shows(self, labels: Labels) -> bool:
        """Whether records with these labels belong here, whatever the method."""
        place, source = f"{labels.dataset}/{labels.split}", labels.source
        column, stream = self.column, self.row.measured_stream
        wanted = column.place, column.source, stream, self.protocol
        return (place, source, labels.stream, labels.protocol) == wanted

    def missing(self, suite: Suite) -> str:
        """Why the suite cannot fill it in, "" if it can."""
        method = "" if self.row.suite == SUPERVISED else suite.lacks_method(self.row.suite)
        places = filter(None, (self.column.source, self.column.place))
        data = (suite.lacks_data.get(place, "") for place in places)
        return method or suite.lacks_protocol(self.protocol) or next(filter(None, data), "")


def spots(table: PaperTable) -> list[Spot]:
    """All cells, row by row."""
    return [Spot(table, row, column) for row in table.rows for column in table.columns]


def requests(table: PaperTable, suite: Suite, asked: Mapping[str, str]) -> list[dict[str, tuple[str, ...]]]:
    """What to ask the engine for so that every cell that can be filled in is: keywords of ``engine.plan.Request``.

    Requests are crossed out to all combinations of their parts; :func:`belongs` tells which of them the table shows.

    Args:
        table: any.
        suite: what there is.
        asked: a place as one would type it after ``--datasets``, where that differs.
    """
    groups: dict[str, list[Spot]] = defaultdict(list)
    for spot in spots(table):
        if not spot.missing(suite):
            groups[spot.column.source].append(spot)
    found = []
    for source, members in groups.items():
        places = tuple(dict.fromkeys(asked.get(s.column.place, s.column.place) for s in members))
        request = {
            "methods": tuple(dict.fromkeys(s.row.suite for s in members if s.row.suite != SUPERVISED)) or ("random",),
            "protocols": tuple(dict.fromkeys(s.protocol for s in members)),
            "datasets": (asked.get(source, source),) if source else places,
            "streams": tuple(dict.fromkeys(stream for s in members for stream in s.row.measured_stream.split("+"))),
        }
        found.append(request | ({"targets": places} if source else {}))
    return found


def belongs(table: PaperTable, labels: Labels) -> bool:
    """Whether a record with these labels is shown in the table, with any changes by ``--set``, as a row or a reference."""
    plain = labels.model_copy(update={"method": _plain(labels.method), "protocol": _plain(labels.protocol)})
    return any(spot.shows(plain) and plain.method in (spot.row.suite, *_SHOWN) for spot in spots(table))


@dataclass(frozen=True)
class Filled:
    """A cell with what is known.

    Attributes:
        spot: which cell.
        number: the published number.
        cell: what was measured.
        missing: why nothing was measured, "" if something was.
    """

    spot: Spot
    number: Number | None
    cell: Cell | None
    missing: str

    @property
    def summary(self) -> Summary | None:
        """The measured number."""
        return self.cell.metrics.get(self.spot.column.metric) if self.cell else None

    @property
    def gap(self) -> float | None:
        """Measured minus reported, in points."""
        return self.summary.mean - self.number.value if self.number and self.summary else None


@dataclass(frozen=True)
class FilledTable:
    """A table with what is known, line by line; reference rows come first and only where something was measured."""

    table: PaperTable
    references: tuple[tuple[Filled, ...], ...]
    rows: tuple[tuple[Filled, ...], ...]
    recipe: str
    budget: str


def fill(
    table: PaperTable,
    cells: Sequence[Cell],
    numbers: Sequence[Number],
    suite: Suite,
    recipe: str,
    budget: str = "",
    keys: Collection[str] | None = None,
) -> FilledTable:
    """Look up every cell of a table.

    Args:
        table: any.
        cells: of a results folder.
        numbers: published ones.
        suite: what there is, for the reasons.
        recipe: of measured numbers.
        budget: of measured numbers; "": ``full`` if any of this table is, else ``quick``.
        keys: of the runs that are meant, with all seeds of them; ``None``: those without changes by ``--set``.
    """
    meant = [
        cell
        for cell in cells
        if (not cell.changed if keys is None else any(run.stage.key in keys for run in cell.runs))
    ]
    known = [(_labels(cell), cell) for cell in meant if cell.bench.recipe == recipe]
    mine = [(labels, cell) for labels, cell in known if belongs(table, labels)]
    budget = budget or ("full" if any(labels.budget == "full" for labels, _ in mine) else "quick")
    there = [(labels, cell) for labels, cell in mine if labels.budget == budget]

    def line(row: Row) -> tuple[Filled, ...]:
        return tuple(_filled(Spot(table, row, column), there, numbers, suite) for column in table.columns)

    streams = dict.fromkeys(row.measured_stream for row in table.rows)
    named = {(row.suite, row.measured_stream) for row in table.rows}
    references = [
        line(Row(REFERENCES[name] + (f", {stream}" if len(streams) > 1 else ""), plugin=name, stream=stream))
        for stream in streams
        for name in _SHOWN
        if (name, stream) not in named
    ]
    kept = tuple(row for row in references if any(filled.summary for filled in row))
    return FilledTable(table, kept, tuple(map(line, table.rows)), recipe, budget)


def _filled(spot: Spot, cells: Sequence[tuple[Labels, Cell]], numbers: Sequence[Number], suite: Suite) -> Filled:
    found = [cell for labels, cell in cells if labels.method == spot.row.suite and spot.shows(labels)]
    number = _printed(spot, numbers)
    if len(found) > 1:
        return Filled(spot, number, None, "measured with several versions, settings or encoders: see the leaderboard")
    if not found:
        return Filled(spot, number, None, spot.missing(suite) or "not run yet")
    (cell,) = found
    if spot.column.metric in cell.metrics:
        return Filled(spot, number, cell, "")
    return Filled(spot, number, None, cell.gap or f"its records have no {spot.column.metric}")


def _labels(cell: Cell) -> Labels:
    """A cell's names as labels, without what tells experiments of one name apart."""
    names = {"method": _plain(cell.method), "protocol": _plain(cell.protocol), "encoder": cell.encoder}
    return Labels(**vars(cell.bench), **names, seed=0)


def _plain(name: str) -> str:
    """A name without changes by ``--set`` and what tells experiments of one name apart (``knn v2 #07c1``, ``aimclr #1f2e``)."""
    return re.sub(r"( v\d+)? #[0-9a-f]{4}$", "", name.partition("[")[0])


def _printed(spot: Spot, numbers: Sequence[Number]) -> Number | None:
    """The number in the table's source; without one, a number that is quoted: unmarked and of its authors if possible."""
    table, row, column = spot.table, spot.row, spot.column
    if column.substitute:
        return None
    wanted = (
        row.published, column.dataset, column.split, row.stream, row.protocol or column.protocol,
        column.source.partition("/")[0], row.variant, column.metric,
    )  # fmt: skip
    fitting = [
        number
        for number in numbers
        if number.cell == wanted and table.source in ("", number.source) and table.place in ("", number.place)
    ]
    return min(fitting, key=by_evidence, default=None)
