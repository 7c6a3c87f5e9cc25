from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from leaderboard.build import write
from leaderboard.cells import aggregate
from leaderboard.collect import collect
from leaderboard.figures import random_levels
from leaderboard.render import page
from leaderboard.tables import Table, tables

NASTY = "<script>alert(1)</script>_a&b%c$d#e{f}~g^h|i\\j*k`l[m]\nn\x1b[31m"


def boards(folder: Path) -> list[Table]:
    return tables(aggregate(collect(folder)))


def printed(folder: Path, width: int = 200) -> str:
    console = Console(width=width, force_terminal=False)
    with console.capture() as capture:
        console.print(write(folder, figures=False))
    return capture.get()


def fill(fake) -> None:
    for method, share in {"random": 0.3, "raw": 0.4, "aimclr": 0.8, "hiclr": 0.79, "actclr": 0.6}.items():
        for protocol in ("linear", "knn"):
            fake.evaluate(method, protocol, 0, share)


def test_rows_columns_and_order(fake) -> None:
    fill(fake)
    (table,) = boards(fake.folder)
    assert table.title == "synthetic/xsub · joint stream · recipe paper · budget quick"
    assert table.columns == ("KNN top-1", "Linear top-1")
    assert [row.name for row in table.rows] == ["raw coordinates", "random encoder", "aimclr", "hiclr", "actclr"]
    assert [row.reference for row in table.rows] == [True, True, False, False, False]
    assert table.rows[2].facts == ("256", "821,380", "30", "stgcn")
    assert re.fullmatch(r"knn [0-9a-f]{6}", table.rows[2].keys[0])


def test_one_table_per_dataset_split_stream_recipe_and_budget(fake) -> None:
    for change in ({}, {"dataset": "nw_ucla"}, {"split": "xview"}, {"stream": "bone"}, {"recipe": "released"}):
        fake.evaluate(**change)
    fake.evaluate(budget="full")
    fake.evaluate("hiclr", budget="full")
    assert len(boards(fake.folder)) == 6


def test_best_and_ties_are_marked_but_never_references(fake) -> None:
    rng = np.random.default_rng(0)
    best = rng.random(200) < 0.8
    fake.evaluate("random", accuracy=np.ones(200, bool))
    fake.evaluate("aimclr", accuracy=best)
    fake.evaluate("hiclr", accuracy=np.roll(best, 7) & (rng.random(200) < 0.99))
    fake.evaluate("actclr", accuracy=best & (rng.random(200) < 0.5))
    (table,) = boards(fake.folder)
    marks = {row.name: row.entries[0].mark for row in table.rows}
    assert marks == {"random encoder": "", "aimclr": "best", "hiclr": "tied", "actclr": "single"}


def test_fewer_seeds_never_make_a_difference_surer(fake) -> None:
    """One seed leaves it open, two show little, and only many tell apart what differs by more than they vary."""
    rng = np.random.default_rng(0)
    found = []
    for seed in range(6):
        base = rng.random(200) < 0.8
        fake.evaluate("aimclr", seed=seed, accuracy=base)
        fake.evaluate("hiclr", seed=seed, accuracy=base & (rng.random(200) < 0.85 + 0.03 * (-1) ** seed))
        (table,) = boards(fake.folder)
        found.append(next(row.entries[0].sign for row in table.rows if row.name == "hiclr"))
    assert found[:2] == [" †", " ≈"]
    assert found[-1] == ""


def test_a_single_method_is_not_called_best(fake) -> None:
    fake.evaluate("random")
    fake.evaluate("aimclr")
    assert {entry.mark for row in boards(fake.folder)[0].rows for entry in row.entries} == {""}


def test_entries_show_mean_sd_interval_and_n(fake) -> None:
    fake.evaluate(seed=0, accuracy=0.80)
    fake.evaluate(seed=1, accuracy=0.81)
    fake.evaluate(seed=2, accuracy=None)
    fake.evaluate("hiclr", "linear", failure="out of memory")
    (table,) = boards(fake.folder)
    (knn, linear), (missing, failed) = (row.entries for row in table.rows)
    assert knn.text == "80.5 ± 0.7"
    assert re.fullmatch(r"\[7\d\.\d, 8\d\.\d\] n=2", knn.detail)
    assert knn.gap == "1 seed pending"
    assert linear.text == missing.text == "not asked for"
    assert failed.text == "failed: out of memory"


def test_terminal_fits_and_keeps_the_numbers(fake) -> None:
    fill(fake)
    wide = printed(fake.folder, 200)
    assert "Runs" in wide
    assert "Parameters" in wide
    for width in (200, 110, 80, 60):
        text = printed(fake.folder, width)
        assert all(len(line) <= width for line in text.splitlines())
        assert "80.0" in text
        assert "aimclr" in text
    assert "Parameters" not in printed(fake.folder, 70)


def test_a_table_of_many_protocols_becomes_several_in_a_narrow_terminal(fake) -> None:
    protocols = ("knn", "linear", "semi", "finetune", "linear:aimclr", "linear:actclr", "knn:actclr")
    for number, protocol in enumerate(protocols):
        for method in ("raw", "aimclr"):
            fake.evaluate(method, protocol, 0, (number + 1) / 10)
    text = printed(fake.folder, 80)
    assert all(len(line) <= 80 for line in text.splitlines())
    assert all(text.count(f"{10 * (number + 1)}.0 ") == 2 for number in range(len(protocols)))
    parts = [(int(a), int(b)) for a, b in re.findall(r"· columns (\d) to (\d)", " ".join(text.split()))]
    assert [column for first, last in parts for column in range(first, last + 1)] == [1, 2, 3, 4, 5, 6, 7]
    assert len(parts) > 1
    assert text.count("Sorted by") == 1
    assert "columns" not in printed(fake.folder, 300)


class Page(HTMLParser):
    """Collects tags and text, and checks that tags close."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in ("meta", "img", "br", "wbr"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("where", ["method", "protocol", "encoder", "dataset", "split", "failure"])
def test_nothing_that_a_name_holds_gets_through(fake, check_latex, where: str) -> None:
    fake.evaluate("random", "knn")
    fake.evaluate("aimclr", "knn", accuracy=0.7)
    folder = fake.evaluate(**({"method": "hiclr"} | {where: NASTY if where == "failure" else NASTY.replace("/", "!")}))
    assert folder.is_dir()
    write(fake.folder, figures=where in ("method", "dataset"), changed=True)  # the name has brackets
    page = Page()
    source = (fake.folder / "leaderboard.html").read_text()
    page.feed(source)
    assert page.open == []
    assert page.tags.count("script") == 1  # the page's own
    assert "http" not in re.sub(r"data:image[^\"]*", "", source)  # self-contained
    assert "alert(1)" in page.text

    markdown = (fake.folder / "leaderboard.md").read_text()
    assert "<script" not in markdown
    for line in markdown.splitlines():
        if line.startswith("|"):
            cells = re.split(r"(?<!\\)\|", line)
            assert len(cells) == len(re.split(r"(?<!\\)\|", markdown.split("| --- ")[0].splitlines()[-1]))

    latex = (fake.folder / "leaderboard.tex").read_text()
    check_latex(latex)
    assert "\x1b" not in markdown + latex + source
    assert "\x1b" not in printed(fake.folder)


def test_latex_and_markdown_of_an_ordinary_table(fake, check_latex) -> None:
    fill(fake)
    write(fake.folder)
    latex = (fake.folder / "leaderboard.tex").read_text()
    check_latex(latex)
    assert r"\textbf{80.0}" in latex
    assert latex.count(r"\midrule") == 2
    markdown = (fake.folder / "leaderboard.md").read_text()
    assert "![" in markdown
    assert "(figures/leaderboard.png)" in markdown
    assert "| **80.0**<br>" in markdown
    assert "*random encoder*" in markdown
    assert (fake.folder / "figures" / "leaderboard.png").read_bytes().startswith(b"\x89PNG")
    svg = (fake.folder / "figures" / "leaderboard.svg").read_text()
    assert "<dc:date>" not in svg


def test_figure_of_missing_cells_only(fake) -> None:
    fake.evaluate("aimclr", failure="$broken_")
    fake.evaluate("ünïcode 動作", accuracy=None)
    write(fake.folder)
    assert (fake.folder / "figures" / "leaderboard.svg").stat().st_size > 1000


def test_bars_are_compared_with_the_random_encoder_of_their_own_encoder(fake) -> None:
    for method, encoder, accuracy in (("random", "stgcn", 0.2), ("random", "bigru", 0.4), ("aimclr", "bigru", 0.9)):
        fake.evaluate(method, "knn", 0, accuracy, encoder=encoder)
    fake.evaluate("raw", "knn", 0, 0.5, encoder="coordinates")
    (table,) = boards(fake.folder)
    assert random_levels(table) == pytest.approx({("stgcn", 0): 20.0, ("bigru", 0): 40.0})
    write(fake.folder)
    svg = (fake.folder / "figures" / "leaderboard.svg").read_text()
    assert svg.count("<!-- bigru -->") == 2  # below "random encoder" and "aimclr"


def test_methods_are_ranked_within_an_encoder_where_one_ran_on_several(fake) -> None:
    shares = {"random": (0.2, 0.3), "aimclr": (0.5, 0.9), "hiclr": (0.6, 0.7)}
    for (method, own), place in product(shares.items(), (0, 1)):
        fake.evaluate(method, accuracy=own[place], encoder=("stgcn", "dsta")[place])
    fake.evaluate("raw", encoder="coordinates")
    fake.evaluate("aimclr", dataset="nw_ucla")
    found = {board.title.rpartition(" · ")[2]: board for board in boards(fake.folder)}
    assert list(found) == ["budget quick", "dsta", "stgcn"]
    best = {name: [row.name for row in board.rows if row.entries[0].mark == "best"] for name, board in found.items()}
    assert best == {"budget quick": [], "dsta": ["aimclr"], "stgcn": ["hiclr"]}
    for name in ("dsta", "stgcn"):
        assert sorted(row.name for row in found[name].rows) == ["aimclr", "hiclr", "random encoder", "raw coordinates"]
        assert {row.facts[-1] for row in found[name].rows} == {"coordinates", name}


def test_an_overridden_main_protocol_still_sorts(fake) -> None:
    for method, linear, knn in (("aimclr", 0.8, 0.5), ("hiclr", 0.6, 0.7)):
        fake.evaluate(method, "linear[lr=0.1]", 0, linear)
        fake.evaluate(method, "knn", 0, knn)
    (table,) = boards(fake.folder)
    assert [row.name for row in table.rows] == ["aimclr", "hiclr"]


def test_a_reference_rows_missing_cell_says_where_it_is(fake) -> None:
    fake.evaluate("random", "linear", accuracy=0.3)
    fake.evaluate("supervised", "finetune", accuracy=0.5)
    fake.evaluate("aimclr", "linear")
    (board,) = tables(aggregate(collect(fake.folder)))
    texts = {row.name: [entry.text for entry in row.entries] for row in board.rows}
    assert texts == {
        "random encoder": ["30.0", "see supervised from scratch"],
        "supervised from scratch": ["see random encoder", "50.0"],
        "aimclr": ["80.0", "not asked for"],
    }


def test_the_spread_over_draws_is_shown(fake) -> None:
    fake.evaluate(protocol="semi", metrics={"top1_draws_sd": 2.34})
    (board,) = tables(aggregate(collect(fake.folder)))
    assert board.rows[0].entries[0].detail.endswith("n=1, draws ± 2.3")


def test_a_page_breaks_long_names_and_tells_rows_of_one_name_apart(fake) -> None:
    fake.evaluate("random", encoder="dsta")
    fake.evaluate("random", encoder="stgcn")
    fake.evaluate("aimclr[view.noise_sd=0.1,mix=<b>]")
    (board,) = boards(fake.folder)
    source = re.sub(r"\s+</th>", "</th>", page([board]))
    assert "random encoder<small>dsta</small>" in source
    assert "random encoder<small>stgcn</small>" in source
    assert "aimclr[<wbr>view.<wbr>noise_<wbr>sd=0.1,<wbr>mix=&lt;b&gt;]</th>" in source
    assert '<th scope="col" class="fact">Epochs</th>' in source
    assert '<th scope="col" class="fact left">Encoder</th>' in source
