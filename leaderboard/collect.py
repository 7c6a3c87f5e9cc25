"""Reads a results folder: what every evaluation left, and which runs are one experiment under several seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from engine.config import digest
from engine.records import DamagedError, Labels, read_record

_DEFINITION = ("plugin", "version", "preset", "config", "source")
"""Parts of an evaluation's identity that make its definition."""
_DATA = ("numerics", "data")
"""Those that say what it was evaluated on; of a transfer other data than the pre-training's."""

Status = Literal["done", "failed", "unsupported", "pending", "submitted", "verified"]
"""The last two are of entries: numbers of others, as they came, or repeated here."""


TOLERANCE = 3.0
"""The largest ``--tolerance``, in points, with which a confirmed entry counts as verified; also the default."""


class _Note(BaseModel):
    """What a stage's small files hold: ``stage.json``, ``failure.json``, ``unsupported.json``."""

    model_config = ConfigDict(extra="ignore")

    labels: Labels | None = None
    identity: dict[str, Any] = {}
    parents: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Repetition:
    """What came out when an entry was repeated here (``results/verified/``).

    Attributes:
        checksum: of the entry's content.
        confirmed: whether all stages came out the same, to the bit on the same machine and elsewhere within the tolerance.
        identical: whether they did to the bit.
        difference: largest one of a metric, in points; of more than 100 it is 100, ``None`` where that was not noted.
        tolerance: points that were asked for.
    """

    checksum: str
    confirmed: bool
    identical: bool = False
    difference: float | None = None
    tolerance: float = TOLERANCE

    @property
    def verifies(self) -> bool:
        """Whether the entry counts as verified."""
        return self.confirmed and self.tolerance <= TOLERANCE


@dataclass(frozen=True)
class Submission:
    """The entry that a stage of somebody else came in.

    Attributes:
        file: its name.
        by, note: as its author wrote them.
        checksum: of its content.
        verified: whether it was repeated here and counts as verified.
        repetition: what came out, ``None`` where it was not repeated here.
        provenance: circumstances of the stage's run; those of own stages lie in their folders.
    """

    file: str
    by: str
    note: str
    checksum: str
    verified: bool
    repetition: Repetition | None
    provenance: Mapping[str, Any]


@dataclass(frozen=True)
class Stage:
    """One folder ``runs/<kind>/<plug-in>/<key>``; ``reason`` says why there is no result, ``submission`` who ran it."""

    folder: Path
    labels: Labels
    identity: Mapping[str, Any]
    parents: tuple[str, ...]
    status: Status
    reason: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    curve: tuple[Mapping[str, float], ...] = ()
    submission: Submission | None = None

    @property
    def key(self) -> str:
        """The stage's key."""
        return self.folder.name

    @property
    def kind(self) -> str:
        """``pretrain``, ``features``, ``evaluate`` or ``fuse``."""
        return self.folder.parent.parent.name


@dataclass(frozen=True)
class Run:
    """One evaluation, or the fusion of several.

    Attributes:
        stage: its folder's content; the status takes failed ancestors into account.
        origin: digest of the pre-training behind it (of all that were fused) without the seed: equal for the seeds of one
            experiment, and for nothing else; "" for an unfinished run where that is not known.
        definition: digest of the protocol's version and settings (and of those that were fused).
        data: digest of what it was evaluated on, and of the shared numerics.
        version: version of the protocol, 0 where not known.
    """

    stage: Stage
    origin: str
    definition: str
    data: str
    version: int


def collect(results: Path) -> list[Run]:
    """All evaluations under ``results/runs``, finished or not, sorted by key; nothing is fine."""
    return evaluations(read_stages(results))


def read_stages(results: Path) -> dict[str, Stage]:
    """All stages under ``results/runs`` by key, finished or not."""
    return {stage.key: stage for folder in sorted(results.glob("runs/*/*/*/")) if (stage := _read(folder))}


def evaluations(stages: Mapping[str, Stage]) -> list[Run]:
    """The evaluations among some stages, sorted by key."""
    origins: dict[str, str] = {}
    return [_run(stages[key], stages, origins) for key in sorted(stages) if stages[key].kind in ("evaluate", "fuse")]


def _read(folder: Path) -> Stage | None:
    """A stage, or ``None`` for a folder that does not say what it is."""
    damage = ""
    if (path := folder / "record.json").is_file():
        try:
            record = read_record(folder)
            return Stage(
                folder,
                record.labels,
                record.identity,
                record.parents,
                status="done",
                metrics=record.metrics,
                facts=record.facts,
                curve=record.curve,
            )
        except DamagedError:
            damage = f"{path.name} is damaged; run it again"
    stage, unsupported, failure = (_note(folder / f"{name}.json") for name in ("stage", "unsupported", "failure"))
    known = next((note for note in (stage, unsupported, failure) if note and note.labels), None)
    if known is None or known.labels is None:
        return None
    status: Status = "pending"
    reason = ""
    if unsupported:
        status, reason = "unsupported", unsupported.reason
    elif failure or damage:
        status, reason = "failed", failure.reason if failure else damage
    return Stage(folder, known.labels, known.identity, known.parents, status, reason)


def _note(path: Path) -> _Note | None:
    """The file's content; ``None`` where it is absent, an empty note where it is damaged."""
    if not path.is_file():
        return None
    try:
        return _Note.model_validate_json(path.read_bytes())
    except (ValidationError, OSError):
        return _Note(reason=f"{path.name} is damaged")


def _run(stage: Stage, stages: Mapping[str, Stage], origins: dict[str, str]) -> Run:
    behind = ancestors(stage, stages)
    failed = next((earlier for earlier in behind if earlier.status == "failed"), None)
    if stage.status == "pending" and failed:
        reason = f"{failed.kind} of {failed.labels.method} failed: {failed.reason}"
        stage = replace(stage, status="failed", reason=reason)
    fused = [earlier for earlier in behind if earlier.kind == "evaluate"]
    trained = [_pretrain(one, stages) for one in fused or [stage]]
    known = [_origin(one.key, stages, origins) for one in trained if one]
    definitions = [{name: one.identity.get(name) for name in _DEFINITION} for one in (stage, *fused)]
    data = digest([[one.identity.get(name) for name in _DATA] for one in (stage, *fused)])
    # Without the folders in between, at least data and shared numerics tell experiments apart.
    rest = data if stage.status == "done" else ""
    return Run(
        stage,
        origin=(known[0] if len(known) == 1 else digest(known)) if known else rest,
        definition=digest(definitions if fused else definitions[0]),
        data=data,
        version=int(stage.identity.get("version", 0)),
    )


def _pretrain(stage: Stage, stages: Mapping[str, Stage]) -> Stage | None:
    """The nearest pre-training behind an evaluation."""
    return next((earlier for earlier in ancestors(stage, stages) if earlier.kind == "pretrain"), None)


def ancestors(stage: Stage, stages: Mapping[str, Stage]) -> list[Stage]:
    """All stages that one started from, the nearest first; those whose folders are gone are left out."""
    keys = list(stage.parents)
    seen = set(keys)
    for key in keys:
        if key in stages:
            keys += [parent for parent in stages[key].parents if parent not in seen]
            seen.update(stages[key].parents)
    return [stages[key] for key in keys if key in stages]


def _origin(key: str, stages: Mapping[str, Stage], known: dict[str, str]) -> str:
    """Digest of a stage's identity and of its ancestors', all without seeds."""
    if key not in known:
        known[key] = ""
        if stage := stages.get(key):
            own = {name: value for name, value in stage.identity.items() if name not in ("seed", "parents")}
            known[key] = digest([own, [_origin(parent, stages, known) for parent in stage.parents]])
    return known[key]
