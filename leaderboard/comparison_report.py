"""Tests, ranks and agreement of a results folder: for the terminal, as CSV and as a picture."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table as Grid
from rich.text import Text

from leaderboard.cells import aggregate
from leaderboard.collect import collect
from leaderboard.comparison import PLACE, Place, Ranking, against_best, agreement, rankings
from leaderboard.render import replace
from leaderboard.shown import shown
from leaderboard.tables import one_line

NOTE = (
    "Over the seeds that a method and the best one have both run: the gap with its 95 % interval, p of a paired "
    "t-test over seeds and of a sign-flip permutation test over test samples (McNemar's exact one for one seed), "
    "adjusted for the number of methods (Holm). tied: the interval holds 0; single: it does not, but one seed says "
    "nothing about the noise of training; unknown: no seed is common, or one without scores. "
    "Methods are compared within an encoder where one of them ran on several. "
    "Ranks: the largest complete block of methods and tables; methods nearer "
    "than the critical difference cannot be told apart (Nemenyi, 5 %). The test takes tables for independent, which "
    "those of the same data, on several encoders or streams, are not. Few tables or seeds show little: a large p is "
    "no proof of equality."
)
"""How to read the tests."""
_P = ".3f"
_BEST = {"value": ".1f", "gap": "+.1f", "low": "+.1f", "high": "+.1f", "p_seeds": _P, "p_samples": _P}


def write(results: Path, *, figures: bool = True, changed: bool = False) -> RenderableType:
    """Write ``statistics/`` into a results folder: ``best.csv``, ``ranks.csv``, ``agreement.csv`` and a picture of the ranks.

    Args:
        results: the folder with ``runs/``.
        figures: whether to draw.
        changed: compare cells with changed settings too.

    Returns:
        What to print.
    """
    cells, left_out = shown(aggregate(collect(results)), changed)
    best, ranked, agreed = against_best(cells), rankings(cells), agreement(cells)
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
        *(Text(_counted(one)) for one in ranked),
        _grid("Do protocols agree? (Kendall's tau)", agreed, {"tau": ".2f", "p": _P}),
        Text(f"{NOTE} {left_out}".rstrip(), style="dim"),
    ]
    written = f"Written: {folder}/{{best,ranks,agreement}}.csv"
    if figures and ranked:
        from leaderboard.ranks_figure import draw  # here, because importing a plotting library takes a second

        written += ", " + ", ".join(str(path) for path in draw(ranked, folder))
    return Group(*parts, Text(written, style="dim"))


def _counted(one: Ranking) -> str:
    """Over which tables a ranking is, and what it had to leave out for its block to be complete."""
    title = f"{one.protocol}, recipe {one.recipe}, budget {one.budget}"
    tables, missing = (", ".join(map(_where, places)) for places in (one.places, one.left_out))
    text = f"Ranks of {title}: over {tables}"
    if missing or one.unranked:
        text += f"; without {', '.join(filter(None, (missing, *one.unranked)))}"
    return one_line(f"{text}.")


def _where(place: Place) -> str:
    """Data, stream and encoder in words."""
    bench = place.bench
    source = f" from {bench.source}" if bench.source else ""
    within = f" on {place.within}" if place.within else ""
    return f"{bench.dataset}/{bench.split}{source} {bench.stream}{within}"


def _frame(ranked: list[Ranking]) -> pd.DataFrame:
    rows = [
        (one.protocol, one.recipe, one.budget, method, rank, len(one.places), one.p, one.critical)
        for one in ranked
        for method, rank in zip(one.methods, one.ranks, strict=True)
    ]
    columns = ["protocol", "recipe", "budget", "method", "rank", "tables", "p", "critical"]
    return pd.DataFrame(rows, columns=columns)


def _grid(title: str, frame: pd.DataFrame, formats: dict[str, str]) -> RenderableType:
    """A table whose columns of a place are one, and that leaves out what is the same in every row."""
    if frame.empty:
        return Text(f"{title}: too little has been measured.", style="dim")
    place = [name for name in PLACE if name in frame]
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
