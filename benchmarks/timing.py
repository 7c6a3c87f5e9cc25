"""Timing helpers: best of several repeats, after a warm-up."""

from __future__ import annotations

import time
from collections.abc import Callable


def best_seconds(
    work: Callable[[], object], repeats: int = 5, warm_up: int = 2, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Smallest time of one call: wall-clock time, or ``time.process_time``, which a busy machine changes little."""
    for _ in range(warm_up):
        work()
    times = []
    for _ in range(repeats):
        start = clock()
        work()
        times.append(clock() - start)
    return min(times)
