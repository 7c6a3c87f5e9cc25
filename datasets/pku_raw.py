"""PKU-MMD text (aimclr.md 1.4): a skeleton file, one line of 150 numbers per frame, and a label file, one line per action."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datasets.decimals import NUMBER, decimals, in_words
from datasets.layout import NTU25
from datasets.prepare import BadClipError

PERSONS = 2
CLASSES = 51
_WIDTH = PERSONS * len(NTU25) * 3
_CHUNK = 150 * 64  # words, so that what is made of them fits into a cache
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
    text = text.rstrip() + b"\n"
    if not text.strip():
        raise BadClipError("the file is empty")
    characters = np.frombuffer(text, np.uint8)
    solid = np.concatenate([[False], in_words(characters)])
    edges = np.flatnonzero(solid[1:] != solid[:-1])
    begin, end = edges[::2], edges[1::2]
    ends = np.flatnonzero(characters == ord("\n"))
    widths = np.diff(np.searchsorted(begin, ends), prepend=0)
    if len(wrong := np.flatnonzero(widths != _WIDTH)):
        raise _not_a_frame(text.split(b"\n"), int(wrong[0]), int(widths[wrong[0]]))
    values = np.empty(len(begin))
    for low in range(0, len(begin), _CHUNK):
        words = slice(low, low + _CHUNK)
        values[words] = _numbers(text, characters, begin[words], end[words], low)
    return values.reshape(len(ends), PERSONS, len(NTU25), 3)


def _not_a_frame(lines: list[bytes], index: int, found: int) -> BadClipError:
    """The error of a line that does not hold two bodies."""
    last = " (the last line: was the file copied completely?)" if 0 < index == len(lines) - 2 else ""
    return BadClipError(
        f"line {index + 1}: expected {_WIDTH} numbers separated by spaces ({PERSONS} bodies of {len(NTU25)} joints), "
        f"found {found}: {_shown(lines[index])}{last}"
    )


def _numbers(
    text: bytes, characters: NDArray[np.uint8], begin: NDArray[np.int64], end: NDArray[np.int64], first: int
) -> NDArray[np.float64]:
    """Values of words, the first of which is number ``first`` of the file."""
    values = characters[begin] - np.float64(ord("0"))  # of single digits: an absent body is 75 zeros
    long = np.flatnonzero((end - begin > 1) | (values < 0) | (values > 9))
    values[long], plain = decimals(characters, begin[long], end[long])
    for index in long[~plain].tolist():
        word = text[begin[index] : end[index]]
        if not NUMBER.fullmatch(word) or not np.isfinite(float(word)):
            line, place = divmod(first + index, _WIDTH)
            body, coordinate = divmod(place, _WIDTH // PERSONS)
            raise BadClipError(
                f"line {line + 1}: expected coordinate {'xyz'[coordinate % 3]} of joint {NTU25.joints[coordinate // 3]} of "
                f"body {body + 1}, found {_shown(word)}"
            )
        values[index] = float(word)
    return values


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
