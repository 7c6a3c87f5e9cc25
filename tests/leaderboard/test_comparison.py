from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from leaderboard import comparison_report
from leaderboard.cells import aggregate
from leaderboard.collect import collect
from leaderboard.comparison import (
    against_best,
    agreement,
    critical_difference,
    holm,
    over_samples,
    over_seeds,
    rankings,
)
from leaderboard.statistics import Correctness


def right(*values: float) -> Correctness:
    return Correctness(np.arange(len(values)), np.array(values, float))


def test_over_seeds_is_the_paired_t_test() -> None:
    # Differences 1, 2, 3: t = 2 / (1 / sqrt 3) = 3.464 on two degrees of freedom, p = 1 - t / sqrt(t^2 + 2) = 0.0742.
    p, pairs = over_seeds({0: 51.0, 1: 62.0, 2: 73.0, 7: 1.0}, {0: 50.0, 1: 60.0, 2: 70.0, 8: 99.0})
    assert pairs == 3
    assert p == pytest.approx(1 - math.sqrt(12) / math.sqrt(14), abs=1e-9)


def test_over_seeds_says_nothing_about_one_pair_or_a_constant_difference() -> None:
    assert math.isnan(over_seeds({0: 51.0}, {0: 50.0})[0])
    assert math.isnan(over_seeds({0: 51.0, 1: 61.0}, {0: 50.0, 1: 60.0})[0])
    assert over_seeds({0: 51.0, 1: 61.0}, {0: 51.0, 1: 61.0}) == (1.0, 2)


def test_over_samples_is_mcnemars_exact_test() -> None:
    # 8 samples decide, 7 against 1: p = 2 (C(8, 0) + C(8, 1)) / 2^8.
    one, other = [1] * 7 + [0] + [1] * 5, [0] * 7 + [1] + [1] * 5
    assert over_samples(right(*one), right(*other)) == pytest.approx(2 * 9 / 256)
    assert over_samples(right(*one), right(*one)) == 1.0
    assert math.isnan(over_samples(right(1, 0), None))
    assert math.isnan(over_samples(right(1, 0), right(1, 0, 1)))


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
    (ranking,) = rankings(aggregate(collect(fake.folder)))
    assert ranking.protocol == "knn"
    assert len(ranking.benches) == 3
    # hiclr's second seed is one point lower, so on c it is 54.5 and last; elsewhere ranks are as listed.
    assert dict(zip([name for name, _ in ranking.names], ranking.ranks, strict=True)) == pytest.approx(
        {"actclr": 4 / 3, "aimclr": 2.0, "hiclr": 8 / 3}
    )
    # Friedman's chi-square by hand: 12 N / (k (k + 1)) (sum R^2 - k (k + 1)^2 / 4) = 8 / 3, two degrees of freedom.
    assert ranking.p == pytest.approx(math.exp(-8 / 3 / 2))
    assert ranking.groups == [(0, 2)]


def test_against_best(fake) -> None:
    fill(fake)
    frame = against_best(aggregate(collect(fake.folder))).set_index(["dataset", "protocol", "method"])
    assert "random" not in frame.index.get_level_values("method")
    assert frame.loc[("a", "knn", "actclr"), "gap"] == 0
    assert frame.loc[("a", "knn", "aimclr"), "gap"] == pytest.approx(-5)
    assert frame.loc[("a", "knn", "aimclr"), "pairs"] == 2
    # 10 of 200 samples decide, all for the best; hiclr: 20 to 22, so its p is the smaller one and counts twice.
    assert frame.loc[("a", "knn", "aimclr"), "p_samples"] == pytest.approx(2 / 2**10)
    assert frame.loc[("a", "knn", "hiclr"), "p_samples"] == pytest.approx(2 * 2 / 2**22)


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
    names = {ranking.protocol: [name for name, _ in ranking.names] for ranking in rankings(cells)}
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


def test_nothing_measured_is_fine(fake) -> None:
    console = Console(width=120)
    with console.capture() as capture:
        console.print(comparison_report.write(fake.folder))
    assert capture.get().count("too little has been measured") == 3
