"""Long work in parts: over processes, the same for every number of them, and continued after an interruption."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import threading
import time
import zipfile
from collections.abc import Callable, Container, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from engine.config import BenchError

Arrays = Mapping[str, NDArray[Any]]
Task = TypeVar("Task")
_MOST_PROCESSES = 16  # by default: each holds about 0.2 GiB
_EVERY = 10.0  # seconds between lines of progress


@contextmanager
def workshop(folder: Path, key: str) -> Iterator[Path]:
    """A hidden folder beside ``folder`` for what is unfinished; it outlives an interruption, and is removed at the end.

    Args:
        folder: where the finished data will lie.
        key: what the work depends on; work that was begun under another key is thrown away.

    Raises:
        BenchError: another process is at it.
    """
    work = folder.with_name(f".{folder.name}.work")
    work.mkdir(parents=True, exist_ok=True)
    lock = FileLock(work / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise BenchError(f"Another process is preparing {folder}; wait for it, or stop it.") from None
    try:
        mark = work / "key"
        if not mark.is_file() or mark.read_text() != key:
            for path in work.iterdir():
                if path.name != "lock":
                    path.unlink()
            mark.write_text(key)
        yield work
        shutil.rmtree(work)
    finally:
        lock.release()


def make_parts(
    work: Path,
    tasks: Sequence[Task],
    make: Callable[[Task], Arrays],
    processes: int = 0,
    tell: Callable[[str], None] = lambda line: None,
) -> Generator[Arrays]:
    """Make every part that is not there yet, and yield all of them in the order of the tasks; close it to stop.

    A part is one file, which appears whole or not at all; a part depends on its task alone, so that the number of processes
    changes nothing.

    Args:
        work: folder of the parts.
        tasks: one per part.
        make: makes the arrays of a part; a function of a module, since other processes import it.
        processes: how many; 0 = one per core, up to 16.
        tell: takes lines of progress.

    Raises:
        BenchError: a process was killed.
    """
    paths = [work / f"part{index:05}.npz" for index in range(len(tasks))]
    todo = {path: task for path, task in zip(paths, tasks, strict=True) if not _whole(path)}
    if len(todo) < len(tasks):
        tell(f"continuing: {len(tasks) - len(todo)} of {len(tasks)} parts are there")
    count = min(processes or min(_cores(), _MOST_PROCESSES), len(todo))
    write = partial(_write, make)
    if count <= 1:
        yield from _in_order(paths, todo, map(write, todo.items()), tell)
        return
    # Fresh processes: a fork of one that has run torch on several threads can hang.
    with ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), _start_worker) as pool:
        try:
            yield from _in_order(paths, todo, pool.map(write, todo.items()), tell)
        except BrokenProcessPool:
            raise BenchError(
                "A process that reads files was killed (out of memory?). The same command continues; --processes N with a "
                "smaller N needs less memory."
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, which waits for the parts that are being made; end when the parent is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _in_order(
    paths: Sequence[Path], fresh: Container[Path], made: Iterator[None], tell: Callable[[str], None]
) -> Iterator[Arrays]:
    told = time.monotonic()
    for done, path in enumerate(paths):
        if path in fresh:
            next(made)
        if time.monotonic() - told > _EVERY:
            told = time.monotonic()
            tell(f"{done + 1} of {len(paths)} parts")
        with np.load(path, allow_pickle=False) as arrays:
            yield dict(arrays)


def _write(make: Callable[[Task], Arrays], job: tuple[Path, Task]) -> None:
    path, task = job
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        np.savez(file, **make(task))  # type: ignore[arg-type]  # mypy takes the last keyword for allow_pickle
    temporary.replace(path)


def _whole(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False
