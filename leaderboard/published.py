"""Numbers that papers report, each with its source; they stand beside measured ones and are never ranked with them."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from engine.config import BenchError

FILE = Path(__file__).with_name("published.csv")

Stream = Literal[
    "", "joint", "bone", "motion", "joint+bone", "joint+motion", "joint+bone+motion", "joint+bone+motion in one model",
    "two streams", "three streams", "other",
]  # fmt: skip
"""``joint+bone+motion`` sums the scores of three models; "" where a source does not say what was used."""
Protocol = Literal[
    "knn", "knn:actclr", "knn:unspecified", "linear", "semi", "semi:1", "semi:2", "semi:5", "semi:20", "finetune",
    "supervised", "transfer:linear", "transfer:finetune", "transfer:unspecified", "segmentation", "detection",
]  # fmt: skip
"""The suite's names where the definitions meet: ``knn`` is 1-NN, ``semi`` 10 % of the labels."""
Metric = Literal["top1", "ci_low", "ci_high", "ece", "acc", "macc", "fwiou", "miou", "edit", "map_action", "map_video"]
Evidence = Literal["own", "quoted", "secondary"]
"""The method's own authors; another paper, which may have copied or run it again; a list or somebody's reading notes."""
_Optional = BeforeValidator(lambda text: None if text == "" else text)


class Number(BaseModel):
    """One published number, as its source prints it.

    Attributes:
        method: as papers write it, without a ``3s-`` in front.
        encoder: as printed, "" where not known.
        year: of the method's publication.
        params: parameters in millions, as printed.
        dataset: the suite's name; ``pku_mmd`` where the part of PKU-MMD is not printed.
        split: ``xsub``, ``xview``, ``xset``, or "" where not printed.
        stream: what was put in, or fused.
        protocol: with its variant.
        pretrained_on: dataset of the pre-training under transfer and segmentation.
        variant: what makes it another experiment than the method's headline: an ablation row, a re-run, other inputs.
        metric: of percent.
        value: percent.
        decimals: how many the source prints.
        source: paper, repository or list.
        place: table or section in it.
        evidence: who says so.
        mark: ``suspect`` of being another number than it is said to be, ``disputed`` where sources print different values.
        note: remarks, and the reason of the mark.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Annotated[str, Field(min_length=1)]
    encoder: str
    year: Annotated[int | None, _Optional]
    params: Annotated[float | None, _Optional]
    dataset: Literal["ntu60", "ntu120", "pku_mmd1", "pku_mmd2", "pku_mmd", "nw_ucla", "florence3d", "sbu"]
    split: Literal["", "xsub", "xview", "xset", "mean of both"]
    stream: Stream
    protocol: Protocol
    pretrained_on: Literal["", "ntu60", "ntu120", "pku_mmd1"]
    variant: str
    metric: Metric
    value: Annotated[float, Field(ge=0, le=100)]
    decimals: int
    source: Annotated[str, Field(min_length=1)]
    place: str
    evidence: Evidence
    mark: Literal["", "suspect", "disputed"]
    note: str

    @property
    def cell(self) -> tuple[str, ...]:
        """What the number is of: two unmarked numbers of one cell agree."""
        return (
            self.method, self.dataset, self.split, self.stream, self.protocol, self.pretrained_on, self.variant,
            self.metric,
        )  # fmt: skip

    def agrees(self, other: Number) -> bool:
        """Whether both round to the same value, to the decimals that both print."""
        decimals = min(self.decimals, other.decimals)
        return abs(self.value - other.value) <= 0.5 * 10.0**-decimals + 1e-9


def by_evidence(number: Number) -> tuple[bool, int]:
    """Sorts numbers of one cell: the unmarked ones of its authors first."""
    return bool(number.mark), get_args(Evidence).index(number.evidence)


COLUMNS = tuple(name for name in Number.model_fields if name != "decimals")


def load(path: Path = FILE) -> tuple[Number, ...]:
    """Read published numbers.

    Args:
        path: a CSV with the columns ``COLUMNS``.

    Raises:
        BenchError: a column is missing or unknown, a value is outside of 0..100, a dataset, stream, protocol or metric is
            unknown, a number stands there twice from one place, or two unmarked numbers of one cell disagree.
    """
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise BenchError(f"{path.name}: columns are {reader.fieldnames}, expected {', '.join(COLUMNS)}.")
        numbers = [(reader.line_num, _number(row, f"{path.name}, line {reader.line_num}")) for row in reader]
    _refuse_contradictions(numbers, path.name)
    return tuple(number for _, number in numbers)


def _number(row: dict[str, Any], where: str) -> Number:
    if None in row or None in row.values():
        raise BenchError(f"{where}: {len(COLUMNS)} values expected, quote those with a comma.")
    try:
        return Number(**row, decimals=len(row["value"].partition(".")[2]))
    except ValidationError as error:
        first = error.errors()[0]
        raise BenchError(f"{where}: {first['loc'][0]} is {first['input']!r}. {first['msg']}.") from None


def _refuse_contradictions(numbers: Iterable[tuple[int, Number]], file: str) -> None:
    cells: dict[tuple[str, ...], list[tuple[int, Number]]] = defaultdict(list)
    for line, number in numbers:
        for earlier, other in cells[number.cell]:
            here, about = f"{file}, lines {earlier} and {line}", " ".join(filter(None, number.cell))
            if (number.source, number.place) == (other.source, other.place):
                raise BenchError(f"{here}: {about} stands twice in {number.source} {number.place}. Keep one.")
            if not number.mark and not other.mark and not number.agrees(other):
                raise BenchError(
                    f"{here}: {about} is {other.value} and {number.value}. Mark one suspect or both disputed, and say why."
                )
        cells[number.cell].append((line, number))
