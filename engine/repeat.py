"""Repeat finished stages in a fresh folder, and compare."""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine.config import BenchError
from engine.data import Splits
from engine.execute import execute
from engine.files import read_arrays
from engine.lookup import circumstances
from engine.plan import Job, Plan
from engine.progress import Reporter
from engine.records import Record
from engine.stages import Stage
from engine.store import RESULT, RunStore

_MACHINE = ("device", "cpu", "capability", "threads", "versions", "platform")
"""Circumstances under which a CPU gives the same bytes, if all of them are known and equal, and as many ``ranks`` trained."""


@dataclass(frozen=True)
class Outcome:
    """A stage and its repetition.

    Attributes:
        before, after: the records.
        same_content: whether weights, features or scores are the same, ``None`` where the first ones are not known.
        same_machine: whether both ran under circumstances that give the same bytes.
    """

    before: Record
    after: Record
    same_content: bool | None
    same_machine: bool

    @property
    def identical(self) -> bool:
        """Whether all that is known of both is the same to the last bit."""
        return self.before == self.after and self.same_content is not False

    @property
    def difference(self) -> float:
        """Largest difference of a metric in points, infinite where one is missing or no number; without metrics 0."""
        before, after = self.before.metrics, self.after.metrics
        if set(before) != set(after):
            return math.inf
        gaps = [abs(before[name] - after[name]) for name in before]
        return max(gaps, default=0.0) if all(map(math.isfinite, gaps)) else math.inf  # max passes over NaN

    def accepted(self, tolerance: float) -> bool:
        """Whether the repetition confirms the record: to the bit on the same machine, else within ``tolerance`` points."""
        return self.identical if self.same_machine else self.difference <= tolerance


def repeat(
    stages: Mapping[str, Stage],
    fresh: RunStore,
    splits: Splits,
    device: torch.device,
    reporter: Reporter,
    kept: Collection[str] = (),
) -> None:
    """Run stages in an empty results folder.

    Args:
        stages: by key, parents first.
        fresh: store of the empty folder; stages that are in it already are not run.
        splits: loads the data, which have to be those of the records.
        device: to run on.
        reporter: shows progress.
        kept: keys of stages that are there already, see :func:`take_over`.

    Raises:
        BenchError: data are missing or are other data, or a stage fails.
    """
    for stage in stages.values():
        _check_data(stage, splits)
    jobs = tuple(Job(stage, "done" if key in kept else "to do") for key, stage in stages.items())
    summary = execute(Plan(jobs, splits), fresh, device, reporter)
    if summary.interrupted:
        raise KeyboardInterrupt
    if summary.failed:
        raise BenchError(f"It cannot be repeated: {next(iter(summary.failed.values()))}")


def take_over(results: Path, folder: Path, fresh: Path) -> None:
    """Copy a finished stage from one results folder into another."""
    shutil.copytree(folder, fresh / folder.relative_to(results))


def compare(stage: Stage, before: Record, content: str, ran: Mapping[str, Any], fresh: RunStore) -> Outcome:
    """A record beside its repetition.

    Args:
        stage: which stage.
        before: the record.
        content: checksum of what it left (:func:`checksum`), "" if that is not known.
        ran: circumstances of its run.
        fresh: where it was repeated.
    """
    after = fresh.record(stage)
    if after is None:
        raise BenchError(f"{stage} was repeated, but left no record.")
    again = circumstances(fresh.folder(stage))
    same = checksum(fresh.result(stage)) == content if content else None
    on_cpu = ran.get("device_type") == again.get("device_type") == "cpu"
    known = all(name in ran and ran[name] == again.get(name) for name in _MACHINE)
    as_many = ran.get("ranks", 1) == again.get("ranks", 1)
    return Outcome(before, after, same, on_cpu and known and as_many)


def checksum(path: Path) -> str:
    """sha256 of the arrays in a result file, or of its bytes where it holds weights; "" where it is gone."""
    if not path.is_file():
        return ""
    if path.suffix != ".npz":
        return hashlib.sha256(path.read_bytes()).hexdigest()
    found = hashlib.sha256()
    for name, values in sorted(read_arrays(path).items()):
        found.update(f"{name} {values.dtype.str} {values.shape} ".encode())
        found.update(np.ascontiguousarray(values).tobytes())
    return found.hexdigest()


def result_of(folder: Path) -> Path:
    """The file with the weights, features or scores of a stage's folder."""
    return folder / RESULT[folder.parent.parent.name]


def _check_data(stage: Stage, splits: Splits) -> None:
    data = stage.data
    untrimmed = stage.kind in ("evaluate", "fuse") and _untrimmed(stage)
    try:
        if not data.asked:
            raise BenchError(f"the suite has no dataset {data.name.partition('/')[0]!r}")
        load = splits.load_untrimmed if untrimmed else splits
        found = load(data.asked, like=data.like).digest
    except BenchError as error:
        hint = f"If they lie elsewhere, say so: --read {data.name}=DATASET (as one writes it after --datasets)."
        raise BenchError(f"The data {data.name} cannot be loaded: {error}\n{hint}") from None
    if found != data.digest:
        raise BenchError(
            f"{data.name} holds other data here: checksum {found}, expected {data.digest}. The same numbers need the same "
            f"source files, prepared by the same version (data prepare)."
        )


def _untrimmed(stage: Stage) -> bool:
    scored = stage.parents[0] if stage.kind == "fuse" else stage
    return bool(scored.choice.plugin.load().needs == "untrimmed")
