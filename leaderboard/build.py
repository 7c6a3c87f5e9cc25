"""Everything a results folder shows: tables in the terminal, as CSV, Markdown, LaTeX and a page, and a figure."""

from __future__ import annotations

import base64
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from leaderboard import page, render
from leaderboard.cells import aggregate, frame
from leaderboard.collect import evaluations, read_stages
from leaderboard.entries import Submitted
from leaderboard.matrix import matrices
from leaderboard.shown import shown
from leaderboard.tables import LEGEND, tables

_OTHERS = "entries of others, not ranked with the above"


def write(
    results: Path,
    *,
    figures: bool = True,
    others: Submitted | None = None,
    changed: bool = False,
    asked: Collection[str] = (),
) -> RenderableType:
    """Write ``leaderboard.csv``, ``.md``, ``.tex``, ``.html``, ``figures/`` and ``page/`` into a results folder.

    A pure function of the arguments, the records and the tables and figures that other commands left: the same ones give the
    same bytes. ``leaderboard.csv`` and the page's records hold every cell, tables and figures those of ``shown``.

    Args:
        results: the folder with ``runs/``.
        figures: whether to draw, which takes longer than all the rest.
        others: what others measured (:mod:`leaderboard.entries`), in tables of their own behind those of the records.
        changed: show cells with changed settings too.
        asked: keys of runs whose cells are shown, changed or not.

    Returns:
        What to print: the tables and where they lie, or a note that there are no runs yet.
    """
    stages, others = read_stages(results), others or Submitted()
    cells = aggregate(evaluations(stages))
    if not cells and not others.cells:
        return Text(f"No evaluations in {results / 'runs'} yet. Run something: python run_bench.py --methods aimclr")
    kept, left_out = shown(cells, changed, asked)
    legend = f"{LEGEND} {left_out}".rstrip()
    measured = tables(kept)
    theirs = [replace(each, title=f"{each.title} · {_OTHERS}", timeline="") for each in tables(others.cells)]
    boards = measured + matrices(kept) + theirs
    picture, source, more = "", "", []
    if figures and measured:
        from leaderboard.figures import draw  # here, because importing a plotting library takes a second
        from leaderboard.timelines import draw_timelines

        png, svg = draw(measured, results / "figures")
        picture = png.relative_to(results).as_posix()
        more = [path.relative_to(results).as_posix() for path in draw_timelines(kept, results / "figures")]
        source = "data:image/svg+xml;base64," + base64.b64encode(svg.read_bytes()).decode()
    there = {path.name for path in (results / "figures").glob("*.png")}
    boards = [board if board.timeline in there else replace(board, timeline="") for board in boards]
    csv = frame([*cells, *others.cells]).to_csv(index=False, float_format="%.4f", lineterminator="\n")
    files = {
        "csv": csv,
        "md": render.markdown(boards, picture, legend=legend),
        "tex": render.latex(boards, legend),
        "html": render.page(boards, source, legend=legend),
    }
    for suffix, text in files.items():
        render.replace(results / f"leaderboard.{suffix}", text)
    where = f"Written: {results / 'leaderboard'}.{{{','.join(files)}}}" + "".join(
        f", {results / one}" for one in [picture, *more] if one
    )
    index = page.write(results, boards, cells, stages, others, legend)
    return Group(render.terminal(boards, legend), Text(f"{where}\nOpen in a browser: {index}", style="dim"))
