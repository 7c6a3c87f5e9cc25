"""t-SNE of test features: the same clips, seed and colours for every method (van der Maaten and Hinton, JMLR 9, 2008)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from engine.config import BenchError
from leaderboard.experiments import Experiment
from leaderboard.style import class_colours, grid, legend, text_height, wrapped

_SEED = 0
_CLASSES = 20
"""Of more classes, :data:`_SHOWN` spread evenly over their numbers."""
_SHOWN = 10
_CLIPS = 1000
"""Of more clips, so many spread evenly over the test part."""
_PERPLEXITY = 30.0
_NAME = 1.8
"""Inches of a class's name."""
_WIDTH = 50
"""Wider features are reduced by PCA first, as the authors do."""


def draw(experiments: Sequence[Experiment], classes: Sequence[str] = ()) -> Figure:
    """One panel per method; distances between panels, axes and orientations mean nothing.

    Args:
        experiments: of a bench.
        classes: names; none given: numbers.

    Raises:
        BenchError: no features of encoders are stored.
    """
    panels = []
    first: tuple[NDArray[np.int64], tuple[str, ...]] | None = None
    for one in experiments:
        features, test = one.features("test"), one.test()
        if features is None or test is None or len(features) != len(test[0]):
            continue
        first = first or test
        if test[1] == first[1]:
            panels.append((one, features))
    if first is None:
        raise BenchError("no features are stored (knn and linear leave some)")
    labels = first[0]
    rows = chosen(labels)
    shown = np.unique(labels[rows])
    if len(rows) < 5:
        raise BenchError(f"{len(rows)} test clips are too few")
    colours = dict(zip(shown.tolist(), class_colours(len(shown)), strict=True))
    height, width = grid(len(panels))
    title = max(text_height(one.label, 9) for one, _ in panels)
    figure = Figure((2.5 * max(width, 2), (2.5 + title) * height + 0.3), layout="constrained")
    grid_of_axes = figure.subplots(height, width, squeeze=False).ravel()
    for axes in grid_of_axes:
        axes.set_axis_off()
    for axes, (one, features) in zip(grid_of_axes, panels, strict=False):
        places = embed(features[rows])
        shades = np.array([colours[label] for label in labels[rows].tolist()])
        axes.scatter(*places.T, c=shades, s=7, linewidths=0)
        axes.set_title(one.label)
    names = [wrapped(classes[c], _NAME, 7) if c < len(classes) else f"class {c}" for c in shown]
    handles = [
        Line2D([], [], ls="", marker="o", ms=5, color=colours[c], label=name)
        for c, name in zip(shown.tolist(), names, strict=True)
    ]
    legend(figure, handles, fontsize=7, columnspacing=1.0)
    return figure


def chosen(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows that are shown: at most so many classes and clips, spread evenly."""
    known = np.unique(labels)
    if len(known) > _CLASSES:
        known = known[np.linspace(0, len(known) - 1, _SHOWN).round().astype(int)]
    rows = np.flatnonzero(np.isin(labels, known))
    return rows[np.linspace(0, len(rows) - 1, min(_CLIPS, len(rows))).round().astype(int)] if len(rows) else rows


def embed(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Two dimensions (n, 2) of features (n, D) of length 1: neighbours by the angle, as KNN sees them."""
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    if unit.shape[1] > _WIDTH < len(unit):
        unit = PCA(_WIDTH, random_state=_SEED).fit_transform(unit)
    perplexity = min(_PERPLEXITY, (len(unit) - 1) / 3)
    model = TSNE(2, perplexity=perplexity, init="pca", learning_rate="auto", random_state=_SEED)
    return np.asarray(model.fit_transform(unit))
