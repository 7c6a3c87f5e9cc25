"""What a run says is in its log, which no other process writes to, which does not grow, and which stops nothing."""

from __future__ import annotations

import io
import os
import re
import subprocess
import time
from pathlib import Path

import pytest
from rich.console import Console

from engine import logs, progress
from engine.progress import Reporter
from tests.engine.test_companions import RUN

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} (INFO   |WARNING|ERROR  ) (.*)")


def written(results: Path) -> list[tuple[str, str]]:
    (path,) = results.glob("logs/*")
    found = [LINE.fullmatch(line) for line in path.read_text(encoding="utf-8").splitlines() if line[0] != " "]
    assert all(found)
    return [(line[1].strip(), line[2]) for line in found if line]


def test_all_that_is_said_is_there_with_its_time_and_weight(tmp_path: Path) -> None:
    reporter = Reporter(Console(file=io.StringIO()))
    reporter.log = logs.begin(tmp_path, ("--set", "a.b=[1, 2]"), pytest.fail)
    reporter.say("plain [b]and[/b] 100 % {simple}")
    reporter.say("odd", "yellow")
    reporter.say("x: FAILED\n  since\n2026-01-01T00:00:00+0000 ERROR   forged \ud800", "red")
    assert written(tmp_path) == [
        ("INFO", "run_bench.py --set 'a.b=[1, 2]'"),
        ("INFO", "plain [b]and[/b] 100 % {simple}"),
        ("WARNING", "odd"),
        ("ERROR", "x: FAILED"),
    ]
    (path,) = tmp_path.glob("logs/*")
    assert re.fullmatch(rf"\d{{8}}-\d{{6}}-[A-Za-z0-9.-]+-{os.getpid()}\.log", path.name)


@pytest.mark.parametrize("is_terminal", [True, False])
def test_progress_is_there_whether_or_not_bars_show_it(tmp_path: Path, monkeypatch, is_terminal: bool) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    reporter = Reporter(Console(file=io.StringIO(), width=80, force_terminal=is_terminal))
    reporter.jobs = 1
    reporter.log = logs.begin(tmp_path, (), pytest.fail)
    with reporter.stage("knn of x", "x"):
        for step in range(25):
            now[0] = float(step)
            reporter.update(step, 25, f"step {step}")
    lines = [text for _, text in written(tmp_path)][1:]
    assert [text.partition(",")[0] for text in lines] == [
        "[1/1] knn of x: begins",
        "[1/1] knn of x: step 10",
        "[1/1] knn of x: step 20",
    ]


def test_it_rotates(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(logs, "SIZE", 2000)
    write = logs.begin(tmp_path, (), pytest.fail)
    for number in range(500):
        write(f"line {number}", None)
    found = sorted(tmp_path.glob("logs/*"), key=lambda path: path.name)
    assert [path.name.partition(".log")[2] for path in found] == ["", ".1", ".2", ".3"]
    assert all(path.stat().st_size <= 2000 for path in found)
    kept = "".join(path.read_text() for path in reversed(found))
    numbers = [int(text) for text in re.findall(r"line (\d+)\n", kept)]
    assert numbers == list(range(numbers[0], 500))
    assert numbers[0] > 300


def test_one_that_cannot_be_written_stops_nothing_and_goes_on_later(tmp_path: Path, monkeypatch) -> None:
    told: list[str] = []
    (tmp_path / "logs").write_text("a file where the folder should be")
    write = logs.begin(tmp_path, (), told.append)
    for _ in range(5):
        write("lost", None)
    assert len(told) == 1
    assert "the run goes on without it" in told[0]
    (tmp_path / "logs").unlink()
    (tmp_path / "logs").mkdir()
    write("found", None)
    assert written(tmp_path) == [("INFO", "found")]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
def test_a_full_disk_stops_nothing(tmp_path: Path, monkeypatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(logs._Handler, "_open", lambda self: Path("/dev/full").open("w"))  # noqa: SIM115
    write = logs.begin(tmp_path, (), told.append)
    for _ in range(5):
        write("lost", None)
    assert len(told) == 1
    assert "No space left on device" in told[0]


def test_old_ones_go_and_those_of_runs_that_may_go_on_stay(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(logs, "KEPT", 3)
    now = time.time()
    folder = tmp_path / "logs"
    folder.mkdir()
    for days in (0, 0.5, 2, 3, 40):
        path = folder / f"{days}.log"
        path.touch()
        os.utime(path, (now - days * 86400, now - days * 86400))
    assert [path.name for path in logs.surplus(tmp_path, now)] == ["3.log", "40.log"]
    assert [path.name for path in logs.old(tmp_path, now)] == ["40.log"]
    logs.begin(tmp_path, (), pytest.fail)
    assert len([*folder.iterdir()]) == 4
    monkeypatch.setattr(logs, "KEPT", 1)
    assert [path.name for path in logs.surplus(tmp_path, now)] == ["2.log"]


@pytest.mark.slow
def test_a_command_has_one_log_whatever_helps_it(tmp_path: Path) -> None:
    """The lines of companions are in that of the command; --plan has none."""
    subprocess.run([*RUN, "--plan"], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
    assert not (tmp_path / "results").exists()
    subprocess.run([*RUN, "--jobs", "2"], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
    lines = [text for _, text in written(tmp_path / "results")]
    done = {path.parent.name for path in (tmp_path / "results").glob("runs/*/*/*/record.json")}
    assert lines[0].startswith("run_bench.py ")
    assert lines[0].endswith("--jobs 2")
    assert sum(": begins" in line for line in lines) == len(done)
