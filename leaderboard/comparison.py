"""Which differences mean something: tests against the best method, average ranks over data, agreement of protocols."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import astuple, dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from leaderboard.cells import HEADLINE, Bench, Cell
from leaderboard.differences import Pairs, pairs
from leaderboard.tables import by_encoder, is_reference, rank_marks

LEVEL = 0.05
_EQUAL = 1e-9
"""Points; differences below come from rounding."""
_FLIPS, _SEED = 20_000, 0

Table = tuple[Bench, str]
"""What methods are compared in: a bench, and the encoder of all where one of them ran on several there, else ""."""
TABLE = (*Bench.__dataclass_fields__, "within")
"""Columns that name a table."""


def over_seeds(gaps: NDArray[np.float64]) -> float:
    """Paired t-test over the seeds that two methods have both run.

    Args:
        gaps: (seeds,) differences of what methods are ranked by.

    Returns:
        The two-sided p. 1 where nothing differs, and nan for fewer than two seeds or a difference that is the same for all:
        its spread is not known.
    """
    if len(gaps) < 2 or np.ptp(gaps) < _EQUAL:
        return 1.0 if len(gaps) > 1 and abs(float(gaps[0])) < _EQUAL else float("nan")
    return float(stats.ttest_1samp(gaps, 0.0).pvalue)


def over_samples(differences: NDArray[np.float64]) -> float:
    """Sign-flip permutation test of paired differences: whether their mean is 0 if each may as well have the other sign.

    It is about these trained networks on other samples, not about other trainings. The sum under flips depends only on how
    many differences of each size are flipped, so a flip of all is one binomial draw per size. Where all have one size, as
    right and wrong of one seed do, the test is exact: McNemar's. Else p comes from 20,000 flips, always the same ones.

    Args:
        differences: (n,) of the test samples, means over the same seeds of both methods.

    Returns:
        The two-sided p, 1 where nothing differs.
    """
    sizes, counts = np.unique(np.abs(differences).round(9), return_counts=True)
    sizes, counts = sizes[sizes > 0], counts[sizes > 0]
    if len(sizes) == 0:
        return 1.0
    if len(sizes) == 1:
        return float(stats.binomtest(int((differences > _EQUAL).sum()), int(counts[0])).pvalue)
    flipped = np.random.default_rng(_SEED).binomial(counts, 0.5, (_FLIPS, len(sizes)))
    extreme = np.abs((counts - 2 * flipped) @ sizes) >= abs(differences.sum()) - len(differences) * _EQUAL
    return float((1 + extreme.sum()) / (1 + _FLIPS))


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
        methods: those measured on all these benches, the best first.
        encoders: those that each method ran on, one or, where benches differ in it, several.
        left_out: benches that lack one of these methods.
        unranked: methods that lack one of these benches.
        ranks: their average ranks.
        p: of Friedman's test that all are alike; nan for fewer than three methods or two benches.
        critical: difference of average ranks below which two methods cannot be told apart (Nemenyi, 5 %).
    """

    protocol: str
    recipe: str
    budget: str
    benches: tuple[Bench, ...]
    methods: tuple[str, ...]
    encoders: tuple[tuple[str, ...], ...]
    left_out: tuple[Bench, ...]
    unranked: tuple[str, ...]
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


def largest_block(rows: Mapping[Bench, Set[str]]) -> tuple[list[Bench], list[str]]:
    """The benches and methods to rank: of all complete blocks, every method measured on every bench, the largest.

    Args:
        rows: which methods are measured on a bench.

    Returns:
        At least two benches, as ordered in ``rows``, and two methods, sorted, with the largest number of methods times
        benches; of equal ones that with more methods, then with the names that come first. Two empty lists where there is none.
    """
    shared: set[frozenset[str]] = set()  # what every possible choice of benches has in common
    for own in rows.values():
        shared |= {frozenset(own)} | {other & own for other in shared}
    blocks = [([bench for bench in rows if methods <= rows[bench]], sorted(methods)) for methods in shared]
    full = [(benches, methods) for benches, methods in blocks if len(benches) > 1 and len(methods) > 1]
    return min(full, key=lambda one: (-len(one[0]) * len(one[1]), -len(one[1]), one[1]), default=([], []))


def rankings(cells: Iterable[Cell], own: Callable[[str], str]) -> list[Ranking]:
    """One ranking per protocol, recipe and budget with at least two methods on at least two benches.

    Args:
        cells: of the leaderboard.
        own: the encoder of a method's paper. A method that ran on several on a bench is ranked with that one (if it is none of
            them, with the first by name): ranks on every encoder would count one set of data several times.
    """
    columns: dict[tuple[str, str, str], dict[Bench, dict[str, Cell]]] = defaultdict(lambda: defaultdict(dict))
    for cell in _ranked(cells):
        row = columns[cell.protocol, cell.bench.recipe, cell.bench.budget][cell.bench]
        if cell.method not in row or cell.encoder == own(cell.method):
            row[cell.method] = cell
    found = []
    for (protocol, recipe, budget), rows in sorted(columns.items()):
        benches, methods = largest_block({bench: frozenset(row) for bench, row in rows.items()})
        if not benches:
            continue
        values = np.array([[_value(rows[bench][method]) for method in methods] for bench in benches])
        ranks = stats.rankdata(-values, axis=1).mean(axis=0)
        differs = len(methods) > 2 and np.ptp(values, axis=1).any()
        order = np.argsort(ranks, kind="stable")
        found.append(
            Ranking(
                protocol,
                recipe,
                budget,
                benches=tuple(benches),
                methods=tuple(methods[i] for i in order),
                encoders=tuple(tuple(sorted({rows[b][methods[i]].encoder for b in benches})) for i in order),
                left_out=tuple(bench for bench in rows if bench not in benches),
                unranked=tuple(sorted(set().union(*rows.values()) - set(methods))),
                ranks=tuple(float(ranks[i]) for i in order),
                p=float(stats.friedmanchisquare(*values.T).pvalue) if differs else math.nan,
                critical=critical_difference(len(methods), len(benches)),
            )
        )
    return found


def against_best(cells: Iterable[Cell]) -> pd.DataFrame:
    """Every method beside the best one of its table and protocol.

    Returns:
        One row per cell: what it is, ``value`` of the ``metric`` that the protocol ranks by; its difference ``gap`` to the best
        over ``pairs`` common seeds, in points, with the interval ``low`` to ``high`` and the ``mark`` of the leaderboard; and p
        of both tests, adjusted by Holm's method within a column. nan where a test is not possible (untrimmed recordings are
        not right or wrong), and in the row of the best.
    """
    rows = []
    for (table, protocol), group in _columns(cells).items():
        best = max(group, key=_value)
        others = sorted((c for c in group if c is not best), key=lambda cell: -_value(cell))
        compared = [pairs(cell, best) for cell in others]
        by_seeds = holm([over_seeds(one.gaps) if one else math.nan for one in compared])
        by_samples = holm([_over_samples(one, best.headline) for one in compared])
        marks = rank_marks(group)
        nothing = (math.nan,) * 3 + (0, math.nan, math.nan)
        lines = [(0.0, *nothing[1:])]
        for one, p, q in zip(compared, by_seeds, by_samples, strict=True):
            gap = one.difference(len(group)) if one else None
            lines.append((gap.mean, gap.low, gap.high, gap.seeds, p, q) if gap else nothing)
        for cell, line in zip([best, *others], lines, strict=True):
            mark = marks.get((cell.method, cell.encoder), "")
            rows.append(
                (*_fields(table), protocol, cell.method, cell.encoder, cell.headline, _value(cell), *line, mark)
            )
    named = (
        "protocol", "method", "encoder", "metric", "value", "gap", "low", "high", "pairs", "p_seeds", "p_samples", "mark",
    )  # fmt: skip
    return pd.DataFrame(rows, columns=[*TABLE, *named])


def _over_samples(found: Pairs | None, headline: str) -> float:
    if found is None or found.samples is None or headline != HEADLINE:
        return math.nan
    return over_samples(found.samples.mean(axis=0))


def agreement(cells: Iterable[Cell]) -> pd.DataFrame:
    """How alike protocols order the methods of a table: Kendall's tau-b of every two with at least three methods in common.

    Returns:
        One row per table and pair of protocols: ``tau``, its ``p`` and the number of ``methods``; nan where one of the
        protocols orders nothing.
    """
    tables: dict[Table, dict[str, dict[str, float]]] = defaultdict(dict)
    for (table, protocol), group in _columns(cells).items():
        tables[table][protocol] = {cell.method: _value(cell) for cell in group}
    rows = []
    for table, protocols in tables.items():
        for one, other in combinations(sorted(protocols), 2):
            common = sorted(set(protocols[one]) & set(protocols[other]))
            if len(common) > 2:
                found = stats.kendalltau(*([protocols[name][method] for method in common] for name in (one, other)))
                rows.append((*_fields(table), one, other, float(found.statistic), float(found.pvalue), len(common)))
    return pd.DataFrame(rows, columns=[*TABLE, "one", "other", "tau", "p", "methods"])


def _columns(cells: Iterable[Cell]) -> dict[tuple[Table, str], list[Cell]]:
    """The cells that are ranked, by table of the leaderboard and protocol."""
    benches: dict[Bench, list[Cell]] = defaultdict(list)
    for cell in cells:
        benches[cell.bench].append(cell)
    columns: dict[tuple[Table, str], list[Cell]] = defaultdict(list)
    for bench, own in benches.items():
        for within, group in by_encoder(own):
            for cell in _ranked(group):
                columns[(bench, within), cell.protocol].append(cell)
    return columns


def _fields(table: Table) -> tuple[str, ...]:
    return (*astuple(table[0]), table[1])


def _ranked(cells: Iterable[Cell]) -> list[Cell]:
    return [cell for cell in cells if cell.headline in cell.metrics and not is_reference(cell.method)]


def _value(cell: Cell) -> float:
    """The mean over seeds of what its protocol ranks by, in percent."""
    return cell.metrics[cell.headline].mean
