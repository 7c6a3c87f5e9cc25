"""Samples of a finished run's generative model, as arrays that a figure is drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Generator

from datasets.clips import ClipSet, to_storage
from engine.bench import Bench, stage_seed
from engine.choices import parse_name
from engine.config import BenchError
from engine.files import write_arrays
from engine.plan import Plan
from engine.registry import find, names
from engine.stages import Stage
from engine.train import seed_of
from methods.base import Method


def pretraining(plan: Plan, method: str) -> tuple[Plan, list[Stage]]:
    """What of a plan trains a method that generates, and the stages that hold it afterwards.

    Args:
        plan: of any protocol on features.
        method: as on the command line.

    Raises:
        BenchError: the method generates nothing, or cannot run on the encoder.
    """
    plugin, _ = parse_name("methods", method)
    if plugin.load().generate is Method.generate:
        known = ", ".join(name for name in names("methods") if find("methods", name).generate is not Method.generate)
        raise BenchError(f"{plugin.name} generates no clips. Methods that do: {known}.")
    found: dict[str, Stage] = {}
    needed: set[str] = set()
    for job in plan.jobs:
        lineage = _lineage(job.stage)
        if lineage and lineage[0].choice.plugin.name == plugin.name:
            if job.state == "unsupported":
                raise BenchError(job.reason)
            found.setdefault(lineage[0].key, lineage[0])
            needed.update(stage.key for stage in lineage)
    return replace(plan, jobs=tuple(job for job in plan.jobs if job.stage.key in needed)), list(found.values())


def _lineage(stage: Stage) -> list[Stage]:
    """The pre-training behind a stage, then the ones that it starts from."""
    own = [stage] if stage.kind == "pretrain" else []
    return own + [earlier for parent in stage.parents for earlier in _lineage(parent)]


def sample(stage: Stage, bench: Bench, count: int, noise_levels: Sequence[int], calls: int, path: Path) -> None:
    """Generate what a pre-trained method makes of test clips, and keep it beside them.

    Args:
        stage: a pre-training that is done.
        bench: where it is.
        count: clips, of as many classes as there are.
        noise_levels: see :meth:`methods.base.Method.generate`.
        calls: likewise.
        path: ``.npz`` with ``clips`` (versions, clips, M, T, V, 3), the first of them real, ``versions`` and ``classes``
            (names), and ``parents`` and ``sides`` of the joints.

    Raises:
        BenchError: what it generates is not finite.
    """
    split, method = bench.split(stage), bench.method(stage).eval()
    index = one_per_class(split.test, count)
    clips = split.test.subset(index)
    generator = Generator(bench.device).manual_seed(seed_of(stage_seed(stage), "samples"))
    made = method.generate(clips.clips, noise_levels, calls, generator)
    versions = {"real": clips.clips} | made
    stacked = np.stack([to_storage(version).cpu().numpy() for version in versions.values()])
    if not np.isfinite(stacked).all():
        raise BenchError(f"What {stage.choice.plugin.name} generated is not finite; its training diverged.")
    arrays: dict[str, NDArray[Any]] = {
        "clips": stacked.astype(np.float32),
        "versions": np.array(list(versions)),
        "classes": np.array([split.classes[int(label)] for label in clips.labels]),
        "parents": np.array(split.layout.bones),
        "sides": np.array(split.layout.sides),
    }
    write_arrays(path, arrays)


def one_per_class(clips: ClipSet, count: int) -> NDArray[np.int64]:
    """The first clip of each of ``count`` classes, evenly spread over the classes; fewer where there are not so many."""
    labels, first = np.unique(clips.labels.cpu().numpy(), return_index=True)
    chosen = np.linspace(0, len(labels) - 1, min(count, len(labels))).round().astype(int)
    return np.asarray(first[chosen], np.int64)
