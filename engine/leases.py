"""Leases that nobody signed: what a process leaves that is killed between making its lease and writing its name into it."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path


class Unsigned:
    """Watches the empty leases of a results folder, which filelock never takes over.

    An owner renews its lease by touching it, so an empty one that has not changed for ``patience`` seconds, by the clock of
    who watches, is nobody's.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._seen: dict[Path, tuple[int, int, float]] = {}

    def clear(self, lease: Path) -> None:
        """Look at a lease that is in the way; remove it if it is empty and was so, untouched, for long enough."""
        now = time.monotonic()
        with suppress(OSError):
            state = lease.stat()
            inode, changed, since = self._seen.get(lease, (0, 0, now))
            if state.st_size or (inode, changed) != (state.st_ino, state.st_mtime_ns):
                self._seen[lease] = (state.st_ino, state.st_mtime_ns, now)
            elif now - since >= self._patience:
                self._remove(lease, state.st_ino)

    def _remove(self, lease: Path, inode: int) -> None:
        aside = lease.with_name(f"{lease.name}.{os.getpid()}")
        lease.rename(aside)
        if aside.stat().st_ino != inode:  # another watcher was faster, and this is the lease of a new owner
            with suppress(FileExistsError):
                os.link(aside, lease)
        aside.unlink()
