"""Entries: numbers that others measured, each a small file of its own; shown beside measured ones, never ranked with them."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from engine.config import BenchError, canonical, digest
from engine.records import SCHEMA, Record
from leaderboard.cells import Cell, aggregate, frame
from leaderboard.collect import Repetition, Stage, Submission, evaluations
from leaderboard.entry_checks import EVALUATIONS, check_numbers, first_mistake, same
from leaderboard.tables import tables

FOLDER = Path(__file__).with_name("entries")
"""Where entries are kept unless another folder is named."""
LARGEST = 4 * 2**20
"""Bytes of an entry."""
_STRINGS = 2000
"""Characters of a text."""
_KINDS = ("pretrain", "features", *EVALUATIONS)
_REPETITION = TypeAdapter(Repetition)
APART = "submitted-"
"""Begins the names of others' records on the page: those of a key that was run here too are kept."""

Key = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64})?$")]
Line = Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]


class Part(BaseModel):
    """A finished stage in an entry.

    Attributes:
        record: as the run left it.
        provenance: circumstances of the run.
        content: sha256 of its weights, features or scores, "" where they were gone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    record: Record
    provenance: dict[str, Any]
    content: Sha256


class Entry(BaseModel):
    """Evaluations with everything that they started from.

    Attributes:
        format: of this file.
        by: who measured, as they want to be named.
        note: anything to say about it.
        evaluations: keys of what is shown.
        parts: these and all stages before them, parents first.
        checksum: sha256 of the canonical JSON of the rest.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    by: Line = ""
    note: Line = ""
    evaluations: Annotated[tuple[Key, ...], Field(min_length=1, max_length=200)]
    parts: Annotated[tuple[Part, ...], Field(min_length=1, max_length=1000)]
    checksum: Sha256 = ""

    @property
    def records(self) -> dict[str, Record]:
        """Records by key, parents first."""
        return {part.record.key: part.record for part in self.parts}

    def content(self) -> dict[str, Any]:
        """The entry as JSON values."""
        return self.model_dump(mode="json")

    def digest(self) -> str:
        """What the checksum should be."""
        rest = {name: value for name, value in self.content().items() if name != "checksum"}
        return hashlib.sha256(canonical(rest).encode()).hexdigest()

    def signed(self) -> Entry:
        """The entry with its checksum."""
        return self.model_copy(update={"checksum": self.digest()})

    @property
    def file_name(self) -> str:
        """A plain name: what it is of, and the first digits of the checksum."""
        first = self.records[self.evaluations[0]].labels
        words = "-".join([first.dataset, first.split, first.stream, first.method, first.encoder]).lower()
        plain = "".join(c if c.isascii() and c.isalnum() else "-" for c in words)
        return "-".join(filter(None, plain.split("-")))[:100] + f"-{self.digest()[:8]}.json"


def parse(path: Path) -> Entry:
    """Read and check the entry in a file, see :func:`read`.

    Raises:
        BenchError: it cannot be read, or is refused.
    """
    try:
        with path.open("rb") as file:
            return read(file.read(LARGEST + 1), path.name)
    except OSError as error:
        raise BenchError(f"{path} cannot be read: {error.strerror or error}.") from None


def read(content: bytes, name: str) -> Entry:
    """Check an entry, by itself: no plug-in is asked, and nothing in it is run.

    Args:
        content: of its file.
        name: of its file, for messages.

    Raises:
        BenchError: it is too large, no JSON, not of the schema, or contradicts itself; the message says what was expected.
    """
    entry = _read(content, name)
    if entry.checksum != (wanted := entry.digest()):
        raise BenchError(f"{name}: checksum is {entry.checksum}, but the content's is {wanted}: it was changed.")
    try:
        _check(entry)
    except BenchError as error:
        raise BenchError(f"{name}: {error}") from None
    return entry


def _read(content: bytes, name: str) -> Entry:
    if len(content) > LARGEST:
        raise BenchError(f"{name} is larger than {LARGEST // 2**20} MiB; entries hold records, no features or scores.")
    try:
        values = json.loads(
            content, object_pairs_hook=_unique, parse_constant=_refuse, parse_float=_number, parse_int=_number
        )
        _check_strings(values, name)
    except RecursionError:
        raise BenchError(f"{name} is nested too deeply for an entry.") from None
    except ValueError as error:
        raise BenchError(f"{name} is no entry: {error}") from None
    if isinstance(values, dict) and values.get("format", 1) != 1:
        raise BenchError(f"{name}: format is {values['format']!r}, this suite knows 1.")
    try:
        return Entry.model_validate_json(content, strict=True)
    except ValidationError as error:
        raise BenchError(f"{name}: {first_mistake(error)}") from None


def _check(entry: Entry) -> None:
    """What an entry says about itself.

    Raises:
        BenchError: parts are missing, too many or out of order, a key is not that of its identity, or numbers contradict.
    """
    seen: set[str] = set()
    for part in entry.parts:
        record = part.record
        where = f"{record.kind} {record.key}"
        same(f"{where}: schema version", record.schema_version, SCHEMA)
        same(f"{where}: key", record.key, digest(record.identity))
        same(f"{where}: kind", record.kind, record.identity.get("kind"))
        if record.kind not in _KINDS:
            raise BenchError(f"{where}: kind is {record.kind!r}, expected one of {', '.join(_KINDS)}.")
        same(f"{where}: parents", list(record.parents), record.identity.get("parents"))
        if record.key in seen:
            raise BenchError(f"{where} stands there twice.")
        if missing := [parent for parent in record.parents if parent not in seen]:
            raise BenchError(f"{where}: its parent {missing[0]} does not stand before it.")
        seen.add(record.key)
        check_numbers(record, where)
    records, needed = entry.records, list(entry.evaluations)
    if len(set(needed)) != len(needed):
        raise BenchError("evaluations: a key stands there twice.")
    for key in entry.evaluations:
        if key not in records or records[key].kind not in EVALUATIONS:
            raise BenchError(f"evaluations: {key} is no evaluation among the parts.")
    reached = set(needed)
    for key in needed:
        needed += [parent for parent in records[key].parents if parent not in reached]
        reached.update(records[key].parents)
    if spare := sorted(seen - reached):
        raise BenchError(f"{spare[0]} belongs to no evaluation of the entry.")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if twice := [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]:
        raise ValueError(f"{twice[0]!r} stands twice in one place")
    return dict(pairs)


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no number")


def _number(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text[:20]} is too large")
    return int(value) if value.is_integer() else value


def _check_strings(value: Any, name: str) -> None:
    if isinstance(value, str) and len(value) > _STRINGS:
        raise BenchError(f"{name}: a text of {len(value):,} characters; at most {_STRINGS:,} are expected.")
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_strings(inner, name)
    if isinstance(value, dict):
        for key in value:
            _check_strings(key, name)


def load(folder: Path) -> tuple[dict[Path, Entry], list[str]]:
    """All entries of a folder that can be shown, by file, and why others were left out."""
    found: dict[Path, Entry] = {}
    problems = []
    for path in sorted(folder.glob("*.json")):
        try:
            found[path] = parse(path)
        except BenchError as error:
            problems.append(str(error))
    if not _trouble(found):
        return found, problems
    kept: dict[Path, Entry] = {}
    for path, entry in found.items():
        if trouble := _trouble(kept | {path: entry}):
            problems.append(f"{path.name} cannot be shown: {trouble}")
        else:
            kept[path] = entry
    return kept, problems


def _trouble(entries: Mapping[Path, Entry]) -> str:
    """What goes wrong when the leaderboard shows entries, "" if nothing does."""
    try:
        cells = submitted(entries, Path()).cells
        tables(cells)
        frame(cells)
    except Exception as error:  # what no check foresaw costs the entry that it is in, not everybody's leaderboard
        return f"{type(error).__name__}: {error}"
    return ""


def receipt(results: Path, entry: Entry) -> Path:
    """Where a results folder notes that an entry was repeated there."""
    return results / "verified" / f"{entry.checksum}.json"


def repetition(results: Path, entry: Entry) -> Repetition | None:
    """What came out when the entry was repeated here, ``None`` if it was not."""
    try:
        noted = _REPETITION.validate_json(receipt(results, entry).read_bytes())
    except (OSError, ValidationError):
        return None
    return noted if noted.checksum == entry.checksum else None


def is_verified(results: Path, entry: Entry) -> bool:
    """Whether the entry was repeated here and came out the same, within the tolerance that counts."""
    noted = repetition(results, entry)
    return noted is not None and noted.verifies


class _Theirs(Cell):
    """A cell of somebody else."""

    @property
    def key(self) -> str:
        return APART + super().key


@dataclass(frozen=True)
class Submitted:
    """What entries measured: cells that say ``submitted`` or ``verified``, and all stages behind them by key."""

    cells: list[Cell] = field(default_factory=list)
    stages: dict[str, Stage] = field(default_factory=dict)


def submitted(entries: Mapping[Path, Entry], results: Path) -> Submitted:
    """What entries measured; an evaluation that several entries hold is shown once, the verified one first."""
    found: list[Cell] = []
    everything: dict[str, Stage] = {}
    shown: set[str] = set()
    for origin in ("verified", "submitted"):
        stages: dict[str, Stage] = {}
        for path, entry in entries.items():
            if is_verified(results, entry) == (origin == "verified"):
                new = set(entry.evaluations) - shown
                shown |= new
                wanted = [one for one in entry.parts if one.record.kind not in EVALUATIONS or one.record.key in new]
                noted = repetition(results, entry)
                about = path.name, entry.by, entry.note, entry.checksum, origin == "verified", noted
                stages |= {one.record.key: _stage(path, one, Submission(*about, one.provenance)) for one in wanted}
        runs = [run for run in evaluations(stages) if run.stage.key in shown]
        found += [
            _Theirs(cell.bench, f"{cell.method} ({origin})", cell.encoder, cell.protocol, cell.runs, origin)
            for cell in aggregate(runs)
        ]
        everything = stages | everything
    found.sort(key=lambda cell: (*vars(cell.bench).values(), cell.method, cell.encoder, cell.protocol))
    return Submitted(found, everything)


def _stage(path: Path, part: Part, submission: Submission) -> Stage:
    record = part.record
    return Stage(
        path / record.kind / "entry" / record.key,
        record.labels,
        record.identity,
        record.parents,
        "done",
        metrics=record.metrics,
        facts=record.facts,
        curve=record.curve,
        submission=submission,
    )


def make(parts: Iterable[Part], keys: Iterable[str], by: str, note: str) -> Entry:
    """An entry with its checksum.

    Raises:
        BenchError: it would be refused.
    """
    try:
        entry = Entry(by=by, note=note, evaluations=tuple(keys), parts=tuple(parts)).signed()
    except ValidationError as error:
        option = "--" if error.errors()[0]["loc"][0] in ("by", "note") else "An entry takes fewer at once: "
        raise BenchError(f"{option}{first_mistake(error)}") from None
    _check(entry)
    return entry
