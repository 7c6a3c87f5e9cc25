from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from engine import ablation
from engine.choices import Settings, choose, parse_name
from engine.config import digest, identifying
from engine.selection import encoders, lacks
from leaderboard import paper
from leaderboard.paper_tables import SUPERVISED, TABLES

PLUGINS = Path(__file__).parent / "engine" / "plugins" / "tiny.py"
TINY = (
    "--datasets", f"{PLUGINS}:Tiny/subject", "--set", f"encoder={PLUGINS}:TinyEncoder", "--set", "aimclr.train.epochs=1",
    "--set", "linear.epochs=2",
)  # fmt: skip


def test_a_table_on_other_data_is_planned_run_and_rendered(cli, tmp_path) -> None:
    command = "table", "aimclr.released", *TINY
    plan = cli(*command, "--plan").output
    assert re.search(r"\d+ stages to do, 0 done", plan)
    assert not (tmp_path / "results").exists()
    output = " ".join(cli(*command).output.split())
    assert "on tiny/subject, NOT THE PAPER'S DATA" in output
    assert "budget quick, encoder=" in output
    assert "aimclr.train.epochs=1 linear.epochs=2" in output
    frame = pd.read_csv(tmp_path / "results" / "tables" / "aimclr.released.csv")
    rows = frame[frame.method == "aimclr"]
    assert rows.stream.tolist() == ["joint", "motion", "bone", "joint+bone+motion"]
    assert rows.measured.notna().all()
    assert rows.reported.isna().all()
    assert set(frame[frame.method != "aimclr"].method) == {"raw", "random"}
    assert "Nothing to do: every stage of this command is done." in cli(*command).output
    assert re.search(r"aimclr\.released .* 0 *\n", cli("table", "list", *TINY).output)


def test_without_the_data_a_table_says_so(cli, tmp_path) -> None:
    result = cli("table", "actclr.t1", code=1)
    assert "(a) ntu60 is not prepared in data/ (data prepare)." in " ".join(result.output.split())
    assert "Nothing of this table can be run here" in result.output
    assert (tmp_path / "results" / "tables" / "actclr.t1.tex").is_file()
    assert "86.7" in cli("table", "actclr.t1", "--render").output


def test_a_plan_of_what_cannot_be_run_writes_nothing(cli, tmp_path) -> None:
    output = " ".join(cli("table", "actclr.t1", "--plan", code=1).output.split())
    assert "Nothing to plan: ntu60 is not prepared in data/" in output
    assert "--render runs nothing" in cli("table", "actclr.t1", "--render", "--plan", code=2).output
    assert not (tmp_path / "results").exists()


TINY_ROWS = ("--protocols", "knn,linear", *TINY[:4], *TINY[6:])


def test_an_ablation_is_planned_run_and_rendered(cli, tmp_path) -> None:
    command = "--ablate", f"{PLUGINS}:TinyCLR.scale=1,2,3", "--seeds", "0,1", *TINY_ROWS
    # 2 seeds of 3 different rows (the default is one of them), 4 stages each.
    assert "24 stages to do, 0 done" in cli(*command, "--plan").output
    output = cli(*command).output
    frame = pd.read_csv(tmp_path / "results" / "ablations" / "tinyclr.scale.csv")
    assert frame.row.unique().tolist() == ["full", "scale=1", "scale=2", "scale=3"]
    assert set(frame.protocol) == {"knn", "linear"}
    assert (frame.n == 2).all()
    rows = frame[frame.row == "scale=3"]
    assert (rows.delta == (rows["mean"].to_numpy() - frame[frame.full]["mean"].to_numpy()).round(4)).all()
    assert "same runs" in output
    assert "Variant" in output
    assert "Nothing to do: every stage of this command is done." in cli(*command).output


def test_ablations_are_listed_and_described(cli) -> None:
    output = cli("--ablate", "list").output
    assert all(
        text in output for text in ("actclr.t7", "Skeleton Mix on Full Area", "hiclr.arrangement", "aimclr.recipe")
    )
    assert "Ablation T9" in cli("describe", "actclr").output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--ablate", "actclr.t7", "--methods", "actclr"),
            r"Error: --ablate names its method itself: leave out --methods",
        ),
        (("--ablate", "actclr.t11"), r"Error: Unknown ablation of actclr 't11'"),
        (("--ablate", ","), r"Error: --ablate: name a table, a method or a grid"),
        (("--ablate", "hiclr.mask.rato=0.1", "--plan"), r"Error: Unknown setting 'hiclr\.mask\.rato'\. Did you mean"),
    ],
)
def test_mistakes_about_ablations_are_named(cli, arguments, message) -> None:
    assert re.search(message, cli(*arguments, code=2).output)


def test_the_list_shows_every_table(cli) -> None:
    output = cli("table", "list").output
    assert all(name in output for name in TABLES)
    assert "the suite does not have" not in output


def test_everything_that_a_table_names_is_there() -> None:
    for table in TABLES.values():
        for row in table.rows:
            assert not row.plugin or row.plugin == SUPERVISED or not lacks("methods", row.plugin), row
            if row.ablation:
                assert ablation.row(row.ablation)[0].plugin == row.suite
        named = {spot.protocol for spot in paper.spots(table)} | set(table.measured.values())
        assert not [reason for name in sorted(named) if (reason := lacks("protocols", name))], table.name


def test_rows_of_other_variants_have_other_settings() -> None:
    """Rows that are one experiment by what is printed are one by what is run, and no others are."""
    for table in TABLES.values():
        printed: dict[tuple[str, ...], set[str]] = {}
        for row in table.rows:
            if row.suite != SUPERVISED and not lacks("methods", row.suite):
                plugin, preset = parse_name("methods", row.suite)
                changes = ablation.row(row.ablation)[1].overrides if row.ablation else {}
                choice = choose(plugin, preset, Settings("paper", "full", (), changes))
                settings = digest(identifying(choice.config)), *encoders(row.suite, ())
                printed.setdefault((plugin.name, row.measured_stream, *settings), set()).add(row.variant)
        assert all(len(variants) == 1 for variants in printed.values()), (table.name, printed)


def test_rows_of_an_ablation_are_the_runs_of_that_ablation(cli) -> None:
    """None of the nine rows of ``hiclr.strong`` is another one's run, or one that only the paper's table would make."""
    place = "--datasets", f"{PLUGINS}:Tiny/subject", "--budget", "quick", "--plan"
    table, ablations = (
        set(re.findall(r"evaluate +hiclr.* ([0-9a-f]{16}) ", cli(*command, *place).output))
        for command in (
            ("table", "hiclr.strong"),
            ("--ablate", "hiclr.arrangement,hiclr.strong", "--protocols", "linear:aimclr"),
        )
    )
    assert len(table) == 9
    assert table < ablations


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("actclr.t77",), r"Error: Unknown table 'actclr\.t77'\. Did you mean 'actclr\.t\d'"),
        (("actclr.t7",), r"Error: actclr\.t7 is a table of one method's variants: run_bench\.py --ablate actclr\.t7"),
        (("actclr.t1", "--datasets", "nowhere"), r"Error: Unknown dataset 'nowhere'"),
        (
            ("actclr.t1", "--datasets", "ntu60/xsub=synthetic"),
            r"Error: --datasets ntu60/xsub=synthetic: synthetic are other data than ntu60/xsub\. Give a file",
        ),
        (
            ("actclr.t1", "--datasets", "ntu60=form:X.npz"),
            r"ntu60 has splits; name one, such as ntu60/xview=form:X\.npz",
        ),
        (
            ("actclr.t5", "--datasets", "synthetic"),
            r"Error: --datasets synthetic/xsub: actclr\.t5 needs SOURCE->TARGET",
        ),
        (("actclr.t1", "--set", "frames=64"), r"Error: --set frames: a paper's table"),
        (("actclr.t1", "--budget", "fast", "--datasets", "synthetic"), r"Error: Unknown budget 'fast'"),
    ],
)
def test_mistakes_are_named(cli, arguments, message) -> None:
    assert re.search(message, cli("table", *arguments, code=2).output)


def test_a_suite_of_which_nothing_is_known_lacks_everything() -> None:
    assert paper.requests(TABLES["actclr.t1"], paper.NOTHING, {}) == []
