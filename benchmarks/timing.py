"""Timing helpers: best of several repeats, after a warm-up."""

from __future__ import annotations

import time
from collections.abc import Callable


def best_seconds(work: Callable[[], object], repeats: int = 5, warm_up: int = 2) -> float:
    """Smallest wall-clock time of one call."""
    for _ in range(warm_up):
        work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)
