"""Features that a run left behind, and how many directions they use (RankMe: Garrido et al., ICML 2023)."""

from __future__ import annotations

from collections.abc import Iterable
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from engine.records import Record
from leaderboard.collect import Run, Stage

_PLAIN = {"space": "encoder", "augment": False}
"""Pooled encoder output of clips as they are."""
_CLIPS = 20_000
"""Of more clips, so many spread evenly over the training part (the paper: 25,600)."""
_EPSILON = 1e-7


def stored(evaluation: Stage, part: str) -> NDArray[np.float32] | None:
    """Encoder features (N, D) of ``train`` or ``test`` that an evaluation read; ``None`` where there are none any more."""
    if evaluation.kind != "evaluate" or not evaluation.parents:
        return None
    runs = evaluation.folder.parents[2]
    for folder in sorted(runs.glob(f"features/*/{evaluation.parents[0]}")):
        try:
            record = Record.model_validate_json((folder / "record.json").read_bytes())
            if record.identity.get("config") == _PLAIN:
                with (folder / "features.npz").open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                    return np.asarray(file[part])
        except (OSError, KeyError, ValueError, EOFError, BadZipFile, ValidationError):
            return None
    return None


def singular_values(features: NDArray[np.float32]) -> NDArray[np.float64]:
    """Singular values of centred features (N, D), descending; of many rows some, spread evenly.

    Centred, as igm.md 3.3 asks and the curves of MacDiff and IGM are, since most of features lies along their mean; RankMe's
    paper does not centre.
    """
    rows = np.linspace(0, len(features) - 1, min(_CLIPS, len(features))).round().astype(int)
    chosen = features[rows].astype(np.float64)
    return np.asarray(np.linalg.svd(chosen - chosen.mean(axis=0), compute_uv=False))


def effective_rank(values: NDArray[np.float64]) -> float:
    """The exponential of the entropy of the singular values' shares (RankMe, Eq. 1)."""
    shares = values / max(float(np.abs(values).sum()), 1e-300) + _EPSILON
    return float(np.exp(-(shares * np.log(shares)).sum()))


def mean_rank(runs: Iterable[Run]) -> tuple[float, int] | None:
    """Effective rank of the training features, the mean over the seeds of one experiment, and their width."""
    ranks: dict[int, tuple[float, int]] = {}
    for run in runs:
        if run.stage.labels.seed not in ranks and (features := stored(run.stage, "train")) is not None:
            ranks[run.stage.labels.seed] = effective_rank(singular_values(features)), features.shape[1]
    if not ranks:
        return None
    return sum(rank for rank, _ in ranks.values()) / len(ranks), next(iter(ranks.values()))[1]
