"""PKU-MMD text (aimclr.md 1.4): a skeleton file, one line of 150 numbers per frame, and a label file, one line per action."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datasets.layout import NTU25
from datasets.prepare import BadClipError

PERSONS = 2
CLASSES = 51
_WIDTH = PERSONS * len(NTU25) * 3
_NUMBER = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?")
_WHOLE = re.compile(rb"\d{1,9}")


@dataclass(frozen=True)
class Action:
    """A line of a label file.

    Attributes:
        line: its number, from 1, which is also the number of the action.
        label: class, from 1.
        start, end: first and last frame as written.
    """

    line: int
    label: int
    start: int
    end: int


def parse_skeleton(text: bytes) -> NDArray[np.float64]:
    """Read the content of a skeleton file.

    Returns:
        (F, 2, 25, 3), metres, camera space, y up; an absent body is all zero.

    Raises:
        BadClipError: the text is not of that form; the message names the line, what was expected and what is there.
    """
    lines = text.rstrip().split(b"\n")
    if not text.strip():
        raise BadClipError("the file is empty")
    for number, line in enumerate(lines, 1):
        found = len(line.split())
        if found != _WIDTH:
            last = " (the last line: was the file copied completely?)" if number == len(lines) > 1 else ""
            raise BadClipError(
                f"line {number}: expected {_WIDTH} numbers separated by spaces ({PERSONS} bodies of {len(NTU25)} joints), "
                f"found {found}: {_shown(line)}{last}"
            )
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # what it says when it stops before the end
        try:
            values = np.fromstring(text, np.float64, sep=" ")
        except (DeprecationWarning, ValueError):
            raise _no_number(lines) from None
    if values.size != len(lines) * _WIDTH or not np.isfinite(values).all():
        raise _no_number(lines)
    return values.reshape(len(lines), PERSONS, len(NTU25), 3)


def _no_number(lines: list[bytes]) -> BadClipError:
    """The error of the first word that is no number."""
    for number, line in enumerate(lines, 1):
        for index, word in enumerate(line.split()):
            if not _NUMBER.fullmatch(word) or not np.isfinite(float(word)):
                body, place = divmod(index, _WIDTH // PERSONS)
                joint = NTU25.joints[place // 3]
                return BadClipError(
                    f"line {number}: expected coordinate {'xyz'[place % 3]} of joint {joint} of body {body + 1}, "
                    f"found {_shown(word)}"
                )
    return BadClipError("a number is written as no other file does")


def parse_labels(text: bytes) -> list[Action]:
    """Read the content of a label file: class, start frame, end frame and confidence per line, separated by commas.

    Raises:
        BadClipError: the text is not of that form; the message names the line, what was expected and what is there.
    """
    actions = []
    for number, line in enumerate(text.rstrip().split(b"\n"), 1):
        words = [word.strip() for word in line.split(b",")]
        if len(words) not in (3, 4) or not all(map(_WHOLE.fullmatch, words)):
            raise BadClipError(
                f"label line {number}: expected class, start frame, end frame and confidence, whole numbers separated by "
                f"commas, found {_shown(line)}"
            )
        label, start, end = map(int, words[:3])
        if not 1 <= label <= CLASSES:
            raise BadClipError(f"label line {number}: expected a class from 1 to {CLASSES}, found {label}")
        if end < start:
            raise BadClipError(
                f"label line {number}: expected an end that is not before the start {start}, found {end}"
            )
        actions.append(Action(number, label, start, end))
    return actions


def _shown(line: bytes) -> str:
    """A line as messages show it."""
    line = line.strip()
    return repr(line[:40].decode("ascii", "backslashreplace")) + "..." * (len(line) > 40)
