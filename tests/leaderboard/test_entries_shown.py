"""What the leaderboard accepts of entries, and what it says of those that it leaves out; on fake records."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.config import BenchError, digest
from leaderboard import entries
from leaderboard.build import write as write_leaderboard
from leaderboard.cells import Cell
from leaderboard.entries import LARGEST, load, parse, receipt, submitted
from tests.leaderboard.conftest import FakeResults
from tests.test_entries import rekeyed, write


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """An entry."""
    theirs = FakeResults(tmp_path / "theirs")
    return theirs.submit(theirs.evaluate("aimclr", "linear", accuracy=0.9), tmp_path / "entries" / "entry.json")


def last(content: dict[str, Any]) -> dict[str, Any]:
    record: dict[str, Any] = content["parts"][-1]["record"]
    return record


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"params": "many"}, "facts.params is 'many'. Input should be a valid integer"),
        ({"feature_dim": 1.5}, "facts.feature_dim is '1.5'. Input should be a valid integer"),
        ({"pretrain_epochs": 2**63}, "facts.pretrain_epochs is"),
        ({"conditions": 5}, "facts.conditions is '5'. Input should be a valid list"),
        ({"recall": ["a"]}, "facts.recall.0 is 'a'. Input should be a valid number"),
        ({"test_clips": "x", "draws": 10**15}, "facts.test_clips is 'x'. Input should be a valid integer"),
        ({"draws": 10**15}, "facts.draws is '1000000000000000'. Input should be less than or equal to 1000"),
        ({"draws": 0}, "facts.draws is '0'. Input should be greater than or equal to 1"),
        ({"headline": 1}, "facts.headline is '1'. Input should be a valid string"),
        ({"headline": "nonsense"}, "its headline metric is None"),
        ({"confusion": [[10**400]]}, "is no entry: 10000000000000000000 is too large"),
        ({"confusion": [[-1]]}, "facts.confusion.0.0 is '-1'. Input should be greater than or equal to 0"),
        ({"confusion": [[1, 1], [1]]}, "confusion should be a square of counts"),
        ({"confusion": []}, "facts lack confusion or recall, which say what the accuracy is made of"),
        ({"recall": []}, "facts lack confusion or recall, which say what the accuracy is made of"),
        ({"headline": "miou"}, "facts lack background, test_recordings, which tables of segmentation state"),
        (
            {"headline": "miou", "background": 5.0, "test_recordings": 2, "window": 9, "stride": 3},
            "facts lack pooling, subsample, which tables of segmentation state",
        ),
    ],
)
def test_facts_that_the_leaderboard_reads_are_checked(file: Path, tmp_path: Path, facts: Any, message: str) -> None:
    content = json.loads(file.read_bytes())
    last(content)["facts"] |= facts
    last(content)["metrics"]["miou"] = 50.0
    with pytest.raises(BenchError, match=re.escape(message)):
        parse(write(tmp_path / "e.json", content, sign=True))


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ({"top5": 120.0}, "top5 is 120.0, expected percent, 0 to 100"),
        ({"ece": -5.0}, "ece is -5.0, expected percent, 0 to 100"),
        ({"top5": 80.0}, "top5 is 80.0, less than top1, 90.0"),
    ],
)
def test_metrics_are_possible(file: Path, tmp_path: Path, metrics: dict[str, float], message: str) -> None:
    content = json.loads(file.read_bytes())
    last(content)["metrics"] |= metrics
    with pytest.raises(BenchError, match=re.escape(message)):
        parse(write(tmp_path / "e.json", content, sign=True))


def test_recalls_are_those_of_the_confusion_matrix(file: Path, tmp_path: Path) -> None:
    """A class without test samples has no part in their mean."""
    content = json.loads(file.read_bytes())
    made_of = {"confusion": [[90, 10, 0], [0, 0, 0], [10, 0, 90]], "recall": [90.0, 0.0, 90.0]}
    last(content)["facts"] |= made_of
    last(content)["metrics"]["mean_class"] = 90.0
    parse(write(tmp_path / "e.json", content, sign=True))
    for recall, message in (([99.0, 0.0, 81.0], "recall.0 is 99.0, expected 90.0"), ([90.0], "number of recalls is 1")):
        last(content)["facts"]["recall"] = recall
        with pytest.raises(BenchError, match=re.escape(message)):
            parse(write(tmp_path / "e.json", content, sign=True))


def test_segmentation_that_does_not_say_so_is_asked_for_its_facts_too(file: Path, tmp_path: Path) -> None:
    content = json.loads(file.read_bytes())
    last(content)["labels"]["protocol"] = "segmentation:safp"
    with pytest.raises(BenchError, match="facts lack background, test_recordings"):
        parse(write(tmp_path / "e.json", content, sign=True))


@pytest.mark.parametrize("version", ["x", None, 1.5, True, []])
def test_a_version_is_a_whole_number(file: Path, tmp_path: Path, version: Any) -> None:
    content = rekeyed(json.loads(file.read_bytes()), version=version)
    with pytest.raises(BenchError, match=r"version in the identity is .*, expected a whole number"):
        parse(write(tmp_path / "e.json", content, sign=True))


def test_a_kind_is_one_that_the_suite_knows(file: Path, tmp_path: Path) -> None:
    """The name of a stage's folder begins with it."""
    content = json.loads(file.read_bytes())
    last(content)["kind"] = "x/evaluate"
    with pytest.raises(BenchError, match="kind is 'x/evaluate', expected one of pretrain, features, evaluate, fuse"):
        parse(write(tmp_path / "e.json", rekeyed(content, kind="x/evaluate"), sign=True))


def test_what_no_check_foresaw_is_one_line_and_no_end_of_the_report(fake, file: Path) -> None:
    """A thousand pre-trainings, each from the one before, are more than the digest of their chain can go through."""
    content = json.loads(file.read_bytes())
    chain, before = [], []
    for number in range(900):
        part = copy.deepcopy(content["parts"][0])
        part["record"]["identity"] |= {"number": number, "parents": before}
        part["record"] |= {"key": digest(part["record"]["identity"]), "parents": before, "curve": []}
        part["provenance"] = {}
        before = [part["record"]["key"]]
        chain.append(part)
    last(content)["parents"] = before
    content["parts"] = [*chain, content["parts"][-1]]
    content = rekeyed(content, parents=before)
    content["evaluations"] = [last(content)["key"]]
    parse(write(file.with_name("deep.json"), content, sign=True))
    found, (problem,) = load(file.parent)
    assert list(found) == [file]
    assert problem.startswith("deep.json cannot be shown: RecursionError: maximum recursion depth exceeded")
    write_leaderboard(fake.folder, figures=False, others=submitted(found, fake.folder))
    assert "aimclr (submitted)" in (fake.folder / "leaderboard.md").read_text()


def test_of_entries_that_cannot_be_shown_together_the_first_is_kept(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(file.with_name("other.json"), rekeyed(json.loads(file.read_bytes()), seed=1), sign=True)

    def alone(cells: list[Cell]) -> None:
        if sum(len(cell.runs) for cell in cells) > 1:
            raise KeyError("together")

    assert [len(one) for one in load(file.parent)] == [2, 0]
    monkeypatch.setattr(entries, "tables", alone)
    found, problems = load(file.parent)
    assert list(found) == [file]
    assert problems == ["other.json cannot be shown: KeyError: 'together'"]


def test_the_page_says_within_how_many_points_an_entry_was_confirmed(fake, file: Path) -> None:
    entry = parse(file)
    noted = {"checksum": entry.checksum, "confirmed": True, "identical": False, "difference": 2.5, "tolerance": 3.0}
    for tolerance, verified in ((3.0, True), (100.0, False)):
        path = receipt(fake.folder, entry)
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(noted | {"tolerance": tolerance}))
        write_leaderboard(fake.folder, figures=False, others=submitted({file: entry}, fake.folder))
        script = (fake.folder / "page" / "records" / f"submitted-{entry.evaluations[0]}.js").read_text()
        own = json.loads(script[script.index(",") + 1 : script.rindex(")")])["submission"]
        assert own["verified"] is verified
        assert own["repetition"] == noted | {"tolerance": tolerance}
    script = (fake.folder / "page" / "record.js").read_text()
    assert "confirmed within ${tolerance} points" in script


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b" " * (LARGEST + 1), "larger than 4 MiB"),
        (b"[" * 100_000, "nested too deeply|is no entry"),
        (b"\xff\xfe", "is no entry"),
        (b"[]", "the file is"),
        (b'{"format": 2}', "format is 2, this suite knows 1"),
        (b'{"by": "a", "by": "b"}', "'by' stands twice"),
        (b'{"by": NaN}', "NaN is no number"),
        (b'{"by": "' + b"a" * 3000 + b'"}', "a text of 3,000 characters"),
        (b'{"n": 1' + b"0" * 5000 + b"}", "is no entry"),
        (b'{"n": 1' + b"0" * 400 + b"}", "is no entry: 10000000000000000000 is too large"),
        (b'{"n": -1e999}', "is no entry: -1e999 is too large"),
    ],
)
def test_hostile_files_are_refused(tmp_path: Path, text: bytes, message: str) -> None:
    (tmp_path / "e.json").write_bytes(text)
    with pytest.raises(BenchError, match=message):
        parse(tmp_path / "e.json")


@settings(max_examples=40)
@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_read(tmp_path_factory: pytest.TempPathFactory, text: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "noise.json"
    path.write_bytes(text)
    with pytest.raises(BenchError):
        parse(path)


def test_nesting_is_refused_however_deep(tmp_path: Path) -> None:
    for depth in range(150, 1200, 10):
        (tmp_path / "e.json").write_text(f'{{"provenance": {"[" * depth}{"]" * depth}}}')
        with pytest.raises(BenchError, match=r"nested too deeply|recursion limit exceeded|Field required"):
            parse(tmp_path / "e.json")
