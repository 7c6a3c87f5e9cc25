from __future__ import annotations

import csv
import io
import re
from collections import Counter
from pathlib import Path

import pytest

from engine.config import BenchError
from leaderboard.published import COLUMNS, Number, load

ROW = {
    "method": "AimCLR", "encoder": "ST-GCN", "year": "2022", "params": "", "dataset": "ntu60", "split": "xsub",
    "stream": "joint", "protocol": "linear", "pretrained_on": "", "variant": "", "metric": "top1", "value": "74.3",
    "source": "A", "place": "Table 1", "evidence": "quoted", "mark": "", "note": "",
}  # fmt: skip


@pytest.fixture
def written(tmp_path: Path):
    """Rows that differ from ``ROW``, as a file."""

    def write(*changes: dict[str, str]) -> Path:
        path = tmp_path / "numbers.csv"
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(ROW | change for change in changes)
        return path

    return write


def only(numbers: tuple[Number, ...], **wanted: str) -> list[Number]:
    return [number for number in numbers if all(getattr(number, name) == value for name, value in wanted.items())]


def test_values_are_read_with_their_precision(written) -> None:
    (number,) = load(written({"value": "74.30", "params": "0.85", "year": ""}))
    assert (number.value, number.decimals, number.params, number.year) == (74.3, 2, 0.85, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value": "100.1"}, "line 2: value is '100.1'"),
        ({"value": "-0.1"}, "line 2: value is '-0.1'"),
        ({"value": "nan"}, "line 2: value is 'nan'"),
        ({"protocol": "linear:mine"}, "line 2: protocol is 'linear:mine'"),
        ({"stream": "joints"}, "line 2: stream is 'joints'"),
        ({"dataset": "NTU60"}, "line 2: dataset is 'NTU60'"),
        ({"metric": "accuracy"}, "line 2: metric is 'accuracy'"),
        ({"source": ""}, "line 2: source is ''"),
        ({"mark": "wrong"}, "line 2: mark is 'wrong'"),
    ],
)
def test_bad_values_are_refused_by_line_and_column(written, change, message) -> None:
    with pytest.raises(BenchError, match=re.escape(f"numbers.csv, {message}")):
        load(written(change))


def test_numbers_that_disagree_are_refused_unless_marked(written) -> None:
    other = {"value": "74.9", "source": "B"}
    with pytest.raises(BenchError, match=r"lines 2 and 3: AimCLR ntu60 xsub joint linear top1 is 74\.3 and 74\.9"):
        load(written({}, other))
    assert len(load(written({}, other | {"mark": "suspect", "note": "a typing error"}))) == 2


def test_rounding_and_another_experiment_are_no_disagreement(written) -> None:
    assert len(load(written({}, {"value": "74.34", "source": "B"}))) == 2
    assert len(load(written({}, {"value": "61.0", "source": "B", "variant": "re-run"}))) == 2
    with pytest.raises(BenchError, match="disputed"):
        load(written({"value": "74.30"}, {"value": "74.34", "source": "B"}))


def test_the_same_number_twice_from_one_place_is_refused(written) -> None:
    with pytest.raises(BenchError, match="stands twice in A Table 1"):
        load(written({}, {}))


def test_other_columns_are_refused(tmp_path) -> None:
    path = tmp_path / "numbers.csv"
    path.write_text("method,value\nAimCLR,74.3\n")
    with pytest.raises(BenchError, match=r"expected method, encoder, year"):
        load(path)
    path.write_text(",".join(COLUMNS) + "\n" + ",".join(ROW.values()) + ",more\n")
    with pytest.raises(BenchError, match=r"line 2: 17 values expected"):
        load(path)


def test_what_the_project_ships_is_sound() -> None:
    numbers = load()
    assert len(numbers) > 1700
    assert all(number.note for number in numbers if number.mark)
    (one,) = only(numbers, method="ActCLR", source="ActCLR CVPR23", place="Table 1", stream="bone", split="xset")
    assert (one.value, one.dataset, one.evidence) == (68.2, "ntu120", "own")


def test_no_collected_number_is_lost_and_none_invented(shared) -> None:
    with (shared / "spec" / "published_results.csv").open(newline="") as file:
        collected = Counter(
            (row["method"], float(row["value"])) for row in csv.DictReader(file) if row["metric"] != "hours"
        )
    ours = Counter((number.method, number.value) for number in load())
    assert not collected - ours
    assert {method for method, _ in ours - collected} == {"AimCLR", "ActCLR", "HiCLR"}  # logs, names of checkpoints


TABLES = {"ACT-T1": "Table 1", "ACT-T2": "Table 2", "ACT-T3": "Table 3", "ACT-T4": "Table 4", "ACT-T6": "Table 6"}


@pytest.mark.parametrize("table", TABLES)
def test_numbers_are_those_of_the_specification_of_actclr(shared, table) -> None:
    text = (shared / "spec" / "actclr.md").read_text()
    block = re.search(rf"# id={table}\b[^\n]*\n(.*?)```", text, re.DOTALL)
    assert block
    rows = list(csv.DictReader(io.StringIO(block.group(1))))
    expected = Counter(
        float(value)
        for row in rows
        if row["model"] != "model"
        for name, value in row.items()
        if value and name not in ("model", "stream", "group", "architecture", "reproduced", "params_M")
    )
    assert expected == Counter(number.value for number in only(load(), source="ActCLR CVPR23", place=TABLES[table]))
