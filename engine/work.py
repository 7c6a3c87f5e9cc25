"""The work of stages: pre-train a method, extract its features; evaluating and fusing have a file of their own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Generator, Tensor

from encoders.base import parameter_count
from engine import imports, spectrum, train
from engine.bench import Bench, build_method, stage_seed
from engine.config import BenchError
from engine.evaluate import evaluate, fuse
from engine.extract import extract
from engine.files import write_arrays, write_atomically
from engine.records import Record
from engine.stages import Stage, StageKind
from engine.train import seed_of
from methods.base import Method
from protocols.base import FeatureConfig


def run(stage: Stage, bench: Bench) -> Record:
    """Do the work of a stage whose parents are done, leave its result file in the store, and return its record."""
    with deterministic(bench.device):
        torch.manual_seed(stage_seed(stage))
        return _WORK[stage.kind](stage, bench)


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
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


def follow(stages: Mapping[str, Stage], bench: Bench) -> None:
    """On another rank than the first: help with its pre-trainings, until it says no key any more.

    Args:
        stages: by key.
        bench: with a reporter that keeps silent.
    """
    while key := bench.ranks.tell().decode():
        try:
            with deterministic(bench.device):
                torch.manual_seed(stage_seed(stages[key]))
                _train(stages[key], bench)
        except BenchError as error:  # as a rule the first rank has the same one, and notes it
            print(f"rank {bench.ranks.rank}: {error}", file=sys.stderr)


def _pretrain(stage: Stage, bench: Bench) -> Record:
    bench.ranks.tell(stage.key.encode())
    method, curve, earlier_epochs = _train(stage, bench)
    weights = {name: value.detach().cpu().clone().contiguous() for name, value in method.state_dict().items()}
    with write_atomically(bench.store.result(stage)) as file:
        file.write(safetensors.torch.save(weights))
    split = bench.split(stage)
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


def _train(stage: Stage, bench: Bench) -> tuple[Method, list[dict[str, float]], int]:
    """The trained method, its curve, and the epochs of the runs that it started from; on every rank."""
    split = bench.split(stage)
    method = build_method(stage, bench)
    earlier_epochs = 0
    for parent in stage.parents:
        method.start_from(bench.weights(parent))
        earlier_epochs += int(bench.record(parent).facts["pretrain_epochs"])  # type: ignore[arg-type]

    if method.imports:
        chosen = stage.choice.config.model_dump()
        method.start_from(imports.load(bench.store.results, chosen["weights"], str(bench.device)))

    def report(at: train.Progress) -> None:
        text = f"epoch {at.epoch}/{at.epochs}, loss {at.loss:.3f}, {at.clips_per_second:,.0f} clips/s"
        bench.reporter.update(at.step, at.steps, text, at.step * at.epochs == at.epoch * at.steps)

    curve = train.pretrain(
        method,
        split.train,
        seed=stage_seed(stage),
        checkpoint=bench.store.checkpoint(stage),
        report=report,
        tell=bench.reporter.say,
        ranks=bench.ranks,
    )
    return method, curve, earlier_epochs


def _features(stage: Stage, bench: Bench) -> Record:
    (parent,) = stage.parents
    split = bench.split(stage)
    method = bench.method(parent, stage.labels.stream)
    method.eval()
    config = stage.choice.config
    assert isinstance(config, FeatureConfig)
    total = len(split.train) + len(split.test)
    arrays: dict[str, Any] = {}
    for part, clips, before in (("train", split.train, 0), ("test", split.test, len(split.train))):
        generator = Generator(bench.device).manual_seed(seed_of(stage_seed(stage), part))
        rows: list[Tensor] = []
        for batch in extract(method, clips.clips, config, generator):
            rows.append(batch.float().cpu())
            done = before + sum(map(len, rows))
            bench.reporter.update(done, total, f"{done:,}/{total:,} clips", False)
        arrays[part] = torch.cat(rows).numpy()
        if not np.isfinite(arrays[part]).all():
            raise BenchError(
                f"The features of {stage.labels.method} hold NaN or infinite values; its training diverged."
            )
    write_arrays(bench.store.result(stage), arrays)
    width = {"feature_dim": arrays["train"].shape[1]}
    return stage.record(facts=bench.record(parent).facts | width | spectrum.summary(arrays["train"]))


_WORK: Mapping[StageKind, Callable[[Stage, Bench], Record]] = {
    "pretrain": _pretrain,
    "features": _features,
    "evaluate": evaluate,
    "fuse": fuse,
}
