"""Effective rank of the training features (RankMe: Garrido et al., ICML 2023), against accuracy."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from engine.config import BenchError
from engine.spectrum import effective_rank, singular_values
from leaderboard.drawings.knn_linear import whisker
from leaderboard.experiments import Experiment, measured
from leaderboard.style import legend

_WIDEST = 4096
"""Wider features (raw coordinates) are no encoder's and are left out."""


def draw(experiments: Sequence[Experiment]) -> Figure:
    """Left the singular values of every method's training features, right their effective rank and the accuracy.

    Raises:
        BenchError: no features of encoders are stored.
    """
    spectra = []
    for one in experiments:
        features = one.features("train")
        if features is not None and features.shape[1] <= _WIDEST:
            spectra.append((one, singular_values(features), features.shape[1]))
    if not spectra:
        raise BenchError("no features of encoders are stored (knn and linear leave some)")
    protocol, _ = measured(experiments)
    figure = Figure((6.2, 3.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    for one, values, width in spectra:
        name = f"{one.label}: {effective_rank(values):.1f} of {width}"
        positive = values[values > values[0] * 1e-6] / max(values[0], 1e-12)
        left.plot(range(1, len(positive) + 1), positive, color=one.colour, lw=1.4, ls=one.dashes, label=name)
        if accuracy := one.top1(protocol):
            right.errorbar(
                effective_rank(values),
                accuracy.mean,
                yerr=whisker(accuracy),
                fmt=one.marker,
                color=one.colour,
                mfc="white" if one.reference else one.colour,
                mew=1.5,
                elinewidth=0.9,
                capsize=2,
            )
    left.set(yscale="log", xlabel="index", ylabel="singular value / largest")
    right.set(xlabel="effective rank (RankMe)", ylabel=f"{protocol} top-1 (%)")
    legend(figure, left.get_legend_handles_labels()[0], beside=True)
    return figure
