"""Ablations: rows of settings of one method, declared on its class or made up on the command line, and their plan."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, product
from pathlib import Path

from engine.cells import lineage
from engine.choices import Settings, choose, parse_name, tuned_keys
from engine.config import BenchError, Overrides, suggestion
from engine.plan import RECIPES, Plan, Request
from engine.records import Labels
from engine.registry import Plugin, locate, match, scan
from engine.selection import build_all, join
from engine.stages import Stage
from engine.store import RunStore

FULL = "full"
"""The row of a method as it is, where a table has no row of its own for that."""
RECIPE = "recipe"
"""The table of a method's recipes, which every method with another recipe than the paper's has."""
_PROTOCOL = "protocol."
"""Begins a path that changes the protocols instead of the method."""


@dataclass(frozen=True)
class Variant:
    """A row of an ablation.

    Attributes:
        name: as shown; where a paper prints the row, as it prints it.
        overrides: changes by plug-in.
        protocols: changes of every protocol that the table is made with.
        recipe: "" for that of the run.
    """

    name: str
    overrides: Mapping[str, Overrides] = field(default_factory=dict)
    protocols: Overrides = field(default_factory=dict)
    recipe: str = ""

    @property
    def changes(self) -> str:
        """``d3m=false, recipe=released``."""
        tables = [*self.overrides.values(), *([self.protocols] if self.protocols else [])]
        listed = [f"{path}={_shown(value)}" for table in tables for path, value in table.items()]
        return ", ".join(listed + ([f"recipe={self.recipe}"] if self.recipe else []))


@dataclass(frozen=True)
class Ablation:
    """A table of variants of one method.

    Attributes:
        name: ``aimclr.components``; also names its files.
        method: as one would ask for it.
        plugin: the method's name in labels.
        variants: its rows.
    """

    name: str
    method: str
    plugin: str
    variants: tuple[Variant, ...]


@dataclass(frozen=True)
class Planned:
    """An ablation with the keys of the evaluations of every row; ``full`` is the row that the others are compared with."""

    ablation: Ablation
    rows: tuple[tuple[Variant, frozenset[str]], ...]
    full: int


def declared() -> dict[str, Ablation]:
    """The tables that methods in the tree declare, by name."""
    plugins = scan("methods").values()
    return {table.name: table for plugin in plugins for table in _tables(plugin, plugin.name).values()}


def find(asked: Sequence[str]) -> list[Ablation]:
    """Tables as asked for.

    Args:
        asked: one entry for every ``--ablate``: names of declared tables or of methods (all of their tables), separated by
            commas, or ``all``; or a grid ``METHOD.KEY=VALUE,VALUE``. Several grids are one table of their product.

    Raises:
        BenchError: nothing asked for, no such method, table or setting, or grids of methods that do not build on each other.
    """
    grids = [text for text in asked if "=" in text]
    words = [word.strip() for text in asked if text not in grids for word in text.split(",") if word.strip()]
    if not (words or grids):
        raise BenchError("--ablate: name a table, a method or a grid (--ablate list shows all tables).")
    found = list(chain.from_iterable(map(_named, words)))
    return list({table.name: table for table in [*found, *([_grid(grids)] if grids else [])]}.values())


def row(name: str) -> tuple[Ablation, Variant]:
    """A declared row by its name ``METHOD.TABLE/ROW``, with its table.

    Raises:
        BenchError: there is none.
    """
    asked, _, wanted = name.partition("/")
    (table,) = find([asked])
    for variant in table.variants:
        if variant.name == wanted:
            return table, variant
    raise BenchError(f"{table.name} has no row {wanted!r}.{suggestion(wanted, [one.name for one in table.variants])}")


def label(name: str, labels: Labels) -> str:
    """What records with these labels call the method of a declared row, if nothing else was changed."""
    table, variant = row(name)
    data, encoder = labels.source or f"{labels.dataset}/{labels.split}", labels.encoder.partition("[")[0]
    tuned = tuned_keys(labels.budget, data, encoder)
    settings = Settings(variant.recipe or labels.recipe, labels.budget, tuned, variant.overrides)
    return choose(locate("methods", table.plugin), "", settings).label


def plan(
    tables: Sequence[Ablation],
    wanted: Request,
    data: Path,
    store: RunStore,
    gpu: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> tuple[Plan, list[Planned]]:
    """One plan for all rows of tables; what rows share is in it once.

    Args:
        tables: at least one.
        wanted: protocols, data, seeds and settings that all rows have in common; its methods do not matter.
        data: folder of prepared data.
        store: where results are.
        gpu: see :func:`engine.plan.build`.
        tell: see :func:`engine.plan.build`.

    Raises:
        BenchError: see :func:`engine.plan.build`.
    """
    asked = [(table, variant) for table in tables for variant in _with_full(table)]
    plans = build_all([request(table, variant, wanted) for table, variant in asked], data, store, gpu, tell)
    keys = {
        (table.name, variant.name): frozenset(job.stage.key for job in each.jobs if _belongs(job.stage, table))
        for (table, variant), each in zip(asked, plans, strict=True)
    }
    planned = []
    for table in tables:
        variants = _with_full(table)
        full = next(i for i, variant in enumerate(variants) if _changes_nothing(variant, wanted.recipe))
        rows = tuple((variant, keys[table.name, variant.name]) for variant in variants)
        planned.append(Planned(table, rows, full))
    shown = frozenset().union(*keys.values())
    return join(plans, lambda stage: stage.key in shown), planned


def _tables(plugin: Plugin, asked: str) -> dict[str, Ablation]:
    """Declared tables of a method by the second part of their names."""
    cls = plugin.load()
    tables = {
        title.lower(): tuple(_variant(plugin, name, changes) for name, changes in rows.items())
        for title, rows in cls.ablations.items()
    }
    if cls.recipes:
        tables[RECIPE] = tuple(Variant(recipe, recipe=recipe) for recipe in RECIPES)
    return {
        title: Ablation(f"{plugin.name}.{title}", asked, plugin.name, variants) for title, variants in tables.items()
    }


def _variant(plugin: Plugin, name: str, changes: Overrides) -> Variant:
    own = {path: value for path, value in changes.items() if not path.startswith(_PROTOCOL)}
    rest = {path.removeprefix(_PROTOCOL): value for path, value in changes.items() if path not in own}
    return Variant(name, {plugin.name: own} if own else {}, rest)


def _named(word: str) -> list[Ablation]:
    if word == "all":
        return list(declared().values())
    method, title = _split(word)
    plugin, preset = parse_name("methods", method)
    if preset:
        raise BenchError(f"--ablate {word}: tables are about a method as it is; leave out the preset.")
    tables = _tables(plugin, method)
    if not tables:
        raise BenchError(f"--ablate {word}: {plugin.name} declares no ablations (--ablate list shows all).")
    if not title:
        return list(tables.values())
    return [tables[match(title.lower(), {known: known for known in tables}, f"ablation of {plugin.name}")]]


def _grid(texts: Sequence[str]) -> Ablation:
    """The product of grids ``METHOD.KEY=VALUE,VALUE``; of several methods the one that starts from the others."""
    axes: list[tuple[Plugin, str, tuple[str, ...]]] = []
    methods: dict[str, str] = {}
    for text in texts:
        asked, _, listed = text.partition("=")
        method, path = _split(asked.strip())
        values = tuple(dict.fromkeys(_values(listed)))
        if not path or not values:
            raise BenchError(f"--ablate {text}: write METHOD.KEY=VALUE,VALUE, such as hiclr.mask.ratio=0.1,0.2.")
        plugin, preset = parse_name("methods", method)
        if preset:
            raise BenchError(f"--ablate {text}: a grid is about a method as it is; leave out the preset.")
        methods[plugin.name] = method
        axes.append((plugin, path, values))
    if len({(plugin.name, path) for plugin, path, _ in axes}) < len(axes):
        raise BenchError(f"--ablate {' --ablate '.join(texts)}: give the values of one setting in one grid.")
    plugins = [plugin for plugin, _, _ in axes]
    last = next((one for one in plugins if set(methods) <= {earlier.name for earlier in lineage(one)}), None)
    if last is None:
        raise BenchError(
            f"--ablate: {' and '.join(methods)} do not build on each other; give them a command of their own."
        )
    prefixes = ["" if plugin == last else f"{plugin.name}." for plugin in plugins]
    variants = []
    for values in product(*(values for _, _, values in axes)):
        overrides: dict[str, dict[str, str]] = {}
        for (plugin, path, _), value in zip(axes, values, strict=True):
            overrides.setdefault(plugin.name, {})[path] = value
        parts = [f"{before}{path}={value}" for before, (_, path, _), value in zip(prefixes, axes, values, strict=True)]
        variants.append(Variant(", ".join(parts), overrides))
    title = "+".join(f"{before}{path}" for before, (_, path, _) in zip(prefixes, axes, strict=True))
    return Ablation(f"{last.name}.{title}", methods[last.name], last.name, tuple(variants))


def _split(text: str) -> tuple[str, str]:
    """``actclr.t7`` or ``file.py:Class.t7`` in two, at the dot behind the method."""
    if found := re.fullmatch(r"(.+?\.py(?::\w+)?)(?:\.(.+))?", text):
        return found[1], found[2] or ""
    method, _, rest = text.partition(".")
    return method, rest


def _values(listed: str) -> Iterable[str]:
    """Split at commas outside of brackets and quotes."""
    depth, quoted, part = 0, False, ""
    for character in listed + ",":
        quoted ^= character == '"'
        depth += (character in "[{") - (character in "]}")
        if character == "," and not depth and not quoted:
            if part.strip():
                yield part.strip()
            part = ""
        else:
            part += character
    if part.strip(" ,"):
        raise BenchError(f"--ablate: {listed!r} ends inside of brackets or quotes.")


def _with_full(table: Ablation) -> tuple[Variant, ...]:
    has = any(not variant.changes for variant in table.variants) or any(variant.recipe for variant in table.variants)
    return table.variants if has else (Variant(FULL), *table.variants)


def _changes_nothing(variant: Variant, recipe: str) -> bool:
    return not variant.changes or variant == Variant(variant.name, recipe=recipe)


def request(table: Ablation, variant: Variant, wanted: Request) -> Request:
    """What a row asks for where ``wanted`` is what all rows have in common."""
    protocols = {parse_name("protocols", name)[0].name for name in wanted.protocols} if variant.protocols else set()
    overrides = {**variant.overrides, **dict.fromkeys(protocols, variant.protocols)}
    return replace(wanted, methods=(table.method,), overrides=overrides, recipe=variant.recipe or wanted.recipe)


def _belongs(stage: Stage, table: Ablation) -> bool:
    return stage.kind in ("evaluate", "fuse") and stage.labels.method.partition("[")[0] == table.plugin


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
