"""Which cells tables and figures show: those with changed settings only where somebody asks for them."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from leaderboard.cells import Cell


def shown(cells: Iterable[Cell], changed: bool = False, asked: Collection[str] = ()) -> tuple[list[Cell], str]:
    """Leave out what ablations and grids left: it has tables of its own, and is no method or protocol to rank.

    Args:
        cells: any.
        changed: keep them all.
        asked: keys of runs that the command asks for, whose cells are kept.

    Returns:
        What is left, in the same order, and a line that says how many are not and how to see them; "" where none is missing.
    """
    known = list(cells)
    kept = [cell for cell in known if changed or not cell.changed or any(run.stage.key in asked for run in cell.runs)]
    left_out = len(known) - len(kept)
    plural = "s" if left_out > 1 else ""
    line = f"{left_out} cell{plural} with changed settings, NAME[...], left out; --changed shows them."
    return kept, line if left_out else ""
