"""What a finished stage leaves behind; read by the leaderboard, so no torch here."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

SCHEMA = 1
RECORD = "record.json"
CHECKSUMS = "checksums.json"
"""Beside a record: size and sha256 of the record and of the result file; records from before it existed have none."""


class Labels(BaseModel):
    """How tables name a stage."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    split: str
    source: str = ""
    """``dataset/split`` of the pre-training where a protocol evaluates on other data, which ``dataset`` and ``split`` name."""
    stream: str
    method: str
    """Plug-in name with preset and the changes made by ``--set``, e.g. ``aimclr`` or ``aimclr[nnm.topk=2]``."""
    encoder: str
    recipe: str
    budget: str
    protocol: str = ""
    """Empty for pre-training and feature stages; else name, preset and changes."""
    seed: int


class Record(BaseModel):
    """The deterministic outcome of a stage (``record.json``): the same stage gives the same bytes on the same machine.

    What differs from run to run (times, hardware, versions) is in ``provenance.json`` beside it, per-sample scores are in
    ``scores.npz``: ``scores`` (n, classes) float32, ``prediction`` (n,) int64, ``label`` (n,) int64, ``id`` (n,) str. Of R
    draws of labels ``scores`` is (R, n, classes) and ``prediction`` (R, n). Where a protocol chooses something there is
    ``validation`` too: (m, classes) scores of the held-out training clips.
    Of untrimmed recordings ``scores``, ``prediction`` and ``label`` are per frame; ``offsets`` (R + 1,) says where recordings
    begin, ``id`` names them, and ``influence`` (R,) is what each contributes to the headline.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA
    kind: str
    """``pretrain``, ``features``, ``evaluate`` or ``fuse``."""
    key: str
    labels: Labels
    identity: dict[str, Any]
    """Exactly what was hashed into the key."""
    parents: tuple[str, ...] = ()
    metrics: dict[str, float] = Field(default_factory=dict)
    """Percent: ``top1``, ``top5``, ``mean_class``, ``ece``, ``best_on_test`` ...; the headline (``top1``, or what
    ``facts["headline"]`` names) is the last epoch's."""
    curve: tuple[dict[str, float], ...] = ()
    facts: dict[str, float | int | str | list[float] | list[list[int]] | list[str]] = Field(default_factory=dict)
    """``feature_dim, params, flops, frames, pretrain_epochs, train_clips, test_clips, n_trials, confusion, recall,
    classes`` ..."""


class Provenance(BaseModel):
    """Circumstances of a run (``provenance.json``); never part of a key."""

    model_config = ConfigDict(extra="allow")

    seconds: float
    finished: str
    device: str
    threads: int
    peak_memory_mb: float
    commit: str
    source: str
    versions: dict[str, str]


class Checksum(BaseModel):
    """Size and sha256 of a file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bytes: int
    sha256: str


class DamagedError(ValueError):
    """A record, or a file that belongs to it, is not what was written."""


_CHECKSUMS = TypeAdapter(dict[str, Checksum])


def read_checksums(folder: Path) -> dict[str, Checksum]:
    """Checksums of a stage's files by name; none for a record from before they existed.

    Raises:
        DamagedError: the file cannot be read.
    """
    path = folder / CHECKSUMS
    try:
        return _CHECKSUMS.validate_json(path.read_bytes()) if path.exists() else {}
    except (OSError, ValidationError) as error:
        raise DamagedError(f"{CHECKSUMS}: {str(error).splitlines()[0]}") from None


def read_record(folder: Path) -> Record:
    """The record in a stage's folder, checked; of the files beside it the sizes are looked at, and no content.

    Raises:
        DamagedError: it is not what was written, or a file beside it is cut short.
    """
    checksums = read_checksums(folder)
    try:
        content = (folder / RECORD).read_bytes()
        record = Record.model_validate_json(content)
    except (OSError, ValidationError) as error:
        raise DamagedError(str(error).splitlines()[0]) from None
    for name, known in checksums.items():
        path = folder / name
        size = len(content) if name == RECORD else path.stat().st_size if path.is_file() else known.bytes
        if size != known.bytes:
            raise DamagedError(f"{name} has {size:,} bytes, {known.bytes:,} were written")
    if RECORD in checksums and hashlib.sha256(content).hexdigest() != checksums[RECORD].sha256:
        raise DamagedError("its checksum is wrong")
    return record
