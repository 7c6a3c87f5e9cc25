"""Tiny protocols that evaluate on other data than the pre-training's."""

from __future__ import annotations

import torch

from protocols.base import EvalContext, Outcome, Protocol


class Elsewhere(Protocol):
    """Nearest class mean on other data than the pre-training's."""

    title = "means elsewhere"
    on_targets = True
    presets = {"one": {}, "two": {}}
    headlines = ("one", "two")

    def run(self, context: EvalContext) -> Outcome:
        means = torch.stack([context.train_features[context.train_labels == c].mean(0) for c in range(context.classes)])
        return Outcome(-torch.cdist(context.test_features, means))


class Frames(Protocol):
    """Works on untrimmed recordings."""

    title = "frames"
    on_targets = True
    needs = "untrimmed"

    def run(self, context) -> Outcome:
        raise NotImplementedError
