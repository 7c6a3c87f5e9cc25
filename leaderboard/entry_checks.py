"""Whether the numbers that an entry claims can be numbers of a run: in range, complete, and made of what they say."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engine.config import BenchError
from engine.records import Record
from leaderboard.cells import HEADLINE
from leaderboard.tables import MEASURES, base_name

EVALUATIONS = ("evaluate", "fuse")
"""Kinds of stages whose numbers are shown."""
_EXACT = 1e-6
"""Points by which numbers that say the same may differ, for rounding."""
_LARGEST_METRIC = 1e6
_PERCENT = {"top1", "top5", "mean_class", "ece", "best_on_test", "ci_low", "ci_high", *MEASURES}


Count = Annotated[int, Field(ge=0, lt=2**63)]


class Facts(BaseModel):
    """The facts of an evaluation that cells, tables and the page read, as far as it states them; it may state others.

    Records of the suite hold them by themselves; those of others are checked.
    """

    model_config = ConfigDict(strict=True)

    headline: str = HEADLINE
    feature_dim: Count = 0
    params: Count = 0
    pretrain_epochs: Count = 0
    test_clips: Count | None = None
    draws: Annotated[int, Field(ge=1, le=1000)] = 1
    conditions: Annotated[list[str], Field(max_length=1000)] = []
    confusion: list[list[Count]] = []
    recall: list[float] = []
    classes: list[str] = []
    background: float = 0.0
    test_recordings: Count = 0
    window: Count = 0
    stride: Count = 0
    subsample: Count = 1
    pooling: str = ""
    fps: float = 0.0


def check_numbers(record: Record, where: str) -> None:
    """Check numbers of a record that follow from each other.

    Args:
        record: of any stage.
        where: what messages call it.

    Raises:
        BenchError: one is missing, out of range or contradicts another.
    """
    for name, value in record.metrics.items():
        if not abs(value) <= _LARGEST_METRIC:
            raise BenchError(f"{where}: {name} is {value}, expected a number of at most {_LARGEST_METRIC:,.0f}.")
    if record.kind not in EVALUATIONS:
        return
    if type(version := record.identity.get("version")) is not int:
        raise BenchError(f"{where}: version in the identity is {version!r}, expected a whole number.")
    try:
        facts = Facts.model_validate(record.facts)
    except ValidationError as error:
        raise BenchError(f"{where}: facts.{first_mistake(error)}") from None
    if base_name(record.labels.protocol) == "segmentation" or facts.headline in MEASURES:
        wanted = ["background", "test_recordings"]
        wanted += ["stride", "pooling", "subsample"] if "window" in record.facts else []
        if missing := [name for name in wanted if name not in record.facts]:
            raise BenchError(f"{where}: facts lack {', '.join(missing)}, which tables of segmentation state.")
    headline = record.metrics.get(facts.headline)
    if headline is None or not 0 <= headline <= 100:
        raise BenchError(f"{where}: its headline metric is {headline}, expected percent, 0 to 100.")
    for name in _PERCENT & set(record.metrics):
        if not 0 <= (value := record.metrics[name]) <= 100:
            raise BenchError(f"{where}: {name} is {value}, expected percent, 0 to 100.")
    if record.metrics.get("top5", 100.0) < record.metrics.get("top1", 0.0) - _EXACT:
        raise BenchError(f"{where}: top5 is {record.metrics['top5']}, less than top1, {record.metrics['top1']}.")
    if facts.headline == HEADLINE and not (facts.confusion and facts.recall):
        raise BenchError(f"{where}: facts lack confusion or recall, which say what the accuracy is made of.")
    if "top1" in record.metrics and facts.confusion:
        _close(f"{where}: top1", record.metrics["top1"], _accuracy(facts.confusion, where))
        if facts.test_clips is not None:
            runs = len(facts.conditions) or facts.draws
            scored = sum(map(sum, facts.confusion))
            same(f"{where}: number of clips in the confusion matrix", scored, facts.test_clips * runs)
    if facts.confusion:
        _check_recalls(facts, record.metrics.get("mean_class"), where)
    low, high = record.metrics.get("ci_low", 0.0), record.metrics.get("ci_high", 100.0)
    if not low - _EXACT <= headline <= high + _EXACT:
        raise BenchError(f"{where}: its headline metric {headline} lies outside of its interval {low} to {high}.")


def _check_recalls(facts: Facts, mean: float | None, where: str) -> None:
    """Recalls are shares of the confusion matrix's rows; the mean is of classes that have test samples."""
    counts = [sum(row) for row in facts.confusion]
    recalls = [
        100.0 * row[i] / max(count, 1) for i, (row, count) in enumerate(zip(facts.confusion, counts, strict=True))
    ]
    same(f"{where}: number of recalls", len(facts.recall), len(recalls))
    for i, (found, wanted) in enumerate(zip(facts.recall, recalls, strict=True)):
        _close(f"{where}: recall.{i}", found, wanted)
    if mean is not None:
        _close(f"{where}: mean_class", mean, sum(recalls) / sum(count > 0 for count in counts))


def _accuracy(confusion: list[list[int]], where: str) -> float:
    scored = sum(map(sum, confusion))
    if not scored or any(len(row) != len(confusion) for row in confusion):
        raise BenchError(f"{where}: confusion should be a square of counts.")
    return 100.0 * sum(row[i] for i, row in enumerate(confusion)) / scored


def _close(what: str, found: float, wanted: float) -> None:
    if abs(found - wanted) > _EXACT:
        raise BenchError(f"{what} is {found}, expected {wanted} by the other numbers of the record.")


def same(what: str, found: Any, wanted: Any) -> None:
    """Refuse a value that is not the one wanted.

    Raises:
        BenchError: it is another.
    """
    if found != wanted:
        raise BenchError(f"{what} is {found!r}, expected {wanted!r}.")


def first_mistake(error: ValidationError) -> str:
    """The first thing that is wrong: where, what stands there, and what was expected."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"])) or "the file"
    return f"{where} is {str(first['input'])[:80]!r}. {first['msg']}."
