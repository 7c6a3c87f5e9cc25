"""Zips from elsewhere, looked over before anything in them is read: where members point to, and what they unpack to.

Nothing is ever unpacked to disk; a member's name is refused all the same where it points outside, since such an archive was
made to do harm.
"""

from __future__ import annotations

import math
import re
import zipfile
from pathlib import Path

import numpy as np

from engine.config import BenchError

MOST_BYTES = 256 << 30
"""Unpacked size beyond which no archive is read; NTU RGB+D 120 has about 100 GiB of skeleton files."""
_UNSUSPICIOUS = 1 << 30
_MOST_RATIO = 200
"""Skeletons as text shrink 5-fold, clips filled up with zeros 20-fold; deflate reaches 1,000 for a file made to do so."""
_OUTSIDE = re.compile(r"[/\\]|[A-Za-z]:|(.*[/\\])?\.\.([/\\].*)?$", re.DOTALL)


def look_over(archive: zipfile.ZipFile, path: Path, most: int = MOST_BYTES) -> list[zipfile.ZipInfo]:
    """The members of an archive that does no harm.

    Args:
        archive: as opened.
        path: its file.
        most: bytes that it may unpack to.

    Raises:
        BenchError: a member points outside of the archive, members lie on each other, or it unpacks to far too much.
    """
    members = archive.infolist()
    for member in members:
        if _OUTSIDE.match(member.filename):
            raise BenchError(f"{path} is refused: its member {member.filename[:80]!r} points outside of the archive.")
    unpacked, packed = sum(m.file_size for m in members), sum(m.compress_size for m in members)
    if packed > path.stat().st_size:
        raise BenchError(f"{path} is refused: its members lie on each other, as in an archive made to fill a disk.")
    if unpacked > most:
        raise BenchError(f"{path} is refused: it unpacks to {unpacked:,} bytes, and at most {most:,} are read.")
    if unpacked > _UNSUSPICIOUS and unpacked > _MOST_RATIO * packed:
        raise BenchError(
            f"{path} is refused: {packed:,} bytes unpack to {unpacked:,}, {unpacked // max(packed, 1)} times as many. Real "
            f"data stay below {_MOST_RATIO}; pack yours without compression."
        )
    return members


def check_sizes(archive: zipfile.ZipFile, path: Path) -> None:
    """Compare what the headers of an npz's arrays promise with the bytes that are there, before memory is taken for them.

    Raises:
        ValueError: an array promises another size, or its header cannot be read.
    """
    for member in look_over(archive, path):
        with archive.open(member) as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(file)
            promised = math.prod(shape) * dtype.itemsize
            if not dtype.hasobject and promised != member.file_size - file.tell():
                there = member.file_size - file.tell()
                raise ValueError(f"{member.filename} of shape {shape} needs {promised:,} bytes and has {there:,}")
