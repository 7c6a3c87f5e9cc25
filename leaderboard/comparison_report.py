"""Tests, ranks and agreement of a results folder: for the terminal, as CSV and as a picture."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table as Grid
from rich.text import Text

from leaderboard.cells import Bench, aggregate
from leaderboard.collect import collect
from leaderboard.comparison import TABLE, Ranking, against_best, agreement, rankings
from leaderboard.render import replace
from leaderboard.shown import shown
from leaderboard.tables import one_line, place_title

NOTE = (
    "Over the seeds that a method and the best one have both run: the gap with its 95 % interval, as wide as comparing all "
    "methods with each other takes (Tukey), p of a paired t-test over seeds and of a sign-flip permutation test over test "
    "samples (McNemar's exact one where a sample is right or wrong once), adjusted for the number of methods (Holm), not for "
    "having picked the best. tied: the interval holds 0; single: it does not, but one seed says "
    "nothing about the noise of training; unknown: no seed is common, or one without scores. "
    "Methods are compared within an encoder where one of them ran on several. "
    "Ranks: each method with the encoder of its paper, where it ran on several, over the largest complete block of methods and "
    "tables; methods nearer than the critical difference cannot be told apart (Nemenyi, 5 %). The test takes tables for "
    "independent, which streams of the same data are not. p of ranks and of agreement are not adjusted for their number. "
    "Few tables or seeds show little: a large p is no proof of equality."
)
"""How to read the tests."""
_P = ".3f"
_BEST = {"value": ".1f", "gap": "+.1f", "low": "+.1f", "high": "+.1f", "p_seeds": _P, "p_samples": _P}


def write(
    results: Path, own: Callable[[str], str] = lambda _: "", *, figures: bool = True, changed: bool = False
) -> RenderableType:
    """Write ``statistics/`` into a results folder: ``best.csv``, ``ranks.csv``, ``agreement.csv`` and a picture of the ranks.

    Args:
        results: the folder with ``runs/``.
        own: the encoder of a method's paper, "" where it is not known.
        figures: whether to draw.
        changed: compare cells with changed settings too.

    Returns:
        What to print.
    """
    cells, left_out = shown(aggregate(collect(results)), changed)
    failed = sum(run.stage.status == "failed" for cell in cells for run in cell.runs)
    missing = f"{failed} run{'s' * (failed > 1)} failed or damaged, and not compared (runs list)." if failed else ""
    best, ranked, agreed = against_best(cells), rankings(cells, own), agreement(cells)
    folder = results / "statistics"
    folder.mkdir(parents=True, exist_ok=True)
    for file, frame in (("best", best), ("ranks", _frame(ranked)), ("agreement", agreed)):
        frame = frame.copy()
        for name in filter(frame.__contains__, ("p", "p_seeds", "p_samples")):
            frame[name] = frame[name].map("{:.3g}".format, na_action="ignore")
        text = frame.to_csv(index=False, float_format="%.4f", lineterminator="\n")
        replace(folder / f"{file}.csv", text)
    parts: list[RenderableType] = [
        _grid("Against the best method", best, _BEST),
        _grid("Average ranks", _frame(ranked), {"rank": ".2f", "p": _P, "critical": ".2f"}),
        *(Text(line) for one in ranked if (line := _left_out(one))),
        _grid("Do protocols agree? (Kendall's tau)", agreed, {"tau": ".2f", "p": _P}),
        Text(" ".join(filter(None, (NOTE, left_out, missing))), style="dim"),
    ]
    written = f"Written: {folder}/{{best,ranks,agreement}}.csv"
    if figures:
        for suffix in ("png", "svg"):
            (folder / f"ranks.{suffix}").unlink(missing_ok=True)
    if figures and ranked:
        from leaderboard.ranks_figure import draw  # here, because importing a plotting library takes a second

        written += ", " + ", ".join(str(path) for path in draw(ranked, folder))
    return Group(*parts, Text(written, style="dim"))


def _left_out(one: Ranking) -> str:
    """What a ranking had to leave out for its block to be complete, "" for nothing."""
    names = ", ".join([*map(_place, one.left_out), *one.unranked])
    return (
        one_line(f"Not in the ranks of {one.protocol}, recipe {one.recipe}, budget {one.budget}: {names}")
        if names
        else ""
    )


def _place(bench: Bench) -> str:
    """Data and stream in words."""
    return one_line(f"{place_title(bench.dataset, bench.split, bench.source)} {bench.stream}")


def _frame(ranked: list[Ranking]) -> pd.DataFrame:
    rows = [
        (
            one.protocol,
            one.recipe,
            one.budget,
            over,
            len(one.benches),
            one.p,
            one.critical,
            method,
            " / ".join(encoders),
            rank,
        )
        for one in ranked
        for over in [", ".join(map(_place, one.benches))]
        for method, encoders, rank in zip(one.methods, one.encoders, one.ranks, strict=True)
    ]
    columns = ["protocol", "recipe", "budget", "over", "tables", "p", "critical", "method", "encoder", "rank"]
    return pd.DataFrame(rows, columns=columns)


def _grid(title: str, frame: pd.DataFrame, formats: dict[str, str]) -> RenderableType:
    """A table whose columns of a bench are one, and that leaves out what is the same in every row."""
    if frame.empty:
        return Text(f"{title}: too little has been measured.", style="dim")
    place = [name for name in TABLE if name in frame]
    grid = Grid(title=Text(title, style="bold"), title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    rest = [str(name) for name in frame.columns if name not in place]
    for name in (["data"] if place else []) + rest:
        grid.add_column(name, justify="right" if name in formats else "left", overflow="fold")
    for row in frame.to_dict("records"):
        where = [one_line(" ".join(str(row[name]) for name in place if row[name]))] if place else []
        grid.add_row(*map(Text, where), *(Text(_shown(row[name], formats.get(name, ""))) for name in rest))
    return grid


def _shown(value: object, form: str) -> str:
    if isinstance(value, float):
        if form == _P and value < 0.001:
            return "< 0.001"
        return "-" if math.isnan(value) else format(value, form)
    return one_line(str(value))
