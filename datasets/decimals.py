"""Numbers of large text files, all at once; values are those of ``float()``, bit for bit."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

NUMBER = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?")
"""What counts as a number, in whatever length."""
_WIDEST = 17
"""Characters of a number that are read as digits; longer ones (and those with an exponent) go through ``float``."""
_EXACT = 2**53
_TENS = 10 ** np.arange(_WIDEST + 2, dtype=np.int64)


_SOLID = ~np.isin(np.arange(256), list(b" \t\n\r\v\f"))


def in_words(text: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which characters (L,) are no white space; those that cannot be seen, such as NUL, are no white space either."""
    return _SOLID[text]


def decimals(
    text: NDArray[np.uint8], begin: NDArray[np.int64], end: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Values of words such as ``-0.1234567``, and which of the words are of that form.

    Digits and a power of ten that floats hold exactly give the correctly rounded value by one division.
    """
    if not len(begin):
        return np.zeros(0), np.zeros(0, bool)
    length = end - begin
    width = int(min(length.max(), _WIDEST))
    place = end - np.arange(width, 0, -1)[:, None]  # characters right-aligned, one row per place
    digit = text[place] - np.uint8(ord("0"))
    digit[place < begin] = 0
    other = digit > 9
    dot = text[place] == ord(".")
    dot &= place >= begin
    dots, negative = dot.sum(0, dtype=np.int64), text[begin] == ord("-")
    plain = (other.sum(0) == dots + negative) & (dots < 2) & (length <= width) & (length > dots + negative)
    digit[other] = 0
    value = np.zeros(len(begin), np.int64)
    for row in digit:
        value *= 10
        value += row
    after = width - 1 - dot.argmax(0)  # digits behind the dot, where there is one; the dot took a place of its own
    scale = _TENS[np.where(dots > 0, after, 0)]
    whole, fraction = np.divmod(value, scale * 10)
    value = np.where(dots > 0, whole * scale + fraction, value)
    plain &= value < _EXACT
    return np.where(negative, -1.0, 1.0) * (value / scale), plain
