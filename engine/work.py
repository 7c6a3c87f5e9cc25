"""The work of the three kinds of stages: pre-train a method, extract its features, evaluate them by a protocol."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Generator, Tensor

from datasets.augment import BASIC, AugmentConfig, augment
from datasets.clips import ClipSet, Split
from datasets.streams import to_stream
from encoders.base import parameter_count
from engine import imports, train
from engine.config import BenchError
from engine.data import Splits
from engine.estimate import make_encoder
from engine.progress import Reporter
from engine.records import Record
from engine.stages import Stage
from engine.store import RunStore, read_arrays, write_arrays, write_atomically
from engine.train import seed_of
from methods.base import Context, Method
from protocols.base import EvalContext, FeatureConfig, Protocol
from protocols.metrics import evaluate as measure
from protocols.metrics import top1

_BATCH = 128
"""Clips per forward pass when features are extracted."""


@dataclass(frozen=True)
class Bench:
    """What stages run on: results, data, device, and where progress is shown. None of it changes a result."""

    store: RunStore
    splits: Splits
    device: torch.device
    reporter: Reporter

    def split(self, stage: Stage) -> Split:
        """The stage's data, on the device."""
        return self.splits(stage.data.asked, self.device)


def run(stage: Stage, bench: Bench) -> Record:
    """Do the work of a stage whose parents are done, leave its result file in the store, and return its record."""
    with _deterministic(bench.device):
        torch.manual_seed(_seed(stage))
        return {"pretrain": _pretrain, "features": _features, "evaluate": _evaluate}[stage.kind](stage, bench)


def _seed(stage: Stage) -> int:
    return seed_of(stage.seed, stage.kind, stage.choice.plugin.name)


@contextmanager
def _deterministic(device: torch.device) -> Iterator[None]:
    """Deterministic algorithms on CPU; some operations have none on a GPU, where records agree to rounding only."""
    memory: Any = torch.utils.deterministic
    before = torch.are_deterministic_algorithms_enabled(), memory.fill_uninitialized_memory
    torch.use_deterministic_algorithms(device.type == "cpu")
    memory.fill_uninitialized_memory = False  # costs time and helps only code that reads garbage
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        memory.fill_uninitialized_memory = before[1]


def build_method(stage: Stage, bench: Bench) -> Method:
    """A stage's method, freshly initialised, on the device."""
    split = bench.split(stage)
    _, _, frames, _, persons = split.train.clips.shape
    context = Context(
        make_encoder=lambda: make_encoder(stage, bench.splits),
        layout=split.layout,
        stream=stage.labels.stream,
        frames=frames,
        persons=persons,
        train_clips=len(split.train),
        mean_clip=split.train.clips.mean(dim=0),
    )
    method: Method = stage.choice.plugin.load()(stage.choice.config, context)
    return method.to(bench.device)


def _pretrain(stage: Stage, bench: Bench) -> Record:
    split = bench.split(stage)
    method = build_method(stage, bench)
    earlier_epochs = 0
    for parent in stage.parents:
        method.start_from(_weights(parent, bench))
        earlier_epochs += int(_record(parent, bench).facts["pretrain_epochs"])  # type: ignore[arg-type]

    if method.imports:
        chosen = stage.choice.config.model_dump()
        method.start_from(imports.load(bench.store.results, chosen["weights"], str(bench.device)))

    def report(at: train.Progress) -> None:
        text = f"epoch {at.epoch}/{at.epochs}, loss {at.loss:.3f}, {at.clips_per_second:,.0f} clips/s"
        bench.reporter.update(at.step, at.steps, text, at.step * at.epochs == at.epoch * at.steps)

    curve = train.pretrain(
        method, split.train, seed=_seed(stage), checkpoint=bench.store.checkpoint(stage), report=report
    )
    weights = {name: value.detach().cpu().clone().contiguous() for name, value in method.state_dict().items()}
    with write_atomically(bench.store.result(stage)) as file:
        file.write(safetensors.torch.save(weights))
    facts = {
        "params": parameter_count(method.encoder),
        "flops": method.encoder.flops(),
        "frames": method.context.frames,
        "persons": method.context.persons,
        "train_clips": len(split.train),
        "test_clips": len(split.test),
    }
    if not method.imports:  # nobody knows how long those were trained
        facts["pretrain_epochs"] = earlier_epochs + len(curve)
    return stage.record(curve=curve, facts=facts)


def _features(stage: Stage, bench: Bench) -> Record:
    (parent,) = stage.parents
    split = bench.split(stage)
    method = build_method(parent, bench)
    method.load_state_dict(_weights(parent, bench))
    method.eval()
    config = stage.choice.config
    assert isinstance(config, FeatureConfig)
    total = len(split.train) + len(split.test)
    arrays: dict[str, Any] = {}
    for part, clips, before in (("train", split.train, 0), ("test", split.test, len(split.train))):
        generator = Generator(bench.device).manual_seed(seed_of(_seed(stage), part))
        rows: list[Tensor] = []
        for batch in _extract(method, clips, config, generator):
            rows.append(batch.float().cpu())
            done = before + sum(map(len, rows))
            bench.reporter.update(done, total, f"{done:,}/{total:,} clips", False)
        arrays[part] = torch.cat(rows).numpy()
        if not np.isfinite(arrays[part]).all():
            raise BenchError(
                f"The features of {stage.labels.method} hold NaN or infinite values; its training diverged."
            )
    write_arrays(bench.store.result(stage), arrays)
    return stage.record(facts=_record(parent, bench).facts | {"feature_dim": arrays["train"].shape[1]})


@torch.no_grad()
def _extract(method: Method, clips: ClipSet, config: FeatureConfig, generator: Generator) -> Iterator[Tensor]:
    context = method.context
    for start in range(0, len(clips), _BATCH):
        batch = clips.clips[start : start + _BATCH]
        if config.augment:
            batch = augment(batch, BASIC, AugmentConfig(), context.layout, generator)
        batch = to_stream(batch, context.stream, context.layout)
        features: Tensor | None = method.encoder.pool(method.encoder(batch))
        if config.space == "projector":
            assert features is not None
            features = method.project(features)
        if features is None:
            raise BenchError(f"{type(method).__name__} has no projector, whose output the protocol asks for.")
        yield features


def _evaluate(stage: Stage, bench: Bench) -> Record:
    (parent,) = stage.parents
    split = bench.split(stage)
    features = {
        name: torch.from_numpy(values).to(bench.device)
        for name, values in read_arrays(bench.store.result(parent)).items()
    }
    labels = split.test.labels.cpu().numpy()
    classes = len(split.classes)
    protocol: Protocol = stage.choice.plugin.load()(stage.choice.config)
    epochs = getattr(stage.choice.config, "epochs", 0)
    curve: list[dict[str, float]] = []

    def report(epoch: int, loss: float | None, scores: Tensor | None) -> None:
        point: dict[str, float] = {"epoch": epoch}
        if loss is not None and math.isfinite(loss):
            point["loss"] = loss
        if scores is not None:
            point["test_top1"] = top1(scores.cpu().numpy(), labels)
        curve.append(point)
        bench.reporter.update(
            epoch, max(epochs, epoch), f"epoch {epoch}" + (f", loss {loss:.3f}" if loss is not None else "")
        )

    fit, held_out = split.validation()
    # What a protocol sees ends here: no test labels, which only the lines after `run` touch.
    context = EvalContext(
        train_features=features["train"],
        train_labels=split.train.labels,
        test_features=features["test"],
        classes=classes,
        fit=fit,
        held_out=held_out,
        seed=_seed(stage),
        report=report,
    )
    outcome = protocol.run(context)
    scores = outcome.scores.float().cpu().numpy()
    measured = measure(scores, labels, classes, _seed(stage))
    metrics = measured.values()
    metrics |= {f"top1_{name}": top1(extra.cpu().numpy(), labels) for name, extra in outcome.extras.items()}
    if seen := [point["test_top1"] for point in curve if "test_top1" in point]:
        metrics["best_on_test"] = max(*seen, measured.top1)
    arrays = {"scores": scores, "prediction": measured.prediction, "label": labels, "id": np.array(split.test.ids)}
    write_arrays(bench.store.result(stage), arrays)
    facts = _record(parent, bench).facts | dict(outcome.facts)
    return stage.record(metrics, curve, facts | {"recall": measured.recall, "confusion": measured.confusion})


def _record(stage: Stage, bench: Bench) -> Record:
    record = bench.store.record(stage)
    if record is None:
        raise BenchError(f"{stage} has to run first, but has left no record.")
    return record


def _weights(stage: Stage, bench: Bench) -> dict[str, Tensor]:
    path = bench.store.result(stage)
    try:
        return safetensors.torch.load_file(path, device=str(bench.device))
    except (OSError, safetensors.SafetensorError) as error:
        raise BenchError(f"{path} cannot be read ({error}). Delete {path.parent} and run again.") from None
