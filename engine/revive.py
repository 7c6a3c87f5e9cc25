"""From a record back to the stage that left it, so that a finished run can be looked into without being asked for again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from engine.choices import Choice
from engine.config import BenchError
from engine.records import Record
from engine.registry import Kind, locate
from engine.stages import Data, Stage
from protocols.base import FeatureConfig


def revive(results: Path, key: str) -> Stage:
    """The stage of a finished run, its ancestors included.

    Args:
        results: the folder with ``runs/``.
        key: of the run.

    Raises:
        BenchError: its record is gone or damaged, it was made by a file outside of the project, or by other versions or
            settings than the plug-ins have now.
    """
    record = _record(results, key)
    kind: Kind = "methods" if record.kind in ("pretrain", "features") else "protocols"
    identity, labels = record.identity, record.labels
    encoder = _choice("encoders", identity["encoder"], key) if "encoder" in identity else None
    stage = Stage(
        record.kind,  # type: ignore[arg-type]  # compared by the key below
        _choice(kind, identity, key, FeatureConfig if record.kind == "features" else None),
        # The frames stand in the name of a dataset when they are not the default ones; the folder of the data has them.
        Data(identity["data"]["name"], identity["data"]["name"], identity["data"]["digest"]),
        labels.seed,
        labels,
        encoder,
        tuple(revive(results, parent) for parent in record.parents),
    )
    if stage.key != key:
        raise BenchError(f"{stage} was made by another version of {stage.choice.plugin.name}; run it again")
    return stage


def _choice(kind: Kind, identity: dict[str, Any], key: str, config: Any = None) -> Choice:
    if "source" in identity:
        raise BenchError(f"{identity['plugin']} of run {key} is a file outside of the project")
    plugin = locate(kind, identity["plugin"])
    try:
        settings = (config or plugin.load().Config).model_validate(identity["config"])
    except ValidationError as error:
        raise BenchError(f"run {key}: {plugin.name} has other settings now ({error.errors()[0]['msg']})") from None
    return Choice(plugin, settings, identity["preset"])


def _record(results: Path, key: str) -> Record:
    for path in sorted(results.glob(f"runs/*/*/{key}/record.json")):
        try:
            return Record.model_validate_json(path.read_bytes())
        except ValidationError:
            raise BenchError(f"{path} is damaged") from None
    raise BenchError(f"run {key} is not in {results} any more")
