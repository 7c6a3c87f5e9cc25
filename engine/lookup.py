"""Stages of a results folder by the first digits of their keys."""

from __future__ import annotations

import difflib
import json
import re
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from engine.config import BenchError
from engine.records import Record

_SHOWN = 5


def folders(results: Path) -> dict[str, Path]:
    """Folders of all stages under ``results/runs`` by key, finished or not, sorted by kind, plug-in and key."""
    return {path.name: path for path in sorted(results.glob("runs/*/*/*/")) if re.fullmatch("[0-9a-f]{16}", path.name)}


def find(results: Path, key: str) -> Path:
    """The folder of the stage whose key begins with ``key``.

    Raises:
        BenchError: none does, or several; the message names near ones.
    """
    known = folders(results)
    prefix = key.strip().lower()
    if not re.fullmatch("[0-9a-f]{1,16}", prefix):
        raise BenchError(f"{key!r} is no key: keys are up to 16 hexadecimal digits, as tables and --plan show them.")
    found = [one for one in known if one.startswith(prefix)]
    if len(found) == 1:
        return known[found[0]]
    if found:
        more = f"\n  and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise BenchError(f"Key {key} is ambiguous; write more digits:{_listed(known, found[:_SHOWN])}{more}")
    heads = {one[: len(prefix)]: one for one in known}
    near = [heads[head] for head in difflib.get_close_matches(prefix, heads, n=3, cutoff=0.5)]
    hint = f" Near ones:{_listed(known, near)}" if near else ""
    raise BenchError(f"No stage in {results / 'runs'} has a key that begins with {key}.{hint}")


def read(folder: Path) -> Record:
    """The record of a finished stage.

    Raises:
        BenchError: it is not finished, or its record is damaged.
    """
    path = folder / "record.json"
    if not path.is_file():
        raise BenchError(f"{describe(folder)} is not finished: there is no {path}.")
    try:
        record = Record.model_validate_json(path.read_bytes())
    except (ValidationError, OSError) as error:
        raise BenchError(f"{path} is damaged ({str(error).splitlines()[0]}); run it again.") from None
    if record.key != folder.name:
        raise BenchError(f"{path} is damaged: it belongs to {record.key}; run it again.")
    return record


def lineage(results: Path, *keys: str) -> dict[str, Record]:
    """Records of stages and of all that they started from, by key, parents first.

    Raises:
        BenchError: one of them is missing or damaged.
    """
    known, found = folders(results), dict[str, Record]()

    def add(key: str, child: str) -> None:
        if key in found:
            return
        if key not in known:
            raise BenchError(f"{child} started from {key}, which is not in {results / 'runs'} any more.")
        record = read(known[key])
        for parent in record.parents:
            add(parent, describe(known[key]))
        found[key] = record

    for key in keys:
        add(key, "")
    return found


def circumstances(folder: Path) -> dict[str, Any]:
    """The content of ``provenance.json``; nothing where it is absent or damaged."""
    return _content(folder / "provenance.json")


def describe(folder: Path) -> str:
    """E.g. ``linear of aimclr on synthetic/xsub, joint, seed 0 (2d68ba01886d74a3)``."""
    content = _content(folder / "record.json") or _content(folder / "stage.json")
    labels = content.get("labels", {})
    try:
        what = f"{labels['protocol'] or folder.parent.parent.name} of {labels['method']}"
        return f"{what} on {labels['dataset']}/{labels['split']}, {labels['stream']}, seed {labels['seed']} ({folder.name})"
    except (KeyError, TypeError):
        return folder.name


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _listed(known: dict[str, Path], keys: list[str]) -> str:
    return "".join(f"\n  {describe(known[key])}" for key in keys)
