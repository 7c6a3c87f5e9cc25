from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from leaderboard.build import write
from leaderboard.cells import aggregate, frame
from leaderboard.collect import collect


def long(folder: Path) -> pd.DataFrame:
    return frame(aggregate(collect(folder)))


def test_columns_are_exactly_those_promised(fake) -> None:
    fake.evaluate()
    write(fake.folder, figures=False)
    header = (fake.folder / "leaderboard.csv").read_text().splitlines()[0]
    assert header == (
        "dataset,split,source,stream,method,encoder,recipe,budget,protocol,metric,"
        "mean,sd,n,ci_low,ci_high,feature_dim,params,pretrain_epochs,window,stride,subsample,pooling,status,keys"
    )


def test_seeds_become_mean_and_sample_sd(fake) -> None:
    keys = [fake.evaluate(seed=seed, accuracy=share).name for seed, share in enumerate((0.7, 0.8, 0.75))]
    fake.evaluate("hiclr", accuracy=0.5, metrics={"top5": 90.0, "top1_k5": 40.0})
    table = long(fake.folder).set_index(["method", "metric"])
    row = table.loc["aimclr", "top1"]
    assert row["mean"] == pytest.approx(75)
    assert row.sd == pytest.approx(5)
    assert (row.n, row.feature_dim, row.params, row.pretrain_epochs) == (3, 256, 821_380, 30)
    assert row["keys"] == " ".join(keys)
    alone = table.loc["hiclr"]
    assert list(alone.index) == ["top1", "top1_k5", "top5"]  # and neither ci_low nor ci_high
    assert alone.sd.isna().all()
    assert alone.loc["top5", "mean"] == 90
    assert alone.ci_low.isna().tolist() == [False, True, True]


def test_interval_of_one_seed_is_a_slow_bootstrap_over_samples(fake) -> None:
    rng = np.random.default_rng(0)
    right = rng.random(200) < 0.7
    fake.evaluate(accuracy=right)
    row = long(fake.folder).iloc[0]
    low, high = np.quantile([100 * right[rng.integers(0, 200, 200)].mean() for _ in range(5000)], (0.025, 0.975))
    assert (row.ci_low, row.ci_high) == pytest.approx((low, high), abs=1.1)  # a sample is half a point


def test_the_interval_of_one_seed_is_that_of_its_record_where_it_holds_one(fake) -> None:
    fake.evaluate(accuracy=0.7, metrics={"ci_low": 63.0, "ci_high": 77.5})
    row = long(fake.folder).iloc[0]
    assert (row.ci_low, row.ci_high) == (63.0, 77.5)


def test_interval_of_several_seeds_is_over_seeds_and_samples(fake) -> None:
    rng = np.random.default_rng(0)
    right = [rng.random(200) < share for share in (0.7, 0.75, 0.65)]
    for seed, correct in enumerate(right):
        fake.evaluate(seed=seed, accuracy=correct)
    row = long(fake.folder).iloc[0]
    seeds = [100 * sum(map(int, one)) / 200 for one in right]
    samples = [100 * sum(int(one[i]) for one in right) / 3 for i in range(200)]
    # Student's quantiles on 2 and 199 degrees of freedom, from a printed table.
    half = (4.302653 * np.std(seeds, ddof=1) / 3**0.5) ** 2 + (1.971957 * np.std(samples, ddof=1) / 200**0.5) ** 2
    assert row.ci_low == pytest.approx(np.mean(seeds) - half**0.5, abs=1e-4)
    assert row.ci_high == pytest.approx(np.mean(seeds) + half**0.5, abs=1e-4)
    assert row.ci_low < min(seeds) < max(seeds) < row.ci_high


def test_intervals_are_percentages(fake) -> None:
    for seed, share in enumerate((0.9, 1.0)):
        fake.evaluate(seed=seed, accuracy=share)
    row = long(fake.folder).iloc[0]
    assert row.ci_high == 100  # two seeds ten points apart: 95 +- 64
    assert row.ci_low == pytest.approx(95 - 63.5, abs=0.5)


def test_interval_without_scores(fake) -> None:
    folder = fake.evaluate("one", scores=False)
    fake.evaluate("two", seed=0, scores=False)
    fake.evaluate("two", seed=1)
    table = long(fake.folder).set_index("method")
    assert (table.loc["one", "ci_low"], table.loc["one", "ci_high"]) == (1, 99)  # the record's own
    assert table.loc["two", ["ci_low", "ci_high"]].isna().all()
    (folder / "scores.npz").write_bytes(b"not an archive")
    assert long(fake.folder).set_index("method").loc["one", "ci_low"] == 1


def test_seeds_scored_on_other_samples_get_no_interval(fake) -> None:
    fake.evaluate(seed=0)
    fake.samples = 150
    fake.evaluate(seed=1)
    assert long(fake.folder).ci_low.isna().all()


def test_missing_cells_say_why(fake) -> None:
    fake.evaluate("pending", accuracy=None)
    fake.evaluate("broken", failure="out of memory")
    fake.evaluate("raw", "knn:actclr", unsupported="raw has no projector")
    fake.evaluate("early", pretrain_failure="loss is NaN")
    folder = fake.evaluate("damaged")
    (folder / "record.json").write_text("{")
    (fake.folder / "runs" / "evaluate" / "knn" / "empty").mkdir()
    cells = {cell.method: cell for cell in aggregate(collect(fake.folder))}
    assert {name: (cell.status, cell.gap) for name, cell in cells.items()} == {
        "pending": ("pending", "pending"),
        "broken": ("failed", "failed: out of memory"),
        "raw": ("unsupported", "unsupported: raw has no projector"),
        "early": ("failed", "failed: pretrain of early failed: loss is NaN"),
        "damaged": ("failed", "failed: record.json is damaged; run it again"),
    }
    table = long(fake.folder)
    assert table["mean"].isna().all()
    assert (table.n == 0).all()
    assert (table.metric == "top1").all()
    assert table["keys"].str.len().eq(16).all()


def test_some_seeds_missing(fake) -> None:
    fake.evaluate(seed=0)
    fake.evaluate(seed=1, accuracy=None)
    fake.evaluate(seed=2, accuracy=None)
    (cell,) = aggregate(collect(fake.folder))
    assert (cell.status, cell.gap) == ("done", "2 seeds pending")
    assert cell.metrics["top1"].n == 1


def test_versions_and_data_are_never_mixed(fake) -> None:
    for seed in (0, 1):
        fake.evaluate(seed=seed, accuracy=0.5)
        fake.evaluate(seed=seed, accuracy=0.7, version=2)
    fake.evaluate("hiclr", data="d0", accuracy=0.1)
    fake.evaluate("hiclr", data="d1", accuracy=0.9)
    cells = aggregate(collect(fake.folder))
    assert len(cells) == 4
    protocols = {cell.protocol.split(" #")[0]: cell.metrics["top1"].mean for cell in cells if cell.method == "aimclr"}
    assert protocols == {"knn v1": 50, "knn v2": 70}
    rows = [cell.method for cell in cells if cell.method != "aimclr"]
    assert len(set(rows)) == 2
    assert all(row.startswith("hiclr #") for row in rows)


def test_a_target_that_was_prepared_twice_makes_two_cells(fake) -> None:
    place = {"dataset": "pkummd", "source": "synthetic/xsub"}
    for target, share in (("t0", 0.5), ("t1", 0.9)):
        for seed in (0, 1):
            fake.evaluate("aimclr", "transfer", seed, share, target=target, **place)
    fake.evaluate("hiclr", "transfer", 0, 0.6, target="t1", **place)
    cells = aggregate(collect(fake.folder))
    found = {(cell.method, cell.metrics["top1"].mean): cell for cell in cells}
    seeds = {name: [run.stage.labels.seed for run in cell.done] for name, cell in found.items()}
    assert seeds == {("aimclr", 50): [0, 1], ("aimclr", 90): [0, 1], ("hiclr", 60): [0]}
    assert all(re.fullmatch(r"transfer v1 #[0-9a-f]{4}", cell.protocol) for cell in cells)
    assert found["hiclr", 60].protocol == found["aimclr", 90].protocol != found["aimclr", 50].protocol


def test_data_that_nothing_was_evaluated_on_change_no_name(fake) -> None:
    place = {"dataset": "pkummd", "source": "synthetic/xsub"}
    fake.evaluate("aimclr", "transfer", 0, target="t0", **place)
    fake.evaluate("aimclr", "transfer", 0, unsupported="pkummd is not prepared", target="absent", **place)
    (cell,) = aggregate(collect(fake.folder))
    assert (cell.method, cell.protocol, cell.metrics["top1"].n) == ("aimclr", "transfer", 1)


def test_no_seed_is_done_twice_in_a_cell_whatever_is_missing(fake) -> None:
    """Of two experiments whose pre-trainings are gone nobody knows which seeds belong together."""
    for digit, share in (("1", 0.5), ("2", 0.9)):
        folder = fake.evaluate("aimclr", "knn", 0, share, lonely=True)
        folder.rename(folder.with_name(f"{digit * 4}{folder.name[4:]}"))
    cells = aggregate(collect(fake.folder))
    assert [(cell.method, cell.metrics["top1"].mean, cell.metrics["top1"].n) for cell in cells] == [
        ("aimclr #1111", 50, 1),
        ("aimclr #2222", 90, 1),
    ]


def test_cells_without_ancestors_join_their_row(fake) -> None:
    fake.evaluate("raw", "knn")
    fake.evaluate("raw", "knn:actclr", unsupported="no projector", lonely=True, encoder="stgcn")
    fake.evaluate("solo", "knn", seed=0, lonely=True)
    fake.evaluate("solo", "knn", seed=1, lonely=True)
    cells = aggregate(collect(fake.folder))
    assert [(cell.method, cell.protocol, len(cell.runs)) for cell in cells] == [
        ("raw", "knn", 1),
        ("raw", "knn:actclr", 1),
        ("solo", "knn", 2),
    ]


def test_same_records_same_bytes(fake, tmp_path: Path) -> None:
    for method in ("random", "aimclr", "hiclr"):
        for seed in (1, 0):
            fake.evaluate(method, "linear", seed, 0.6)
    write(fake.folder)
    outputs = [path for path in sorted(fake.folder.rglob("*")) if path.is_file() and "runs" not in path.parts]
    assert [path.name for path in outputs if "page" not in path.parts] == [
        "leaderboard.png",
        "leaderboard.svg",
        "leaderboard.csv",
        "leaderboard.html",
        "leaderboard.md",
        "leaderboard.tex",
    ]
    before = [path.read_bytes() for path in outputs]
    write(fake.folder)
    assert [path.read_bytes() for path in outputs] == before
    # Sizes, dates and order of the folders do not matter.
    moved = tmp_path / "moved"
    (moved / "runs").mkdir(parents=True)
    for path in sorted((fake.folder / "runs").rglob("*"), reverse=True):
        if path.is_file():
            target = moved / path.relative_to(fake.folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    write(moved, figures=False)
    assert (moved / "leaderboard.csv").read_bytes() == (fake.folder / "leaderboard.csv").read_bytes()


def test_nothing_to_show_is_a_friendly_note(tmp_path: Path) -> None:
    assert "No evaluations" in str(write(tmp_path / "absent"))
    (tmp_path / "runs" / "evaluate" / "knn" / "x").mkdir(parents=True)
    assert "No evaluations" in str(write(tmp_path))
    assert not (tmp_path / "leaderboard.csv").exists()


def test_other_kinds_of_stages_are_no_cells(fake) -> None:
    folder = fake.evaluate()
    stage = json.loads((folder / "stage.json").read_text())
    assert len(list(fake.folder.glob("runs/*/*/*"))) == 3
    assert [run.stage.key for run in collect(fake.folder)] == [stage["key"]]


def test_needs_neither_torch_nor_plugins() -> None:
    code = "import sys, leaderboard.build, leaderboard.figures; print([n for n in sys.modules if n.split('.')[0] in "
    code += "('torch', 'methods', 'protocols', 'datasets', 'encoders')])"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
