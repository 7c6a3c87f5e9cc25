from __future__ import annotations

import io

import pytest
from rich.console import Console

from engine import progress
from engine.progress import Reporter, duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "under 1 s"), (0.8, "1 s"), (59.4, "59 s"), (59.6, "1 min"), (61, "1 min 1 s"), (200, "3 min 20 s"),
        (600, "10 min"), (659, "10 min"), (3600, "1 h 0 min"), (7500, "2 h 5 min"),
    ],
)  # fmt: skip
def test_durations_read_well(seconds, text):
    assert duration(seconds) == text


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_without_a_terminal_lines_come_at_most_every_ten_seconds_and_at_milestones(clock):
    out = io.StringIO()
    reporter = Reporter(Console(file=out, width=40))
    reporter.jobs = 12
    with reporter.stage("pretrain of aimclr[nnm.topk=2] on x", "x"):
        for step in range(1, 41):
            clock[0] += 1
            reporter.update(step, 40, f"epoch {step // 4}/10, loss 1.000", milestone=step % 4 == 0)
    assert out.getvalue().splitlines() == [
        f"[ 1/12] pretrain of aimclr[nnm.topk=2] on x: epoch {epoch}/10, loss 1.000{left}"
        for epoch, left in ((3, ", 28 s left"), (6, ", 16 s left"), (9, ", 4 s left"))
    ]


def test_time_left_counts_from_where_a_resumed_run_begins(clock):
    out = io.StringIO()
    reporter = Reporter(Console(file=out, width=200))
    reporter.jobs = 1
    with reporter.stage("x", "x"):
        reporter.update(90, 100, "first")
        clock[0] += 20
        reporter.update(92, 100, "second")
    assert out.getvalue() == "[1/1] x: second, 1 min 20 s left\n"


def test_a_terminal_shows_a_bar_that_goes_away():
    out = io.StringIO()
    reporter = Reporter(Console(file=out, width=120, force_terminal=True))
    reporter.jobs = 1
    with reporter.stage("long", "pretrain of tiny[a=1]"):
        reporter.update(1, 4, "epoch 1/4, loss 2.000")
        reporter.update(2, 4, "epoch 2/4, loss 1.000")
        reporter.say("[a line] above")
    shown = out.getvalue()
    assert "[1/1] pretrain of tiny[a=1]" in shown
    assert "━" in shown
    assert "[a line] above" in shown
    assert shown.rstrip().endswith("\x1b[2K")  # the bar's line is erased
