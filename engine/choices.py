"""From words on the command line to plug-ins with their resolved configs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

from engine.config import BenchError, Config, Overrides, as_dict, identifying, resolve, suggestion
from engine.registry import KINDS, Kind, Plugin, locate, match, names, scan

_MOST_FRAMES = 2000
"""Frames per clip; NTU RGB+D's longest recordings have 300."""


@dataclass(frozen=True)
class Choice:
    """A plug-in with the config it runs under.

    Attributes:
        plugin: where it is.
        config: the resolved config.
        preset: the named variant asked for, or "".
        changes: what ``--set`` changed, as shown in labels, e.g. ``("nnm.topk=2",)``.
    """

    plugin: Plugin
    config: Config
    preset: str = ""
    changes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Plug-in name with its preset: ``linear:aimclr``."""
        return f"{self.plugin.name}:{self.preset}" if self.preset else self.plugin.name

    @property
    def label(self) -> str:
        """What tables call it: ``linear:aimclr[epochs=50]``."""
        return with_changes(self.name, self.changes)

    @property
    def identity(self) -> dict[str, Any]:
        """Its part of a stage's key."""
        cls = self.plugin.load()
        version = cls.version_under(self.config) if self.plugin.kind == "protocols" else cls.version
        known = {
            "plugin": self.plugin.name,
            "version": version,
            "preset": self.preset,
            "config": identifying(self.config),
        }
        return known | ({"source": self.plugin.source} if self.plugin.source else {})


def with_changes(name: str, changes: Iterable[str]) -> str:
    """``name[a=1,b=2]``, or just the name when nothing was changed."""
    listed = ",".join(changes)
    return f"{name}[{listed}]" if listed else name


@dataclass(frozen=True)
class Settings:
    """Everything beside its name that decides a plug-in's config.

    Attributes:
        recipe: ``paper`` or ``released``.
        budget: ``full`` or ``quick``.
        tuned: keys of a method's ``tuned`` tables that apply, general ones first.
        overrides: the ``--set`` tables by plug-in name.
        imported: presets of methods that evaluate imported weights.
    """

    recipe: str
    budget: str
    tuned: tuple[str, ...]
    overrides: Mapping[str, Overrides]
    imported: Mapping[str, Overrides] = field(default_factory=dict)


def tuned_keys(budget: str, data: str) -> tuple[str, str]:
    """Keys of the ``tuned`` tables of plug-ins that apply to ``dataset/split``."""
    return f"{budget}:{data.partition('/')[0]}", f"{budget}:{data}"


def choose(plugin: Plugin, preset: str, settings: Settings) -> Choice:
    """Resolve a plug-in's config: defaults, then recipe, preset, budget, tuned, ``--set``, the later ones winning.

    Raises:
        BenchError: unknown preset, unknown key or ill-typed value.
    """
    cls = plugin.load()
    presets: Mapping[str, Overrides] = (
        settings.imported if getattr(cls, "imports", False) else getattr(cls, "presets", {})
    )
    tables = [
        getattr(cls, "recipes", {}).get(settings.recipe, {}),
        *preset_tables(plugin, preset, presets),
        cls.budgets.get(settings.budget, {}),
        *(getattr(cls, "tuned", {}).get(key, {}) for key in settings.tuned),
    ]
    overrides = settings.overrides.get(plugin.name, {})
    before = as_dict(resolve(cls.Config, *tables, owner=plugin.name))
    config: Config = resolve(cls.Config, *tables, overrides, owner=plugin.name)
    after = as_dict(config)
    changed = [path for path in sorted(overrides) if _value(after, path) != _value(before, path)]
    return Choice(plugin, config, preset, tuple(f"{path}={_shown(_value(after, path))}" for path in changed))


def preset_tables(plugin: Plugin, preset: str, presets: Mapping[str, Overrides]) -> list[Overrides]:
    """The tables of ``NAME`` (which may hold colons itself), or of several, ``1:linear``, the later ones winning.

    Raises:
        BenchError: there is no such preset.
    """
    parts = [preset] if preset in presets else preset.split(":") if preset else []
    for part in parts:
        if part not in presets:
            known = f"Known: {', '.join(presets)}." if presets else "It has none."
            close = "" if part.isdecimal() else suggestion(part, presets)
            title = plugin.title.rstrip(".")
            bare = f" Without one it is: {title}." if title and presets else ""
            raise BenchError(f"{plugin.name} has no preset {part!r}.{close} {known}{bare}")
    return [presets[part] for part in parts]


def parse_name(kind: Kind, text: str) -> tuple[Plugin, str]:
    """Plug-in and preset of ``name``, ``name:preset``, ``file.py:Class`` or ``file.py:Class:preset``.

    Raises:
        BenchError: no such plug-in.
    """
    base, preset = text, ""
    if ".py" in text:
        if found := re.fullmatch(r"(.+\.py:\w+):([\w.:-]+)", text):
            base, preset = found.groups()
    elif ":" in text:
        base, _, preset = text.partition(":")
    return locate(kind, base), preset


@dataclass(frozen=True)
class Sets:
    """The ``--set`` options.

    Attributes:
        encoders: names of encoders for all methods that leave the choice open; none for each method's own default.
        frames: frames per clip, ``None`` for the dataset's default.
        triples: (plug-in, key, value) of the others, as written.
    """

    encoders: tuple[str, ...]
    frames: int | None
    triples: tuple[tuple[str, str, str], ...]


def parse_sets(options: Iterable[str]) -> Sets:
    """Read ``--set`` options.

    Raises:
        BenchError: an option is not of the form ``PLUGIN.KEY=VALUE``, or the frames are no positive number.
    """
    encoders: tuple[str, ...] = ()
    frames, triples = None, []
    for option in options:
        name, equals, value = option.partition("=")
        plugin, dot, key = name.strip().partition(".")
        value = value.strip()
        if equals and not dot and plugin == "encoder":
            encoders = _all_encoders() if value == "all" else tuple(name.strip() for name in value.split(","))
        elif equals and not dot and plugin == "frames":
            if not value.isdecimal() or len(value) > 4 or not 2 <= int(value) <= _MOST_FRAMES:
                raise BenchError(
                    f"--set {option}: frames must be a whole number of at least 2, at most {_MOST_FRAMES}."
                )
            frames = int(value)
        elif equals and dot and key:
            triples.append((plugin, key, value))
        else:
            raise BenchError(f"--set {option}: write PLUGIN.KEY=VALUE (aimclr.topk=2), encoder=NAME or frames=NUMBER.")
    return Sets(encoders, frames, tuple(triples))


def _all_encoders() -> tuple[str, ...]:
    """The zoo; coordinates are no encoder that a method could train."""
    return tuple(name for name in names("encoders") if name != "coordinates")


def assign(triples: Iterable[tuple[str, str, str]], taking_part: Iterable[Plugin]) -> dict[str, dict[str, Any]]:
    """Sort (plug-in, key, value) triples by plug-in.

    Raises:
        BenchError: a plug-in that takes no part in the request, with did-you-mean.
    """
    answers = {name: plugin.name for plugin in taking_part for name in (plugin.name, *plugin.aliases)}
    tables: dict[str, dict[str, Any]] = {}
    for plugin, key, value in triples:
        try:
            name = match(plugin, answers, "plug-in of this run")
        except BenchError as error:
            kind = next(
                (kind for kind in KINDS for known in scan(kind).values() if plugin in (known.name, *known.aliases)), ""
            )
            where = "--set encoder=NAME" if kind == "encoders" else f"--{kind}"
            why = f"{plugin} takes no part in this run; name it under {where}." if kind else str(error)
            raise BenchError(f"--set {plugin}.{key}={value}: {why}") from None
        tables.setdefault(name, {})[key] = value
    return tables


def _value(config: Mapping[str, Any], path: str) -> Any:
    return reduce(lambda node, part: node[part], path.split("."), config)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
