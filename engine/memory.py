"""What the C library does with the memory of tensors that are no longer needed."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h


@cache
def keep_freed_memory() -> None:
    """Have glibc keep freed memory for the next tensor, for the rest of the process; elsewhere nothing happens.

    By default large tensors are fresh pages every time, which the system clears first: at the papers' batch sizes that took
    a fifth of a training step in float32 (docs/performance.md).
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # musl has none
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
