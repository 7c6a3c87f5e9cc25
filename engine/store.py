"""The run store: one folder per stage, whose ``record.json`` is written last and atomically."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from pydantic import ValidationError

from engine.config import BenchError
from engine.records import Provenance, Record
from engine.stages import Stage

State = Literal["done", "resume", "to do", "failed", "unsupported"]
RESULT = {"pretrain": "weights.safetensors", "features": "features.npz", "evaluate": "scores.npz", "fuse": "scores.npz"}
"""What a stage leaves beside its record."""


class RunStore:
    """Stages under ``<results>/runs/<kind>/<plug-in>/<key>/``.

    Args:
        results: the results folder; made when something is written.
        warn: takes a line about a damaged record.
    """

    def __init__(self, results: Path, warn: Callable[[str], None] = print) -> None:
        self.results = results
        self._warn = warn
        self._checked: dict[str, Record | None] = {}

    def folder(self, stage: Stage) -> Path:
        """Where a stage lives; its name depends on the key alone, so results folders can be moved and merged."""
        return self.results / "runs" / stage.kind / stage.choice.plugin.name / stage.key

    def result(self, stage: Stage) -> Path:
        """The file with a stage's weights, features or scores."""
        return self.folder(stage) / RESULT[stage.kind]

    def checkpoint(self, stage: Stage, part: str = "") -> Path:
        """Where an unfinished training stands, or one part of it."""
        return self.folder(stage) / (f"checkpoint-{part}.pt" if part else "checkpoint.pt")

    def resumable(self, stage: Stage) -> bool:
        """Whether a stage has begun and can go on."""
        return any(self.folder(stage).glob("checkpoint*.pt"))

    def record(self, stage: Stage) -> Record | None:
        """A finished stage's record, or ``None``: absent, damaged (with a warning), or its result file is gone."""
        if stage.key not in self._checked:
            record = self._read_record(stage)
            if record is None:
                return None
            self._checked[stage.key] = record
        return self._checked[stage.key]

    def _read_record(self, stage: Stage) -> Record | None:
        path = self.folder(stage) / "record.json"
        if not path.is_file() or not self.result(stage).is_file():
            return None
        try:
            record = Record.model_validate_json(path.read_bytes())
            if record.key != stage.key:
                raise ValueError(f"it belongs to {record.key}")
        except (ValidationError, ValueError) as error:
            reason = str(error).splitlines()[0]
            self._warn(f"{path} is damaged ({reason}); the stage counts as not done.")
            return None
        return record

    def state(self, stage: Stage) -> tuple[State, str]:
        """Where a stage stands, and the reason if it failed last time."""
        if self.record(stage):
            return "done", ""
        failure = self.folder(stage) / "failure.json"
        if failure.is_file():
            try:
                return "failed", str(json.loads(failure.read_bytes())["reason"])
            except (ValueError, KeyError):
                return "failed", "unreadable failure.json"
        return ("resume", "") if self.resumable(stage) else ("to do", "")

    def announce(self, stage: Stage) -> None:
        """Write ``stage.json``, so that pending cells are visible and a folder explains itself."""
        content = {
            "kind": stage.kind,
            "key": stage.key,
            "labels": stage.labels.model_dump(),
            "identity": stage.identity,
            "parents": [parent.key for parent in stage.parents],
        }
        if not (self.folder(stage) / "stage.json").is_file():
            write_json(self.folder(stage) / "stage.json", content)

    def unsupported(self, stage: Stage, reason: str) -> None:
        """Note why a cell cannot be run."""
        content = {"labels": stage.labels.model_dump(), "reason": reason}
        write_json(self.folder(stage) / "unsupported.json", content)

    def fail(self, stage: Stage, reason: str, detail: str = "") -> None:
        """Note why a stage failed; a failure is no result, so the next run tries again."""
        content = {"key": stage.key, "labels": stage.labels.model_dump(), "reason": reason, "detail": detail}
        write_json(self.folder(stage) / "failure.json", content)

    def commit(self, stage: Stage, record: Record, provenance: Provenance) -> None:
        """Finish a stage whose result file is in place: provenance first, the record last, then tidy up."""
        folder = self.folder(stage)
        write_json(folder / "provenance.json", provenance.model_dump(mode="json"))
        write_json(folder / "record.json", record.model_dump(mode="json"))
        self._checked[stage.key] = record
        for leftover in (*folder.glob("checkpoint*.pt"), folder / "failure.json", folder / "unsupported.json"):
            leftover.unlink(missing_ok=True)

    @contextmanager
    def lease(self, stage: Stage, waiting: Callable[[], None]) -> Iterator[None]:
        """Hold a stage against other processes that share this results folder.

        Args:
            stage: the stage to work on.
            waiting: called once when another process holds it.
        """
        self.folder(stage).mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder(stage) / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            waiting()
            lock.acquire()
        try:
            yield
        finally:
            lock.release()


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically, the same bytes for the same content; refuses numbers that are not finite."""
    text = json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n"
    text = re.sub(
        r"\[\n([^][{}\"]*)\n *\]", lambda found: f"[{' '.join(found[1].split())}]", text
    )  # numbers on one line
    with write_atomically(path) as file:
        file.write(text.encode())


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write an ``.npz`` atomically."""
    with write_atomically(path) as file:
        np.savez(file, allow_pickle=False, **arrays)


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read an ``.npz``.

    Raises:
        BenchError: missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return dict(archive)
    except Exception as error:
        raise BenchError(f"{path} cannot be read ({error}). Delete {path.parent} and run again.") from None


@contextmanager
def write_atomically(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that appears under ``path`` complete or not at all (temporary file, fsync, rename)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
