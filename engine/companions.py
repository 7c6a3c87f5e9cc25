"""Further processes for a plan with independent stages: each runs the same command, and the leases divide the work.

On a CPU two processes of one thread each do more than one process of two threads, the more so the smaller the network. A
companion is the same command line with ``--companion``: it says what it does as lines of JSON, and ends with its parent.
"""

from __future__ import annotations

import _thread
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from rich.console import Console

from engine.estimate import Estimate
from engine.plan import Plan
from engine.progress import Reporter

MOST = 4
"""Processes at most, unless more are asked for: every one holds the data and a network of its own."""
_WORTH = 60.0
"""Seconds of work below which starting another process does not pay."""
_SCRIPT = Path(__file__).resolve().parent.parent / "run_bench.py"


def useful(plan: Plan, guess: Estimate, device: torch.device, cores: int) -> int:
    """Processes that a plan keeps busy: all its work over the work of its longest chain of stages; 1 on a GPU."""
    if device.type != "cpu" or guess.total < _WORTH:
        return 1
    return max(1, min(MOST, cores, round(guess.total / longest_chain(plan, guess))))


def longest_chain(plan: Plan, guess: Estimate) -> float:
    """Seconds of the chain of stages, each needing the one before, that takes longest."""
    until: dict[str, float] = {}
    for job in plan.jobs:  # parents come first
        before = max((until.get(parent.key, 0.0) for parent in job.stage.parents), default=0.0)
        until[job.stage.key] = before + guess.seconds.get(job.stage.key, 0.0)
    return max(until.values(), default=0.0)


@contextmanager
def companions(number: int, arguments: tuple[str, ...], threads: int, reporter: Reporter) -> Iterator[None]:
    """Run the command line ``arguments`` in further processes while the block runs, and show what they say.

    They stop at the end of the block, at Ctrl-C, and when this process is gone; what they were busy with can be resumed.

    Args:
        number: how many.
        arguments: of the command line, without the name of the program.
        threads: of each.
        reporter: shows their lines and bars.
    """
    command = [sys.executable, str(_SCRIPT), *arguments, "--companion", "--jobs", "1", "--threads", str(threads)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(number)
    ]
    readers = [threading.Thread(target=_relay, args=(one, reporter), daemon=True) for one in started]
    for reader in readers:
        reader.start()
    try:
        yield
    finally:
        for one in started:
            assert one.stdin is not None
            one.stdin.close()
        for one, reader in zip(started, readers, strict=True):
            try:
                one.wait(timeout=10)
            except subprocess.TimeoutExpired:
                one.kill()
                one.wait()
            reader.join()


def _relay(process: subprocess.Popen[str], reporter: Reporter) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        try:
            message = json.loads(line)
        except ValueError:  # something that a plug-in printed
            reporter.say(line.rstrip("\n"))
            continue
        reporter.hear(process.pid, message)


class RelayReporter(Reporter):
    """The reporter of a process that helps another: what it says are messages, by default lines of JSON for its parent."""

    def __init__(self, console: Console, send: Callable[[Mapping[str, object]], None] | None = None) -> None:
        super().__init__(console)
        self.shared = True
        self._send = send or _print

    @property
    def counter(self) -> str:
        """``[ +/12]``: the parent counts."""
        return f"[{'+':>{len(str(self.jobs))}}/{self.jobs}]"

    def say(self, text: str, style: str | None = None) -> None:
        """Have the parent print a line."""
        self._send({"say": text, "style": style})

    @contextmanager
    def stage(self, title: str, short: str) -> Iterator[None]:
        """Have the parent show a bar while the block runs."""
        self._send({"begin": f"{self.counter} {title}", "short": f"{self.counter} {short}"})
        try:
            yield
        finally:
            self._send({"end": True})

    def update(self, done: int, total: int, text: str, milestone: bool = True) -> None:
        """Have the parent move the bar."""
        self._send({"done": done, "total": total, "text": text, "milestone": milestone})


def _print(message: Mapping[str, object]) -> None:
    print(json.dumps(message), flush=True)


@contextmanager
def ending_with_parent() -> Iterator[None]:
    """Stop the block as Ctrl-C would as soon as this process's standard input ends; what comes after it is left alone."""
    over = threading.Event()

    def watch() -> None:
        while os.read(0, 1024):  # not sys.stdin, whose lock a thread must not hold when the interpreter ends
            pass
        if not over.is_set():
            _thread.interrupt_main()

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()
