"""Tables of measurements, for a terminal or for Markdown."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table as RichTable


@dataclass(frozen=True)
class Table:
    """What was measured.

    Attributes:
        title: what, and under which conditions.
        columns: headings; the first column names the rows.
        rows: formatted cells.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """The table as it stands in the documentation."""
        cells = [self.columns, ["---", *["---:"] * (len(self.columns) - 1)], *self.rows]
        return "\n".join([f"{self.title}:", "", *(f"| {' | '.join(row)} |" for row in cells)])

    def show(self, markdown: bool = False) -> None:
        """Print it."""
        if markdown:
            print(self.markdown(), end="\n\n", flush=True)
            return
        table = RichTable(title=self.title, title_justify="left")
        for number, column in enumerate(self.columns):
            table.add_column(column, justify="right" if number else "left")
        for row in self.rows:
            table.add_row(*row)
        Console().print(table)


def told(row: Sequence[str]) -> Sequence[str]:
    """The row, after a line on the standard error, so that a table that takes long loses nothing when it is stopped."""
    print("  ".join(row), file=sys.stderr, flush=True)
    return row


def show_all(tables: Iterable[Table], markdown: bool = False) -> None:
    """Print tables, each as soon as it is measured."""
    for table in tables:
        table.show(markdown)
