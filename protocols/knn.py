"""Nearest neighbours by cosine similarity, the training part as gallery (protocols.md, version 1; aimclr.md 5.5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import BeforeValidator, PositiveInt, model_validator
from torch import Tensor
from torch.nn import functional

from engine.config import Config, Overrides, knob
from protocols.base import INNER, EvalContext, FeatureConfig, Outcome, Protocol

_CHUNK = 2**24
"""Similarities held at once (64 MiB): bounds memory; a constant, so that the bits do not depend on the machine."""

Vote = Literal["majority", "weighted"]
_Numbers = Annotated[
    tuple[PositiveInt, ...], BeforeValidator(lambda value: (value,) if isinstance(value, int) else value)
]


class KnnConfig(Config):
    """Settings of the nearest-neighbour protocol; the headline is the first k of ``majority``, else of ``weighted``."""

    features: FeatureConfig = knob(FeatureConfig(), "features compared")
    majority: _Numbers = knob(
        (1, 5, 20), "k that vote one each, ties by summed similarity; protocols.md v1", unit="neighbours"
    )
    weighted: _Numbers = knob(
        (20,), "k whose votes weigh exp(similarity / temperature); aimclr.md 5.5", unit="neighbours"
    )
    temperature: float = knob(0.1, "temperature of the weighted votes; actclr.md 9.3", gt=0)

    @model_validator(mode="after")
    def _something_to_report(self) -> KnnConfig:
        if not self.majority + self.weighted:
            raise ValueError("majority and weighted are both empty: name at least one k")
        return self


class Knn(Protocol[EvalContext]):
    """k nearest neighbours; headline 1-NN on the pooled encoder output, no augmentation.

    ``knn:actclr`` is the monitor of ActCLR's code (actclr.md 9.3): 128-d projector output, gallery and queries passed
    once through crop and shear, weighted votes. The paper does not name its k; k = 40 is the headline, because it comes
    closest to the paper's number, and k = 10 and 20 are extras.
    """

    title: ClassVar[str] = "1-NN, cosine, frozen features"
    version: ClassVar[int] = 1
    aliases: ClassVar[tuple[str, ...]] = ("retrieval",)
    Config: ClassVar[type[Config]] = KnnConfig
    presets: ClassVar[Mapping[str, Overrides]] = {
        "actclr": {
            "features.space": "projector",
            "features.augment": True,
            "majority": (),
            "weighted": (40, 10, 20),
            "temperature": 0.1,
        },
        **INNER,
    }
    config: KnnConfig

    def features(self) -> FeatureConfig:
        """Pooled encoder output by default."""
        return self.config.features

    def run(self, context: EvalContext) -> Outcome:
        """Score every test clip by its neighbours among the training clips."""
        votes: list[tuple[Vote, int]] = [("majority", k) for k in self.config.majority]
        votes += [("weighted", k) for k in self.config.weighted]
        headline, *extras = neighbour_scores(
            context.train_features,
            context.train_labels,
            context.test_features,
            context.classes,
            votes,
            self.config.temperature,
        )
        names = [f"k{k}_weighted" if vote == "weighted" else f"k{k}" for vote, k in votes[1:]]
        return Outcome(headline, dict(zip(names, extras, strict=True)), {"k": votes[0][1], "n_trials": 1})


def neighbour_scores(
    gallery: Tensor,
    labels: Tensor,
    queries: Tensor,
    classes: int,
    votes: Sequence[tuple[Vote, int]],
    temperature: float,
    chunk: int = _CHUNK,
) -> list[Tensor]:
    """Class scores of queries by cosine nearest neighbours.

    One neighbour by majority scores every class with its largest similarity, so that classes can be ranked (top-5).
    Equally similar neighbours enter in the order of their classes, never of the samples.

    Args:
        gallery: (N, D) float32, need not be normalised.
        labels: (N,) int64.
        queries: (n, D) float32.
        classes: number of classes.
        votes: pairs of a rule and its k; more neighbours than the gallery holds means all of them.
        temperature: of ``weighted`` votes.
        chunk: similarities held at once; bounds memory, does not change the result.

    Returns:
        One (n, classes) float32 matrix for every entry of ``votes``; the largest score of a row wins.
    """
    order = labels.argsort(stable=True)  # by class: a class is a slice, and the stable sort below breaks ties by class
    labels = labels[order]
    bank = functional.normalize(gallery[order], dim=1).T
    bounds = torch.searchsorted(labels, torch.arange(classes + 1, device=labels.device)).tolist()
    depths = [min(k, len(labels)) for _, k in votes]
    results = [queries.new_zeros(len(queries), classes) for _ in votes]
    step = max(1, chunk // len(labels))
    for start in range(0, len(queries), step):
        rows = slice(start, start + step)
        similar = functional.normalize(queries[rows], dim=1) @ bank
        value, index = _nearest(similar, depths)
        for vote, depth, result in zip(votes, depths, results, strict=True):
            if vote == ("majority", 1):
                result[rows] = _largest_per_class(similar, bounds)
                continue
            weight = value[:, :depth]
            # Counts differ by one at least and |summed similarity| <= depth, so the second term only breaks ties.
            weight = 1 + weight / (2 * depth + 1) if vote[0] == "majority" else (weight / temperature).exp()
            result[rows].scatter_add_(1, labels[index[:, :depth]], weight)
    return results


def _nearest(similar: Tensor, depths: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Values and indices of the most similar columns, in descending order; equal ones in the order of their index."""
    deepest = max(depths)
    value, index = similar.topk(min(deepest + 1, similar.shape[1]))
    # topk may return any of several equal columns: where one of the borders falls between equals, sort the whole row.
    border = [depth for depth in set(depths) if depth < value.shape[1]]
    unclear = (value[:, [depth - 1 for depth in border]] == value[:, border]).any(1).nonzero().flatten()
    if len(unclear):
        index[unclear] = similar[unclear].sort(dim=1, descending=True, stable=True).indices[:, : value.shape[1]]
        value = similar.gather(1, index)
    return value, index


def _largest_per_class(similar: Tensor, bounds: Sequence[int]) -> Tensor:
    """(n, classes) largest similarity to a sample of the class; -2, below any cosine, for a class without one."""
    lowest = similar.new_full((len(similar),), -2.0)
    return torch.stack([similar[:, a:b].amax(1) if b > a else lowest for a, b in pairwise(bounds)], dim=1)
