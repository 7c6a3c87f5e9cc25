"""The run store: one folder per stage, whose ``record.json`` is written last and atomically."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from filelock import LeaseSettingsMismatch, SoftFileLease, Timeout

from engine import files
from engine.config import BenchError
from engine.files import UnwritableError, json_bytes, set_aside, write_atomically, write_json
from engine.leases import Unsigned
from engine.records import CHECKSUMS, RECORD, Checksum, DamagedError, Provenance, Record, read_checksums, read_record
from engine.stages import Stage

State = Literal["done", "resume", "to do", "retry", "failed", "unsupported"]
RESULT = {"pretrain": "weights.safetensors", "features": "features.npz", "evaluate": "scores.npz", "fuse": "scores.npz"}
"""What a stage leaves beside its record."""
LEASE_SECONDS = 180.0
"""A lease that its owner has not renewed for so long is taken over; all processes on a results folder share this number."""
_LEASE = ".lease"


class LeaseLostError(Exception):
    """This process did not renew its lease in time, and another one has taken the stage over."""


class RunStore:
    """Stages under ``<results>/runs/<kind>/<plug-in>/<key>/``.

    Args:
        results: the results folder; made when something is written.
        warn: takes a line about a damaged record.
        retry_failed: whether stages that failed are to be run again.
        read_only: only for planning, which then writes no data either.
    """

    def __init__(
        self,
        results: Path,
        warn: Callable[[str], None] = print,
        retry_failed: bool = False,
        read_only: bool = False,
    ) -> None:
        self.results = results
        self.retry_failed = retry_failed
        self.read_only = read_only
        self._warn = warn
        self._checked: dict[str, Record] = {}
        self._whole: set[str] = set()
        self._leases: dict[str, SoftFileLease] = {}
        self._unsigned = Unsigned(LEASE_SECONDS)

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
            path = self.folder(stage) / RECORD
            if not path.is_file() or not self.result(stage).is_file():
                return None
            try:
                self._checked[stage.key] = self._read(stage)
            except DamagedError as error:
                self._warn(f"{path} is damaged ({error}); the stage counts as not done.")
                return None
        return self._checked[stage.key]

    def _read(self, stage: Stage) -> Record:
        record = read_record(self.folder(stage))
        if record.key != stage.key:
            raise DamagedError(f"it belongs to {record.key}")
        return record

    def is_whole(self, stage: Stage) -> bool:
        """Whether the result file of a finished stage has the content that was written; looked at once."""
        if stage.key not in self._whole:
            try:
                known = read_checksums(self.folder(stage)).get(RESULT[stage.kind])
                if known and files.sha256(self.result(stage)) != known.sha256:
                    return False
            except (OSError, DamagedError):
                return False
            self._whole.add(stage.key)
        return True

    def set_aside(self, stage: Stage) -> list[str]:
        """Rename the files of a damaged stage, so that it can run again; returns their new names."""
        self._checked.pop(stage.key, None)
        paths = [self.folder(stage) / RECORD, self.result(stage)]
        if not all(path.is_file() for path in paths):
            return []  # the rest of an interruption, or features deleted to save space: written over
        return [set_aside(path).name for path in (*paths, self.folder(stage) / CHECKSUMS) if path.exists()]

    def state(self, stage: Stage) -> tuple[State, str]:
        """Where a stage stands, and the reason if it failed."""
        if self.record(stage):
            return "done", ""
        if reason := self.failure(stage):
            return ("retry" if self.retry_failed else "failed"), reason
        return ("resume", "") if self.resumable(stage) else ("to do", "")

    def failure(self, stage: Stage) -> str:
        """Why a stage failed the last time, "" if it did not."""
        path = self.folder(stage) / "failure.json"
        if not path.is_file():
            return ""
        try:
            note = json.loads(path.read_bytes())
            reason, detail = str(note["reason"]), note.get("detail", "")
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return "unreadable failure.json"
        # Earlier versions also noted that a stage before this one had failed.
        return "" if " failed: " in reason and not detail else reason or "for no known reason"

    def forgive(self, stage: Stage) -> None:
        """Forget a failure, so that the stage runs again."""
        (self.folder(stage) / "failure.json").unlink(missing_ok=True)

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
        """Note why a stage failed; it is not run again before somebody asks for it."""
        content = {"key": stage.key, "labels": stage.labels.model_dump(), "reason": reason, "detail": detail}
        write_json(self.folder(stage) / "failure.json", content)

    def commit(self, stage: Stage, record: Record, provenance: Provenance) -> None:
        """Finish a stage whose result file is in place: provenance and checksums, the record last, then tidy up.

        Raises:
            LeaseLostError: another process has taken the stage over.
        """
        folder, result = self.folder(stage), self.result(stage)
        lease = self._leases.get(stage.key)
        if lease is not None and lease.is_locked and lease.compromise:
            raise LeaseLostError
        content = json_bytes(record.model_dump(mode="json"))
        checksums = {
            RECORD: Checksum(bytes=len(content), sha256=hashlib.sha256(content).hexdigest()),
            result.name: Checksum(bytes=result.stat().st_size, sha256=files.sha256(result)),
        }
        write_json(folder / "provenance.json", provenance.model_dump(mode="json"))
        write_json(folder / CHECKSUMS, {name: known.model_dump() for name, known in checksums.items()})
        with write_atomically(folder / RECORD) as file:
            file.write(content)
        self._checked[stage.key] = record
        self._whole.add(stage.key)
        notes = [folder / "failure.json", folder / "unsupported.json"]
        halves = [path for path in folder.glob(".*") if path.is_file() and not path.name.startswith(_LEASE)]
        for leftover in (*folder.glob("checkpoint*.pt"), *notes, *halves):
            leftover.unlink(missing_ok=True)

    @contextmanager
    def lease(self, stage: Stage) -> Iterator[bool]:
        """Hold a stage against other processes that share this results folder; false, at once, where another one holds it.

        The owner renews its lease from a thread. A lease is taken over at once from a process of this host that is gone, and
        from any other when it has not been renewed for :data:`LEASE_SECONDS` by the clock of who waits.

        Raises:
            UnwritableError: the folder cannot be written.
            BenchError: a version of this project with another :data:`LEASE_SECONDS` holds it.
        """
        # Kept between calls: a lease notices by looking several times that its owner no longer renews it.
        lease = self._leases.setdefault(
            stage.key, SoftFileLease(self.folder(stage) / _LEASE, lease_duration=LEASE_SECONDS, mode=0o644)
        )
        held = False
        try:
            self.folder(stage).mkdir(parents=True, exist_ok=True)
            with suppress(Timeout):
                lease.acquire(timeout=0)
                held = True
            if not held:
                self._unsigned.clear(self.folder(stage) / _LEASE)
        except LeaseSettingsMismatch as error:
            raise BenchError(f"{stage}: {error}") from None
        except OSError as error:
            raise UnwritableError(f"{self.folder(stage)} cannot be written: {error.strerror or error}.") from error
        try:
            yield held
        finally:
            if held:
                with suppress(
                    OSError
                ):  # a marker that cannot be removed is taken over as soon as this process has ended
                    lease.release()
                del self._leases[stage.key]
