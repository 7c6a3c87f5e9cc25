"""What a run says while it runs: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from engine.logs import Write, no_log

_PLAIN_INTERVAL = 10.0
"""Seconds between two lines of one stage when there is no terminal."""


@dataclass
class _Running:
    """A stage that runs: its two titles, when it was first heard of and what was done then, its last line, its bar."""

    title: str
    short: str
    begun: tuple[float, float] | None = None
    shown: float = field(default_factory=lambda: time.monotonic())
    bar: TaskID | None = None


class Reporter:
    """Shows the progress of the stage that runs here, and of those that run in companions (:mod:`engine.companions`).

    Args:
        console: where to.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.log: Write = no_log
        """Takes the same lines, and in place of bars those that are printed without a terminal."""
        self.jobs = 0
        self.number = 0
        self.shared = False
        """Whether companions say themselves what they did."""
        self._running: dict[int, _Running] = {}
        self._progress: Progress | None = None
        self._lock = threading.RLock()

    def say(self, text: str, style: str | None = None) -> None:
        """Print a line above the bars."""
        self.log(text, style)
        self.console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def stage(self, title: str, short: str) -> Iterator[None]:
        """Count a stage and show its bar while the block runs.

        Args:
            title: all that tells the stage apart, for plain lines.
            short: the little that fits beside a bar.
        """
        self.number += 1
        self._begin(0, f"{self.counter} {title}", f"{self.counter} {short}")
        try:
            yield
        finally:
            self._end(0)

    @property
    def counter(self) -> str:
        """``[ 3/12]``."""
        return f"[{self.number:>{len(str(self.jobs))}}/{self.jobs}]"

    def update(self, done: int, total: int, text: str, milestone: bool = True) -> None:
        """Move the bar; without a terminal print a line at most every ten seconds.

        Args:
            done: units of work done, of ``total``.
            total: all units.
            text: rate, loss and the like.
            milestone: whether a plain line may be printed now (the end of an epoch).
        """
        self._update(0, done, total, text, milestone)

    def hear(self, who: int, message: Mapping[str, Any]) -> None:
        """Show what a companion says.

        Args:
            who: its process.
            message: of a ``RelayReporter``.
        """
        if "say" in message:
            self.say(message["say"], message["style"])
        elif "begin" in message:
            self._begin(who, message["begin"], message["short"])
        elif "end" in message:
            self._end(who)
        else:
            self._update(who, message["done"], message["total"], message["text"], message["milestone"])

    def _begin(self, who: int, title: str, short: str) -> None:
        with self._lock:
            running = self._running[who] = _Running(title, short)
            self.log(f"{title}: begins", None)
            if not self.console.is_terminal:
                return
            if self._progress is None:
                text = TextColumn("{task.fields[text]}", markup=False)
                columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=20), text)
                self._progress = Progress(*columns, console=self.console, transient=True)
                self._progress.start()
            running.bar = self._progress.add_task(short, total=None, text="")

    def _end(self, who: int) -> None:
        with self._lock:
            running = self._running.pop(who, None)
            if self._progress is None or running is None or running.bar is None:
                return
            if self._running:
                self._progress.remove_task(running.bar)
            else:
                self._progress.stop()
                self._progress = None

    def _update(self, who: int, done: int, total: int, text: str, milestone: bool) -> None:
        now = time.monotonic()
        with self._lock:
            running = self._running.get(who)
            if running is None:  # a late message of a process that is gone
                return
            if running.begun is None:
                running.begun = now, done
            since, at_first = running.begun
            text += _left(now - since, done - at_first, total - done)
            due = milestone and now - running.shown >= _PLAIN_INTERVAL
            if due:
                running.shown = now
            if self._progress and running.bar is not None:
                self._progress.update(running.bar, completed=done, total=total, text=text)
                if due:
                    self.log(f"{running.title}: {text}", None)
            elif due:
                self.say(f"{running.title}: {text}")


def _left(seconds: float, done: float, remaining: float) -> str:
    return f", {duration(seconds / done * remaining)} left" if done and remaining else ""


def duration(seconds: float) -> str:
    """``8 s``, ``3 min 20 s``, ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s" if whole else "under 1 s"
    if whole < 3600:
        return f"{whole // 60} min" + (f" {whole % 60} s" if whole % 60 and whole < 600 else "")
    return f"{whole // 3600} h {whole % 3600 // 60} min"
