"""Ablations: declared rows fit their methods, grids, and plans whose rows share what they can."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from rich.console import Console

from engine.ablation import FULL, declared, find, label, plan, row
from engine.config import BenchError, Config, digest, identifying, knob, resolve
from engine.execute import execute
from engine.plan import Request, build
from engine.progress import Reporter
from engine.registry import find as find_class
from engine.registry import names

PLUGINS = Path(__file__).parent / "plugins" / "tiny.py"
TABLES = declared()


def wanted(methods: tuple[str, ...] = (), sets: tuple[str, ...] = (), **more) -> Request:
    sets = (f"encoder={PLUGINS}:TinyEncoder", *sets)
    return Request(methods, (f"{PLUGINS}:Means",), (f"{PLUGINS}:Tiny",), sets=sets, **more)


def planned(world, *asked: str, **more):
    return plan(find(asked), wanted(**more), world.results / "data", world.store)


def labels(made) -> list[str]:
    return [f"{job.stage.kind} {job.stage.labels.method}" for job in made.jobs]


@pytest.mark.parametrize("name", TABLES)
def test_declared_rows_fit_and_differ(name: str) -> None:
    """Every row is valid for its method and for the protocols, and no two come to the same but those that are the full one."""
    table = TABLES[name]
    classes = [find_class("methods", table.plugin), *(find_class("protocols", one) for one in ("knn", "linear"))]
    found: dict[str, list[str]] = {}
    for variant in table.variants:
        configs = [
            resolve(
                classes[0].Config, classes[0].recipes.get(variant.recipe, {}), variant.overrides.get(table.plugin, {})
            ),
            *(resolve(cls.Config, variant.protocols) for cls in classes[1:]),
        ]
        found.setdefault(digest([identifying(config) for config in configs]), []).append(variant.name)
    full = digest([identifying(cls.Config()) for cls in classes])
    assert all(len(rows) == 1 or key == full for key, rows in found.items()), found
    assert len({variant.name for variant in table.variants}) == len(table.variants)


def test_the_papers_tables_are_there() -> None:
    rows = {name: [variant.name for variant in table.variants] for name, table in TABLES.items()}
    assert [len(rows[f"actclr.{name}"]) for name in ("t7", "t8", "t9", "f3")] == [8, 4, 4, 3]
    assert len(rows["hiclr.arrangement"]) == 7
    assert {"hiclr.strong", "hiclr.loss", "hiclr.stop_gradient", "aimclr.components"} <= set(rows)
    assert {f"{name}.recipe" for name in names("methods") if find_class("methods", name).recipes} <= set(rows)


def test_names_of_tables_and_methods() -> None:
    assert [table.name for table in find(["actclr.T9, hicl.nnm"])] == ["actclr.t9", "hiclr.nnm"]
    assert {table.name for table in find(["aimclr"])} == {"aimclr.components", "aimclr.recipe"}
    assert {table.name for table in find(["all"])} == set(TABLES)
    (table,) = find([f"{PLUGINS}:TinyCLR.mining"])
    assert (table.name, [variant.changes for variant in table.variants]) == ("tinyclr.mining", ["mining.topk=1"])


def test_several_grids_are_their_product() -> None:
    (table,) = find(["hiclr.mask.ratio=0.1,0.2", 'hiclr.branches=[["BA"],["BA","NA"]],[["BA"]]'])
    assert table.name == "hiclr.mask.ratio+branches"
    assert [variant.name for variant in table.variants] == [
        'mask.ratio=0.1, branches=[["BA"],["BA","NA"]]',
        'mask.ratio=0.1, branches=[["BA"]]',
        'mask.ratio=0.2, branches=[["BA"],["BA","NA"]]',
        'mask.ratio=0.2, branches=[["BA"]]',
    ]
    assert table.variants[1].overrides == {"hiclr": {"mask.ratio": "0.1", "branches": '[["BA"]]'}}
    (both,) = find(["aimclr.d3m=true,false", "actclr.mix=true,false"])
    assert (both.plugin, both.name) == ("actclr", "actclr.aimclr.d3m+mix")
    assert both.variants[1].overrides == {"aimclr": {"d3m": "true"}, "actclr": {"mix": "false"}}


def test_rows_share_what_they_start_from(world) -> None:
    made, (table,) = planned(world, f"{PLUGINS}:TinyNext.scale=1,2,3", seeds=(0, 1))
    assert [(variant.name, len(keys)) for variant, keys in table.rows] == [
        (FULL, 2), ("scale=1", 2), ("scale=2", 2), ("scale=3", 2),
    ]  # fmt: skip
    assert table.rows[0][1] == table.rows[1][1]  # the default
    found = labels(made)
    assert found.count("pretrain tinyclr") == 2  # one for each seed, whatever the rows
    assert found.count("pretrain tinynext[scale=2.0]") == 2
    assert not [name for name in found if "random" in name or name == "evaluate tinyclr"]
    evaluated = {job.stage.key for job in made.jobs if job.stage.kind == "evaluate"}
    assert evaluated == frozenset().union(*(keys for _, keys in table.rows))
    order = [job.stage.key for job in made.jobs]
    assert all(order.index(p.key) < order.index(job.stage.key) for job in made.jobs for p in job.stage.parents)


def test_settings_of_the_command_hold_for_all_rows(world) -> None:
    made, _ = planned(world, f"{PLUGINS}:TinyCLR.scale=2", sets=("tinyclr.train.epochs=1", "tinyclr.scale=5"))
    assert {job.stage.labels.method for job in made.jobs} == {
        "tinyclr[scale=5.0,train.epochs=1]", "tinyclr[scale=2.0,train.epochs=1]",
    }  # fmt: skip


@pytest.mark.parametrize(("name", "full"), [("aimclr.components", FULL), ("hiclr.nnm", "neighbours of all branches")])
def test_mining_switched_on_for_a_short_run(world, name: str, full: str) -> None:
    """Where budget ``quick`` mines nothing, the row without is the method as it is there, and no other row is."""
    method = name.partition(".")[0]
    settings = (f"{method}.nnm.on=true", f"{method}.nnm.start_epoch=5")
    _, (table,) = planned(world, name, sets=settings, budget="quick")
    keys = {variant.name: found for variant, found in table.rows}
    plain = build(wanted(methods=(method,), budget="quick"), world.results / "data", world.store)
    usual = {job.stage.key for job in plain.jobs if job.stage.labels.method == method}
    assert [row for row, found in keys.items() if found <= usual] == ["without NNM"]
    assert table.rows[table.full][0].name == full
    assert len(set(keys.values())) == len(keys)


def test_recipes_are_rows(world) -> None:
    for recipe, full in (("paper", 0), ("released", 1)):
        made, (table,) = planned(world, f"{PLUGINS}:TinyCLR.recipe", recipe=recipe)
        assert [variant.name for variant, _ in table.rows] == ["paper", "released"]
        assert table.full == full
        assert {job.stage.labels.recipe for job in made.jobs} == {"paper", "released"}


def test_a_second_run_has_nothing_to_do(world) -> None:
    made, _ = planned(world, f"{PLUGINS}:TinyCLR.mining")
    with Path(world.results.parent / "log").open("w") as log:
        execute(made, world.store, torch.device("cpu"), Reporter(Console(file=log)))
    assert not planned(world, f"{PLUGINS}:TinyCLR.mining")[0].todo


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("actclr.t77", r"Unknown ablation of actclr 't77'\. Did you mean 't\d'"),
        ("actclrr.t7", r"Unknown method 'actclrr'"),
        ("random", r"random declares no ablations"),
        ("hiclr:dae.nnm", r"leave out the preset|no preset"),
        ("hiclr.mask.ratio=", r"write METHOD\.KEY=VALUE"),
        ("hiclr=1", r"write METHOD\.KEY=VALUE"),
        ("hiclr.branches=[[1,2", r"ends inside of brackets"),
    ],
)
def test_mistakes_are_named(asked: str, message: str) -> None:
    with pytest.raises(BenchError, match=message):
        find([asked])


def test_grids_of_strangers_and_of_one_setting_twice_are_refused(world) -> None:
    with pytest.raises(BenchError, match="aimclr and hiclr do not build on each other"):
        find(["aimclr.d3m=true,false", "hiclr.nnm.on=true,false"])
    with pytest.raises(BenchError, match="one setting in one grid"):
        find(["aimclr.d3m=true", "aimclr.d3m=false"])
    with pytest.raises(BenchError, match=r"Unknown setting 'tinyclr\.scael'\. Did you mean 'scale'"):
        planned(world, f"{PLUGINS}:TinyCLR.scael=1,2")


class _Inner(Config):
    old: int = knob(1, "was there")
    new: int = knob(2, "came later", late=True)


class _Outer(Config):
    inner: _Inner = knob(_Inner(), "inside")
    whole: _Inner = knob(_Inner(new=3), "came later as a whole", late=True)


def test_late_settings_enter_keys_only_where_they_are_changed() -> None:
    assert identifying(_Outer()) == {"inner": {"old": 1}}
    assert identifying(_Outer(inner=_Inner(new=5))) == {"inner": {"old": 1, "new": 5}}
    assert identifying(_Outer(whole=_Inner(old=7, new=3))) == {"inner": {"old": 1}, "whole": {"old": 7, "new": 3}}
    # Not its class's default, so it says so, even where that is what another one leaves out.
    assert identifying(_Outer(whole=_Inner())) == {"inner": {"old": 1}, "whole": {"old": 1}}


def test_keys_from_before_late_settings_hold() -> None:
    """The linear protocol as it was when the first records were made."""
    assert "features" not in identifying(find_class("protocols", "linear").Config())
    assert "features" in identifying(resolve(find_class("protocols", "linear").Config, {"features.space": "actionlet"}))


def test_a_row_by_its_name(world) -> None:
    """What its label is worked out to be is what its records are called, under every budget."""
    with pytest.raises(BenchError, match=r"hiclr\.arrangement has no row 'k=1'\. Did you mean 'k=1, BA'"):
        row("hiclr.arrangement/k=1")
    for budget in ("quick", "full"):
        made, (table,) = planned(world, "hiclr.arrangement", budget=budget)
        stages = {job.stage.key: job.stage for job in made.jobs}
        for variant, (key,) in table.rows:
            assert row(f"hiclr.arrangement/{variant.name}") == (table.ablation, variant)
            assert label(f"hiclr.arrangement/{variant.name}", stages[key].labels) == stages[key].labels.method
