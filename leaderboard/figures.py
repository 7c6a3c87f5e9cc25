"""The leaderboard as a bar chart."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from leaderboard import style
from leaderboard.cells import Summary
from leaderboard.style import wrapped
from leaderboard.tables import FACTS, REFERENCES, Row, Table

_GROUP = 0.8
"""Share of a method's slot that its bars fill."""
# In inches: of a method's slot, of a label of the vertical axis, and of an entry of the legend.
_SLOT, _AXIS, _ENTRY = 0.95, 1.1, 2.6
_SCALE = 1.15
"""Of letters: these pictures are wide, and shown smaller than others."""
_TITLE, _TICK = 9 * _SCALE, 8 * _SCALE
_ENCODER = FACTS[-1]
_DASHES = (0, (2, 1))
_DPI = 200
_MOST = 30
"""Rows of a panel, the reference rows and then the best: more names than this cannot be read, and take minutes to draw."""


def draw(boards: Sequence[Table], folder: Path) -> list[Path]:
    """Draw ``leaderboard.png`` and ``leaderboard.svg``: one panel per table, its first 30 methods x protocols.

    Whiskers are 95 % intervals, hatched bars the reference rows; a dashed line across a bar is what the random encoder
    reaches there. The same tables give the same bytes.
    """
    boards = [_shortened(board) for board in boards]
    columns = list(dict.fromkeys(column for board in boards for column in _charted(board)))
    colours = dict(zip(columns, style.column_colours(len(columns)), strict=True))
    widest = max(len(board.rows) for board in boards)
    size = (max(6.4, _AXIS + _SLOT * widest), 3.3 * len(boards) + 0.1)
    with style.canvas(_SCALE):
        figure = Figure(size, layout="constrained")
        panels = figure.subplots(len(boards), 1, squeeze=False)
        for board, axes in zip(boards, panels[:, 0], strict=True):
            _panel(axes, board, colours)
            axes.set_title(wrapped(board.title, size[0] - _AXIS, _TITLE))
            axes.set_xlim(-0.6, widest - 0.4)
        handles: list[Artist] = [
            *(Patch(facecolor=colour, label=wrapped(column, _ENTRY, _TICK)) for column, colour in colours.items()),
            Patch(facecolor="white", edgecolor="0.35", hatch="////", label="reference"),
            Line2D([], [], color="black", linestyle=_DASHES, linewidth=1.2, label="level of the random encoder"),
        ]
        style.legend(figure, handles)
        return style.store(figure, folder / "leaderboard", ("png", "svg"), _DPI)


def _panel(axes: Axes, board: Table, colours: dict[str, tuple[float, float, float]]) -> None:
    width = _GROUP / len(_charted(board))
    references = sum(row.reference for row in board.rows)
    levels = random_levels(board)
    encoders = {encoder for encoder, _ in levels}
    told = encoders if len(encoders) > 1 else set()
    for i, column in enumerate(_charted(board)):
        middles = [place - _GROUP / 2 + (i + 0.5) * width for place in range(len(board.rows))]
        numbers = []
        for x, row in zip(middles, board.rows, strict=True):
            entry, level = row.entries[i], None if row.reference else levels.get((_encoder(board, row), i))
            if entry.summary is None:
                reason = entry.text.partition(":")[0]
                axes.text(x, 1.5, reason, rotation=90, ha="center", va="bottom", fontsize=7, color="0.45")
            else:
                numbers.append(_Bar(x, entry.summary, row.reference, level))
        _bars(axes, numbers, 0.92 * width, colours[column])
    if 0 < references < len(board.rows):
        axes.axvline(references - 0.5, color="0.6", lw=0.8)
    labels = [_label(row, told.intersection([_encoder(board, row)])) for row in board.rows]
    axes.set_xticks(range(len(board.rows)), labels)
    axes.set(ylim=(0, 108), yticks=range(0, 101, 20), ylabel=f"{board.measure} (%)")
    axes.grid(visible=False, axis="x")
    sns.despine(ax=axes)


def _encoder(board: Table, row: Row) -> str:
    """The encoder of a row as shown, "" in a table that does not tell."""
    return row.facts[board.facts.index(_ENCODER)] if _ENCODER in board.facts else ""


def random_levels(board: Table) -> dict[tuple[str, int], float]:
    """What the random encoder reaches, by encoder and column of a table."""
    return {
        (_encoder(board, row), i): entry.summary.mean
        for row in board.rows
        if row.name.startswith(REFERENCES["random"])
        for i, entry in enumerate(row.entries)
        if entry.summary
    }


class _Bar(NamedTuple):
    """Middle, number, whether its row is a reference, and what the random encoder reaches there."""

    x: float
    number: Summary
    reference: bool
    level: float | None


def _bars(axes: Axes, numbers: Sequence[_Bar], width: float, colour: tuple[float, float, float]) -> None:
    """One column of a table, drawn with few calls."""
    drawn = axes.bar([b.x for b in numbers], [b.number.mean for b in numbers], width, color=colour, edgecolor=colour)
    for patch, bar in zip(drawn, numbers, strict=True):
        if bar.reference:
            patch.set(facecolor="white", hatch="////")
    dashes = [(bar.x, bar.level) for bar in numbers if bar.level is not None]
    if dashes:
        left, right = ([x + side * width / 2 for x, _ in dashes] for side in (-1, 1))
        axes.hlines([level for _, level in dashes], left, right, colors="black", linestyles=_DASHES, lw=1.2)
    summaries = [(bar.x, bar.number) for bar in numbers]
    known = [(x, one.mean, one.low, one.high) for x, one in summaries if one.low is not None and one.high is not None]
    if known:
        below = [max(mean - low, 0) for _, mean, low, _ in known]
        above = [max(high - mean, 0) for _, mean, _, high in known]
        places, tops = [x for x, *_ in known], [mean for _, mean, *_ in known]
        axes.errorbar(places, tops, [below, above], color="0.2", capsize=2, lw=1, fmt="none")
    halo = [withStroke(linewidth=2, foreground="white")]  # a dashed level may lie behind a number
    for x, one in summaries:
        top = one.mean if one.low is None or one.high is None else max(one.mean, one.high)
        axes.text(x, top + 1, f"{one.mean:.1f}", ha="center", va="bottom", fontsize=7, path_effects=halo)


def _shortened(board: Table) -> Table:
    """The table without the rows that are not drawn; the title says so."""
    left_out = len(board.rows) - _MOST
    if left_out <= 0:
        return board
    return replace(board, rows=board.rows[:_MOST], title=f"{board.title} · {left_out} more rows in the table")


def _charted(board: Table) -> tuple[str, ...]:
    """The columns that are drawn."""
    return board.columns[: board.charted or None]


def _label(row: Row, encoders: Set[str]) -> str:
    """A row's name in short lines, changes below the method, and its encoder below that."""
    name, bracket, changes = row.name.partition("[")
    parts = (name, bracket + changes, *(encoder.replace("_", " ") for encoder in encoders))
    return "\n".join(wrapped(part, _SLOT, _TICK) for part in parts if part)
