"""Checkpoints of a training: the newest and the one before it, each checked before it is used.

torch writes a zip that holds a CRC-32 of every member, and does not look at it when it reads; here it is looked at, so that
no checkpoint needs a form of its own, and older ones are checked as well.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from engine.files import set_aside, write_atomically


def previous(path: Path) -> Path:
    """Where the checkpoint before the newest one is."""
    return path.with_suffix(".previous.pt")


class Writer:
    """Writes the checkpoints of one training beside it: a step waits for the copy in memory, and not for the disk.

    A context manager, at whose end everything is written.

    Args:
        path: the newest checkpoint; the one that was there becomes the previous one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._pending: Future[None] | None = None

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._finish()
        finally:
            self._thread.shutdown()

    def save(self, state: Mapping[str, Any]) -> None:
        """Copy a state and have it written once the one before it is.

        Raises:
            UnwritableError: the disk was full for the one before it, as it may be when the context ends; what was there is as
                it was.
        """
        content = io.BytesIO()  # torch's own writer may end the process when a disk is full
        torch.save(dict(state), content)
        self._finish()
        self._pending = self._thread.submit(self._write, content)

    def _finish(self) -> None:
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def _write(self, content: io.BytesIO) -> None:
        with write_atomically(self.path, previous(self.path)) as file:
            file.write(content.getbuffer())


def load(path: Path, tell: Callable[[str], None] = lambda line: None) -> tuple[Path, dict[str, Any]] | None:
    """The newest whole checkpoint and its file, or ``None``; what is damaged is set aside, with a line that says so."""
    for candidate in (path, previous(path)):
        if not candidate.is_file():
            continue
        fault = _fault(candidate)
        if not fault:
            try:
                state: dict[str, Any] = torch.load(candidate, map_location="cpu", weights_only=True)
                return candidate, state
            except Exception as error:  # whatever a file that is no checkpoint comes to; nothing in it is run
                fault = f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
        aside = set_aside(candidate)
        older = candidate == path and previous(path).is_file()
        what = "the previous checkpoint is used" if older else "the training starts anew"
        tell(f"{candidate} is damaged ({fault}). It is kept as {aside.name}; {what}.")
    return None


def _fault(path: Path) -> str:
    """What is wrong with the file by its checksums, "" if nothing is."""
    try:
        with zipfile.ZipFile(path) as archive:
            member = archive.testzip()
    except Exception as error:  # whatever zipfile and zlib throw at a damaged file
        return str(error) or type(error).__name__
    return f"the checksum of {member} is wrong" if member else ""
