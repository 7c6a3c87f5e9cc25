"""What all figures have in common: fonts, grid, the colour of every method, and how a figure is stored."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from numpy.typing import NDArray

RGB = tuple[float, float, float]

DPI = 160
_GREYS: dict[str, RGB] = {"raw": (0.65, 0.65, 0.65), "random": (0.35, 0.35, 0.35), "supervised": (0.0, 0.0, 0.0)}
"""Reference rows are grey."""
_KNOWN = ("aimclr", "actclr", "hiclr", "igm", "skeletonclr", "mamp")
"""Methods with a colour of their own, the same in every results folder; others take the next free ones."""
_CATEGORIES = 20


@contextmanager
def canvas() -> Iterator[None]:
    """Draw and save inside of this."""
    style: Any = {
        **sns.axes_style("whitegrid"),
        "svg.hashsalt": "figures",
        "font.family": "DejaVu Sans",
        "axes.titlelocation": "left",
        "axes.titlesize": 9,
        "axes.labelsize": 9,
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
        "legend.fontsize": 8,
        "legend.frameon": False,
        "grid.color": "0.9",
    }
    with sns.plotting_context("paper"), matplotlib.rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a name in a script that the font lacks shows as boxes
        yield


def save(figure: Figure, path: Path, title: str) -> list[Path]:
    """Write ``path.svg`` and ``path.png``; the same figure gives the same bytes."""
    figure.suptitle(plain(title), x=0.01, ha="left", fontsize=9, color="0.3")
    path.parent.mkdir(parents=True, exist_ok=True)
    paths = [path.with_name(f"{path.name}.{suffix}") for suffix in ("svg", "png")]
    figure.savefig(paths[0], metadata={"Date": None})
    figure.savefig(paths[1], dpi=DPI, metadata={"Software": None})
    return paths


def method_colours(methods: Iterable[str]) -> dict[str, RGB]:
    """A colour for every method, by its name with preset and changes; those of known methods never change."""
    palette: list[RGB] = [tuple(colour) for colour in sns.color_palette("colorblind", 10)]
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


def plain(text: str) -> str:
    """Text that is not taken for a formula."""
    return text.replace("$", r"\$")


def grid(count: int) -> tuple[int, int]:
    """Rows and columns for so many panels."""
    columns = count if count <= 3 else 2 if count == 4 else 3
    return -(-count // columns), columns
