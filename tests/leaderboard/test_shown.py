"""Cells with changed settings: where they are left out, and when they are shown."""

from __future__ import annotations

import pandas as pd
import pytest
from rich.console import Console

from leaderboard import comparison_report
from leaderboard.build import write
from leaderboard.cells import aggregate
from leaderboard.collect import collect
from leaderboard.shown import shown

CHANGED = (
    ("aimclr[d3m=false]", "knn", {}),
    ("aimclr", "knn[k=5]", {}),
    ("aimclr", "knn", {"encoder": "stgcn[width=8]"}),
)


@pytest.fixture
def keys(fake) -> list[str]:
    """Keys of three changed runs beside a reference, two methods, and one on clips of another length."""
    for method in ("random", "aimclr", "hiclr"):
        fake.evaluate(method)
    fake.evaluate("aimclr", dataset="synthetic[frames=16]")
    return [fake.evaluate(method, protocol, **more).name for method, protocol, more in CHANGED]


def test_only_changes_of_method_protocol_and_encoder_are_left_out(fake, keys) -> None:
    cells = aggregate(collect(fake.folder))
    kept, line = shown(cells)
    assert [cell.method for cell in kept] == ["aimclr", "hiclr", "random", "aimclr"]
    assert line == "3 cells with changed settings, NAME[...], left out; --changed shows them."
    assert shown(cells, changed=True) == (cells, "")


@pytest.mark.parametrize("number", range(3))
def test_what_the_command_asks_for_is_kept(fake, keys, number: int) -> None:
    kept, line = shown(aggregate(collect(fake.folder)), asked={keys[number]})
    changed = [(cell.method, cell.protocol, cell.encoder) for cell in kept if cell.changed]
    method, protocol, more = CHANGED[number]
    assert changed == [(method, protocol, more.get("encoder", "stgcn"))]
    assert line.startswith("2 cells")


def printed(shown: object) -> str:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(shown)
    return capture.get()


def test_tables_leave_them_out_and_say_so_but_the_csv_has_them(fake, keys) -> None:
    text = printed(write(fake.folder, figures=False))
    assert not any(change in text for change in ("d3m", "k=5", "width=8"))
    for path in (fake.folder / "leaderboard.md", fake.folder / "leaderboard.html", fake.folder / "page" / "index.html"):
        content = path.read_text()
        assert "d3m" not in content
        assert "3 cells with changed settings" in content
    assert pd.read_csv(fake.folder / "leaderboard.csv").method.str.contains("d3m").sum() == 1
    assert all((fake.folder / "page" / "records" / f"{key}.js").is_file() for key in keys)
    assert "d3m" in printed(write(fake.folder, figures=False, asked={keys[0]}))
    assert "d3m" in printed(write(fake.folder, figures=False, changed=True))


def test_nothing_but_changed_rows_is_no_error(fake) -> None:
    fake.evaluate("aimclr[d3m=false]")
    assert "1 cell with changed settings" in printed(write(fake.folder))


def test_they_are_not_compared(fake, keys) -> None:
    assert "d3m" not in printed(comparison_report.write(fake.folder, figures=False))
    assert "d3m" in printed(comparison_report.write(fake.folder, figures=False, changed=True))
