"""Truth and predictions of untrimmed recordings as bands of colour over time."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import astuple
from itertools import groupby
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from leaderboard.cells import Cell
from leaderboard.style import plain
from leaderboard.tables import method_order, method_title, timeline_name

_SHOWN = 12
"""Recordings in one picture; of more, so many spread evenly over the test part."""
# In inches.
_WIDTH, _BAND, _GAP, _MARGIN = 10.0, 0.19, 0.28, 1.0
_ENTRY = 1.75
"""Width of an entry of the legend in inches."""
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
        folder.mkdir(parents=True, exist_ok=True)
        paths.append(folder / timeline_name(bench, protocol))
        facts = next(iter(found.values()))[0]
        place = f"{bench.dataset}/{bench.split}" + (f" from {bench.source}" if bench.source else "")
        title = f"{place} · {bench.stream} stream · {protocol}"
        _draw(
            title, {name: arrays for name, (_, arrays) in found.items()}, facts["classes"], facts.get("fps"), paths[-1]
        )
    return paths


def _read(path: Path) -> Arrays | None:
    """What is drawn; ``None`` for scores of clips, and where the file is absent or damaged."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in ("prediction", "label", "offsets", "id")}
    except (OSError, KeyError, ValueError, EOFError):
        return None


def _draw(title: str, methods: dict[str, Arrays], classes: Sequence[str], fps: float | None, path: Path) -> None:
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
    legend = {
        int(c): Patch(facecolor=colours[int(c)], edgecolor="0.6", linewidth=0.4, label=plain(classes[c])) for c in seen
    }
    columns = int(_WIDTH / _ENTRY)
    height = len(shown) * ((len(methods) + 1) * _BAND + _GAP) + _MARGIN + 0.22 * -(-len(legend) // columns)
    style = {**sns.axes_style("white"), "font.family": "DejaVu Sans"}
    with matplotlib.rc_context(style), sns.plotting_context("paper"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a name in a script that the font lacks shows as boxes
        figure = Figure((_WIDTH, height), layout="constrained")
        panels = figure.subplots(len(shown), 1, squeeze=False, sharex=True)[:, 0]
        for axes, row, span in zip(panels, shown, spans, strict=True):
            bands = {"truth": first["label"][span]} | {name: one["prediction"][span] for name, one in methods.items()}
            _panel(axes, bands, colours, fps or 1.0)
            axes.set_title(plain(str(first["id"][row])), loc="left", fontsize=8, pad=3)
        panels[-1].set_xlim(0, longest / (fps or 1.0))
        panels[-1].set_xlabel("seconds" if fps else "frames", fontsize=8)
        figure.suptitle(plain(title), fontsize=9, x=0.01, ha="left")
        figure.legend(
            handles=list(legend.values()), loc="outside lower center", ncols=columns, frameon=False, fontsize=8
        )
        figure.savefig(path, dpi=160, metadata={"Software": None})


def _panel(axes: Axes, bands: dict[str, NDArray[np.int64]], colours: dict[int, Any], rate: float) -> None:
    """Bands of classes (L,), the first one is the truth."""
    truth = next(iter(bands.values()))
    places = {c: i for i, c in enumerate(colours)}
    image = np.vectorize(places.get, otypes=[int])(np.stack(list(bands.values())))
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
    for line, band in list(enumerate(bands.values()))[1:]:
        axes.text(
            end, line, f" {100 * (band == truth).mean():.0f} %", va="center", ha="left", fontsize=7, clip_on=False
        )
    axes.set_yticks(range(len(bands)), [plain(name) for name in bands], fontsize=7)
    axes.tick_params(axis="x", labelsize=7)
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
