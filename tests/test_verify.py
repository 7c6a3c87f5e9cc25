"""What ``verify`` makes of several files, of tolerances and of folders; the repetition itself is in ``test_entries.py``."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from engine.commands.verify import verify
from engine.config import BenchError
from engine.records import Record
from engine.repeat import Outcome
from leaderboard.collect import TOLERANCE
from leaderboard.entries import is_verified, load, parse, repetition, submitted
from tests.leaderboard.conftest import FakeResults
from tests.test_entries import call, rekeyed, write

Rerun = Callable[..., list[Outcome]]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An entry of fake records, which no plug-in of the suite would have left."""
    monkeypatch.setattr("engine.rebuild.rebuild", lambda *given: {})
    theirs = FakeResults(tmp_path / "theirs")
    evaluation = theirs.evaluate("aimclr", "linear", accuracy=0.9, metrics={"ece": 10.0})
    return theirs.submit(evaluation, tmp_path / "entries" / "entry.json")


def off_by(points: float) -> Rerun:
    """A repetition on another machine, where one metric comes out so far away."""

    def again(records: Mapping[str, Record], *given: Any, **options: Any) -> list[Outcome]:
        outcomes = []
        for record in records.values():
            shift = points if "ece" in record.metrics else 0.0
            metrics = {name: value + shift * (name == "ece") for name, value in record.metrics.items()}
            outcomes.append(Outcome(record, record.model_copy(update={"metrics": metrics}), None, same_machine=False))
        return outcomes

    return again


@pytest.mark.parametrize(
    ("tolerance", "points", "code", "verified"),
    [(3, 2.5, 0, True), (3, 3.5, 1, False), (100, 20.0, 0, False), (100, 0.5, 0, False), (3, float("nan"), 1, False)],
)
def test_a_wide_tolerance_confirms_and_does_not_verify(
    file: Path, tmp_path: Path, monkeypatch: Any, tolerance: float, points: float, code: int, verified: bool
) -> None:
    monkeypatch.setattr("engine.commands.verify.rerun", off_by(points))
    output = call("verify", file, "--tolerance", tolerance, "--results", tmp_path, code=code)
    assert ("confirmed within 100 points; only up to 3 it counts as verified" in output) == (tolerance == 100)
    entry = parse(file)
    assert is_verified(tmp_path, entry) == verified
    noted = repetition(tmp_path, entry)
    assert noted is not None
    assert (noted.confirmed, noted.tolerance) == (code == 0, tolerance)
    assert noted.difference == (points if points == points else 100)
    (cell,) = submitted(load(file.parent)[0], tmp_path).cells
    assert cell.method == f"aimclr ({'verified' if verified else 'submitted'})"


def test_the_tolerance_that_counts_is_the_one_that_verify_has_by_itself() -> None:
    assert {option.name: option.default for option in verify.params}["tolerance"] == TOLERANCE


def test_one_file_that_fails_keeps_no_other_from_its_turn(file: Path, tmp_path: Path, monkeypatch: Any) -> None:
    content = json.loads(file.read_bytes())
    absent = write(tmp_path / "absent.json", rekeyed(content, seed=1), sign=True)
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    other = write(tmp_path / "other.json", rekeyed(content, seed=2), sign=True)

    def again(records: Mapping[str, Record], *given: Any, **options: Any) -> list[Outcome]:
        if any(record.identity["seed"] == 1 for record in records.values()):
            raise BenchError("Its data are missing.")
        return off_by(0.5)(records)

    monkeypatch.setattr("engine.commands.verify.rerun", again)
    output = call("verify", broken, absent, file, other, "--results", tmp_path, code=2)
    assert "Error: broken.json is no entry" in output
    assert "Error: absent.json is consistent, but was not repeated. Its data are missing." in output
    assert "entry.json: confirmed, noted in" in output
    assert "other.json: confirmed, noted in" in output
    assert output.index("broken.json is no entry") < output.index("repeating")
    assert call("verify", broken, file, "--no-rerun", code=2).count("whole and consistent") == 1
    call("verify", file, other, "--results", tmp_path)
    monkeypatch.setattr("engine.commands.verify.rerun", off_by(50))
    assert call("verify", file, other, "--results", tmp_path, code=1).count("NOT confirmed") == 2


def test_one_folder_cannot_be_fresh_for_several_files(file: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("engine.commands.verify.rerun", lambda *given, **options: pytest.fail("it ran"))
    output = call("verify", file, file, "--into", tmp_path / "fresh", code=2)
    assert "--into is a fresh folder for one entry: name one file" in output


@pytest.mark.parametrize("seconds", [1e300, -1e300])
def test_times_that_cannot_be_are_not_summed(file: Path, tmp_path: Path, monkeypatch: Any, seconds: float) -> None:
    monkeypatch.setattr("engine.commands.verify.rerun", off_by(0))
    content = json.loads(file.read_bytes())
    for part in content["parts"]:
        part["provenance"] = {"seconds": seconds * 1e8}
    output = call("verify", write(tmp_path / "e.json", content, sign=True), "--results", tmp_path)
    assert "how long they took is not known" in output


@pytest.mark.parametrize(
    "after", [{"top1": 50.5, "ece": float("nan")}, {"top1": 50.5, "ece": float("inf")}, {"top1": 50.0}]
)
def test_what_is_missing_or_no_number_differs_infinitely(file: Path, after: dict[str, float]) -> None:
    record = parse(file).parts[-1].record
    before, changed = (
        record.model_copy(update={"metrics": metrics}) for metrics in ({"top1": 50.0, "ece": 1.0}, after)
    )
    for pair in ((before, changed), (changed, before)):
        outcome = Outcome(*pair, same_content=None, same_machine=False)
        assert outcome.difference == float("inf")
        assert not outcome.accepted(100)
