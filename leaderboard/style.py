"""What all figures have in common: fonts, grid, long names, legends, the colour of every method, and how one is stored."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.legend import Legend
from matplotlib.textpath import text_to_path
from numpy.typing import NDArray

RGB = tuple[float, float, float]

DPI = 160
_GREYS: dict[str, RGB] = {"raw": (0.65, 0.65, 0.65), "random": (0.35, 0.35, 0.35), "supervised": (0.0, 0.0, 0.0)}
"""Reference rows are grey."""
_KNOWN = ("aimclr", "actclr", "hiclr", "igm", "skeletonclr", "mamp")
"""Methods with a colour of their own, the same in every results folder; others take the next free ones."""
_CATEGORIES, _SAFE = 20, 10
"""Colours of the palette of classes, and of that which the colour-blind can tell apart, too; longer ones repeat themselves."""
_FORMATS = ("svg", "png")
_BREAK = re.compile(r"(?<=[\[,_/ ])|(?<=\.)(?!\d)")
"""Where a long name is broken: after these signs, but not within a number."""
_TITLE = 9.0
"""Points of a figure's title."""
# In inches.
_TALL = 5.0
"""A legend beside a figure gets another column rather than become higher than this."""
_ABOVE, _BETWEEN = 0.6, 0.14
"""What a legend leaves for the title, and the space that its columns need."""


@contextmanager
def canvas(scale: float = 1.0) -> Iterator[None]:
    """Draw and save inside of this.

    Args:
        scale: of letters whose size is not given.
    """
    large, small = 9 * scale, 8 * scale
    style: Any = {
        **sns.axes_style("whitegrid"),
        "svg.hashsalt": "figures",
        "font.family": "DejaVu Sans",
        "axes.titlelocation": "left",
        "axes.titlesize": large,
        "axes.labelsize": large,
        "xtick.labelsize": small,
        "ytick.labelsize": small,
        "legend.fontsize": small,
        "legend.frameon": False,
        "grid.color": "0.9",
    }
    with sns.plotting_context("paper"), matplotlib.rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a name in a script that the font lacks shows as boxes
        yield


def save(figure: Figure, path: Path, title: str, suffixes: Sequence[str] = _FORMATS) -> list[Path]:
    """Write a figure under its title, see :func:`store`."""
    heading = wrapped(title, 0.97 * figure.get_figwidth(), _TITLE)
    figure.suptitle(heading, x=0.01, ha="left", fontsize=_TITLE, color="0.3")
    figure.set_figheight(figure.get_figheight() + text_height(heading, _TITLE) - text_height("", _TITLE))
    return store(figure, path, suffixes)


def store(figure: Figure, path: Path, suffixes: Sequence[str] = _FORMATS, dpi: int = DPI) -> list[Path]:
    """Write ``path.svg`` and ``path.png``; the same figure gives the same bytes.

    Args:
        figure: drawn inside of :func:`canvas`, as this call is.
        path: without suffix; its folder is made.
        suffixes: of the files, which are returned in this order.
        dpi: of the picture.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.set_dpi(dpi)
    if layout := figure.get_layout_engine():
        layout.execute(figure)  # once for all files
        figure.set_layout_engine("none")
    paths = [path.with_name(f"{path.name}.{suffix}") for suffix in suffixes]
    for one in paths:
        figure.savefig(one, dpi=dpi, metadata={"Date" if one.suffix == ".svg" else "Software": None})
    return paths


def legend(figure: Figure, handles: Sequence[Artist], *, beside: bool = False, **settings: Any) -> None:
    """Name what is drawn, below or beside the panels; the figure grows by what that takes.

    Args:
        figure: with room for its panels alone.
        handles: with labels.
        beside: to the right, in one column unless that is very high, instead of below, in as many as fit the width.
        settings: of :meth:`matplotlib.figure.Figure.legend`.
    """
    width, height = figure.get_size_inches()
    place: Literal["outside right center", "outside lower center"]
    place = "outside right center" if beside else "outside lower center"

    def made(columns: int) -> tuple[Legend, float, float]:
        drawn = figure.legend(handles=list(handles), loc=place, ncols=columns, **settings)
        extent = drawn.get_window_extent()
        return drawn, extent.width / figure.dpi, extent.height / figure.dpi

    narrow, wide, tall = made(1)
    columns = -(-tall // max(height, _TALL)) if beside else width // (wide + _BETWEEN)
    narrow.remove()
    _, wide, tall = made(int(min(max(columns, 1), len(handles))))
    figure.set_size_inches((width + wide, max(height, tall + _ABOVE)) if beside else (width, height + tall))


def wrapped(text: str, inches: float, size: float, lines: int = 3) -> str:
    """A name in few lines, broken after ``[ , . _ /`` and spaces where that is possible, and not taken for a formula.

    Of what is too long for so many lines, "…" stands for the middle.

    Args:
        text: a name in one line.
        inches: width of a line.
        size: points of a letter.
        lines: the most there may be.
    """
    shown, kept = text, min(len(text), int(lines * inches * 72 / (0.25 * size)))  # no letter is narrower
    while len(broken := _broken(shown, inches, size)) > lines:
        kept -= 1
        shown = f"{text[: -(-kept // 2)]}…{text[len(text) - kept // 2 :]}"
    return plain("\n".join(broken))


def _broken(text: str, inches: float, size: float) -> list[str]:
    """Lines of a text that are no wider."""
    found, room = [""], inches
    for piece in _BREAK.split(text):
        for part in [piece] if text_width(piece, size) <= inches else piece:
            width = text_width(part, size)
            if width > room and found[-1]:
                found.append("")
                room = inches
            found[-1] += part
            room -= width
    return [line.strip() for line in found]


def text_width(text: str, size: float) -> float:
    """Inches of the widest line of a text, in points of a letter."""
    return max(sum(map(_advance, line)) for line in text.split("\n")) * size / 72


@cache
def _advance(letter: str) -> float:
    """Width of a letter with the space around it, as a share of the font's size."""
    with_it, without = (
        text_to_path.get_text_width_height_descent(text, FontProperties(size=100), False)[0]
        for text in (f"|{letter}|", "||")
    )
    return float(with_it - without) / 100


def text_height(text: str, size: float) -> float:
    """Inches of the lines of a text, in points of a letter."""
    return 1.2 * size / 72 * (1 + text.count("\n"))


def method_colours(methods: Iterable[str]) -> dict[str, RGB]:
    """A colour for every method, by its name with preset and changes; those of known methods never change."""
    palette: list[RGB] = [tuple(colour) for colour in sns.color_palette("colorblind", _SAFE)]
    palette = [palette[i] for i in (0, 1, 2, 3, 4, 8, 9, 5, 6)]  # without its grey
    taken = len(_KNOWN)
    found: dict[str, RGB] = {}
    for method in sorted(set(methods)):
        if method in _KNOWN:
            found[method] = palette[_KNOWN.index(method)]
        elif (base := re.split(r"[:\[ ]", method, maxsplit=1)[0]) in _GREYS:
            found[method] = _GREYS[base]
        else:
            extra = taken - len(palette)
            found[method] = (
                palette[taken] if extra < 0 else tuple(sns.husl_palette(12, h=0.05 * (extra // 12))[extra % 12])
            )
            taken += 1
    return found


def class_colours(count: int) -> NDArray[np.float64]:
    """Colours (count, 3) of classes, the same for the same number of them."""
    palette = sns.color_palette("tab20", _CATEGORIES) if count <= _CATEGORIES else sns.husl_palette(count)
    strong_first = [*palette[::2], *palette[1::2]] if 10 < count <= _CATEGORIES else palette
    return np.array((strong_first if count > 10 else palette[::2])[:count])


def column_colours(count: int) -> list[RGB]:
    """Colours of the columns of a chart, no two the same."""
    palette = sns.color_palette("colorblind", count) if count <= _SAFE else sns.husl_palette(count)
    return [tuple(colour) for colour in palette]


def plain(text: str) -> str:
    """Text that is not taken for a formula."""
    return text.replace("$", r"\$")


def grid(count: int) -> tuple[int, int]:
    """Rows and columns for so many panels."""
    columns = count if count <= 3 else 2 if count == 4 else 3
    return -(-count // columns), columns
