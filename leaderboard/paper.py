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

RAW = "raw"
_SHOWN = (RAW, "random", SUPERVISED)
"""Reference rows that a paper's table is read against."""


@dataclass(frozen=True)
class Suite:
    """What the suite has.

    Attributes:
        lacks_method: why it does not have a method, ``name`` or ``name:preset``; "" if it does.
        lacks_protocol: the same of a protocol.
        encoders: those that a method, or ``supervised``, is run with.
        called: what records with certain labels call the method of a row of an ablation.
        lacks_data: why a place (``dataset/split``) cannot be used, by place.
    """

    lacks_method: Callable[[str], str]
    lacks_protocol: Callable[[str], str]
    encoders: Callable[[str], Collection[str]]
    called: Callable[[str, Labels], str]
    lacks_data: Mapping[str, str] = field(default_factory=dict)

    def lacks(self, row: Row) -> str:
        """Why it does not have the method of a row; "" if it does."""
        return "" if row.suite == SUPERVISED else self.lacks_method(row.suite)


NOTHING = Suite(lambda name: "not looked up", lambda name: "not looked up", lambda name: (), lambda name, labels: "")
"""A suite of which nothing is known."""


def obstacle(table: PaperTable, suite: Suite) -> str:
    """Why nothing of a table can be run."""
    own = [spot for spot in spots(table) if spot.row.suite != SUPERVISED and not suite.lacks(spot.row)]
    reasons = dict.fromkeys(spot.missing(suite) for spot in own)
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
        BenchError: what is read under another name is not a file; and see :func:`on`.
    """
    asked: dict[str, str] = {}
    places: list[str] = []
    for text in datasets:
        one, equals, data = text.partition("=")
        if equals and (splits := [column.place for column in table.columns if column.dataset == one]):
            raise BenchError(f"--datasets {text}: {one} has splits; name one, such as {splits[0]}={data}.")
        if equals and any(one == column.place for column in table.columns):
            if ":" not in data:
                raise BenchError(
                    f"--datasets {text}: {data} are other data than {one}. Give a file of {one} (form:FILE.npz), "
                    f"or {data} alone, which then stands in."
                )
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
        own = self.row.measured or {SUPERVISED: "finetune"}.get(printed)
        return own or self.table.measured.get(printed, printed)

    def shows(self, labels: Labels, suite: Suite) -> bool:
        """Whether records with these labels belong here, with any changes by ``--set``."""
        names = labels.method, labels.encoder, labels.protocol
        method, encoder, protocol = (name.partition("[")[0] for name in names)
        row, column, place = self.row, self.column, f"{labels.dataset}/{labels.split}"
        wanted = row.suite, row.measured_stream, self.protocol, column.place, column.source
        if (method, labels.stream, protocol, place, labels.source) != wanted:
            return False
        return encoder in ([row.encoder] if row.encoder else suite.encoders(row.suite))

    def missing(self, suite: Suite) -> str:
        """Why the suite cannot fill it in, "" if it can."""
        places = filter(None, (self.column.source, self.column.place))
        data = (suite.lacks_data.get(place, "") for place in places)
        return suite.lacks(self.row) or suite.lacks_protocol(self.protocol) or next(filter(None, data), "")


def spots(table: PaperTable) -> list[Spot]:
    """All cells, row by row."""
    return [Spot(table, row, column) for row in table.rows for column in table.columns]


def references(table: PaperTable, suite: Suite) -> list[Row]:
    """The reference rows that a table is read against: for every stream and, but for raw coordinates, every encoder in it."""
    measured = [(row, encoder) for row in table.rows if not suite.lacks(row) for encoder in suite.encoders(row.suite)]
    streams = dict.fromkeys(row.measured_stream for row, _ in measured)
    encoders = {encoder for _, encoder in measured}
    named = {(row.suite, row.measured_stream, encoder) for row, encoder in measured}
    found: dict[str, Row] = {}
    for stream in streams:
        for name in _SHOWN:
            for row, encoder in measured:
                own = "" if name == RAW else encoder
                if row.measured_stream == stream and (name, stream, own) not in named:
                    parts = [REFERENCES[name], own * (len(encoders) > 1), stream * (len(streams) > 1)]
                    title = ", ".join(filter(None, parts))
                    found.setdefault(title, Row(title, stream=stream, plugin=name, measured=row.measured, encoder=own))
    return list(found.values())


@dataclass(frozen=True)
class Wanted:
    """A request to the engine.

    Attributes:
        ablation: the row of an ablation that it is about; "": rows without settings of their own.
        parts: keywords of ``engine.plan.Request``.
    """

    ablation: str
    parts: Mapping[str, tuple[str, ...]]


def requests(table: PaperTable, suite: Suite, asked: Mapping[str, str]) -> list[Wanted]:
    """What to ask the engine for so that every cell that can be filled in is.

    Requests are crossed out to all combinations of their parts; :func:`rows_of` tells which of them the table shows.

    Args:
        table: any.
        suite: what there is.
        asked: a place as one would type it after ``--datasets``, where that differs.
    """
    groups: dict[tuple[str, str], list[Spot]] = defaultdict(list)
    for spot in spots(table):
        if not spot.missing(suite):
            groups[spot.column.source, spot.row.ablation].append(spot)
    found = []
    for (source, ablation), members in groups.items():
        places = tuple(dict.fromkeys(asked.get(s.column.place, s.column.place) for s in members))
        parts = {
            "methods": tuple(dict.fromkeys(s.row.suite for s in members if s.row.suite != SUPERVISED)) or ("random",),
            "protocols": tuple(dict.fromkeys(s.protocol for s in members)),
            "datasets": (asked.get(source, source),) if source else places,
            "streams": tuple(dict.fromkeys(stream for s in members for stream in s.row.measured_stream.split("+"))),
        }
        found.append(Wanted(ablation, parts | ({"targets": places} if source else {})))
    return found


def rows_of(table: PaperTable, ablation: str, labels: Labels, suite: Suite) -> list[Row]:
    """The rows, references included, that show a record with these labels, which ``ablation`` has asked for."""
    rows = [*references(table, suite), *(row for row in table.rows if row.ablation == ablation)]
    return [row for row in rows if any(Spot(table, row, column).shows(labels, suite) for column in table.columns)]


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
    """A table with what is known, line by line; reference rows come first and only where something was measured.

    ``changes`` are the settings by ``--set`` that the measured numbers were made with, in words.
    """

    table: PaperTable
    references: tuple[tuple[Filled, ...], ...]
    rows: tuple[tuple[Filled, ...], ...]
    recipe: str
    budget: str
    changes: str = ""


def fill(
    table: PaperTable,
    cells: Sequence[Cell],
    numbers: Sequence[Number],
    suite: Suite,
    recipe: str,
    budget: str = "",
    keys: Mapping[Row, Collection[str]] | None = None,
    changes: str = "",
) -> FilledTable:
    """Look up every cell of a table.

    Args:
        table: any.
        cells: of a results folder.
        numbers: published ones.
        suite: what there is, for the reasons.
        recipe: of measured numbers.
        budget: of measured numbers; "": ``full`` if any of this table is, else ``quick``.
        keys: of the runs that are meant by a row, with all seeds of them; ``None``: those without changes by ``--set``.
        changes: by ``--set`` of those runs, in words.
    """
    places = {column.place for column in table.columns}
    known = [
        (_labels(cell), cell)
        for cell in cells
        if cell.bench.recipe == recipe and f"{cell.bench.dataset}/{cell.bench.split}" in places
    ]

    def measured(spot: Spot) -> list[Cell]:
        return [cell for labels, cell in known if spot.shows(labels, suite) and is_meant(spot.row, labels, cell)]

    def is_meant(row: Row, labels: Labels, cell: Cell) -> bool:
        if keys is not None:
            return any(run.stage.key in keys.get(row, ()) for run in cell.runs)
        name = suite.called(row.ablation, labels) if row.ablation else row.suite
        return labels.method == name and "[" not in labels.protocol + labels.encoder

    first = references(table, suite)
    found = [
        [(spot, measured(spot)) for spot in (Spot(table, row, column) for column in table.columns)]
        for row in (*first, *table.rows)
    ]
    budgets = {cell.bench.budget for line in found for _, there in line for cell in there}
    budget = budget or ("full" if "full" in budgets else "quick")
    lines = [
        tuple(_filled(spot, [c for c in there if c.bench.budget == budget], numbers, suite) for spot, there in line)
        for line in found
    ]
    kept = tuple(line for line in lines[: len(first)] if any(one.summary for one in line))
    return FilledTable(table, kept, tuple(lines[len(first) :]), recipe, budget, changes)


def _filled(spot: Spot, found: Sequence[Cell], numbers: Sequence[Number], suite: Suite) -> Filled:
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
    names = {"method": _unmarked(cell.method), "protocol": _unmarked(cell.protocol), "encoder": cell.encoder}
    return Labels(**vars(cell.bench), **names, seed=0)


def _unmarked(name: str) -> str:
    """A name without what tells experiments of one name apart (``knn v2 #07c1``, ``aimclr #1f2e``)."""
    return re.sub(r"( v\d+)? #[0-9a-f]{4}$", "", name)


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
