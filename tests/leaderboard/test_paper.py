from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from engine.config import BenchError
from leaderboard import paper_board, render
from leaderboard.cells import aggregate
from leaderboard.collect import collect
from leaderboard.paper import FilledTable, Suite, choose, fill, find, obstacle, on, references, requests, rows_of
from leaderboard.paper_tables import TABLES
from leaderboard.published import Number, load

METHODS = {"aimclr", "actclr", "hiclr", "hiclr:adain", "skeletonclr", "random"}
PROTOCOLS = {"knn", "linear", "linear:actclr", "linear:aimclr", "finetune", "semi", "semi:1"}
OF_THEIR_OWN = {"raw": "coordinates", "cmd": "bigru"}
SUITE = Suite(
    lambda name: "" if name in METHODS else "no such method",
    lambda name: "" if name in PROTOCOLS else f"no protocol {name}",
    lambda name: (OF_THEIR_OWN.get(name, "stgcn"),),
    lambda name, labels: f"hiclr[{name},{labels.budget}]" if name.startswith("hiclr.strong/") else "hiclr",
)


@pytest.fixture(scope="module")
def numbers() -> tuple[Number, ...]:
    return load()


def ntu(fake, method: str, accuracy: float, protocol: str = "linear:actclr", **more) -> str:
    """The key of an evaluation that it leaves."""
    where = {"dataset": "ntu60", "split": "xview", "budget": "full"} | more
    return fake.evaluate(method, protocol, accuracy=accuracy, **where).name


def filled(fake, numbers, name: str = "actclr.t2", suite: Suite = SUITE, **more) -> FilledTable:
    return fill(find(name), aggregate(collect(fake.folder)), numbers, suite, **({"recipe": "paper"} | more))


def texts(table: FilledTable, row: str) -> list[str]:
    board = paper_board.board(table)
    return [entry.text for line in board.rows if line.name == row for entry in line.entries]


@pytest.mark.parametrize("name", [name for name, table in TABLES.items() if table.source])
def test_every_number_of_a_papers_table_is_in_it_once(fake, numbers, name: str) -> None:
    table = find(name)
    printed = [n for n in numbers if (n.source, n.place) == (table.source, table.place)]
    shown = [one.number for line in filled(fake, numbers, name).rows for one in line if one.number]
    assert sorted(shown, key=str) == sorted(printed, key=str)
    assert len({(row.name, row.stream) for row in table.rows}) == len(table.rows)


def test_numbers_of_a_source_with_a_longer_name_are_not_taken(fake, numbers) -> None:
    (own,) = {one.number for line in filled(fake, numbers, "aimclr.released").rows[:1] for one in line[:1]}
    for change in ({"source": f"{own.source}-v2"}, {"place": f"{own.place} 2"}):
        other = own.model_copy(update={"value": 1.0, **change})
        (shown, *_), *_ = filled(fake, [other], "aimclr.released").rows
        assert shown.number is None
    (shown, *_), *_ = filled(fake, [own], "aimclr.released").rows
    assert shown.number == own


@pytest.mark.parametrize("name", [name for name, table in TABLES.items() if not table.source])
def test_quoted_tables_show_unmarked_numbers_where_there_are_any(fake, numbers, name: str) -> None:
    found = [one for line in filled(fake, numbers, name).rows for one in line if one.number]
    assert len(found) >= 9
    marked = {one.spot.row.name for one in found if one.number and one.number.mark}
    assert marked == {
        "hiclr.strong": {"two branches, no step between", "strong used directly"},
        "aimclr.linear": {"AimCLR joint"},  # on PKU-II only a number that is said to be of three streams
    }.get(name, set())


def test_reported_and_measured_stand_side_by_side_with_the_gap(fake, numbers) -> None:
    ntu(fake, "actclr", 0.85, seed=0)
    ntu(fake, "actclr", 0.86, seed=1)
    ntu(fake, "aimclr", 0.81)
    table = filled(fake, numbers)
    board = paper_board.board(table)
    assert board.columns[:2] == ("NTU-60 xview reported", "NTU-60 xview measured")
    (actclr,) = (row for row in board.rows if row.name == "ActCLR")
    assert [entry.text for entry in actclr.entries[:2]] == ["86.7", "85.5 ± 0.7"]
    assert actclr.entries[1].detail == "-1.2, n=2"  # 85.5 - 86.7
    (aimclr,) = (row for row in board.rows if row.name == "AimCLR")
    assert aimclr.entries[1].detail == "+1.3, n=1"  # 81.0 - 79.7


def test_reported_never_ranks_with_measured(fake, numbers) -> None:
    ntu(fake, "actclr", 0.5)
    ntu(fake, "aimclr", 0.3)
    rows = paper_board.board(filled(fake, numbers)).rows
    assert {entry.mark for row in rows for entry in row.entries[::2]} == {""}
    assert {row.name for row in rows if row.entries[1].mark == "best"} == {"ActCLR"}  # though 88.8 is reported below


def test_streams_are_ranked_apart(fake, numbers) -> None:
    for stream, accuracy in (("joint", 0.8), ("motion", 0.6)):
        for method, less in (("actclr", 0.0), ("aimclr", 0.2)):
            ntu(fake, method, accuracy - less, stream=stream)
    rows = paper_board.board(filled(fake, numbers, "actclr.t1")).rows
    assert {row.name for row in rows if row.entries[1].mark == "best"} == {"ActCLR joint", "ActCLR motion"}


def test_a_missing_number_says_why(fake, numbers) -> None:
    ntu(fake, "aimclr", 0.8)
    ntu(fake, "aimclr", 0.8, split="xsub", failure="out of memory")
    suite = replace(SUITE, lacks_data={"ntu60/xsub": "ntu60 is not prepared"})
    table = filled(fake, numbers, suite=suite)
    reasons = {(one.spot.row.name, one.spot.column.split): one.missing for line in table.rows for one in line}
    assert reasons["CPM", "xview"] == "no such method"
    assert reasons["AimCLR", "xview"] == ""
    assert reasons["AimCLR", "xsub"] == "failed: out of memory"
    assert reasons["ActCLR", "xsub"] == "ntu60 is not prepared"
    assert reasons["ActCLR", "xview"] == "not run yet"
    note = paper_board.board(table).note
    assert texts(table, "ActCLR")[1] in re.findall(r"\(\w\)", note)
    assert "ntu60 is not prepared." in note


def test_tables_of_protocols_that_are_not_there_render(fake, numbers) -> None:
    for name, protocol in (("actclr.t5", "transfer:linear:actclr"), ("actclr.t6", "segmentation")):
        table = filled(fake, numbers, name)
        assert requests(table.table, SUITE, {}) == []
        assert f"no protocol {protocol}" in obstacle(table.table, SUITE)
        assert f"no protocol {protocol}." in paper_board.board(table).note


def test_suspect_numbers_are_marked_and_explained(fake, numbers) -> None:
    table = filled(fake, numbers, "igm.t1")
    assert texts(table, "3s-AimCLR")[0] == "83.4 ?"
    assert "? 3s-AimCLR, NTU-60 xview: suspect, values of 3s-CrosSCLR." in paper_board.board(table).note


def test_recipes_budgets_and_protocols_are_not_mixed(fake, numbers) -> None:
    ntu(fake, "actclr", 0.1, budget="quick")
    ntu(fake, "actclr", 0.2, recipe="released")
    ntu(fake, "actclr", 0.3, protocol="linear")
    ntu(fake, "actclr[safp.weight=0.0]", 0.4)
    assert filled(fake, numbers).budget == "quick"
    assert texts(filled(fake, numbers), "ActCLR")[1] == "10.0"
    assert texts(filled(fake, numbers, recipe="released"), "ActCLR")[1] == "20.0"
    ntu(fake, "actclr", 0.5)
    assert filled(fake, numbers).budget == "full"
    assert texts(filled(fake, numbers), "ActCLR")[1] == "50.0"
    key = next(
        path.parent.name for path in fake.folder.glob("runs/evaluate/*/*/stage.json") if "safp" in path.read_text()
    )
    (row,) = (row for row in find("actclr.t2").rows if row.name == "ActCLR")
    assert texts(filled(fake, numbers, keys={row: {key}}), "ActCLR")[1] == "40.0"


def test_two_versions_of_a_number_are_not_chosen_from(fake, numbers) -> None:
    ntu(fake, "actclr", 0.8)
    ntu(fake, "actclr", 0.9, version=2)
    one = next(one for line in filled(fake, numbers).rows for one in line if one.spot.row.name == "ActCLR")
    assert one.cell is None
    assert "several versions" in one.missing


def test_reference_rows_come_first_where_they_were_measured(fake, numbers) -> None:
    ntu(fake, "random", 0.4)
    ntu(fake, "random", 0.3, protocol="finetune", stream="bone")
    ntu(fake, "supervised", 0.7, protocol="finetune")
    rows = paper_board.board(filled(fake, numbers)).rows
    assert (rows[0].name, rows[0].reference, rows[0].entries[1].text) == ("random encoder, joint", True, "40.0")
    assert not rows[1].reference
    scratch = paper_board.board(filled(fake, numbers, "actclr.t4"))
    assert (scratch.rows[0].name, scratch.rows[0].reference) == ("ST-GCN, from scratch", False)
    assert [entry.text for entry in scratch.rows[0].entries[:2]] == ["88.3", "70.0"]
    assert scratch.facts[0] == "Parameters reported"
    assert scratch.rows[0].facts[:2] == ("0.83 M", "821,380")


def test_every_encoder_of_a_table_has_its_reference_rows(fake, numbers) -> None:
    suite = replace(SUITE, lacks_method=lambda name: "" if name in {*METHODS, "cmd"} else "no such method")
    for encoder, accuracy in (("stgcn", 0.4), ("bigru", 0.3), ("dsta", 0.2)):
        ntu(fake, "random", accuracy, encoder=encoder)
    ntu(fake, "raw", 0.5, encoder="coordinates")
    rows = paper_board.board(filled(fake, numbers, suite=suite)).rows
    assert [(row.name, row.entries[1].text) for row in rows if row.reference] == [
        ("raw coordinates, joint", "50.0"),
        ("random encoder, stgcn, joint", "40.0"),
        ("random encoder, bigru, joint", "30.0"),  # dsta is nobody's here
    ]
    own = [row for row in references(find("actclr.t4"), suite) if row.plugin == "supervised"]
    assert own == []  # the table has it as rows of its own


def test_of_several_encoders_a_methods_own_is_shown(fake, numbers) -> None:
    ntu(fake, "actclr", 0.8)
    ntu(fake, "actclr", 0.7, encoder="ctrgcn")
    ntu(fake, "actclr", 0.9, encoder="stgcn[width=32]")
    assert texts(filled(fake, numbers), "ActCLR")[1] == "80.0"
    chosen = replace(SUITE, encoders=lambda name: ("ctrgcn",))
    assert texts(filled(fake, numbers, suite=chosen), "ActCLR")[1] == "70.0"
    both = filled(fake, numbers, suite=replace(SUITE, encoders=lambda name: ("stgcn", "ctrgcn")))
    assert texts(both, "ActCLR")[1].startswith("(")


def test_a_row_of_an_ablation_shows_its_own_runs(fake, numbers) -> None:
    """And not those of the method as it is, nor of other settings; in a command's table what the command ran."""
    direct, step = (row for row in find("hiclr.strong").rows[:-3:-1])
    on = {"split": "xsub", "protocol": "linear:aimclr"}
    ntu(fake, "hiclr", 0.8, **on)
    ntu(fake, f"hiclr[{direct.ablation},full]", 0.5, **on)
    key = ntu(fake, "hiclr[other=1]", 0.6, **on)

    def shown(**more) -> dict[str, str]:
        table, _ = choose(find("hiclr.strong"), ("ntu60/xsub",), str)
        board = paper_board.board(fill(table, aggregate(collect(fake.folder)), numbers, SUITE, "paper", **more))
        return {row.name: row.entries[-1].text for row in board.rows}

    assert (shown()[direct.name], shown()["k=3 BA|NA|Mask"]) == ("50.0", "80.0")
    assert shown()[step.name].startswith("(")
    assert shown(keys={step: {key}})[step.name] == "60.0"
    assert shown(keys={step: {key}})[direct.name].startswith("(")
    wanted = requests(find("hiclr.strong"), SUITE, {})
    assert [one.ablation for one in wanted] == [row.ablation for row in find("hiclr.strong").rows]


def test_hiclrs_transformer_has_protocols_of_its_own(fake, numbers) -> None:
    suite = replace(SUITE, lacks_method=str, encoders=lambda name: ("dsta" if "transformer" in name else "stgcn",))
    suite = replace(suite, lacks_method=lambda name: "" if name in {*METHODS, "hiclr:transformer"} else "none")
    on = {"split": "xsub", "encoder": "dsta"}
    ntu(fake, "hiclr:transformer", 0.8, "linear:hiclr-transformer", **on)
    ntu(fake, "hiclr:transformer", 0.7, "linear:aimclr", **on)
    ntu(fake, "random", 0.2, "linear:hiclr-transformer", **on)
    table = filled(fake, numbers, "hiclr.t1", suite)
    assert texts(table, "HiCLR, transformer")[1] == "80.0"
    assert texts(table, "random encoder, dsta, joint")[1] == "20.0"
    assert "Measured by linear:aimclr, linear:hiclr-transformer." in paper_board.board(table).note


def test_what_has_to_run_is_asked_for(fake, numbers) -> None:
    (request,) = requests(find("actclr.t1"), SUITE, {"ntu60/xsub": "form:here#xsub"})
    assert request.parts == {
        "methods": ("aimclr", "actclr"),
        "protocols": ("linear:actclr",),
        "datasets": ("ntu60/xview", "form:here#xsub", "ntu120/xset", "ntu120/xsub"),
        "streams": ("joint", "motion", "bone"),
    }
    (scratch,) = requests(find("actclr.t4"), SUITE, {})
    assert scratch.parts["methods"] == ("skeletonclr", "aimclr", "actclr")  # from scratch comes with every fine-tuning
    (semi,) = requests(find("aimclr.semi"), SUITE, {})
    assert semi.parts["protocols"] == ("semi:1", "semi")


def test_transfer_asks_for_targets_by_source() -> None:
    suite = replace(SUITE, lacks_protocol=lambda name: "")
    first, second = (one.parts for one in requests(find("actclr.t5"), suite, {}))
    assert (first["datasets"], first["targets"]) == (("ntu60/xview",), ("pku_mmd1/xview", "pku_mmd2/xview"))
    assert (second["datasets"], second["targets"]) == (("ntu60/xsub",), ("pku_mmd1/xsub", "pku_mmd2/xsub"))
    (third,) = (one.parts for one in requests(on(find("actclr.t6"), ("a/x->b/y",)), suite, {}))
    assert (third["datasets"], third["targets"], third["protocols"]) == (("a/x",), ("b/y",), ("segmentation",))


def test_only_what_the_table_shows_belongs_to_it(fake) -> None:
    for method, stream in (
        ("skeletonclr", "joint"),
        ("skeletonclr", "bone"),
        ("random", "joint"),
        ("actclr[x=1]", "bone"),
    ):
        ntu(fake, method, 0.5, "finetune[train.epochs=1]", stream=stream)
    labels = [run.stage.labels for run in collect(fake.folder)]
    shown = {(one.method, one.stream) for one in labels if rows_of(find("actclr.t4"), "", one, SUITE)}
    assert shown == {("skeletonclr", "joint"), ("random", "joint")}  # bone is seen in sums of scores only


def test_other_data_stand_in_and_show_nothing_published(fake, numbers) -> None:
    fake.evaluate("actclr", "linear:actclr", accuracy=0.9)
    table, asked = choose(find("actclr.t1"), ("synthetic",), lambda one: f"{one}/xsub")
    assert asked == {"synthetic/xsub": "synthetic"}
    board = paper_board.board(fill(table, aggregate(collect(fake.folder)), numbers, SUITE, "paper"))
    assert board.columns == ("synthetic/xsub measured",)
    assert board.title.endswith("on synthetic/xsub, NOT THE PAPER'S DATA")
    assert [row.entries[0].text for row in board.rows if row.name == "ActCLR joint"] == ["90.0"]
    assert "stand in for the paper's show nothing reported" in board.note


def test_some_of_the_papers_data_keep_their_numbers(fake, numbers) -> None:
    table, _ = choose(find("actclr.t1"), ("ntu120", "ntu60/xsub"), str)
    assert [column.place for column in table.columns] == ["ntu120/xset", "ntu120/xsub", "ntu60/xsub"]
    table, _ = choose(find("actclr.t5"), ("pku_mmd2/xsub",), str)
    assert [(column.source, column.place) for column in table.columns] == [("ntu60/xsub", "pku_mmd2/xsub")]


def test_the_papers_data_may_be_read_under_another_name(fake, numbers) -> None:
    fake.evaluate("actclr", "linear:actclr", accuracy=0.8, dataset="form:NTU60_CS", split="xsub")
    table, asked = choose(find("actclr.t1"), ("ntu60/xsub=form:NTU60_CS.npz",), lambda one: "form:NTU60_CS/xsub")
    assert asked == {"form:NTU60_CS/xsub": "form:NTU60_CS.npz"}
    board = paper_board.board(fill(table, aggregate(collect(fake.folder)), numbers, SUITE, "paper"))
    assert board.columns == ("NTU-60 xsub reported", "NTU-60 xsub measured")
    assert board.title.endswith("ntu60/xsub read from form:NTU60_CS/xsub")
    (row,) = (row for row in board.rows if row.name == "ActCLR joint")
    assert [(entry.text, entry.detail) for entry in row.entries] == [("80.9", ""), ("80.0", "-0.9, n=1")]
    (request,) = requests(table, SUITE, asked)
    assert request.parts["datasets"] == ("form:NTU60_CS.npz",)


def test_every_measure_of_segmentation_has_its_best(fake, numbers) -> None:
    for method, miou, acc in (("actclr", 30.0, 60.0), ("aimclr", 20.0, 70.0)):
        for seed in (0, 1):
            fake.evaluate(
                method, "segmentation", seed, 0.5, scores=False, facts={"headline": "miou"},
                metrics={"miou": miou + seed, "acc": acc + 2 * seed, "macc": 50.0, "fwiou": 40.0 + seed * (method == "aimclr")},
                dataset="pku_mmd2", split="xview", source="ntu60/xview",
            )  # fmt: skip
    board = paper_board.board(filled(fake, numbers, "actclr.t6"))
    marks = {
        row.name: [e.mark for e, head in zip(row.entries, board.columns, strict=True) if head.endswith("measured")]
        for row in board.rows
    }
    # The spread of constant differences is not known; of FWIoU they are 0 and 1, and two seeds decide nothing.
    assert marks["ActCLR joint"] == ["unknown", "best", "tied", "best"]
    assert marks["AimCLR joint"] == ["best", "best", "best", "unknown"]


def test_stand_ins_of_several_measures_are_told_apart() -> None:
    assert [c.title for c in on(find("actclr.t6"), ("a/x->b/y",)).columns] == [
        "a/x->b/y acc", "a/x->b/y macc", "a/x->b/y fwiou", "a/x->b/y miou",
    ]  # fmt: skip
    assert [c.title for c in on(find("aimclr.semi"), ("a/x",)).columns] == ["a/x semi:1", "a/x semi"]


def test_arrows_are_for_transfer_only() -> None:
    with pytest.raises(BenchError, match=r"--datasets a/x: actclr\.t5 needs SOURCE->TARGET"):
        on(find("actclr.t5"), ("a/x",))
    with pytest.raises(BenchError, match=r"--datasets a/x->b/y: actclr\.t1 needs DATASET/SPLIT"):
        on(find("actclr.t1"), ("a/x->b/y",))
    with pytest.raises(BenchError, match=r"Unknown table 'actclr\.t0'\. Did you mean 'actclr\.t\d'"):
        find("actclr.t0")


class Counter(HTMLParser):
    """Numbers of rows and cells of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.counts = {"tr": 0, "td": 0, "th": 0}

    def handle_starttag(self, tag, attrs) -> None:
        if tag in self.counts:
            self.counts[tag] += 1


@pytest.mark.parametrize("name", TABLES)
def test_every_table_renders_in_every_format(fake, numbers, check_latex, tmp_path: Path, name: str) -> None:
    ntu(fake, "actclr", 0.5)
    ntu(fake, "random", 0.1)
    table, paths = paper_board.write(filled(fake, numbers, name), tmp_path)
    markdown, _, latex, page = (path.read_text() for path in paths)
    assert [path.name for path in paths] == [f"{name}.{suffix}" for suffix in ("md", "csv", "tex", "html")]
    check_latex(latex)
    assert latex.count(r"\toprule") == latex.count(r"\bottomrule") == 1
    width = 1 + len(table.columns) + len(table.facts)
    counter = Counter()
    counter.feed(page)
    rows = len(table.rows)  # each is headed by its name
    assert counter.counts == {"tr": rows + 1, "td": rows * (width - 1), "th": width + rows}
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len(lines) == len(table.rows) + 2
    assert len({len(re.split(r"(?<!\\)\|", line)) for line in lines}) == 1
    frame = pd.read_csv(paths[1])
    assert tuple(frame.columns) == paper_board.COLUMNS
    full = filled(fake, numbers, name)
    spots = [one for line in (*full.rows, *full.references) for one in line]
    assert len(frame) == len(spots)
    assert sorted(frame.reported.dropna()) == pytest.approx(sorted(one.number.value for one in spots if one.number))
    assert sorted(frame.measured.dropna()) == pytest.approx(sorted(one.summary.mean for one in spots if one.summary))
    console = Console(width=200)
    with console.capture() as capture:
        console.print(render.terminal([table], paper_board.LEGEND))
    assert table.rows[-1].name.split()[0] in capture.get()


def test_the_same_records_give_the_same_bytes(fake, numbers, tmp_path: Path) -> None:
    ntu(fake, "actclr", 0.5)
    _, first = paper_board.write(filled(fake, numbers), tmp_path / "a")
    _, second = paper_board.write(filled(fake, numbers), tmp_path / "b")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_the_overview_counts(fake, numbers) -> None:
    ntu(fake, "actclr", 0.5)
    console = Console(width=160)
    with console.capture() as capture:
        console.print(paper_board.overview([(filled(fake, numbers, "actclr.t1"), "12")]))
    assert re.search(r"actclr\.t1 +ActCLR Table 1: linear evaluation by stream +32 +32 +1 +12", capture.get())
