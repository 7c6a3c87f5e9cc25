"""Ablations: tables of one method's variants are planned, run and rendered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from engine.commands.run import assert_own_datasets
from engine.options import WIDTH

if TYPE_CHECKING:
    from engine.ablation import Planned
    from engine.plan import Plan
    from engine.store import RunStore
    from leaderboard.ablation import AblationTable


def ablate(*, data: Path, ablate: tuple[str, ...], protocols: tuple[str, ...], **options: Any) -> int:
    """Plan, execute and render the tables asked for, or list them; the result is the exit status."""
    if ablate == ("list",):
        return _list()
    assert_own_datasets()
    from engine import ablation, registry
    from engine.plan import Request
    from engine.session import carry_out

    tables = ablation.find(ablate)
    request = {name: value for name, value in options.items() if name in Request.__dataclass_fields__}
    named = registry.names("protocols") if protocols == ("all",) else protocols
    wanted = Request(**request | {"methods": (), "protocols": named})
    planned: list[Planned] = []

    def make(store: RunStore, gpu: bool, tell: Callable[[str], None]) -> Plan:
        plan, rows = ablation.plan(tables, wanted, data, store, gpu, tell)
        planned.extend(rows)
        return plan

    return carry_out(make, lambda console: _show(planned, options, console), width=WIDTH, **options)


def _show(planned: list[Planned], options: dict[str, Any], console: Console) -> None:
    from leaderboard import ablation, ablation_board, render
    from leaderboard.collect import collect
    from leaderboard.published import load

    runs, numbers = collect(options["results"]), load()
    boards, stems = [], []
    for one in planned:
        filled = ablation.fill(_table(one, ", ".join(options["sets"])), runs, numbers)
        if filled:
            written, paths = ablation_board.write(filled, options["results"] / "ablations")
            boards += written
            stems.append(f"{paths[0].with_suffix('')}.{{{','.join(path.suffix[1:] for path in paths)}}}")
    console.print(render.terminal(boards, ablation_board.LEGEND))
    console.print("Written: " + ", ".join(stems) if stems else "Nothing was begun, so there is no table.", style="dim")


def _table(planned: Planned, common: str = "") -> AblationTable:
    from leaderboard.ablation import AblationTable, Variant

    rows = tuple(Variant(variant.name, variant.changes, keys) for variant, keys in planned.rows)
    return AblationTable(planned.ablation.name, planned.ablation.plugin, rows, planned.full, common)


def _list() -> int:
    from engine.ablation import declared
    from leaderboard.ablation import AblationTable, Variant
    from leaderboard.ablation_board import overview

    tables = [
        AblationTable(one.name, one.plugin, tuple(Variant(v.name, v.changes, frozenset()) for v in one.variants), 0)
        for one in declared().values()
    ]
    Console(width=WIDTH).print(overview(tables))
    return 0
