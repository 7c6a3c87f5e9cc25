"""What stages run on, and what they find of the stages before them."""

from __future__ import annotations

from dataclasses import dataclass

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from datasets.clips import Split
from datasets.streams import STREAMS
from datasets.untrimmed import UntrimmedSplit
from engine.config import BenchError
from engine.data import Splits
from engine.estimate import make_encoder
from engine.progress import Reporter
from engine.ranks import ALONE, Ranks
from engine.records import Record
from engine.stages import Stage
from engine.store import RunStore
from engine.train import seed_of
from methods.base import Context, Method


@dataclass(frozen=True)
class Bench:
    """What stages run on: results, data, device, where progress is shown, who helps. None of it changes a result."""

    store: RunStore
    splits: Splits
    device: torch.device
    reporter: Reporter
    ranks: Ranks = ALONE

    def split(self, stage: Stage) -> Split:
        """The stage's data, on the device."""
        return self.splits(stage.data.asked, self.device, stage.data.like)

    def recordings(self, stage: Stage) -> UntrimmedSplit:
        """The stage's data where they are untrimmed, in main memory."""
        return self.splits.load_untrimmed(stage.data.asked, stage.data.like)

    def record(self, stage: Stage) -> Record:
        """The record of a stage that has run.

        Raises:
            BenchError: it has not.
        """
        record = self.store.record(stage)
        if record is None:
            raise BenchError(f"{stage} has to run first, but has left no record.")
        return record

    def weights(self, stage: Stage) -> dict[str, Tensor]:
        """The weights that a pre-training left, on the device.

        Raises:
            BenchError: the file is not there, as in records that were kept without weights, or damaged.
        """
        path = self.store.result(stage)
        if not path.exists():
            raise BenchError(
                f"{path} is not there: the record was kept without weights. To train again, delete {path.parent}."
            )
        try:
            return safetensors.torch.load_file(path, device=str(self.device))
        except (OSError, safetensors.SafetensorError) as error:
            raise BenchError(f"{path} cannot be read ({error}). Delete {path.parent} and run again.") from None

    def method(self, stage: Stage, stream: str = "") -> Method:
        """The method of a pre-training that has run, with its weights; ``stream`` chooses where it trained all of them."""
        method = build_method(stage, self, stream)
        method.load_state_dict(self.weights(stage))
        return method


def stage_seed(stage: Stage) -> int:
    """The seed of everything that a stage draws."""
    return seed_of(stage.seed, stage.kind, stage.choice.plugin.name)


def build_method(stage: Stage, bench: Bench, stream: str = "") -> Method:
    """A stage's method, freshly initialised, on the device; one that trains all streams is of ``stream``, or of the first."""
    split = bench.split(stage)
    _, _, frames, _, persons = split.train.clips.shape
    context = Context(
        make_encoder=lambda: make_encoder(stage, bench.splits),
        layout=split.layout,
        stream=stage.labels.stream if stage.labels.stream in STREAMS else stream or STREAMS[0],
        frames=frames,
        persons=persons,
        train_clips=len(split.train),
        mean_clip=split.train.clips.mean(dim=0),
    )
    method: Method = stage.choice.plugin.load()(stage.choice.config, context)
    return method.to(bench.device)
