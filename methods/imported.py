"""Weights that somebody else trained, as ``import-weights`` read them: a row of its own, pre-trained elsewhere."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from engine.config import BenchError, knob
from methods.random import Random, RandomConfig


class ImportedConfig(RandomConfig):
    """What was imported; ``import-weights`` fills it in, so there is nothing to set."""

    weights: str = knob("", "sha256 of the imported file in results/imported")
    release: str = knob("", "method whose released checkpoint it was")
    stream: str = knob("joint", "stream that the weights were trained on")


class Imported(Random):
    """Imported weights, frozen: ``imported:NAME`` is one file, ``imported`` all of them.

    The encoder has its published settings whatever the budget and ``--set``, since these are what was trained. It was
    pre-trained on other data than the methods beside it, so it is shown as a reference and not ranked with them.
    """

    title = "Imported weights (import-weights FILE --as METHOD)"
    Config = ImportedConfig
    config: ImportedConfig
    encoder_name = "stgcn"
    imports = True

    def start_from(self, state: Mapping[str, Tensor]) -> None:
        """Take the imported weights over."""
        if self.context.stream != self.config.stream:
            raise BenchError(
                f"These weights were trained on the {self.config.stream} stream, and the {self.context.stream} stream is "
                "evaluated."
            )
        try:
            self.encoder.load_state_dict(state)
        except RuntimeError:
            layout = self.context.layout
            raise BenchError(
                f"These weights are for the 25 joints of ntu25; the data has layout {layout.name} with {len(layout)} joints."
            ) from None
