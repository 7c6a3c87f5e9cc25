"""Frames per second of the PKU-MMD reader against plain line-by-line readers, on a generated text in one process.

Run by hand: ``python -m benchmarks.pku_reader [--frames 4000]``. All take the text of a skeleton file to an array
(F, 2, 25, 3); the times are CPU times, so that a busy machine changes little.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from benchmarks.tables import Table
from benchmarks.timing import best_seconds
from datasets.pku_raw import parse_skeleton
from datasets.pku_write import skeleton_text

SHAPE = (2, 25, 3)


def read_joints(text: bytes) -> NDArray[np.float64]:
    """Line by line and joint by joint, as the field's scripts do it; expects a text without faults."""
    lines = text.decode().splitlines()
    frames = np.zeros((len(lines), *SHAPE))
    for frame, line in zip(frames, lines, strict=True):
        words = line.split()
        for person in range(2):
            for joint in range(25):
                place = 75 * person + 3 * joint
                frame[person, joint] = [float(word) for word in words[place : place + 3]]
    return frames


def read_lines(text: bytes) -> NDArray[np.float64]:
    """The shortest line by line: one list of numbers per line."""
    rows = [[float(word) for word in line.split()] for line in text.splitlines()]
    return np.array(rows).reshape(-1, *SHAPE)


def make_text(frames: int) -> bytes:
    """A text with one body, or two in a quarter of the frames, that walk at random."""
    random = np.random.default_rng(0)
    bodies = random.normal((0, 0, 3), 0.4, SHAPE) + random.normal(0, 0.01, (frames, *SHAPE)).cumsum(axis=0)
    bodies[frames // 4 :, 1] = 0
    return skeleton_text(bodies)


def rate(read: Callable[[bytes], NDArray[np.float64]], text: bytes, frames: int) -> float:
    """Frames per second of CPU time."""
    return frames / best_seconds(lambda: read(text), clock=time.process_time)


def table(frames: int = 4000) -> Table:
    """Frames per second of all three readers."""
    text = make_text(frames)
    fast = rate(parse_skeleton, text, frames)
    rows = [("datasets.pku_raw", f"{fast:,.0f}", "")]
    for name, read in (("joint by joint", read_joints), ("line by line", read_lines)):
        plain = rate(read, text, frames)
        rows.append((name, f"{plain:,.0f}", f"{fast / plain:.1f}"))
    return Table(
        f"PKU-MMD text of {frames} frames, {len(text) / 1e6:.1f} MB, one process", ("", "frames/s", "slower by"), rows
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=4000)
    table(**vars(parser.parse_args())).show()


if __name__ == "__main__":
    main()
