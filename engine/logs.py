"""What runs said, in ``RESULTS/logs/``: one file per command, so that no process writes into another's."""

from __future__ import annotations

import logging
import os
import platform
import re
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path

SIZE, BACKUPS = 5_000_000, 3
"""Bytes of a file, and how many older ones of the same command are kept beside it (``.log.1`` is the newest of them)."""
KEPT = 100
"""Files that are kept; a command that begins removes the oldest beyond that."""
OLD = 30 * 86400.0
"""Seconds after its last line from which on a log is waste."""
_BUSY = 86400.0
"""Seconds after its last line in which a log may be of a command that goes on."""
_LEVELS = {"red": logging.ERROR, "yellow": logging.WARNING}

Write = Callable[[str, str | None], None]
"""Takes what is said and its colour on the terminal: red is an error, yellow a warning."""


def no_log(text: str, style: str | None = None) -> None:
    """Log nothing."""


def begin(results: Path, arguments: Sequence[str], complain: Callable[[str], None]) -> Write:
    """A log of this process, ``RESULTS/logs/<begun>-<host>-<pid>.log``; the arguments of its command line are the first line.

    The file is opened for every line, so there is nothing to close. A log that cannot be written, on a full disk say, stops
    nothing: ``complain`` gets one line, and the log goes on as soon as it can be written again.
    """
    host = re.sub(r"[^A-Za-z0-9.-]+", "_", platform.node()) or "host"
    path = results / "logs" / f"{time.strftime('%Y%m%d-%H%M%S')}-{host}-{os.getpid()}.log"
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        for each in surplus(results, time.time()):
            each.unlink(missing_ok=True)
    handler = _Handler(path, complain)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%dT%H:%M:%S%z"))
    logger = logging.Logger("run")  # of its own: no lines of other libraries, and none of their settings
    logger.addHandler(handler)

    def write(text: str, style: str | None = None) -> None:
        if text:  # further lines are indented, so that what begins with a time is always the log's
            logger.log(_LEVELS.get(style or "", logging.INFO), text.replace("\n", "\n    "))

    write(shlex.join(["run_bench.py", *arguments]))
    return write


class _Handler(RotatingFileHandler):
    """Gives up a line rather than the run."""

    def __init__(self, path: Path, complain: Callable[[str], None]) -> None:
        super().__init__(
            path, maxBytes=SIZE, backupCount=BACKUPS, encoding="utf-8", delay=True, errors="backslashreplace"
        )
        self._complain = complain
        self._told = False

    def emit(self, record: logging.LogRecord) -> None:
        """Append a line."""
        super().emit(record)
        self._drop()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Go on without this line."""
        self._drop()
        if not self._told:
            self._told = True
            self._complain(f"{self.baseFilename} cannot be written ({sys.exc_info()[1]}); the run goes on without it.")

    def _drop(self) -> None:
        stream, self.stream = self.stream, None
        if stream:
            with suppress(OSError, ValueError):
                stream.close()


def surplus(results: Path, now: float) -> list[Path]:
    """Logs beyond the newest :data:`KEPT`, without those of commands that may go on."""
    return [path for age, path in _by_age(results, now)[KEPT:] if age > _BUSY]


def old(results: Path, now: float) -> list[Path]:
    """Logs without a new line for :data:`OLD` seconds."""
    return [path for age, path in _by_age(results, now) if age > OLD]


def _by_age(results: Path, now: float) -> list[tuple[float, Path]]:
    found = []
    for path in results.glob("logs/*.log*"):
        with suppress(OSError):  # another command has just removed it
            found.append((now - path.stat().st_mtime, path))
    return sorted(found)
