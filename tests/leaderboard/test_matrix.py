"""Methods by encoders."""

from __future__ import annotations

from click.testing import CliRunner

import run_bench
from engine.choices import parse_sets
from leaderboard.cells import aggregate
from leaderboard.collect import collect
from leaderboard.matrix import matrices
from leaderboard.shown import shown
from leaderboard.tables import tables


def fill(fake, *done: tuple[str, str, float]) -> None:
    for method, encoder, accuracy in done:
        fake.evaluate(method, "knn", 0, accuracy, encoder=encoder)


def test_methods_on_several_encoders_get_a_matrix(fake) -> None:
    fill(fake, ("random", "stgcn", 0.2), ("random", "bigru", 0.3), ("raw", "coordinates", 0.5))
    fill(fake, ("aimclr", "stgcn", 0.9), ("aimclr", "bigru", 0.4), ("hiclr", "stgcn", 0.8))
    fake.evaluate("hiclr", "knn", encoder="bigru", unsupported="needs a graph")
    fake.evaluate("hiclr[nnm.topk=2]", "knn", encoder="stgcn")
    (table,) = matrices(shown(aggregate(collect(fake.folder)))[0])
    assert table.columns == ("bigru", "stgcn")
    texts = {row.name: [entry.text for entry in row.entries] for row in table.rows}
    assert texts["random encoder"] == ["30.0", "20.0"]
    assert texts["aimclr"] == ["40.0", "90.0"]
    assert texts["hiclr"][1] == "80.0"
    assert "needs a graph" in texts["hiclr"][0]
    marks = {row.name: [entry.mark for entry in row.entries] for row in table.rows}
    assert marks == {"random encoder": ["", ""], "aimclr": ["", "best"], "hiclr": ["", "single"]}
    result = CliRunner().invoke(run_bench.main, ["report", "--results", str(fake.folder)])
    assert result.exit_code == 0, result.output
    assert "top-1 by encoder" in result.output
    assert "by encoder" in (fake.folder / "page" / "index.html").read_text()
    latex = (fake.folder / "leaderboard.tex").read_text()
    assert "by encoder" in latex
    assert "-{}-changed shows them" in latex
    assert r"\begin{tabular}{lrr}" in latex  # numbers only, behind the name
    assert "| --- | ---: | ---: | --- |" in (fake.folder / "leaderboard.md").read_text()


def test_no_matrix_where_every_method_has_its_encoder(fake) -> None:
    fill(fake, ("random", "stgcn", 0.2), ("random", "bigru", 0.3), ("aimclr", "stgcn", 0.9), ("cmd", "bigru", 0.4))
    assert matrices(aggregate(collect(fake.folder))) == []


def test_what_is_still_to_be_segmented_has_no_accuracy(fake) -> None:
    for method in ("aimclr", "hiclr", "raw #12ab"):
        for encoder in ("stgcn", "bigru"):
            fake.evaluate(method, "segmentation", 0, None, encoder=encoder)
            fake.evaluate(method, "knn", 0, None, encoder=encoder)
    (table,) = matrices(aggregate(collect(fake.folder)))
    assert "KNN" in table.title
    assert [row.name for row in table.rows] == ["aimclr", "hiclr"]


def test_all_encoders_are_those_that_can_be_trained() -> None:
    assert parse_sets(["encoder=all"]).encoders == ("bigru", "ctrgcn", "dsta", "skeleton_transformer", "stgcn")


def test_a_reference_row_stands_only_beside_methods_on_its_encoder(fake) -> None:
    for encoder in ("stgcn", "dsta"):
        fake.evaluate("aimclr", encoder=encoder)
    fake.evaluate("random", encoder="stgcn")
    fake.evaluate("random", encoder="ctrgcn")
    fake.evaluate("raw", encoder="coordinates")
    boards = tables(aggregate(collect(fake.folder)))
    found = {board.title.rpartition(" · ")[2]: [row.name for row in board.rows] for board in boards}
    assert found == {
        "ctrgcn": ["raw coordinates", "random encoder"],
        "dsta": ["raw coordinates", "aimclr"],
        "stgcn": ["raw coordinates", "random encoder", "aimclr"],
    }
