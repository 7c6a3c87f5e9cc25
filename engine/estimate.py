"""How long a plan will take: from earlier runs in the same results folder if there are any, else by nominal rates."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal

import torch

from engine.config import digest
from engine.data import Splits
from engine.plan import Plan
from engine.stages import Stage, StageKind
from engine.store import RunStore
from methods.base import MethodConfig

if TYPE_CHECKING:
    from encoders.base import Encoder

# Units of work per second: floating-point operations of the encoder, clips scored by a protocol.
_NOMINAL: dict[str, dict[StageKind, float]] = {
    "cpu": {"pretrain": 1.1e11, "features": 1e11, "evaluate": 2000.0, "fuse": 1e5},
    "cuda": {"pretrain": 5e12, "features": 1e13, "evaluate": 5000.0, "fuse": 1e5},
}


@dataclass(frozen=True)
class Estimate:
    """Seconds by stage key, and where the figures come from."""

    seconds: dict[str, float]
    basis: str

    @property
    def total(self) -> float:
        """Seconds for everything that is not done."""
        return sum(self.seconds.values())


def estimate(plan: Plan, store: RunStore, device: torch.device) -> Estimate:
    """Estimate every job of a plan that is not done; resumed ones count in full."""
    seconds: dict[str, float] = {}
    measured = 0
    rate = cache(lambda kind, plugin, unit: _measured_rate(store, kind, plugin, unit, device))
    for job in plan.todo:
        amount, unit = work(job.stage, plan.splits)
        found = rate(job.stage.kind, job.stage.choice.plugin.name, unit)
        measured += found is not None
        trains = job.stage.kind == "evaluate" and unit == "flops"
        seconds[job.stage.key] = amount / (found or _nominal("pretrain" if trains else job.stage.kind, device))
    if measured == len(seconds):
        basis = "from earlier runs in this folder"
    elif measured:
        basis = f"{measured} of {len(seconds)} from earlier runs, the others nominal rates"
    else:
        basis = "nominal rates, a rough guess"
    return Estimate(seconds, basis)


Unit = Literal["flops", "clips"]


def work(stage: Stage, splits: Splits) -> tuple[float, Unit]:
    """Amount of work: the encoder's floating-point operations; where none runs, clips scored."""
    plugin = stage.choice.plugin.load()
    scored = stage.parents[0] if stage.kind == "fuse" else stage
    if scored.kind == "evaluate" and scored.choice.plugin.load().needs == "untrimmed":
        recordings = splits.load_untrimmed(stage.data.asked, stage.data.like)
        train, test = len(recordings.train.frames), len(recordings.test.frames)
    else:
        split = splits(stage.data.asked, "cpu", stage.data.like)
        train, test = len(split.train), len(split.test)
    if stage.kind == "pretrain":
        config = stage.choice.config
        assert isinstance(config, MethodConfig)
        return float(plugin.cost * _flops(stage, splits) * train * config.train.epochs), "flops"
    if stage.kind == "features":
        return _flops(stage.parents[0], splits) * (train + test), "flops"
    if stage.kind == "evaluate" and stage.parents[-1].kind == "pretrain":
        return _flops(stage.parents[-1], splits) * plugin(stage.choice.config).passes(train, test), "flops"
    return float(train + test), "clips"


def make_encoder(stage: Stage, splits: Splits) -> Encoder:
    """A freshly initialised encoder of a pre-training stage."""
    assert stage.encoder is not None
    split = splits(stage.data.asked)
    _, _, frames, _, persons = split.train.clips.shape
    cls = stage.encoder.plugin.load()
    encoder: Encoder = cls(stage.encoder.config, split.layout, frames=frames, persons=persons)
    return encoder


_counted: dict[str, float] = {}


def _flops(stage: Stage, splits: Splits) -> float:
    assert stage.encoder is not None
    key = digest([stage.encoder.identity, stage.data.digest, stage.data.name])
    if key not in _counted:
        try:
            _counted[key] = float(make_encoder(stage, splits).flops())
        except Exception:  # a broken encoder fails in its own stage, with its own message
            return 0.0
    return _counted[key]


def _measured_rate(store: RunStore, kind: StageKind, plugin: str, unit: Unit, device: torch.device) -> float | None:
    """Work per second of earlier runs of a plug-in, else of any of its kind (protocols have too little in common)."""
    for name in (plugin,) if kind == "evaluate" else (plugin, "*"):
        done, spent = 0.0, 0.0
        for path in store.results.glob(f"runs/{kind}/{name}/*/provenance.json"):
            try:
                run = json.loads(path.read_bytes())
                same = run.get("unit", unit) == unit and run["device_type"] == device.type
                if same and not run["resumed"] and run["work"]:
                    done, spent = done + run["work"], spent + run["seconds"]
            except (ValueError, KeyError):  # damaged: of no use here
                continue
        if done and spent:
            return done / spent
    return None


def _nominal(kind: StageKind, device: torch.device) -> float:
    threads = 1 if device.type == "cuda" or kind == "evaluate" else torch.get_num_threads()
    return _NOMINAL[device.type][kind] * threads
