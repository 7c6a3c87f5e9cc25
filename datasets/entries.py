"""Raw files where users keep them: in a folder, or in a zip that is read as it is."""

from __future__ import annotations

import os
import re
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from datasets.archives import look_over
from datasets.prepare import BadClipError
from engine.config import BenchError

MOST_BYTES = 64 << 20
"""Bytes of a file beyond which it is refused."""


@dataclass(frozen=True)
class Entry:
    """One file, in a folder or in a zip.

    Attributes:
        stem: name without suffix.
        path: the file, or the zip that holds it.
        member: name inside the zip, else empty.
        stamp: size and time of change, by which a resumed preparation sees that a file is another one.
    """

    stem: str
    path: Path
    member: str
    stamp: tuple[int, ...]

    @property
    def place(self) -> str:
        """What messages call it."""
        return self.member or self.path.name

    def read(self) -> bytes:
        """Its content.

        Raises:
            BadClipError: it cannot be read, or is larger than any such file.
        """
        if self.stamp[0] > MOST_BYTES:
            raise BadClipError(f"{self.stamp[0]} bytes; such a file has a few million at most")
        try:
            if not self.member:
                return self.path.read_bytes()
            return _archive(self.path, self.path.stat().st_mtime_ns).read(self.member)
        except Exception as error:  # whatever a damaged disk or zip (zlib, lzma, encryption) throws
            raise BadClipError(f"cannot be read ({error})") from None


@lru_cache(maxsize=4)
def _archive(path: Path, changed: int) -> zipfile.ZipFile:
    """An opened zip; its directory alone takes longer to read than a hundred files."""
    return zipfile.ZipFile(path)


def files_below(folder: Path) -> list[Path]:
    """All visible files of a folder and of those in it, sorted."""
    return sorted(Path(here) / name for here, _, names in os.walk(folder) for name in names if name[:1] != ".")


def of_file(path: Path) -> Entry:
    """The entry of a file in a folder; one that is not there, as behind a broken link, tells so when it is read."""
    try:
        status = path.stat()
    except OSError:
        return Entry(path.stem, path, "", (0, 0))
    return Entry(path.stem, path, "", (status.st_size, status.st_mtime_ns))


def of_zip(path: Path, suffix: str, hint: str) -> list[Entry]:
    """The entries of a zip with this suffix.

    Raises:
        BenchError: it is no readable zip; ``hint`` ends the message.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = look_over(archive, path)
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise BenchError(
            f"{path} is neither a folder nor a readable zip ({error}); downloaded completely? {hint}"
        ) from None
    return [
        Entry(Path(member.filename).stem, path, member.filename, (member.file_size, member.CRC))
        for member in members
        if member.filename.endswith(suffix) and not re.search(r"(^|/)(\.|__MACOSX/)", member.filename)
    ]
