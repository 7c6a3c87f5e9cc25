"""Truth and predictions of untrimmed recordings as bands of colour over time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from leaderboard import style
from leaderboard.cells import Cell
from leaderboard.style import text_height, wrapped
from leaderboard.tables import method_order, method_title, place_title, timeline_name

_SHOWN = 12
"""Recordings in one picture; of more, so many spread evenly over the test part."""
# In inches: the picture; a line of a band and what is around bands and panels; names of methods and of classes.
_WIDTH, _BAND, _GAP, _MARGIN = 10.0, 0.1875, 0.28, 1.0
_NAME, _ENTRY = 1.6, 2.2
_SMALL = 7
"""Points of a method's name."""
_BACKGROUND = "0.92"

Arrays = dict[str, NDArray[Any]]


def draw_timelines(cells: Iterable[Cell], folder: Path) -> list[Path]:
    """Draw one ``timelines-*.png`` for every protocol on untrimmed recordings, data and stream.

    A panel is a test recording, the truth on top and every method below it in the order of the table, by its first seed and
    with its encoder where it has several; the percentage is that of the recording's frames. The same records give the same
    bytes.

    Args:
        cells: of the leaderboard, sorted.
        folder: where to.

    Returns:
        The files, none where nothing of the kind was evaluated.
    """
    paths = []
    for (bench, protocol), group in groupby(
        sorted(cells, key=lambda cell: (*astuple(cell.bench), cell.protocol)), key=lambda c: (c.bench, c.protocol)
    ):
        drawn = [cell for cell in sorted(group, key=method_order) if cell.done]
        methods = [cell.method for cell in drawn]
        found = {
            method_title(cell.method) + (f", {cell.encoder}" if methods.count(cell.method) > 1 else ""): (
                cell.done[0].stage.facts,
                arrays,
            )
            for cell in drawn
            if (arrays := _read(cell.done[0].stage.folder / "scores.npz"))
        }
        if not found:
            continue
        path = (folder / timeline_name(bench, protocol)).with_suffix("")
        facts = next(iter(found.values()))[0]
        place = place_title(bench.dataset, bench.split, bench.source)
        title = f"{place} · {bench.stream} stream · {protocol}"
        shown = {name: arrays for name, (_, arrays) in found.items()}
        with style.canvas():
            paths += _draw(title, shown, facts["classes"], facts.get("fps"), path)
    return paths


def _read(path: Path) -> Arrays | None:
    """What is drawn; ``None`` for scores of clips, and where the file is absent or damaged."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in ("prediction", "label", "offsets", "id")}
    except (OSError, KeyError, ValueError, EOFError):
        return None


def _draw(title: str, methods: dict[str, Arrays], classes: Sequence[str], fps: float | None, path: Path) -> list[Path]:
    first = next(iter(methods.values()))
    methods = {name: one for name, one in methods.items() if np.array_equal(one["id"], first["id"])}
    count = len(first["id"])
    shown = np.unique(np.linspace(0, count - 1, min(count, _SHOWN)).round().astype(int))
    if len(shown) < count:
        title += f" · {len(shown)} of {count} test recordings"
    spans = [slice(*first["offsets"][[i, i + 1]]) for i in shown]
    seen = np.unique(
        [c for span in spans for one in methods.values() for c in {*one["label"][span], *one["prediction"][span]}]
    )
    colours = _colours(seen)
    longest = max(span.stop - span.start for span in spans)
    names = ["truth", *(wrapped(name, _NAME, _SMALL) for name in methods)]
    band = max(_BAND, *(text_height(name, _SMALL) for name in names))
    figure = Figure((_WIDTH, len(shown) * (len(names) * band + _GAP) + _MARGIN), layout="constrained")
    panels = figure.subplots(len(shown), 1, squeeze=False, sharex=True)[:, 0]
    for axes, row, span in zip(panels, shown, spans, strict=True):
        _panel(
            axes, [first["label"][span], *(one["prediction"][span] for one in methods.values())], colours, fps or 1.0
        )
        axes.set_yticks(range(len(names)), names, fontsize=_SMALL)
        axes.set_title(wrapped(str(first["id"][row]), _WIDTH - 1 - _NAME, 8, lines=1), fontsize=8, pad=3)
    panels[-1].set_xlim(0, longest / (fps or 1.0))
    panels[-1].set_xlabel("seconds" if fps else "frames", fontsize=8)
    entries = [
        Patch(facecolor=colours[int(c)], edgecolor="0.6", linewidth=0.4, label=wrapped(classes[c], _ENTRY, 8))
        for c in seen
    ]
    style.legend(figure, entries)
    return style.save(figure, path, title, ("png",))


def _panel(axes: Axes, bands: Sequence[NDArray[np.int64]], colours: dict[int, Any], rate: float) -> None:
    """Bands of classes (L,), the first one is the truth."""
    truth = bands[0]
    places = {c: i for i, c in enumerate(colours)}
    image = np.vectorize(places.get, otypes=[int])(np.stack(bands))
    end = len(truth) / rate
    axes.imshow(
        image,
        cmap=ListedColormap(list(colours.values())),
        vmin=-0.5,
        vmax=len(colours) - 0.5,
        aspect="auto",
        interpolation="none",
        extent=(0, end, len(bands) - 0.5, -0.5),
    )
    for border in range(len(bands) - 1):
        axes.axhline(border + 0.5, color="white", linewidth=1 if border else 3)
    for line, band in list(enumerate(bands))[1:]:
        axes.text(
            end, line, f" {100 * (band == truth).mean():.0f} %", va="center", ha="left", fontsize=7, clip_on=False
        )
    axes.tick_params(axis="x", labelsize=7)
    axes.grid(visible=False)
    sns.despine(ax=axes, left=True, bottom=True)


def _colours(classes: NDArray[np.int64]) -> dict[int, Any]:
    """A colour for every class; background is light grey, and no action is grey."""
    actions = [int(c) for c in classes if c > 0]
    palette = [colour for colour in sns.color_palette("tab20", 20) if max(colour) - min(colour) > 0.1]
    palette = palette[::2] + palette[1::2]  # the strong ones first
    if len(actions) > len(palette):
        half = -(-len(actions) // 2)
        step = next(k for k in (3, 5, 7, 11) if half % k)  # classes in a row get hues far apart
        palette = [sns.husl_palette(half, l=light)[i * step % half] for light in (0.45, 0.7) for i in range(half)]
    found = dict(zip(actions, palette, strict=False))
    return {int(c): found.get(int(c), _BACKGROUND) for c in classes}
