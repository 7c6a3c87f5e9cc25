"""What a run says while it runs: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

_PLAIN_INTERVAL = 10.0
"""Seconds between two lines of one stage when there is no terminal."""


class Reporter:
    """Shows the progress of stages, one at a time.

    Args:
        console: where to.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.jobs = 0
        self.number = 0
        self._title = ""
        self._bar: tuple[Progress, TaskID] | None = None
        self._begun: tuple[float, float] | None = None
        self._shown = 0.0

    def say(self, text: str, style: str | None = None) -> None:
        """Print a line above the bar."""
        self.console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def stage(self, title: str, short: str) -> Iterator[None]:
        """Count a stage and show its bar while the block runs.

        Args:
            title: all that tells the stage apart, for plain lines.
            short: the little that fits beside a bar.
        """
        self.number += 1
        self._title, self._begun, self._shown = f"{self.counter} {title}", None, time.monotonic()
        if not self.console.is_terminal:
            yield
            return
        text = TextColumn("{task.fields[text]}", markup=False)
        columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=20), text)
        with Progress(*columns, console=self.console, transient=True) as progress:
            self._bar = progress, progress.add_task(f"{self.counter} {short}", total=None, text="")
            try:
                yield
            finally:
                self._bar = None

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
        now = time.monotonic()
        if self._begun is None:
            self._begun = now, done
        since, at_first = self._begun
        if self._bar:
            progress, task = self._bar
            progress.update(
                task, completed=done, total=total, text=text + _left(now - since, done - at_first, total - done)
            )
        elif milestone and now - self._shown >= _PLAIN_INTERVAL:
            self._shown = now
            self.say(f"{self._title}: {text}{_left(now - since, done - at_first, total - done)}")


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
