"""Files of the run store: written whole or not at all, checked by checksum, set aside when damaged."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from engine.config import BenchError

DAMAGED = ".damaged"
"""Ends the name of what was set aside, before a number."""


class UnwritableError(BenchError):
    """The disk takes nothing any more (full, over quota, read-only): no stage could be finished, so the run stops."""


@contextmanager
def write_atomically(path: Path, previous: Path | None = None) -> Iterator[IO[bytes]]:
    """A binary file that appears under ``path`` complete or not at all (temporary file, fsync, rename, fsync of the folder).

    Args:
        path: the file.
        previous: where an older ``path`` is moved to, just before the new one takes its place.

    Raises:
        UnwritableError: the file cannot be written; what was there is as it was.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        if previous is not None and path.exists():
            path.replace(previous)
        temporary.replace(path)
        _sync_folder(path.parent)
    except BaseException as error:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise UnwritableError(
                f"{path} cannot be written: {error.strerror or error}. Nothing that was done is lost; make room, and the "
                "same command continues."
            ) from error
        raise


def _sync_folder(folder: Path) -> None:
    """Make a rename outlast a power failure, where the file system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def json_bytes(content: Any) -> bytes:
    """JSON, the same bytes for the same content, numbers of a list on one line.

    Raises:
        ValueError: a number is not finite.
    """
    text = json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n"
    return re.sub(r"\[\n([^][{}\"]*)\n *\]", lambda found: f"[{' '.join(found[1].split())}]", text).encode()


def write_json(path: Path, content: Any) -> None:
    """Write :func:`json_bytes` atomically."""
    text = json_bytes(content)
    with write_atomically(path) as file:
        file.write(text)


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write an ``.npz`` atomically."""
    with write_atomically(path) as file:
        np.savez(file, allow_pickle=False, **arrays)


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read an ``.npz``.

    Raises:
        BenchError: missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return dict(archive)
    except Exception as error:
        raise BenchError(f"{path} cannot be read ({error}). Delete {path.parent} and run again.") from None


def sha256(path: Path) -> str:
    """Checksum of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def set_aside(path: Path) -> Path:
    """Rename a damaged file to ``NAME.damaged1`` (or 2, 3 ...) and return where it is now; nothing is deleted."""
    number = 1
    while (aside := path.with_name(f"{path.name}{DAMAGED}{number}")).exists():
        number += 1
    return path.rename(aside)
