"""Which differences mean something: tests against the best method, average ranks over data, agreement of protocols."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from leaderboard.cells import HEADLINE, Bench, Cell
from leaderboard.collect import Run
from leaderboard.statistics import Correctness, average, correctness
from leaderboard.tables import is_reference

LEVEL = 0.05
_EQUAL = 1e-9
"""Points; differences below come from rounding."""
Name = tuple[str, str]
"""Method and encoder."""


def over_seeds(one: Mapping[int, float], other: Mapping[int, float]) -> tuple[float, int]:
    """Paired t-test of two methods over the seeds that both have run.

    Args:
        one: what methods are ranked by, by seed.
        other: the same of the other method.

    Returns:
        The two-sided p, and the number of pairs. p is 1 where nothing differs, and nan for fewer than two common seeds or
        a difference that is the same for all: its spread is not known.
    """
    common = sorted(set(one) & set(other))
    differences = np.array([one[seed] - other[seed] for seed in common])
    if len(common) < 2 or np.ptp(differences) < _EQUAL:
        same = len(common) > 1 and abs(float(differences[0])) < _EQUAL
        return 1.0 if same else float("nan"), len(common)
    return float(stats.ttest_1samp(differences, 0.0).pvalue), len(common)


def over_samples(one: Correctness | None, other: Correctness | None) -> float:
    """Exact sign test over the samples that one method classifies right more often than the other.

    With one seed each it is McNemar's exact test.

    Returns:
        The two-sided p; nan where scores are missing or of other samples.
    """
    if one is None or other is None or not np.array_equal(one.ids, other.ids):
        return float("nan")
    wins, losses = int((one.values > other.values).sum()), int((one.values < other.values).sum())
    return float(stats.binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


@dataclass(frozen=True)
class Difference:
    """A difference of two cells over the seeds that both have run, in points.

    Attributes:
        mean: of what the protocol ranks by.
        low, high: 95 % interval; nan where neither seeds nor samples tell a spread.
        seeds: number of pairs.
    """

    mean: float
    low: float
    high: float
    seeds: int

    @property
    def is_noise(self) -> bool:
        """Whether the interval holds 0."""
        return self.low <= 0 <= self.high


def difference(one: Cell, other: Cell) -> Difference | None:
    """How far ``one`` is above ``other``, paired by seed and by test sample.

    The interval adds up two independent sources: test samples, as 1.96 standard errors of the mean difference per sample, and
    from two seeds on the seeds, as their standard error times Student's quantile. With one seed it is about samples only.

    Returns:
        ``None`` where no seed is done of both.
    """
    values = [_by_seed(one), _by_seed(other)]
    common = sorted(set(values[0]) & set(values[1]))
    if not common:
        return None
    gaps = np.array([values[0][seed] - values[1][seed] for seed in common])
    parts = []
    right = [
        average([correctness(run.stage.folder / "scores.npz") for run in _of(cell, common)]) for cell in (one, other)
    ]
    if right[0] and right[1] and np.array_equal(right[0].ids, right[1].ids):
        per_sample = 100 * (right[0].values - right[1].values)
        parts.append(1.96 * float(per_sample.std()) / len(per_sample) ** 0.5)
    if len(gaps) > 1:
        parts.append(float(stats.t.ppf(0.975, len(gaps) - 1)) * float(gaps.std(ddof=1)) / len(gaps) ** 0.5)
    half = math.hypot(*parts) if parts else math.nan
    mean = float(gaps.mean())
    return Difference(mean, mean - half, mean + half, len(gaps))


def holm(values: Sequence[float]) -> list[float]:
    """p-values adjusted for having tested several times (Holm 1979); nan stays nan and does not count."""
    adjusted = np.full(len(values), np.nan)
    order = [i for i in np.argsort(values) if not np.isnan(values[i])]
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * values[i]))
        adjusted[i] = largest
    return [float(value) for value in adjusted]


@dataclass(frozen=True)
class Ranking:
    """Methods ranked on several benches by one protocol; rank 1 is best, equal values share the mean of their ranks.

    Attributes:
        protocol, recipe, budget: of all of them.
        benches: on which data and streams.
        names: methods measured on all benches, the best first.
        ranks: their average ranks.
        p: of Friedman's test that all are alike; nan for fewer than three methods or two benches.
        critical: difference of average ranks below which two methods cannot be told apart (Nemenyi, 5 %).
    """

    protocol: str
    recipe: str
    budget: str
    benches: tuple[Bench, ...]
    names: tuple[Name, ...]
    ranks: tuple[float, ...]
    p: float
    critical: float

    @property
    def groups(self) -> list[tuple[int, int]]:
        """First and last index of every longest run of methods that cannot be told apart."""
        ends = [max(j for j, rank in enumerate(self.ranks) if rank - first <= self.critical) for first in self.ranks]
        return [(i, end) for i, end in enumerate(ends) if end > i and (i == 0 or end > ends[i - 1])]


def critical_difference(methods: int, benches: int, level: float = LEVEL) -> float:
    """Nemenyi's critical difference of average ranks (Demsar, JMLR 7, 2006, section 3.2.2)."""
    quantile = float(stats.studentized_range.ppf(1 - level, methods, np.inf)) / math.sqrt(2)
    return quantile * math.sqrt(methods * (methods + 1) / (6 * benches))


def rankings(cells: Iterable[Cell]) -> list[Ranking]:
    """One ranking per protocol, recipe and budget with at least two methods on at least two benches."""
    columns: dict[tuple[str, str, str], dict[Bench, dict[Name, float]]] = defaultdict(lambda: defaultdict(dict))
    for cell in _ranked(cells):
        column = columns[cell.protocol, cell.bench.recipe, cell.bench.budget]
        column[cell.bench][cell.method, cell.encoder] = _value(cell)
    found = []
    for (protocol, recipe, budget), rows in sorted(columns.items()):
        names = sorted(set.intersection(*(set(row) for row in rows.values())))
        if len(names) < 2 or len(rows) < 2:
            continue
        values = np.array([[row[name] for name in names] for row in rows.values()])  # (benches, methods)
        ranks = stats.rankdata(-values, axis=1).mean(axis=0)
        p = (
            float(stats.friedmanchisquare(*values.T).pvalue)
            if len(names) > 2 and np.ptp(values, axis=1).any()
            else np.nan
        )
        order = np.argsort(ranks, kind="stable")
        found.append(
            Ranking(
                protocol,
                recipe,
                budget,
                tuple(rows),
                tuple(names[i] for i in order),
                tuple(float(ranks[i]) for i in order),
                p,
                critical_difference(len(names), len(rows)),
            )
        )
    return found


def against_best(cells: Iterable[Cell]) -> pd.DataFrame:
    """Every method beside the best one of its table and protocol.

    Returns:
        One row per cell: what it is, ``value`` of the ``metric`` that the protocol ranks by, ``gap`` to the best in points,
        and p of both tests, adjusted by Holm's method within a column; nan where a test is not possible (untrimmed
        recordings are not right or wrong), and in the row of the best.
    """
    columns: dict[tuple[Bench, str], list[Cell]] = defaultdict(list)
    for cell in _ranked(cells):
        columns[cell.bench, cell.protocol].append(cell)
    rows = []
    for (bench, protocol), group in columns.items():
        best = max(group, key=_value)
        others = sorted((c for c in group if c is not best), key=lambda cell: -_value(cell))
        seeds = [over_seeds(_by_seed(best), _by_seed(cell)) for cell in others]
        by_seeds = holm([p for p, _ in seeds])
        by_samples = holm([over_samples(_right(best), _right(cell)) for cell in others])
        tests = [(float("nan"), 0, float("nan"))] + [
            (p, n, q) for p, (_, n), q in zip(by_seeds, seeds, by_samples, strict=True)
        ]
        for cell, (p, n, q) in zip([best, *others], tests, strict=True):
            value, gap = _value(cell), _value(cell) - _value(best)
            rows.append((*astuple(bench), protocol, cell.method, cell.encoder, cell.headline, value, gap, p, n, q))
    named = ("protocol", "method", "encoder", "metric", "value", "gap", "p_seeds", "pairs", "p_samples")
    return pd.DataFrame(rows, columns=[*Bench.__dataclass_fields__, *named])


def agreement(cells: Iterable[Cell]) -> pd.DataFrame:
    """How alike protocols order the methods of a table: Kendall's tau-b of every two with at least three methods in common.

    Returns:
        One row per table and pair of protocols: ``tau``, its ``p`` and the number of ``methods``; nan where one of the
        protocols orders nothing.
    """
    columns: dict[Bench, dict[str, dict[Name, float]]] = defaultdict(lambda: defaultdict(dict))
    for cell in _ranked(cells):
        columns[cell.bench][cell.protocol][cell.method, cell.encoder] = _value(cell)
    rows = []
    for bench, protocols in columns.items():
        for one, other in combinations(sorted(protocols), 2):
            common = sorted(set(protocols[one]) & set(protocols[other]))
            if len(common) > 2:
                pair = [_values(protocols[name], common) for name in (one, other)]
                found = stats.kendalltau(*pair)
                rows.append((*astuple(bench), one, other, float(found.statistic), float(found.pvalue), len(common)))
    return pd.DataFrame(rows, columns=[*Bench.__dataclass_fields__, "one", "other", "tau", "p", "methods"])


def _values(column: Mapping[Name, float], names: Iterable[Name]) -> NDArray[np.float64]:
    return np.array([column[name] for name in names])


def _ranked(cells: Iterable[Cell]) -> list[Cell]:
    return [cell for cell in cells if cell.headline in cell.metrics and not is_reference(cell.method)]


def _value(cell: Cell) -> float:
    """The mean over seeds of what its protocol ranks by, in percent."""
    return cell.metrics[cell.headline].mean


def _right(cell: Cell) -> Correctness | None:
    """Which test samples were classified right; ``None`` where the protocol ranks by something else."""
    return cell.correct if cell.headline == HEADLINE else None


def _of(cell: Cell, seeds: Sequence[int]) -> list[Run]:
    return [run for run in cell.done if run.stage.labels.seed in seeds]


def _by_seed(cell: Cell) -> dict[int, float]:
    name = cell.headline
    return {run.stage.labels.seed: run.stage.metrics[name] for run in cell.done if name in run.stage.metrics}
