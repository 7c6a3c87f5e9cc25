"""Everything a results folder shows: tables in the terminal, as CSV, Markdown, LaTeX and a page, and a figure."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from leaderboard import page, render
from leaderboard.cells import aggregate, frame
from leaderboard.collect import evaluations, read_stages
from leaderboard.entries import Submitted
from leaderboard.matrix import matrices
from leaderboard.tables import tables

_OTHERS = "entries of others, not ranked with the above"


def write(results: Path, *, figures: bool = True, others: Submitted | None = None) -> RenderableType:
    """Write ``leaderboard.csv``, ``.md``, ``.tex``, ``.html``, ``figures/`` and ``page/`` into a results folder.

    A pure function of the records and of the tables and figures that other commands left: the same ones give the same bytes.

    Args:
        results: the folder with ``runs/``.
        figures: whether to draw, which takes longer than all the rest.
        others: what others measured (:mod:`leaderboard.entries`), in tables of their own behind those of the records.

    Returns:
        What to print: the tables and where they lie, or a note that there are no runs yet.
    """
    stages, others = read_stages(results), others or Submitted()
    cells = aggregate(evaluations(stages))
    if not cells and not others.cells:
        return Text(f"No evaluations in {results / 'runs'} yet. Run something: python run_bench.py --methods aimclr")
    measured = tables(cells)
    theirs = [replace(each, title=f"{each.title} · {_OTHERS}", timeline="") for each in tables(others.cells)]
    boards = measured + matrices(cells) + theirs
    picture, source, more = "", "", []
    if figures and measured:
        from leaderboard.figures import draw  # here, because importing a plotting library takes a second
        from leaderboard.timelines import draw_timelines

        png, svg = draw(measured, results / "figures")
        picture = png.relative_to(results).as_posix()
        more = [path.relative_to(results).as_posix() for path in draw_timelines(cells, results / "figures")]
        source = "data:image/svg+xml;base64," + base64.b64encode(svg.read_bytes()).decode()
    there = {path.name for path in (results / "figures").glob("*.png")}
    boards = [board if board.timeline in there else replace(board, timeline="") for board in boards]
    csv = frame([*cells, *others.cells]).to_csv(index=False, float_format="%.4f", lineterminator="\n")
    files = {
        "csv": csv,
        "md": render.markdown(boards, picture),
        "tex": render.latex(boards),
        "html": render.page(boards, source),
    }
    for suffix, text in files.items():
        render.replace(results / f"leaderboard.{suffix}", text)
    where = f"Written: {results / 'leaderboard'}.{{{','.join(files)}}}" + "".join(
        f", {results / one}" for one in [picture, *more] if one
    )
    index = page.write(results, boards, cells, stages, others)
    return Group(render.terminal(boards), Text(f"{where}\nOpen in a browser: {index}", style="dim"))
