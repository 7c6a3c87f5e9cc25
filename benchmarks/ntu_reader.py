"""Files per second of the NTU reader against a plain line-by-line reader, on generated files in one process.

Run by hand: ``python -m benchmarks.ntu_reader [--files 20] [--frames 100]``. Both take the text of a file to the array of its
first two bodies; the times are CPU times, so that a busy machine changes little.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

from benchmarks.plain_ntu import read_plain
from benchmarks.tables import Table
from benchmarks.timing import best_seconds
from datasets.ntu_bodies import first_two
from datasets.ntu_raw import parse
from datasets.ntu_write import skeleton_text


def make_files(count: int, frames: int) -> list[bytes]:
    """Texts with one body that walks at random."""
    random = np.random.default_rng(0)
    pose = random.normal((0, 0, 3), 0.4, (count, 1, 25, 3))
    clips = pose + random.normal(0, 0.01, (count, frames, 25, 3)).cumsum(axis=1)
    return [skeleton_text([[(2**56 + 1, joints)] for joints in clip]) for clip in clips]


def rate(read: Callable[[bytes], object], files: list[bytes]) -> float:
    """Files per second of CPU time."""
    return len(files) / best_seconds(lambda: [read(text) for text in files], clock=time.process_time)


def table(files: int = 20, frames: int = 100) -> Table:
    """Files per second of both readers."""
    texts = make_files(files, frames)
    fast = rate(lambda text: first_two(parse(text)), texts)
    plain = rate(read_plain, texts)
    size = sum(map(len, texts)) / len(texts) / 1e3
    return Table(
        f"NTU skeleton files of {frames} frames with one body, {size:.0f} kB, one process",
        ("", "files/s", "ratio"),
        [("datasets.ntu_raw", f"{fast:,.0f}", f"{fast / plain:.1f}"), ("line by line", f"{plain:,.0f}", "1.0")],
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=20)
    parser.add_argument("--frames", type=int, default=100)
    table(**vars(parser.parse_args())).show()


if __name__ == "__main__":
    main()
