"""NTU RGB+D ``.skeleton`` text (aimclr.md 1.1): all bodies that the sensor listed, read from the bytes of a file.

The text is taken apart as one array of bytes: where words begin and end, how many are on each line, and the digits of
all coordinates at once. Values are those of ``float()``, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datasets.decimals import NUMBER, decimals, in_words
from datasets.entries import MOST_BYTES
from datasets.layout import NTU25
from datasets.prepare import BadClipError

MOST_FRAMES = 3000
"""Frames of a file beyond which it is refused, so that no file can fill the memory; clips of NTU RGB+D have up to 300."""

_BODY, _JOINT = 10, 12  # numbers on the line of a body and of a joint


@dataclass(frozen=True)
class Sightings:
    """The bodies of a recording, in the order in which the file lists them.

    Attributes:
        frames: F, frames of the recording, with or without bodies.
        frame: (B,) int64, 0-based frame of every sighting, never falling.
        body: (B,) uint64, the sensor's id of the body.
        joints: (B, 25, 3) float64, metres, camera space, y up.
    """

    frames: int
    frame: NDArray[np.int64]
    body: NDArray[np.uint64]
    joints: NDArray[np.float64]


def parse(text: bytes) -> Sightings:
    """Read the content of a ``.skeleton`` file.

    Raises:
        BadClipError: the text is not of that form; the message names the line, what was expected and what is there.
    """
    if len(text) > MOST_BYTES:
        raise BadClipError(f"{len(text)} bytes; an NTU file has a few million at most")
    if not text.strip():
        raise BadClipError("the file is empty")
    words = _Words(text)
    frames = words.count(0, "the number of frames")
    if frames > MOST_FRAMES:
        raise BadClipError(f"line 1: {frames} frames; expected at most {MOST_FRAMES} (NTU clips have up to 300)")
    line, frame, body, rows = 1, [], [], []
    for current in range(frames):
        bodies = words.count(line, f"the number of bodies in frame {current + 1} of {frames}")
        line += 1
        for _ in range(bodies):
            frame.append(current)
            body.append(words.body(line))
            joints = words.count(line + 1, "the number of joints")
            if joints != len(NTU25):
                raise BadClipError(f"line {line + 2}: expected {len(NTU25)} joints, found {joints}")
            rows.append(line + 2)
            line += 2 + joints
            if line > words.lines:
                raise words.ended(f"the joints of a body in frame {current + 1} of {frames}")
    if line < words.lines:
        raise BadClipError(
            f"line {line + 1}: expected the end of the file after {frames} frames, found {words.shown(line)}"
        )
    return Sightings(frames, np.array(frame, np.int64), np.array(body, np.uint64), words.points(np.array(rows, int)))


class _Words:
    """Where the words of a text are. Lines are counted from 0, as messages count them from 1."""

    def __init__(self, text: bytes) -> None:
        self.text = b"\n" + text.rstrip() + b"\n"
        self.bytes = np.frombuffer(self.text, np.uint8)
        solid = in_words(self.bytes)
        edges = np.flatnonzero(solid[1:] != solid[:-1]) + 1
        self.begin, self.end = edges[::2], edges[1::2]
        ends = np.flatnonzero(self.bytes == ord("\n"))
        self.lines = len(ends) - 1
        self._first = np.searchsorted(self.begin, ends)
        self._width = np.diff(self._first)
        # Plain lists: the walk over frames and bodies looks up single values.
        self._widths, self._ends = self._width.tolist(), ends.tolist()
        some = np.minimum(self._first[:-1], len(self.begin) - 1)  # an empty line has no word, and is never asked for it
        self._begins, self._stops = (edge[some].tolist() if len(edge) else [] for edge in (self.begin, self.end))

    def shown(self, line: int) -> str:
        """A line as messages show it."""
        content = self.text[self._ends[line] + 1 : self._ends[line + 1]].strip()
        return repr(content[:40].decode("ascii", "backslashreplace")) + "..." * (len(content) > 40)

    def ended(self, what: str) -> BadClipError:
        """The error of a text that stops too early."""
        return BadClipError(f"line {self.lines}: the file ends here; expected {what} (was it copied completely?)")

    def count(self, line: int, what: str) -> int:
        """The only word of a line, a whole number."""
        if line >= self.lines:
            raise self.ended(what)
        word = self.text[self._begins[line] : self._stops[line]] if self._widths[line] == 1 else b""
        if not word.isdigit() or len(word) > 18:
            raise BadClipError(f"line {line + 1}: expected {what}, found {self.shown(line)}")
        return int(word)

    def body(self, line: int) -> int:
        """The id on the line of a body."""
        if line >= self.lines:
            raise self.ended("the id and state of a body")
        self._assert_width(line, _BODY, "of a body, its 64-bit id first,")
        word = self.text[self._begins[line] : self._stops[line]]
        if not word.isdigit() or len(word) > 20 or int(word) >= 2**64:
            raise BadClipError(f"line {line + 1}: expected the 64-bit id of a body, found {self.shown(line)}")
        return int(word)

    def points(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Coordinates (B, 25, 3) of the bodies whose first joint is on line ``rows`` (B,)."""
        lines = (rows[:, None] + np.arange(len(NTU25))).ravel()
        if len(wrong := lines[self._width[lines] != _JOINT]):
            joint = NTU25.joints[int(np.flatnonzero(lines == wrong[0])[0]) % len(NTU25)]
            self._assert_width(int(wrong[0]), _JOINT, f"of joint {joint}")
        words = (self._first[lines][:, None] + np.arange(3)).ravel()
        values, plain = decimals(self.bytes, self.begin[words], self.end[words])
        for index in np.flatnonzero(~plain).tolist():
            word = self.text[self.begin[words[index]] : self.end[words[index]]]
            if not NUMBER.fullmatch(word):
                joint = NTU25.joints[index // 3 % len(NTU25)]
                found = repr(word[:40].decode("ascii", "backslashreplace"))
                raise BadClipError(
                    f"line {lines[index // 3] + 1}: expected coordinate {'xyz'[index % 3]} of joint {joint}, found {found}"
                )
            values[index] = float(word)
        return values.reshape(-1, len(NTU25), 3)

    def _assert_width(self, line: int, width: int, what: str) -> None:
        found = self._widths[line]
        if found != width:
            raise BadClipError(
                f"line {line + 1}: expected {width} numbers {what} separated by spaces, found {found}: {self.shown(line)}"
            )
