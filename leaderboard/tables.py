"""Tables for people, free of any format: one per dataset, split, source, stream, recipe, budget; methods by protocols."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from itertools import groupby

from leaderboard.cells import HEADLINE, Bench, Cell, Summary
from leaderboard.differences import Mark, difference
from leaderboard.differences import mark as mark_of

REFERENCES = {
    "raw": "raw coordinates",
    "random": "random encoder",
    "supervised": "supervised from scratch",
    "imported": "imported",
}
"""Methods that a table is read against, or that were trained on other data; never ranked, shown in this order."""
MEASURES = {
    "miou": "mIoU", "acc": "ACC", "macc": "MACC", "fwiou": "FWIoU", "edit": "Edit",
    "f1_10": "F1@10", "f1_25": "F1@25", "f1_50": "F1@50",
    "miou_actions": "mIoU actions", "acc_actions": "ACC actions",
    "macc_actions": "MACC actions", "fwiou_actions": "FWIoU actions",
}  # fmt: skip
"""Columns of a table of segmentation; its headline comes first."""
_ORDER = ("knn", "linear", "zero_shot", "semi", "finetune", "transfer", "segmentation", "fusion")
NO_ENCODER = "raw"
"""The method that reads no encoder."""
_TWINS = {"random": "supervised", "supervised": "random"}
"""The same initial weights, frozen and trained."""
_MAIN = "linear"
_RANKED = "miou"
_CHARTED = 4
_KEY_DIGITS = 6
_SIGNS: Mapping[Mark, str] = {"tied": " ≈", "single": " †", "unknown": " ‡"}

LEGEND = (
    "In percent, last epoch: mean ± sd over n seeds [95 % interval: over seeds and test samples, of one seed over test samples "
    "only]; draws ± is the sd over draws of labels. Best method in bold. "
    "≈ cannot be told apart from it: the 95 % interval of the difference, paired by seed and test sample, holds 0; it is "
    "as wide as comparing all methods of a column with each other takes (Tukey). "
    "† differs over test samples, but only one seed is common, so nothing is known about the noise of training. ‡ could not be "
    "compared: no seed is common, or one without scores of the samples. "
    "Reference rows come first and are not ranked."
)


@dataclass(frozen=True)
class Entry:
    """One cell of a table.

    Attributes:
        text: ``81.3 ± 0.4``, or the reason why there is no number.
        detail: ``[79.9, 82.6] n=3``.
        gap: what is missing beside that number.
        mark: how it stands to the best of its column.
        summary: the numbers, ``None`` where there are none.
        key: of the cell behind it, which the page opens; "" where there is none.
    """

    text: str
    detail: str = ""
    gap: str = ""
    mark: Mark = ""
    summary: Summary | None = None
    key: str = ""

    @property
    def sign(self) -> str:
        """The sign of its mark with a space before it, "" where there is none."""
        return _SIGNS.get(self.mark, "")


@dataclass(frozen=True)
class Row:
    """A method.

    Attributes:
        name: as shown.
        reference: whether it is a reference row.
        entries: one per column of the table.
        facts: feature width, parameters, pre-training epochs, encoder, as shown.
        keys: ``knn 3f2a1c 77ab01``: protocol and shortened keys of the runs behind the entries.
    """

    name: str
    reference: bool
    entries: tuple[Entry, ...]
    facts: tuple[str, ...]
    keys: tuple[str, ...]


FACTS = ("Features", "Parameters", "Epochs", "Encoder")
"""Headings of ``Row.facts``; epochs of pre-training, those of earlier stages included."""
_FACT_NAMES = ("feature_dim", "params", "pretrain_epochs")


@dataclass(frozen=True)
class Table:
    """One table; ``columns`` are headings such as ``KNN top-1``, ``note`` says how it is sorted.

    ``measure`` is what numbers are, ``charted`` the number of columns, from the first, that the chart shows (0 = all), and
    ``first`` the heading of the rows' names. ``bench`` and ``protocols``, one per column, are what the page filters by;
    ``timeline`` is the file in ``figures/`` that shows predictions over time, once it is drawn.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    note: str
    facts: tuple[str, ...] = FACTS
    measure: str = "top-1 accuracy"
    charted: int = 0
    first: str = "Method"
    bench: Bench | None = None
    protocols: tuple[str, ...] = ()
    timeline: str = ""


def tables(cells: Iterable[Cell]) -> list[Table]:
    """Tables of cells sorted as ``leaderboard.cells.aggregate`` does.

    Methods are ranked within an encoder where one of them ran on several. Segmentation has measures, and tables, of its own.
    """
    found = []
    for bench, group in groupby(cells, key=lambda cell: cell.bench):
        for encoder, own in by_encoder(list(group)):
            measured = [cell for cell in own if base_name(cell.protocol) == "segmentation" or cell.headline in MEASURES]
            if others := [cell for cell in own if cell not in measured]:
                found.append(_classification(bench, others, encoder))
            by_protocol = groupby(sorted(measured, key=lambda cell: cell.protocol), key=lambda cell: cell.protocol)
            found += [_segmentation(bench, list(part), encoder) for _, part in by_protocol]
    return found


def by_encoder(cells: Sequence[Cell]) -> list[tuple[str, Sequence[Cell]]]:
    """Cells of a bench in the groups that methods are ranked within, as pairs of encoder and cells.

    All of them under "" where every method ran on one encoder, else those of each encoder apart; what reads no encoder is part
    of each group.
    """
    ranked = {(cell.method, cell.encoder) for cell in cells if not is_reference(cell.method)}
    if len({method for method, _ in ranked}) == len(ranked):
        return [("", cells)]
    bare = [base_name(cell.method) == NO_ENCODER for cell in cells]
    encoders = sorted({cell.encoder for cell, without in zip(cells, bare, strict=True) if not without})
    return [
        (name, [cell for cell, without in zip(cells, bare, strict=True) if without or cell.encoder == name])
        for name in encoders
    ]


def _classification(bench: Bench, cells: Sequence[Cell], encoder: str) -> Table:
    protocols = sorted({cell.protocol for cell in cells}, key=protocol_order)
    main = next((name for name in protocols if re.match(rf"(transfer:)?{_MAIN}\b", name)), protocols[0])
    rows = _rows(cells, [(protocol, HEADLINE) for protocol in protocols], main)
    columns = tuple(f"{one_line(protocol_title(protocol))} top-1" for protocol in protocols)
    note = f"Sorted by {columns[protocols.index(main)]}."
    return Table(_title(bench, encoder), columns, rows, note, bench=bench, protocols=tuple(map(one_line, protocols)))


def _segmentation(bench: Bench, cells: Sequence[Cell], encoder: str) -> Table:
    """Measures of one protocol on untrimmed recordings, beside those of the most frequent class."""
    protocol = cells[0].protocol
    rows = _rows(cells, [(protocol, measure) for measure in MEASURES], protocol)
    title = f"{_title(bench, encoder)} · {one_line(protocol)}"
    note = "Actions: without the frames whose true class is background."
    if done := next((cell for cell in cells if cell.done), None):
        constant = [done.constant.get(measure) for measure in MEASURES]
        entries = tuple(Entry(f"{one.mean:.1f}", summary=one) if one else Entry("-") for one in constant)
        rows = (Row("majority class", True, entries, ("-",) * len(FACTS), ()), *rows)
        facts = done.done[0].stage.facts
        note += f" {facts['background']:.1f} % of the frames of the {facts['test_recordings']} test recordings are background."
        if "window" in facts:
            note += f" Windows of {facts['window']} frames, stride {facts['stride']}, pooling {facts['pooling']}"
            note += f", {facts['fps']:g} frames per second" if "fps" in facts else ""
            note += f", every {facts['subsample']}. frame." if facts["subsample"] > 1 else "."
    note += f" Sorted by {next(iter(MEASURES.values()))}."
    return Table(
        title,
        tuple(MEASURES.values()),
        rows,
        note,
        measure="segmentation",
        charted=_CHARTED,
        bench=bench,
        protocols=(one_line(protocol),) * len(MEASURES),
        timeline=timeline_name(bench, protocol),
    )


def timeline_name(bench: Bench, protocol: str) -> str:
    """File name of the picture of predictions over time."""
    name = "-".join([*filter(None, astuple(bench)), protocol])
    return f"timelines-{re.sub(r'[^A-Za-z0-9]+', '-', name).strip('-')}.png"


def bench_title(bench: Bench) -> str:
    """What a bench is called: data, stream, recipe, budget."""
    place = place_title(bench.dataset, bench.split, bench.source)
    return one_line(f"{place} · {bench.stream} stream · recipe {bench.recipe} · budget {bench.budget}")


def place_title(dataset: str, split: str, source: str) -> str:
    """What data are called: ``ntu60/xsub``, and what a method was pre-trained on where that is something else."""
    return "/".join(filter(None, (dataset, split))) + (f" from {source}" if source else "")


def _title(bench: Bench, encoder: str) -> str:
    return " · ".join(filter(None, (bench_title(bench), one_line(encoder))))


def _rows(cells: Sequence[Cell], columns: Sequence[tuple[str, str]], main: str) -> tuple[Row, ...]:
    """Rows of a table: its columns are pairs of protocol and metric, and it is sorted by the headline of ``main``."""
    protocols = list(dict.fromkeys(protocol for protocol, _ in columns))
    grid = {(cell.method, cell.encoder, cell.protocol): cell for cell in cells}
    methods = sorted({(cell.method, cell.encoder) for cell in cells})

    def order(method: tuple[str, str]) -> tuple[int, float, tuple[str, str]]:
        cell = grid.get((*method, main))
        return method_order(cell) if cell else (_reference_order(method[0]), 1.0, method)

    marks = {protocol: rank_marks([cell for cell in cells if cell.protocol == protocol]) for protocol in protocols}
    rows = []
    for method, encoder in sorted(methods, key=order):
        own = {protocol: grid.get((method, encoder, protocol)) for protocol in protocols}
        rows.append(
            Row(
                name=one_line(method_title(method)),
                reference=is_reference(method),
                entries=tuple(
                    entry_of(own[p], metric, marks[p].get((method, encoder), ""), _elsewhere(method, encoder, p, grid))
                    for p, metric in columns
                ),
                facts=(*(_numbers(own.values(), name) for name in _FACT_NAMES), one_line(encoder)),
                keys=tuple(short_keys(cell) for cell in own.values() if cell),
            )
        )
    return tuple(rows)


def method_order(cell: Cell) -> tuple[int, float, tuple[str, str]]:
    """Sorts a column: references first, then methods by their headline, the best one first."""
    value = cell.metrics[cell.headline].mean if cell.headline in cell.metrics else -1.0
    return (_reference_order(cell.method), 0.0 if is_reference(cell.method) else -value, (cell.method, cell.encoder))


def rank_marks(column: Sequence[Cell], metric: str = "") -> dict[tuple[str, str], Mark]:
    """Marks by method and encoder; nothing where there are fewer than two methods to compare.

    Args:
        column: cells of one protocol and bench.
        metric: what to rank by; "" for what the protocol does.
    """
    known = [(cell, cell.metrics.get(metric or cell.headline)) for cell in column if not is_reference(cell.method)]
    ranked = [(cell, one.mean) for cell, one in known if one]
    if len(ranked) < 2:
        return {}
    top, best = max(ranked, key=lambda one: one[1])
    return {
        (cell.method, cell.encoder): "best" if value == best else mark_of(difference(cell, top, metric, len(ranked)))
        for cell, value in ranked
    }


def _elsewhere(method: str, encoder: str, protocol: str, grid: Mapping[tuple[str, str, str], Cell]) -> str:
    """Where a reference row's cell is: an untrained encoder that a protocol trains is the supervised row."""
    twin = _TWINS.get(base_name(method), "")
    if twin and (twin + method[len(base_name(method)) :], encoder, protocol) in grid:
        return f"see {REFERENCES[twin]}"
    return "not asked for"


def entry_of(cell: Cell | None, metric: str, mark: Mark, elsewhere: str) -> Entry:
    """What a table shows of a cell; ``elsewhere`` is said where there is none."""
    if cell is None:
        return Entry(elsewhere)
    summary = cell.metrics.get(metric)
    gap = one_line(cell.gap)
    if summary is None:  # the reason stands once, in the column that methods are ranked by
        reason = gap or f"no {metric} in the record" if metric in (HEADLINE, _RANKED) else "-"
        return Entry(reason, key=cell.key)
    text = f"{summary.mean:.1f}" if summary.sd is None else f"{summary.mean:.1f} ± {summary.sd:.1f}"
    if metric != cell.headline:
        return Entry(text, summary=summary, key=cell.key)
    band = "" if summary.low is None or summary.high is None else f"[{summary.low:.1f}, {summary.high:.1f}] "
    draws = cell.metrics.get("top1_draws_sd")
    spread = f", draws ± {draws.mean:.1f}" if draws else ""
    return Entry(text, f"{band}n={summary.n}{spread}", gap, mark, summary, cell.key)


def _numbers(cells: Iterable[Cell | None], name: str) -> str:
    """A fact of a row's cells; protocols may read features of several widths."""
    values = {cell.fact(name) for cell in cells if cell} - {None}
    return " / ".join(f"{value:,}" for value in sorted(v for v in values if v is not None)) or "-"


def short_keys(cell: Cell) -> str:
    """A cell's protocol and the shortened keys of its runs, see ``Row.keys``."""
    keys = [run.stage.key[:_KEY_DIGITS] for run in cell.done or cell.runs]
    return one_line(" ".join([cell.protocol, *keys]))


def base_name(name: str) -> str:
    """Plug-in name without preset, changes and suffix."""
    return re.split(r"[:\[ ]", name, maxsplit=1)[0]


def is_reference(method: str) -> bool:
    """Whether a method's rows are only read against, never ranked."""
    return base_name(method) in REFERENCES


def _reference_order(method: str) -> int:
    names = list(REFERENCES)
    return names.index(base_name(method)) if is_reference(method) else len(names)


def method_title(method: str) -> str:
    """What tables call a method: reference rows in words."""
    base = base_name(method)
    return REFERENCES.get(base, base) + method[len(base) :]


def protocol_title(protocol: str) -> str:
    """What tables call a protocol."""
    base = base_name(protocol)
    return {"knn": "KNN", "zero_shot": "Zero-shot"}.get(base, base.capitalize()) + protocol[len(base) :]


def measure_title(metric: str) -> str:
    """What tables call a metric that methods are ranked by."""
    return MEASURES.get(metric, {HEADLINE: "top-1"}.get(metric, metric))


def protocol_order(protocol: str) -> tuple[int, str]:
    """Sorts columns."""
    base = base_name(protocol)
    return (_ORDER.index(base) if base in _ORDER else len(_ORDER), protocol)


def one_line(text: str) -> str:
    """One line without control characters."""
    return "".join(c if c.isprintable() else " " for c in " ".join(text.split()))
