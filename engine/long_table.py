"""Tables that may get very long."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

_LONG = 500
"""Rows; laying out more of them in a terminal's width takes longer than anybody waits."""


class LongTable:
    """Rows under headings: a rich table while they are few, else plain aligned lines, at a hundredth of the cost.

    Args:
        columns: headings.
        whole: headings of columns that are never folded.
    """

    def __init__(self, *columns: str, whole: tuple[str, ...] = ("key", "time", "size")) -> None:
        self.columns = columns
        self.whole = whole
        self.rows: list[tuple[tuple[str, ...], dict[str, str]]] = []

    def add(self, *cells: str, **styles: str) -> None:
        """Add a row; ``styles`` colour its columns by heading."""
        self.rows.append((cells, styles))

    def print(self, console: Console) -> None:
        """Print it."""
        if len(self.rows) > _LONG:
            self._print_lines(console)
            return
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for column in self.columns:
            table.add_column(column, overflow="fold", no_wrap=column in self.whole)
        for cells, styles in self.rows:  # as Text: brackets are no markup here
            table.add_row(*(Text(cell, styles.get(name, "")) for name, cell in zip(self.columns, cells, strict=True)))
        console.print(table)

    def _print_lines(self, console: Console) -> None:
        lines = [self.columns, *(tuple(" ".join(cell.split()) for cell in cells) for cells, _ in self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
        console.out(text, highlight=False)
