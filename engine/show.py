"""Lists, descriptions and plans as rich tables."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from engine.config import BenchError, Overrides
from engine.estimate import Estimate
from engine.long_table import LongTable
from engine.plan import Plan
from engine.progress import duration
from engine.registry import KINDS, ROOT, Plugin, locate, match, scan

_STYLES = {"done": "green", "resume": "cyan", "to do": "", "retry": "cyan", "failed": "red", "unsupported": "dim"}


def listing() -> RenderableType:
    """All plug-ins with one line each; imports none of them."""
    tables = []
    for kind in KINDS:
        table = _table(kind.capitalize(), "name", "what", "also called")
        for plugin in scan(kind).values():
            _add(table, plugin.name, plugin.title, ", ".join(plugin.aliases))
        tables.append(table)
    return Group(*tables)


def description(name: str) -> RenderableType:
    """What a plug-in is, its settings, and how recipes, budgets, presets and ablations change them.

    Args:
        name: of any kind of plug-in, or ``file.py:Class``.

    Raises:
        BenchError: no such plug-in.
    """
    plugin = _any_kind(name)
    cls = plugin.load()
    head = Text(f"{plugin.name}  ", style="bold").append(plugin.title, style="not bold")
    place = plugin.path if plugin.source else plugin.path.relative_to(ROOT)
    facts = [f"{plugin.kind[:-1]}, version {cls.version}, {place}"]
    facts += [f"also called {', '.join(plugin.aliases)}"] if plugin.aliases else []
    facts += [f"starts from the run of {cls.init_from}"] if getattr(cls, "init_from", None) else []
    if fixed := getattr(cls, "encoder_name", None):
        facts += [f"encoder: always {fixed}"]
    elif usual := getattr(cls, "default_encoder", None):
        others = "".join(f", {name} for {plugin.name}:{preset}" for preset, name in cls.preset_encoders.items())
        facts += [f"encoder: {usual}{others}, if --set encoder=NAME does not name another"]
    parts: list[RenderableType] = [head, *(Text(fact, style="dim") for fact in facts)]
    if text := inspect.getdoc(cls):
        parts += [Text(), Text(text)]
    if hasattr(cls, "Config"):
        parts += _settings(plugin, cls)
    if hasattr(cls, "splits"):
        parts.append(_rows("Splits", "split", "rule", dict(cls.splits)))
    parts += (
        [_rows("Presets", f"{plugin.name}:…", "changes", presets)] if (presets := getattr(cls, "presets", {})) else []
    )
    for table, rows in getattr(cls, "ablations", {}).items():
        parts.append(_rows(f"Ablation {table}", "row", "changes", rows))
    return Group(*parts)


def plan_table(plan: Plan, guess: Estimate) -> LongTable:
    """Every stage of a plan with its state and the time it will take."""
    table = LongTable("stage", "method", "protocol", "data", "stream", "seed", "encoder", "key", "state", "time")
    for job in plan.jobs:
        labels = job.stage.labels
        seconds = guess.seconds.get(job.stage.key)
        table.add(
            job.stage.kind,
            labels.method,
            labels.protocol,
            f"{labels.dataset}/{labels.split}" + (f" from {labels.source}" if labels.source else ""),
            labels.stream,
            str(labels.seed),
            labels.encoder,
            job.stage.key,
            f"{job.state}: {job.reason}" if job.reason else job.state,
            "" if seconds is None else duration(seconds),
            state=_STYLES[job.state],
        )
    return table


def summary_line(plan: Plan, guess: Estimate, elapsed: float | None = None) -> str:
    """``12 stages to do (1 resumed), 3 done; about 4 min (nominal rates, a rough guess)``.

    Args:
        plan: to sum up.
        guess: of its work.
        elapsed: seconds that it will take, ``None`` for those of one stage after the other.
    """
    seconds = guess.total if elapsed is None else elapsed
    parts = [f"{len(plan.todo)} stages to do"]
    parts += [f"{plan.count('resume')} of them resumed"] if plan.count("resume") else []
    parts += [f"{plan.count('retry')} of them failed before"] if plan.count("retry") else []
    parts += [f"{plan.count('done')} done"]
    parts += [f"{plan.count('failed')} failed before (--retry-failed repeats them)"] if plan.count("failed") else []
    parts += [f"{plan.count('unsupported')} unsupported"] if plan.count("unsupported") else []
    about = "" if seconds < 1 else "about "
    time = f"; {about}{duration(seconds)} ({guess.basis})" if plan.todo else ""
    return ", ".join(parts) + time


def _any_kind(name: str) -> Plugin:
    if ".py" not in name:
        plugins = {plugin.name: plugin for kind in KINDS for plugin in scan(kind).values()}
        answers = {alias: plugin.name for plugin in plugins.values() for alias in (plugin.name, *plugin.aliases)}
        return plugins[match(name, answers, "plug-in")]
    error = BenchError()
    for kind in KINDS:
        try:
            return locate(kind, name)
        except BenchError as no:
            error = no
    raise error


def _settings(plugin: Plugin, cls: Any) -> list[RenderableType]:
    tables = {**getattr(cls, "recipes", {}), **getattr(cls, "budgets", {}), **getattr(cls, "tuned", {})}
    table = _table("Settings", f"--set {plugin.name}.…", "default", *tables, "what")
    for path, value, text in fields_of(cls.Config()):
        shown = "" if isinstance(value, BaseModel) else _text(value)
        _add(table, path, shown, *(_text(t[path]) if path in t else "" for t in tables.values()), text)
    return [table] if table.row_count else []


def fields_of(config: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Every setting with its value and what it is; a group comes before its members, as ``name.*``."""
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if isinstance(value, BaseModel):
            yield f"{prefix}{name}.*", value, field.description or ""
            yield from fields_of(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value, field.description or ""


def _rows(title: str, first: str, second: str, rows: Mapping[str, str | Overrides]) -> Table:
    table = _table(title, first, second)
    for name, value in rows.items():
        shown = value if isinstance(value, str) else ", ".join(f"{path} = {_text(v)}" for path, v in value.items())
        _add(table, name, shown)
    return table


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _add(table: Table, *cells: str | Text) -> None:
    table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells))  # brackets are no markup here


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title or None, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in ("key", "name", "time"))
    return table
