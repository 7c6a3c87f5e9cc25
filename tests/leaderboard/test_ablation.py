"""Ablations: differences against a slow twin, published numbers beside, and every format."""

from __future__ import annotations

import math
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from engine.ablation import declared
from leaderboard import render
from leaderboard.ablation import AblationTable, Variant, fill
from leaderboard.ablation_board import COLUMNS, LEGEND, board, frame, overview, write
from leaderboard.cells import aggregate
from leaderboard.collect import collect
from leaderboard.differences import difference
from leaderboard.published import load

T_975 = {1: 12.706205, 2: 4.302653, 199: 1.971957}
"""Student's quantile by degrees of freedom, from a printed table."""


def shares(*seeds: int, samples: int = 200, base: float = 0.7) -> list[np.ndarray]:
    return [np.random.default_rng(seed).random(samples) < base + 0.01 * seed for seed in seeds]


def twin(one: list[np.ndarray], other: list[np.ndarray]) -> tuple[float, float]:
    """Difference and half of its interval, in points, by loops."""
    seeds, samples = len(one), len(one[0])
    gaps = [100 * (sum(map(bool, a)) - sum(map(bool, b))) / samples for a, b in zip(one, other, strict=True)]
    mean = sum(gaps) / seeds
    each = [
        100 * sum(float(a[i]) - float(b[i]) for a, b in zip(one, other, strict=True)) / seeds for i in range(samples)
    ]
    spread = sum((x - sum(each) / samples) ** 2 for x in each) / (samples - 1)
    half = T_975[samples - 1] ** 2 * spread / samples
    if seeds > 1:
        half += T_975[seeds - 1] ** 2 * sum((gap - mean) ** 2 for gap in gaps) / (seeds - 1) / seeds
    return mean, math.sqrt(half)


def evaluated(fake, method: str, right, protocol: str = "knn", first: int = 0, **more) -> frozenset[str]:
    folders = [fake.evaluate(method, protocol, seed, each, **more) for seed, each in enumerate(right, first)]
    return frozenset(folder.name for folder in folders)


def table(*rows: tuple[str, frozenset[str]], name: str = "aimclr.components", full: int = 0, **more) -> AblationTable:
    variants = tuple(Variant(row, "" if i == full else f"k={i}", keys) for i, (row, keys) in enumerate(rows))
    return AblationTable(name, name.partition(".")[0], variants, full, **more)


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_difference_is_what_loops_say(fake, seeds: int) -> None:
    one, other = shares(*range(seeds)), shares(*range(10, 10 + seeds), base=0.55)
    evaluated(fake, "aimclr[d3m=false]", one)
    evaluated(fake, "aimclr", other)
    cells = {cell.method: cell for cell in aggregate(collect(fake.folder))}
    found = difference(cells["aimclr[d3m=false]"], cells["aimclr"])
    mean, half = twin(one, other)
    assert found is not None
    assert found.seeds == seeds
    assert (found.mean, found.high - found.mean, found.mean - found.low) == pytest.approx((mean, half, half), abs=1e-4)
    assert found.is_noise == (abs(mean) <= half)


def test_only_common_seeds_count(fake) -> None:
    one, other = shares(1, 2, 3), shares(11, 12, 13)
    evaluated(fake, "aimclr[d3m=false]", one)
    evaluated(fake, "aimclr", other, first=1)
    cells = {cell.method: cell for cell in aggregate(collect(fake.folder))}
    found = difference(cells["aimclr[d3m=false]"], cells["aimclr"])
    assert found is not None
    assert (found.seeds, found.mean) == (2, pytest.approx(twin(one[1:], other[:2])[0]))


def test_without_scores_only_seeds_tell_a_spread(fake) -> None:
    one, other = shares(1, 2), shares(11, 12)
    for method, right in (("aimclr[d3m=false]", one), ("aimclr", other)):
        evaluated(fake, method, right, scores=False)
    cells = {cell.method: cell for cell in aggregate(collect(fake.folder))}
    found = difference(cells["aimclr[d3m=false]"], cells["aimclr"])
    gaps = [100 * (a.mean() - b.mean()) for a, b in zip(one, other, strict=True)]
    assert found is not None
    assert found.high - found.mean == pytest.approx(T_975[1] * np.std(gaps, ddof=1) / 2**0.5, rel=1e-5)


def test_one_pair_without_scores_tells_nothing(fake) -> None:
    keys = [
        evaluated(fake, name, shares(seed), scores=False) for seed, name in enumerate(("aimclr", "aimclr[d3m=false]"))
    ]
    (filled,) = fill(table(("full", keys[0]), ("without D3M", keys[1])), collect(fake.folder), ())
    gap = filled.lines[1][0].gap
    assert gap is not None
    assert math.isnan(gap.low)
    assert not gap.is_noise
    assert gap.mark == "unknown"
    assert board(filled).rows[1].entries[1].detail == "n=1"


def test_rows_beside_the_full_one(fake) -> None:
    base = shares(1)[0]
    worse = base & (np.arange(200) > 100)
    close = base.copy()
    close[np.flatnonzero(base)[:1]] = False
    keys = {
        "full": evaluated(fake, "aimclr", [base]) | evaluated(fake, "aimclr", [base], "linear"),
        "far": evaluated(fake, "aimclr[a=1]", [worse]) | evaluated(fake, "aimclr[a=1]", [worse], "linear"),
        "close": evaluated(fake, "aimclr[a=2]", [close]) | evaluated(fake, "aimclr[a=2]", [None], "linear"),
    }
    rows = [*keys.items(), ("the default", keys["full"]), ("to come", frozenset({"0" * 16}))]
    (filled,) = fill(table(*rows, common="train.epochs=1"), collect(fake.folder), ())
    shown = board(filled)
    assert shown.columns == ("KNN top-1", "KNN Δ", "Linear top-1", "Linear Δ")
    assert "train.epochs=1" in shown.title
    assert [row.name for row in shown.rows] == ["full", "far", "close", "the default", "to come"]
    texts = [[entry.text for entry in row.entries] for row in shown.rows]
    assert texts[0][1] == "full"
    assert texts[1][1] == texts[1][3] == f"{100 * (worse.mean() - base.mean()):+.1f}"
    assert texts[2][1:] == ["-0.5", "pending", "-"]
    assert texts[3][0] == texts[0][0]
    assert texts[3][1] == "same runs"
    assert texts[4] == ["not run yet", "-", "not run yet", "-"]
    assert [row.entries[1].mark for row in shown.rows] == ["", "single", "tied", "", ""]
    assert "Same runs" in shown.note


def test_other_runs_of_the_folder_are_left_out(fake) -> None:
    asked = evaluated(fake, "aimclr", shares(0))
    evaluated(fake, "aimclr", shares(1, 2), first=1)  # seeds not asked for
    evaluated(fake, "hiclr", shares(3))
    (filled,) = fill(table(("full", asked)), collect(fake.folder), ())
    cell = filled.lines[0][0].cell
    assert cell is not None
    assert [run.stage.labels.seed for run in cell.runs] == [0]


def test_places_are_tables_and_recipes_are_rows(fake) -> None:
    paper = evaluated(fake, "aimclr", shares(0)) | evaluated(fake, "aimclr", shares(0), stream="bone")
    released = evaluated(fake, "aimclr", shares(1), recipe="released")
    filled = fill(table(("paper", paper), ("released", released)), collect(fake.folder), ())
    assert [one.place.stream for one in filled] == ["bone", "joint"]
    assert filled[0].lines[1][0].cell is None
    assert filled[1].lines[1][0].gap is not None
    assert frame(filled).recipe.tolist() == ["paper", "", "paper", "released"]


def test_published_numbers_of_two_places_stand_in_rows_of_their_own(fake) -> None:
    rows = [
        (variant.name, evaluated(fake, f"igm[a={i}]", shares(i)))
        for i, variant in enumerate(declared()["igm.idempotency"].variants)
    ]
    (filled,) = fill(table(*rows, name="igm.idempotency", full=3), collect(fake.folder), load())
    found = frame([filled])
    printed = found[found.status == "reported"]
    assert sorted(set(printed.reported_on)) == sorted({one.place for one in filled.reported})
    assert len(printed) == sum(len(one.numbers) for one in filled.reported) > len(rows)
    assert printed["mean"].isna().all()
    assert found[found.status == "done"].reported.isna().all()
    assert len(found[found.status == "done"]) == len(rows)


def test_changed_protocols_share_a_column(fake) -> None:
    rows = [
        (name, evaluated(fake, "actclr", shares(i), f"linear{change}"))
        for i, (name, change) in enumerate((("whole", ""), ("actionlet", "[features.space=actionlet,lr=[0.1,0.2]]")))
    ]
    (filled,) = fill(table(*rows, name="actclr.f3"), collect(fake.folder), load())
    assert filled.protocols == ("linear",)
    assert all(line[0].cell for line in filled.lines)


def test_changes_of_every_part_of_a_fused_protocol_are_dropped(fake) -> None:
    rows = [
        (name, evaluated(fake, "actclr", shares(i), protocol))
        for i, (name, protocol) in enumerate(
            (("all", "linear weighted[b=2]"), ("some", "linear[a=[[1],[2]]] weighted[b=2]"))
        )
    ]
    (filled,) = fill(table(*rows, name="actclr.f3"), collect(fake.folder), load())
    assert filled.protocols == ("linear weighted",)


def test_published_numbers_and_their_differences(fake) -> None:
    names = [variant.name for variant in declared()["actclr.t9"].variants]
    rows = [
        (name, evaluated(fake, f"actclr[a={i}]", shares(i)) | evaluated(fake, f"actclr[a={i}]", shares(i), "linear"))
        for i, name in enumerate(names)
    ]
    (filled,) = fill(table(*rows, name="actclr.t9", full=1), collect(fake.folder), load())
    shown = board(filled)
    assert shown.columns == (
        "KNN reported, ntu60/xview joint", "KNN top-1", "KNN Δ", "Linear reported, ntu60/xview joint", "Linear top-1",
        "Linear Δ",
    )  # fmt: skip
    # Table 9 of ActCLR (actclr.md 10), and its differences by hand.
    assert [(row.entries[0].text, row.entries[0].detail) for row in shown.rows] == [
        ("76.38", "-1.66"), ("78.04", ""), ("76.02", "-2.02"), ("76.71", "-1.33"),
    ]  # fmt: skip
    assert [(row.entries[3].text, row.entries[3].detail) for row in shown.rows] == [
        ("85.69", "-1.10"), ("86.79", ""), ("85.25", "-1.54"), ("85.92", "-0.87"),
    ]  # fmt: skip
    assert shown.rows[1].name == "offline w/ SAFP (full)"
    assert "ActCLR CVPR23, Table 9 (ablation)" in shown.note
    found = frame([filled])
    assert found[(found.row == "w/o SAFP") & (found.status == "reported")].reported_delta.round(2).tolist() == [
        -1.66,
        -1.10,
    ]


def test_every_published_ablation_has_its_row() -> None:
    """Names of rows are those of the published numbers, so that none is lost by a letter."""
    tables = declared()
    for place, name in (("Table 7", "T7"), ("Table 8", "T8"), ("Table 9", "T9")):
        printed = {n.variant for n in load() if n.source == "ActCLR CVPR23" and n.place.startswith(place)}
        assert printed == {variant.name for variant in tables[f"actclr.{name.lower()}"].variants}
    printed = {n.variant for n in load() if n.source == "HiCLR AAAI23" and "arrangement" in n.place}
    assert printed == {variant.name for variant in tables["hiclr.arrangement"].variants}


def printed(shown: object) -> str:
    console = Console(width=160)
    with console.capture() as capture:
        console.print(shown)
    return capture.get()


class _Cells(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []

    def handle_starttag(self, tag, attrs) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data) -> None:
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data.strip()


def test_every_format(fake, check_latex) -> None:
    rows = [
        (name, evaluated(fake, f"aimclr[a={i}]", shares(i, i + 1)))
        for i, name in enumerate(("full", "w/o (A_1 & <B>)", "50 % | all"))
    ]
    filled = fill(table(*rows), collect(fake.folder), ())
    boards, paths = write(filled, fake.folder / "ablations")
    assert [path.name for path in paths] == [f"aimclr.components.{suffix}" for suffix in ("md", "csv", "tex", "html")]
    markdown, csv, latex, page = (path.read_text() for path in paths)
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    assert lines[0] == "| Variant | KNN top-1 | KNN Δ | Changes | Runs |"
    assert len(lines) == 5
    assert all(line.replace(r"\|", "").count("|") == 6 for line in lines)
    check_latex(latex)
    assert "Δ" not in latex
    parsed = _Cells()
    parsed.feed(page)
    assert [row[0] for row in parsed.rows] == ["Variant", "full", "w/o (A_1 & <B>)", "50 % | all"]
    assert "draws ±" not in page
    assert all(sum(f'data-key="{key}"' in page for key in keys) == 1 for _, keys in rows)
    found = pd.read_csv(paths[1])
    assert tuple(found.columns) == COLUMNS
    gap = filled[0].lines[1][0].gap
    assert gap is not None
    assert found.delta.tolist()[:2] == pytest.approx([0, gap.mean], abs=1e-4)
    assert found.mark.tolist()[1] == gap.mark
    assert "w/o (A_1 & <B>)" in printed(render.terminal(boards, LEGEND))
    assert write(filled, fake.folder / "again")[1][1].read_text() == csv


def test_the_overview_names_every_row() -> None:
    some = [AblationTable("a.t", "a", (Variant("one [x]", "k=[1]", frozenset()), Variant("two", "", frozenset())), 0)]
    text = printed(overview(some))
    assert all(one in text for one in ("a.t", "one [x]", "k=[1]", "two"))
