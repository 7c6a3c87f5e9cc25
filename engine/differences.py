"""Why two numbers differ: settings, versions, data, circumstances and numbers of two stages and of all before them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from engine.records import Record

_PARTS = ("plug-in", "settings", "versions", "data", "code", "machine", "result")
"""What differs, the likeliest reason first."""
_UNTOLD = ("seconds", "finished", "peak_memory_mb", "work", "unit", "resumed")
"""Circumstances that change no number."""
_NOTHING = "-"


@dataclass(frozen=True)
class Side:
    """A stage with what is known about its run.

    Attributes:
        record: the record.
        circumstances: content of ``provenance.json``.
        content: checksum of its weights, features or scores, "" if not known.
        parents: the stages it started from.
    """

    record: Record
    circumstances: Mapping[str, Any]
    content: str = ""
    parents: tuple[Side, ...] = ()


@dataclass(frozen=True)
class Difference:
    """One thing that differs.

    Attributes:
        stage: e.g. ``linear`` or ``linear > features > pretrain``.
        part: one of plug-in, settings, versions, data, code, machine, result.
        name: what it is called.
        first, second: its values, ``-`` where a side has none.
    """

    stage: str
    part: str
    name: str
    first: str
    second: str


def differences(first: Side, second: Side, stage: str = "") -> list[Difference]:
    """Everything that differs, stages before the evaluation first; equal stages before it are passed over."""
    names = [side.record.identity.get("plugin", side.record.kind) for side in (first, second)]
    kinds = [side.record.kind for side in (first, second)]
    own = kinds[0] if kinds[0] in ("pretrain", "features") else str(names[0])
    here = f"{stage} > {own}" if stage else own
    found: list[Difference] = []
    nothing = Side(Record(kind="", key="", labels=first.record.labels, identity={}), {})
    for one, other in zip_longest(first.parents, second.parents):
        found += differences(one or nothing, other or nothing, here)
    rows = [(_part(name), name, a, b) for name, a, b in _compared(_identity(first), _identity(second))]
    rows += [(_circumstance(n), n, a, b) for n, a, b in _compared(_ran(first), _ran(second))]
    rows += [("result", n, a, b) for n, a, b in _compared(first.record.metrics, second.record.metrics)]
    if first.content and second.content and first.content != second.content:
        what = {"pretrain": "weights", "features": "features"}.get(kinds[0], "scores")
        rows.append(("result", f"checksum of {what}", first.content[:16], second.content[:16]))
    rows.sort(key=lambda row: _PARTS.index(row[0]))
    return found + [Difference(here, part, name, _shown(a), _shown(b)) for part, name, a, b in rows]


def _identity(side: Side) -> dict[str, Any]:
    identity = {name: value for name, value in side.record.identity.items() if name != "parents"}
    return _flat(identity) | {"frames": side.record.facts.get("frames")}


def _ran(side: Side) -> dict[str, Any]:
    return _flat({name: value for name, value in side.circumstances.items() if name not in _UNTOLD})


def _part(name: str) -> str:
    if name.startswith("data.") or name == "frames":
        return "data"
    if name in ("version", "encoder.version", "numerics"):
        return "versions"
    return "plug-in" if name.removeprefix("encoder.") in ("plugin", "kind", "preset", "source") else "settings"


def _circumstance(name: str) -> str:
    return "code" if name in ("commit", "source") else "machine"


def _compared(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    names = dict.fromkeys([*first, *second])
    both = [(name, first.get(name), second.get(name)) for name in names]
    return [(name, a, b) for name, a, b in both if a != b]


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def _shown(value: Any) -> str:
    if value is None:
        return _NOTHING
    return f"{value:.4f}" if isinstance(value, float) and value != round(value, 4) else str(value)
