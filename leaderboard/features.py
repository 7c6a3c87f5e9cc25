"""Features that a run left behind, and how many directions they use."""

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


def mean_rank(runs: Iterable[Run]) -> tuple[float, int] | None:
    """Effective rank of the training features, the mean over the seeds of one experiment, and their width.

    Protocols with a preset (``knn:actclr``) may read other features than the rest and are left out.
    """
    ranks: dict[int, tuple[float, int]] = {}
    for run in runs:
        labels, facts = run.stage.labels, run.stage.facts
        if labels.seed not in ranks and ":" not in labels.protocol.partition("[")[0] and "effective_rank" in facts:
            ranks[labels.seed] = float(facts["effective_rank"]), int(facts["feature_dim"])
    if not ranks:
        return None
    return sum(rank for rank, _ in ranks.values()) / len(ranks), next(iter(ranks.values()))[1]
