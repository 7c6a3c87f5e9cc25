"""Evaluation: what a protocol gets to see, what its scores are worth, and the fusion of stored scores.

Test labels are touched where scores are measured, in ``_Run.point`` and ``_record``, and nowhere else.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from datasets.clips import Split
from datasets.streams import to_stream
from encoders.base import Encoder
from engine import train
from engine.bench import Bench, stage_seed
from engine.config import BenchError
from engine.draws import Draw, check, draws_of, publish
from engine.extract import extract
from engine.files import read_arrays, write_arrays
from engine.recordings import evaluate_recordings, record_frames
from engine.records import Record
from engine.stages import Stage
from protocols.base import (
    EncoderContext,
    EvalContext,
    FeatureConfig,
    FrozenContext,
    NetworkTraining,
    Outcome,
    Protocol,
    ScoresContext,
)
from protocols.metrics import evaluate as measure
from protocols.metrics import top1

_EVERY = 5
"""Epochs between two points of a network's test curve; the last epoch always has one."""

_SUMMED = ("feature_dim", "params", "flops", "pretrain_epochs")
"""Facts of a fused row: those of its networks together."""

Facts = dict[str, Any]


@dataclass
class _Run:
    """One run of a protocol, on all labels or on one of several draws of them.

    Attributes:
        stage, bench, protocol, draw: what runs.
        number, of: which run it is.
        curve: filled by what the run reports.
    """

    stage: Stage
    bench: Bench
    protocol: Protocol[Any]
    draw: Draw
    number: int
    of: int
    curve: list[dict[str, float]] = field(default_factory=list)

    @property
    def seed(self) -> int:
        """Seed of this run."""
        seed = stage_seed(self.stage)
        return train.seed_of(seed, self.draw.name) if self.draw.name else seed

    def point(self, scores: Tensor) -> float:
        """Top-1 on test, for the curve."""
        return top1(scores.cpu().numpy(), self.bench.split(self.stage).test.labels.cpu().numpy())

    def on_features(self, features: Mapping[str, Tensor]) -> Outcome:
        """Run a protocol that reads cached features."""
        split = self.bench.split(self.stage)
        # A draw's rows are picked; all of them are a view, since raw coordinates of a large set are gigabytes.
        rows = torch.as_tensor(self.draw.index) if self.draw.name else slice(None)
        train_features = features["train"][rows]
        check(len(train_features), self.protocol, split, self.draw.name)
        fit, held_out = split.validation() if not self.draw.name else (np.empty(0, np.int64), np.empty(0, np.int64))
        epochs = getattr(self.stage.choice.config, "epochs", 0)

        def report(epoch: int, loss: float | None, scores: Tensor | None) -> None:
            point: dict[str, float] = {"epoch": epoch}
            if loss is not None and math.isfinite(loss):
                point["loss"] = loss
            if scores is not None:
                point["test_top1"] = self.point(scores)
            self.curve.append(point)
            self.bench.reporter.update(
                epoch, max(epochs, epoch), f"epoch {epoch}" + (f", loss {loss:.3f}" if loss is not None else "")
            )

        context = EvalContext(
            train_features=train_features,
            train_labels=split.train.labels[rows],
            test_features=features["test"],
            classes=len(split.classes),
            fit=fit,
            held_out=held_out,
            seed=self.seed,
            report=report,
        )
        return self.protocol.run(self._frozen(context) if self.protocol.needs == "frozen" else context)

    def _frozen(self, context: EvalContext) -> FrozenContext:
        """The context of a protocol that also encodes test clips anew."""
        split, (features, pretrain) = self.bench.split(self.stage), self.stage.parents
        method, config = self.bench.method(pretrain, self.stage.labels.stream).eval(), features.choice.config
        assert isinstance(config, FeatureConfig)
        total, done = round(self.protocol.passes(len(split.train), len(split.test))), 0

        def encode(clips: Tensor, noise_level: int | None = None) -> Tensor:
            nonlocal done
            generator = Generator(self.bench.device).manual_seed(train.seed_of(stage_seed(features), "test"))
            rows = []
            for batch in extract(method, clips, config, generator, noise_level):
                rows.append(batch.float())
                done += len(batch)
                self.bench.reporter.update(done, max(total, done), f"{done:,}/{max(total, done):,} clips", False)
            return torch.cat(rows)

        return FrozenContext(**vars(context), test_clips=split.test.clips, layout=split.layout, encode=encode)

    def on_encoder(self, encoder: Encoder) -> Outcome:
        """Run a protocol that trains the encoder, which is left as it is: every run gets a copy."""
        split = self.bench.split(self.stage)
        labelled = split.train.subset(self.draw.index) if self.draw.name else split.train
        count, full = len(labelled), len(split.train)
        check(count, self.protocol, split, self.draw.name)

        def stream(clips: Tensor) -> Tensor:
            return to_stream(clips, self.stage.labels.stream, split.layout)

        def train_network(asked: NetworkTraining) -> Tensor:
            epochs = asked.config.epochs
            last: list[Tensor] = []

            def after_epoch(epoch: int) -> Mapping[str, float]:
                if epoch % _EVERY and epoch < epochs:
                    return {}
                scores = asked.scores()
                last[:] = [scores] if epoch == epochs else []
                return {"test_top1": self.point(scores)}

            def after_last() -> None:
                if asked.config.recalibrate:
                    train.recalibrate(context.encoder, labelled.clips, asked.config.batch, stream)

            def report(at: train.Progress) -> None:
                text = f"epoch {at.epoch}/{at.epochs}, loss {at.loss:.3f}, {at.clips_per_second:,.0f} clips/s"
                text += f", draw {self.number}/{self.of}" if self.draw.name else ""
                done, total = (self.number - 1) * at.steps + at.step, self.of * at.steps
                self.bench.reporter.update(done, total, text, at.step * at.epochs == at.epoch * at.steps)

            training = train.Training(
                asked.network,
                asked.config,
                full if asked.full_length else count,
                lambda index, step: asked.losses(index % count, step.generator),
                self.bench.device,
                after_last=after_last,
                after_epoch=after_epoch,
                rate=asked.rate,
                warmup_epochs=asked.warmup_epochs,
            )
            checkpoint = self.bench.store.checkpoint(self.stage, self.draw.name)
            say = self.bench.reporter.say
            self.curve += train.fit(training, seed=self.seed, checkpoint=checkpoint, report=report, tell=say)
            return last[0] if last else asked.scores()  # a finished run that was resumed has scored nothing

        context = EncoderContext(
            encoder=copy.deepcopy(encoder),
            clips=labelled.clips,
            labels=labelled.labels,
            test_clips=split.test.clips,
            classes=len(split.classes),
            layout=split.layout,
            stream=self.stage.labels.stream,
            seed=self.seed,
            train=train_network,
        )
        return self.protocol.run(context)


def evaluate(stage: Stage, bench: Bench) -> Record:
    """Evaluate a method by a protocol, once for every draw of labels that the protocol sees."""
    parent = stage.parents[0]
    protocol: Protocol[Any] = stage.choice.plugin.load()(stage.choice.config)
    if protocol.needs == "untrimmed":
        return evaluate_recordings(stage, bench, protocol)
    split = bench.split(stage)
    drawn = draws_of(protocol, split)
    files = publish(drawn, split, bench.store.results)
    runs = [_Run(stage, bench, protocol, draw, number, len(drawn)) for number, draw in enumerate(drawn, 1)]
    facts: Facts = dict(bench.record(parent).facts)
    facts |= {"train_clips": len(split.train), "test_clips": len(split.test)}  # of a target, if it is one
    if protocol.needs in ("features", "frozen"):
        arrays = read_arrays(bench.store.result(parent))
        features = {name: torch.from_numpy(values).to(bench.device) for name, values in arrays.items()}
        outcomes = [run.on_features(features) for run in runs]
    else:
        encoder = bench.method(parent, stage.labels.stream).encoder
        facts["feature_dim"] = encoder.dim
        outcomes = [run.on_encoder(encoder) for run in runs]
    facts |= dict(outcomes[0].facts) | {"labels": len(drawn[0].index)}
    if outcomes[0].conditions:
        facts["conditions"] = list(outcomes[0].conditions)
    if not files:
        return _record(stage, bench, outcomes[0], facts, runs[0].curve)
    facts |= {"draws": len(drawn), "draw_files": files}
    curve = [{**point, "draw": float(run.number)} for run in runs for point in run.curve]
    names = outcomes[0].extras
    whole = Outcome(
        torch.stack([outcome.scores for outcome in outcomes]),
        {name: torch.stack([outcome.extras[name] for outcome in outcomes]) for name in names},
    )
    return _record(stage, bench, whole, facts, curve)


def fuse(stage: Stage, bench: Bench) -> Record:
    """Combine the stored scores of several streams by a protocol on scores; no network runs."""
    of_frames = stage.parents[0].choice.plugin.load().needs == "untrimmed"
    protocol: Protocol[ScoresContext] = stage.choice.plugin.load()(stage.choice.config)
    parts = {parent.labels.stream: read_arrays(bench.store.result(parent)) for parent in stage.parents}
    first = next(iter(parts.values()))
    for stream, part in parts.items():
        if part["scores"].shape != first["scores"].shape or not np.array_equal(part["id"], first["id"]):
            raise BenchError(f"{stage}: the scores of the {stream} stream are not those of the same test clips.")
    context = ScoresContext(
        scores={stream: torch.from_numpy(part["scores"]) for stream, part in parts.items()},
        validation={s: torch.from_numpy(part["validation"]) for s, part in parts.items() if "validation" in part},
        labels=torch.empty(0, dtype=torch.int64) if of_frames else _held_out_labels(bench.split(stage)),
    )
    outcome = protocol.run(context)
    known = [bench.record(parent).facts for parent in stage.parents]
    facts: Facts = {name: value for name, value in known[0].items() if all(k.get(name) == value for k in known)}
    facts |= {name: sum(k[name] for k in known) for name in _SUMMED if all(name in k for k in known)}  # type: ignore[misc]
    record = record_frames if of_frames else _record
    return record(stage, bench, outcome, facts | dict(outcome.facts), [])


def _held_out_labels(split: Split) -> Tensor:
    return split.train.labels.cpu()[torch.as_tensor(split.validation()[1])]


def _record(stage: Stage, bench: Bench, outcome: Outcome, facts: Facts, curve: list[dict[str, float]]) -> Record:
    """Measure scores (n, classes), or (R, n, classes) of R draws or conditions, store them, and make the record.

    Of several the metrics are means, recalls are means and confusions sums. ``top1_draws_sd`` is the standard deviation of
    ``top1`` over draws, ``top1_<name>`` the ``top1`` of every condition that the facts name.
    """
    split = bench.split(stage)
    labels = split.test.labels.cpu().numpy()
    scores = outcome.scores.float().cpu().numpy()
    measured = [measure(one, labels, len(split.classes), stage_seed(stage)) for one in _each(scores)]
    metrics = {name: fmean(one.values()[name] for one in measured) for name in measured[0].values()}
    for name, extra in outcome.extras.items():
        metrics[f"top1_{name}"] = fmean(top1(one, labels) for one in _each(extra.cpu().numpy()))
    best = [
        max([one.top1, *(point["test_top1"] for point in curve if point.get("draw", i) == i and "test_top1" in point)])
        for i, one in enumerate(measured, 1)
    ]
    if any("test_top1" in point for point in curve):
        metrics["best_on_test"] = fmean(best)
    if conditions := facts.get("conditions"):
        metrics |= {f"top1_{name}": one.top1 for name, one in zip(conditions, measured, strict=True)}
    elif len(measured) > 1:
        metrics["top1_draws_sd"] = stdev(one.top1 for one in measured)
    prediction = np.stack([one.prediction for one in measured])
    arrays: dict[str, NDArray[Any]] = {
        "scores": scores,
        "prediction": prediction if scores.ndim == 3 else prediction[0],
        "label": labels,
        "id": np.array(split.test.ids),
    }
    if outcome.validation is not None:
        arrays["validation"] = outcome.validation.float().cpu().numpy()
    write_arrays(bench.store.result(stage), arrays)
    facts |= {
        "recall": np.mean([one.recall for one in measured], axis=0).tolist(),
        "confusion": np.sum([one.confusion for one in measured], axis=0).tolist(),
        "classes": list(split.classes),
    }
    return stage.record(metrics, curve, facts)


def _each(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scores with draws first, (R, n, classes)."""
    return scores if scores.ndim == 3 else scores[None]
