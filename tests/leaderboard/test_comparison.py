from __future__ import annotations

import json
import math
import shutil
from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from engine.commands.compare import own_encoder
from leaderboard import comparison_report
from leaderboard.cells import aggregate
from leaderboard.collect import collect
from leaderboard.comparison import (
    against_best,
    agreement,
    critical_difference,
    holm,
    largest_block,
    over_samples,
    over_seeds,
    rankings,
)


def test_over_seeds_is_the_paired_t_test() -> None:
    # Differences 1, 2, 3: t = 2 / (1 / sqrt 3) = 3.464 on two degrees of freedom, p = 1 - t / sqrt(t^2 + 2) = 0.0742.
    assert over_seeds(np.array([1.0, 2, 3])) == pytest.approx(1 - math.sqrt(12) / math.sqrt(14), abs=1e-9)


def test_over_seeds_says_nothing_about_one_pair_or_a_constant_difference() -> None:
    assert math.isnan(over_seeds(np.array([1.0])))
    assert math.isnan(over_seeds(np.array([1.0, 1.0])))
    assert over_seeds(np.array([0.0, 0.0])) == 1.0


@given(st.lists(st.sampled_from([-1, 0, 1]), min_size=1, max_size=40))
def test_over_samples_of_one_seed_is_mcnemars_exact_test(signs: list[int]) -> None:
    wins, losses = signs.count(1), signs.count(-1)
    tail = sum(math.comb(wins + losses, k) for k in range(min(wins, losses) + 1)) / 2 ** (wins + losses)
    assert over_samples(100 * np.array(signs, float)) == pytest.approx(min(1, 2 * tail))


@pytest.mark.parametrize("number", range(6))
def test_over_samples_is_what_all_flips_say(number: int) -> None:
    rng = np.random.default_rng(number)
    differences = 100 * rng.integers(-2, 4, 12) / 3  # means over three seeds
    sums = [abs(np.dot(signs, differences)) for signs in product((-1, 1), repeat=12)]
    share = np.mean([each >= abs(differences.sum()) - 1e-6 for each in sums])
    assert over_samples(differences) == pytest.approx(share, abs=0.015)  # four standard errors of 20,000 flips
    assert over_samples(-differences[::-1]) == over_samples(differences)


def test_over_samples_is_not_a_vote() -> None:
    """Many samples that one of three seeds gets right more often do not outvote few that all of them do."""
    differences = np.array([1 / 3] * 30 + [-1.0] * 10)
    assert abs(differences.sum()) < 1e-9
    assert over_samples(differences) == 1.0


def test_over_samples_is_right_as_often_as_it_says() -> None:
    """Of equal methods, each sample hard or easy for both, about one in twenty is called different."""
    rng, found = np.random.default_rng(0), []
    for _ in range(100):
        chances = rng.uniform(0.2, 1, 80)
        found.append(over_samples((rng.random((2, 3, 80)) < chances).mean(axis=1).T @ np.array([1.0, -1.0])))
    assert np.mean(np.array(found) <= 0.05) < 0.12
    assert 0.4 < np.mean(found) < 0.6


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, float("nan")])[:3] == pytest.approx([0.03, 0.06, 0.06])
    assert math.isnan(holm([0.01, float("nan")])[1])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_keeps_the_order_and_never_lowers(values: list[float]) -> None:
    adjusted = holm(values)
    assert all(a >= p and a <= 1 for a, p in zip(adjusted, values, strict=True))
    assert sorted(adjusted) == [adjusted[i] for i in sorted(range(len(values)), key=values.__getitem__)]


@pytest.mark.parametrize(("methods", "quantile"), [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (10, 3.164)])
def test_critical_differences_are_those_of_demsars_table(methods: int, quantile: float) -> None:
    expected = quantile * math.sqrt(methods * (methods + 1) / (6 * 14))
    assert critical_difference(methods, 14) == pytest.approx(expected, rel=5e-4)


def unknown(_: str) -> str:
    return ""


def fill(fake) -> None:
    values = {"aimclr": (0.80, 0.70, 0.60), "hiclr": (0.75, 0.72, 0.55), "actclr": (0.85, 0.75, 0.55)}
    for method, accuracies in values.items():
        for dataset, accuracy in zip(("a", "b", "c"), accuracies, strict=True):
            for seed in (0, 1):
                fake.evaluate(method, "knn", seed, accuracy - 0.01 * seed * (method == "hiclr"), dataset=dataset)
    fake.evaluate("random", "knn", 0, 0.99, dataset="a")
    for method, accuracy in (("aimclr", 0.8), ("hiclr", 0.9), ("actclr", 0.7)):
        fake.evaluate(method, "linear", 0, accuracy, dataset="a")


def test_average_ranks_share_ties_and_leave_out_references(fake) -> None:
    fill(fake)
    (ranking,) = rankings(aggregate(collect(fake.folder)), unknown)
    assert ranking.protocol == "knn"
    assert len(ranking.benches) == 3
    # hiclr's second seed is one point lower, so on c it is 54.5 and last; elsewhere ranks are as listed.
    assert dict(zip(ranking.methods, ranking.ranks, strict=True)) == pytest.approx(
        {"actclr": 4 / 3, "aimclr": 2.0, "hiclr": 8 / 3}
    )
    # Friedman's chi-square by hand: 12 N / (k (k + 1)) (sum R^2 - k (k + 1)^2 / 4) = 8 / 3, two degrees of freedom.
    assert ranking.p == pytest.approx(math.exp(-8 / 3 / 2))
    assert ranking.groups == [(0, 2)]


def test_a_thin_bench_does_not_delete_the_ranking(fake) -> None:
    fill(fake)
    fake.evaluate("aimclr", "knn", 0, 0.6, dataset="a", stream="bone")
    fake.evaluate("igm", "knn", 0, 0.9, dataset="a")
    (ranking,) = rankings(aggregate(collect(fake.folder)), unknown)
    assert set(ranking.methods) == {"actclr", "aimclr", "hiclr"}
    assert len(ranking.benches) == 3
    assert [(bench.dataset, bench.stream) for bench in ranking.left_out] == [("a", "bone")]
    assert ranking.unranked == ("igm",)
    console = Console(width=200)
    with console.capture() as capture:
        console.print(comparison_report.write(fake.folder, figures=False))
    assert "Not in the ranks of knn, recipe paper, budget quick: a/xsub bone, igm" in capture.get()


def test_methods_are_compared_within_an_encoder_where_one_ran_on_several(fake) -> None:
    for encoder, values in {"stgcn": (0.6, 0.5, 0.4), "dsta": (0.7, 0.8, 0.9)}.items():
        for method, accuracy in zip(("aimclr", "hiclr", "actclr"), values, strict=True):
            fake.evaluate(method, "knn", 0, accuracy, dataset="a", encoder=encoder)
            fake.evaluate(method, "linear", 0, accuracy, dataset="a", encoder=encoder)
    for method, encoder, accuracy in (("aimclr", "stgcn", 0.8), ("hiclr", "dsta", 0.7), ("actclr", "dsta", 0.6)):
        fake.evaluate(method, "knn", 0, accuracy, dataset="b", encoder=encoder)
    cells = aggregate(collect(fake.folder))
    found = against_best(cells).set_index(["dataset", "within", "protocol", "method"])
    assert found.loc[("a", "stgcn", "knn", "aimclr"), "mark"] == "best"
    assert found.loc[("a", "dsta", "knn", "actclr"), "mark"] == "best"
    assert found.loc[("a", "dsta", "knn", "aimclr"), "gap"] == pytest.approx(-20)
    assert found.loc[("b", "", "knn", "hiclr"), "gap"] == pytest.approx(-10)
    own = {"aimclr": "stgcn", "hiclr": "dsta", "actclr": "stgcn"}
    (ranking,) = rankings(cells, own.__getitem__)
    assert [bench.dataset for bench in ranking.benches] == ["a", "b"]
    assert dict(zip(ranking.methods, ranking.ranks, strict=True)) == {"aimclr": 1.5, "hiclr": 1.5, "actclr": 3}
    assert dict(zip(ranking.methods, ranking.encoders, strict=True)) == {
        "aimclr": ("stgcn",), "hiclr": ("dsta",), "actclr": ("dsta", "stgcn"),
    }  # fmt: skip
    assert agreement(cells)[["within", "tau", "methods"]].values.tolist() == [["dsta", 1.0, 3], ["stgcn", 1.0, 3]]


@given(st.dictionaries(st.sampled_from("abcde"), st.frozensets(st.sampled_from("vwxyz")), max_size=5))
def test_no_complete_block_is_larger(rows: dict[str, frozenset[str]]) -> None:
    benches, names = largest_block(rows)
    sizes = [
        len(chosen) * len(frozenset.intersection(*(rows[bench] for bench in chosen)))
        for count in range(2, len(rows) + 1)
        for chosen in combinations(rows, count)
        if len(frozenset.intersection(*(rows[bench] for bench in chosen))) > 1
    ]
    assert len(benches) * len(names) == max(sizes, default=0)
    assert all(set(names) <= rows[bench] for bench in benches)
    assert all(bench in benches for bench in rows if names and set(names) <= rows[bench])


def test_against_best(fake) -> None:
    fill(fake)
    frame = against_best(aggregate(collect(fake.folder))).set_index(["dataset", "protocol", "method"])
    assert "random" not in frame.index.get_level_values("method")
    assert frame.loc[("a", "knn", "actclr"), "gap"] == 0
    assert frame.loc[("a", "knn", "aimclr"), "gap"] == pytest.approx(-5)
    assert frame.loc[("a", "knn", "aimclr"), "pairs"] == 2
    # 10 of 200 samples decide, all for the best; hiclr: 20 to 22, so its p is the smaller one and counts twice.
    assert frame.loc[("a", "knn", "aimclr"), "p_samples"] == pytest.approx(2 / 2**10)
    # hiclr's seeds differ from the best by 20 and 22 samples, always for the worse: only flips of none and of all are as
    # extreme, and 20,000 see none.
    assert frame.loc[("a", "knn", "hiclr"), "p_samples"] == pytest.approx(2 / 20_001)
    # Tukey's quantile for three methods and two seeds is 26.98 / sqrt 2 (printed table): 19 standard errors of half a point,
    # and what the samples add, are more than the 10.5 points of hiclr; aimclr's two gaps are equal.
    assert frame.mark.loc[("a", "knn")].to_dict() == {"actclr": "best", "aimclr": "", "hiclr": "tied"}
    assert frame.mark.loc[("a", "linear")].to_dict() == {"hiclr": "best", "aimclr": "single", "actclr": "single"}


def test_only_common_seeds_are_compared(fake) -> None:
    """A third seed of one method, however bad, says nothing about its difference to one that has not run it."""
    rng = np.random.default_rng(0)
    base = [rng.random(200) < 0.8 for _ in range(3)]
    for seed, own in enumerate(base):
        fake.evaluate("aimclr", "knn", seed, own)
    worse = base[0] & (np.arange(200) % 40 != 0)
    fake.evaluate("hiclr", "knn", 0, worse)
    frame = against_best(aggregate(collect(fake.folder))).set_index("method")
    lost = int((base[0] & ~worse).sum())
    assert frame.loc["hiclr", "p_samples"] == pytest.approx(2 / 2**lost)
    assert frame.loc["hiclr", "gap"] == pytest.approx(-lost / 2)
    assert (frame.loc["hiclr", "pairs"], frame.loc["hiclr", "mark"]) == (1, "single")
    assert math.isnan(frame.loc["hiclr", "p_seeds"])


@pytest.mark.parametrize("name", ["cmd", "cmd[distill.weight=0.5] #1f2e"])
def test_the_encoder_of_a_method_is_that_of_its_paper(name: str) -> None:
    assert own_encoder(name) == "bigru"
    assert own_encoder("of_somebody_else") == ""


def test_protocols_that_order_alike_agree(fake) -> None:
    fill(fake)
    frame = agreement(aggregate(collect(fake.folder)))
    assert frame[["dataset", "one", "other", "methods"]].values.tolist() == [["a", "knn", "linear", 3]]
    assert frame.tau.tolist() == [-1.0]  # knn: actclr, aimclr, hiclr; linear: hiclr, aimclr, actclr


def test_segmentation_is_compared_by_its_own_headline(fake) -> None:
    # Frames are right alike; what ranks the methods is mIoU.
    for dataset in ("a", "b"):
        for method, miou in (("aimclr", 40.0), ("hiclr", 42.0), ("actclr", 30.0)):
            for seed in (0, 1):
                metrics = {"miou": miou + seed * (method == "hiclr")}
                fake.evaluate(
                    method, "segmentation", seed, metrics=metrics, facts={"headline": "miou"}, dataset=dataset
                )
                fake.evaluate(method, "knn", seed, miou / 100, dataset=dataset)
    cells = aggregate(collect(fake.folder))
    frame = against_best(cells).set_index(["dataset", "protocol", "method"]).loc[("a", "segmentation")]
    assert frame.metric.tolist() == ["miou"] * 3
    assert frame.value.tolist() == pytest.approx([42.5, 40.0, 30.0])
    assert frame.gap.tolist() == pytest.approx([0, -2.5, -12.5])
    assert frame.loc["aimclr", "pairs"] == 2
    # Differences 12 and 13, or 2 and 3: t = 25 and 5 on one degree of freedom; of two tests the smaller p counts twice.
    assert frame.loc["actclr", "p_seeds"] == pytest.approx(2 * (1 - 2 / math.pi * math.atan(25)))
    assert frame.loc["aimclr", "p_seeds"] == pytest.approx(1 - 2 / math.pi * math.atan(5))
    assert frame.p_samples.isna().all()
    names = {ranking.protocol: list(ranking.methods) for ranking in rankings(cells, unknown)}
    assert names["segmentation"] == names["knn"] == ["hiclr", "aimclr", "actclr"]
    assert agreement(cells).tau.tolist() == [1.0, 1.0]


def test_the_report_is_written_and_repeats(fake) -> None:
    fill(fake)
    console = Console(width=200)
    with console.capture() as capture:
        console.print(comparison_report.write(fake.folder))
    assert "Average ranks" in capture.get()
    folder = fake.folder / "statistics"
    names = {path.name for path in folder.iterdir()}
    assert names == {"best.csv", "ranks.csv", "agreement.csv", "ranks.png", "ranks.svg"}
    assert pd.read_csv(folder / "ranks.csv").method.tolist() == ["actclr", "aimclr", "hiclr"]
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    comparison_report.write(fake.folder)
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}


def test_runs_that_cannot_be_compared_are_counted(fake) -> None:
    fill(fake)
    fake.evaluate("aimclr", "knn", 5, None, dataset="a", failure="out of memory")
    console = Console(width=2000)
    with console.capture() as capture:
        console.print(comparison_report.write(fake.folder, figures=False))
    assert "no proof of equality. 1 run failed or damaged, and not compared" in capture.get()


def test_a_picture_of_ranks_that_are_gone_goes(fake) -> None:
    fill(fake)
    comparison_report.write(fake.folder)
    for stage in fake.folder.glob("runs/evaluate/*/*"):
        if json.loads((stage / "stage.json").read_text())["labels"]["dataset"] != "a":
            shutil.rmtree(stage)
    comparison_report.write(fake.folder)
    assert not list((fake.folder / "statistics").glob("ranks.[ps]*g"))


def test_nothing_measured_is_fine(fake) -> None:
    console = Console(width=120)
    with console.capture() as capture:
        console.print(comparison_report.write(fake.folder))
    assert capture.get().count("too little has been measured") == 3
