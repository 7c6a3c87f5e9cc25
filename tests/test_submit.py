"""What ``submit`` leaves behind: an entry that others accept, or nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.config import BenchError
from leaderboard.entries import make, parse
from tests.leaderboard.conftest import FakeResults
from tests.test_entries import call


@pytest.fixture
def evaluation(tmp_path: Path) -> Path:
    """A finished evaluation with all stages behind it."""
    fake = FakeResults(tmp_path / "results")
    folder = fake.evaluate(
        "aimclr", "linear", accuracy=0.8, facts={"confusion": [[160, 40], [0, 0]], "recall": [80.0, 0.0]}
    )
    for path in fake.folder.glob("runs/*/*/*/stage.json"):
        if not (record := path.with_name("record.json")).exists():
            record.write_text(path.read_text())
    return folder


def submit(evaluation: Path, tmp_path: Path, code: int = 0) -> str:
    return call(
        "submit", evaluation.name, "--results", tmp_path / "results", "--entries", tmp_path / "entries", code=code
    )


def test_what_would_be_refused_is_not_written(evaluation: Path, tmp_path: Path) -> None:
    (evaluation / "provenance.json").write_text(json.dumps({"device": "x" * 3000}))
    assert "a text of 3,000 characters; at most 2,000 are expected" in submit(evaluation, tmp_path, code=2)
    assert not (tmp_path / "entries").exists()
    (evaluation / "provenance.json").write_text(json.dumps({"device": "x"}))
    submit(evaluation, tmp_path)
    (file,) = (tmp_path / "entries").iterdir()
    assert parse(file).file_name == file.name


def test_too_many_evaluations_are_told_without_options_that_there_are_not(evaluation: Path, tmp_path: Path) -> None:
    submit(evaluation, tmp_path)
    (file,) = (tmp_path / "entries").iterdir()
    parts = parse(file).parts
    with pytest.raises(
        BenchError, match=r"^An entry takes fewer at once: evaluations is .* at most 200 items .* not 201"
    ):
        make(parts, [f"{number:016x}" for number in range(201)], "", "")
    with pytest.raises(BenchError, match=r"^An entry takes fewer at once: parts is .* at most 1000 items .* not 1002"):
        make(parts * 334, [evaluation.name], "", "")
    with pytest.raises(BenchError, match=r"^--note is "):
        make(parts, [evaluation.name], "", "two\nlines")
