"""What a results folder holds that nothing needs; records and what finished stages left are not among it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from engine.logs import old
from engine.lookup import folders
from engine.store import RESULT

_QUIET = 3600.0
"""Seconds since the last change of a temporary file or lease after which no living process can be behind it."""
_KEPT = ("record.json", "provenance.json", "stage.json", "checksums.json", "failure.json", "unsupported.json")
_TEMPORARY = re.compile(r"\..+\.\w{8}|\..+\.new")
"""Names that ``engine.files`` and the leaderboard write under before they rename."""
_ASIDE = re.compile(r".+\.damaged\d+")
_CHECKPOINT = re.compile(r"checkpoint.*\.pt")


@dataclass(frozen=True)
class Waste:
    """A file that nothing needs, why, and its size in bytes."""

    path: Path
    reason: str
    size: int


def find(results: Path, now: float | None = None) -> list[Waste]:
    """Files under a results folder that nothing needs, the same ones for the same folder, sorted by path.

    - checkpoints of finished stages;
    - temporary files that a killed process left, older than an hour;
    - files that were found damaged and set aside;
    - features that no evaluation refers to, finished or planned (none where a stage does not say what it refers to);
    - locks and leases that nobody holds;
    - logs that have not been written for a month.

    Stages that a process is working on are passed over.

    Args:
        results: the folder.
        now: the time, for ages.
    """
    now = time.time() if now is None else now
    known = folders(results)
    parents = [_parents(folder) for folder in known.values()]
    wanted = {parent for found in parents if found for parent in found}
    unsure = None in parents
    found = [
        Waste(path, reason, path.stat().st_size)
        for folder in known.values()
        if not _in_use(folder, now)
        for path, reason in _of_stage(folder, unsure or folder.name in wanted, now)
    ]
    for folder in (results, results / "figures", results / "tables", *results.glob("draws/*/")):
        found += [
            Waste(path, "left by a process that was killed", path.stat().st_size)
            for path in sorted(folder.glob(".*"))
            if path.is_file() and _TEMPORARY.fullmatch(path.name) and _age(path, now) > _QUIET
        ]
    found += [Waste(path, "log without a new line for a month", path.stat().st_size) for path in old(results, now)]
    return sorted(found, key=lambda waste: waste.path)


def remove(found: list[Waste]) -> int:
    """Delete files; returns how many bytes that frees."""
    freed = 0
    for waste in found:
        waste.path.unlink(missing_ok=True)
        freed += waste.size
    return freed


def size(folder: Path) -> int:
    """Bytes of the files in a folder."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


def _of_stage(folder: Path, is_wanted: bool, now: float) -> Iterator[tuple[Path, str]]:
    kind = folder.parent.parent.name
    done = (folder / "record.json").is_file() and (folder / RESULT.get(kind, "record.json")).is_file()
    for path in sorted(folder.iterdir()):
        if not path.is_file() or path.is_symlink() or path.name in _KEPT:
            continue
        if path.name in (".lock", ".lease"):
            yield path, "a lease that nobody holds"
        elif _ASIDE.fullmatch(path.name):
            yield path, "damaged, and set aside"
        elif _TEMPORARY.fullmatch(path.name):
            if _age(path, now) > _QUIET:
                yield path, "left by a process that was killed"
        elif _CHECKPOINT.fullmatch(path.name):
            if done:
                yield path, "checkpoint of a finished stage"
        elif kind == "features" and path.name == RESULT["features"] and not is_wanted:
            yield path, "features that no evaluation refers to"


def _in_use(folder: Path, now: float) -> bool:
    """Whether a process works on a stage: it holds the lock, or has renewed its lease lately."""
    if any(_age(path, now) <= _QUIET for path in folder.glob(".lease*")):
        return True
    if not (folder / ".lock").is_file():
        return False
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def _parents(folder: Path) -> list[str] | None:
    """What a stage started from, by any of its files that can be read; ``None`` where that is not known."""
    for name in ("record.json", "stage.json"):
        try:
            content = json.loads((folder / name).read_bytes())
        except (OSError, ValueError):
            continue
        if isinstance(content, Mapping) and isinstance(content.get("parents"), list):
            return [str(parent) for parent in content["parents"]]
    return None


def _age(path: Path, now: float) -> float:
    try:
        return now - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
