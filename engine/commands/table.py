"""A paper's table: what it needs is planned, run and rendered."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from engine.commands.run import assert_own_datasets
from engine.config import BenchError
from engine.options import WIDTH, complain, listed, running

if TYPE_CHECKING:
    from engine.plan import Plan
    from engine.store import RunStore
    from leaderboard.cells import Cell
    from leaderboard.paper import Suite, Wanted
    from leaderboard.paper_tables import PaperTable, Row


@click.command()
@click.argument("name")
@listed("--datasets", None, "Some of the paper's (NAME, NAME=DATA), or others to stand in.  [default: the paper's]")
@click.option("--render", "only_render", is_flag=True, help="Render what there is, and run nothing.")
@running
@click.pass_context
def table(ctx: click.Context, /, name: str, **options: Any) -> None:
    """Fill in and render a paper's table NAME, such as actclr.t1; 'list' shows all of them.

    Runs what is missing of it, then writes RESULTS/tables/NAME.md, .csv, .tex and .html.
    """
    from engine.ablation import declared
    from leaderboard import paper
    from leaderboard.paper_tables import TABLES

    if name not in TABLES and name in declared():
        raise BenchError(f"{name} is a table of one method's variants: run_bench.py --ablate {name}.")
    ctx.exit(_table_list(**options) if name == "list" else _table(paper.find(name), **options))


def _table(table: PaperTable, *, only_render: bool, **options: Any) -> int:
    assert_own_datasets()
    from engine.session import carry_out
    from leaderboard import paper, paper_board, render
    from leaderboard.published import load

    found, suite, plan = _plan_of(table, **options)
    keys: dict[Row, set[str]] | None = None

    def make(store: RunStore, gpu: bool, tell: Callable[[str], None]) -> Plan:
        nonlocal keys
        made: Plan
        made, keys = plan(store, gpu, tell)
        return made

    def show(console: Console) -> None:
        wanted = options["recipe"], options["budget"] or "", keys, "" if only_render else " ".join(options["sets"])
        filled = paper.fill(found, _cells(options), load(), suite, *wanted)
        board, paths = paper_board.write(filled, options["results"] / "tables")
        console.print(render.terminal([board], paper_board.LEGEND))
        console.print(f"Written: {paths[0].with_suffix('')}.{{{','.join(p.suffix[1:] for p in paths)}}}", style="dim")

    if plan and not only_render:
        return carry_out(make, show, width=WIDTH, **options)
    if options["only_plan"]:
        complain(f"Nothing to plan: {'--render runs nothing' if only_render else paper.obstacle(found, suite)}.", "red")
        return 2 if only_render else 1
    show(Console(width=WIDTH))
    if not only_render:
        complain("Nothing of this table can be run here; the letters say why.", "red")
    return 0 if only_render else 1


def _table_list(**options: Any) -> int:
    from engine.store import RunStore
    from leaderboard import paper, paper_board
    from leaderboard.paper_tables import TABLES
    from leaderboard.published import load

    numbers, cells, rows = load(), _cells(options), []
    for each in TABLES.values():
        try:
            found, suite, make = _plan_of(each, **options)
            todo = (
                str(len(make(RunStore(options["results"], read_only=True), False, str)[0].todo))
                if make
                else paper.obstacle(found, suite)
            )
        except BenchError as error:
            found, suite, todo = each, paper.NOTHING, str(error)
        filled = paper.fill(found, cells, numbers, suite, options["recipe"], options["budget"] or "")
        rows.append((filled, todo))
    Console(width=WIDTH).print(paper_board.overview(rows))
    return 0


def _cells(options: dict[str, Any]) -> list[Cell]:
    from leaderboard.cells import aggregate
    from leaderboard.collect import collect

    return aggregate(collect(options["results"]))


def _plan_of(
    table: PaperTable, *, datasets: tuple[str, ...], data: Path, **options: Any
) -> tuple[PaperTable, Suite, Any]:
    """The table on the data asked for, what the suite has for it, and what plans it, if anything can be run."""
    from engine import ablation
    from engine.plan import Request
    from engine.selection import build_all, encoders, join, lacks, lacks_data, place
    from leaderboard import paper

    if any(one.startswith("frames=") for one in options["sets"]):
        raise BenchError("--set frames: a paper's table is about the frames that its data have by default.")
    found, asked = paper.choose(table, datasets, lambda one: place(one, data))
    places = {where for column in found.columns for where in (column.place, column.source) if where}
    suite = paper.Suite(
        lambda name: lacks("methods", name),
        lambda name: lacks("protocols", name),
        cache(lambda name: encoders(name, options["sets"])),
        cache(ablation.label),
        {where: lacks_data(asked.get(where, where), data) for where in places},
    )
    common: dict[str, Any] = {name: options[name] for name in ("seeds", "budget", "recipe", "sets")}
    wanted = paper.requests(found, suite, asked)

    def request(one: Wanted) -> Request:
        plain = Request(**{**one.parts, **common})
        return ablation.request(*ablation.row(one.ablation), plain) if one.ablation else plain

    def make(store: RunStore, gpu: bool, tell: Callable[[str], None]) -> tuple[Plan, dict[Row, set[str]]]:
        plans = build_all([request(one) for one in wanted], data, store, gpu, tell)
        keys: dict[Row, set[str]] = defaultdict(set)
        for one, plan in zip(wanted, plans, strict=True):
            for job in plan.jobs:
                for row in paper.rows_of(found, one.ablation, job.stage.labels, suite):
                    keys[row].add(job.stage.key)
        shown = frozenset().union(*keys.values())
        return join(plans, lambda stage: stage.key in shown), keys

    return found, suite, make if wanted else None
