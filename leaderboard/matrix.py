"""Methods by encoders: what a bench with several of both comes to, one table per protocol."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from leaderboard.cells import HEADLINE, Bench, Cell
from leaderboard.tables import (
    NO_ENCODER,
    Row,
    Table,
    base_name,
    bench_title,
    entry_of,
    is_reference,
    method_order,
    method_title,
    one_line,
    protocol_order,
    protocol_title,
    rank_marks,
    short_keys,
)

_OF_FRAMES = "segmentation"
"""Has measures, and tables, of its own."""


def matrices(cells: Iterable[Cell]) -> list[Table]:
    """Tables for benches of several methods of which one ran on several encoders; cells in the order of ``aggregate``."""
    found = []
    for bench, group in groupby(cells, key=lambda cell: cell.bench):
        own = [
            cell
            for cell in group
            if cell.headline == HEADLINE
            and base_name(cell.protocol) != _OF_FRAMES
            and base_name(cell.method) != NO_ENCODER
        ]
        for protocol in sorted({cell.protocol for cell in own}, key=protocol_order):
            column = [cell for cell in own if cell.protocol == protocol]
            ranked = [cell.method for cell in column if not is_reference(cell.method)]
            if len(set(ranked)) > 1 and len(set(ranked)) < len(ranked):
                found.append(_matrix(bench, protocol, column))
    return found


def _matrix(bench: Bench, protocol: str, cells: Sequence[Cell]) -> Table:
    encoders = sorted({cell.encoder for cell in cells})
    grid = {(cell.method, cell.encoder): cell for cell in cells}
    marks = {name: rank_marks([cell for cell in cells if cell.encoder == name]) for name in encoders}
    rows = []
    for method in dict.fromkeys(cell.method for cell in sorted(cells, key=method_order)):
        own = [grid.get((method, encoder)) for encoder in encoders]
        rows.append(
            Row(
                name=one_line(method_title(method)),
                reference=is_reference(method),
                entries=tuple(
                    entry_of(cell, HEADLINE, marks[encoder].get((method, encoder), ""), "-")
                    for cell, encoder in zip(own, encoders, strict=True)
                ),
                facts=(),
                keys=tuple(f"{one_line(cell.encoder)}: {short_keys(cell)}" for cell in own if cell),
            )
        )
    return Table(
        f"{bench_title(bench)} · {one_line(protocol_title(protocol))} top-1 by encoder",
        tuple(map(one_line, encoders)),
        tuple(rows),
        "Each encoder with the settings of its own; best and tied within an encoder. Sorted by each method's best.",
        facts=(),
        bench=bench,
        protocols=(one_line(protocol),) * len(encoders),
    )
