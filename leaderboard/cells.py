"""From runs to cells: one cell is a method under a protocol on a split and stream, aggregated over seeds."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from functools import cached_property
from statistics import fmean, stdev
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from engine.config import digest
from leaderboard.collect import Run, Status
from leaderboard.statistics import Correctness, aligned, correctness, interval, margin

COLUMNS = (
    "dataset", "split", "source", "stream", "method", "encoder", "recipe", "budget", "protocol", "metric", "mean", "sd",
    "n", "ci_low", "ci_high", "feature_dim", "params", "pretrain_epochs", "window", "stride", "subsample", "pooling", "status",
    "keys",
)  # fmt: skip
"""Columns of ``leaderboard.csv``; ``source`` is empty where a method was pre-trained on the same data."""
HEADLINE = "top1"
"""What methods are ranked by, unless a record names another metric (``facts["headline"]``)."""
_NOT_METRICS = ("ci_low", "ci_high")
_CONSTANT = "majority_"
_WHOLE = ("n", "feature_dim", "params", "pretrain_epochs", "window", "stride", "subsample")
_STATUSES: tuple[Status, ...] = ("done", "failed", "unsupported", "pending")


@dataclass(frozen=True)
class Bench:
    """What a table is about; numbers of different benches are never compared.

    Attributes:
        dataset, split: what is evaluated on.
        source: ``dataset/split`` of the pre-training if that is another, else "".
        stream, budget, recipe: as in ``engine.records.Labels``.
    """

    dataset: str
    split: str
    source: str
    stream: str
    budget: str
    recipe: str


@dataclass(frozen=True)
class Summary:
    """A metric over seeds, in percent; ``sd`` is ``None`` for one seed, the interval where no scores are kept.

    The 95 % interval ``low`` to ``high`` is over seeds and test samples; of one seed over test samples only.
    """

    mean: float
    sd: float | None
    n: int
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Cell:
    """All seeds of one experiment.

    Attributes:
        bench: the table it belongs to.
        method, encoder, protocol: names; experiments that differ in a version or in the data, but not in the name, are
            told apart by a suffix (``knn v2 #07c1``, ``aimclr #1f2e``).
        runs: sorted by seed, unfinished ones included.
        origin: ``submitted`` or ``verified`` where others measured it, "" where this suite did.
    """

    bench: Bench
    method: str
    encoder: str
    protocol: str
    runs: tuple[Run, ...]
    origin: Literal["", "submitted", "verified"] = ""

    @property
    def done(self) -> list[Run]:
        """Finished runs."""
        return [run for run in self.runs if run.stage.status == "done"]

    @property
    def key(self) -> str:
        """The key of its first finished run, of its first run if none is finished; names the cell on the page."""
        return (self.done or self.runs)[0].stage.key

    @property
    def status(self) -> Status:
        """``done`` as soon as one seed is; else the most telling status. Of others' numbers, where they come from."""
        if self.origin:
            return self.origin
        return min((run.stage.status for run in self.runs), key=_STATUSES.index)

    @property
    def gap(self) -> str:
        """Why runs are missing, "" if none is: ``failed: out of memory``, ``1 seed pending``."""
        missing = Counter((run.stage.status, run.stage.reason) for run in self.runs if run.stage.status != "done")
        parts = []
        for (status, reason), count in sorted(missing.items()):
            seeds = f"{count} seed{'s' if count > 1 else ''} " if self.done else ""
            parts.append(f"{seeds}{status}: {reason}" if reason else f"{seeds}{status}")
        return "; ".join(parts)

    @property
    def changed(self) -> bool:
        """Whether settings were changed by ``--set`` or an ablation: ``aimclr[d3m=false]``."""
        return "[" in self.method + self.protocol + self.encoder

    @cached_property
    def scored(self) -> list[Correctness | None]:
        """Correctness per test sample, one for each finished run."""
        return [correctness(run.stage.folder / "scores.npz") for run in self.done]

    @cached_property
    def headline(self) -> str:
        """The metric that the method is ranked by under this protocol."""
        return str(self.done[0].stage.facts.get("headline", HEADLINE)) if self.done else HEADLINE

    @cached_property
    def metrics(self) -> dict[str, Summary]:
        """Every metric over the finished seeds that have it, by name."""
        names = {name for run in self.done for name in run.stage.metrics} - set(_NOT_METRICS)
        return {name: self._summary(name) for name in sorted(names)}

    def _summary(self, name: str) -> Summary:
        values = [run.stage.metrics[name] for run in self.done if name in run.stage.metrics]
        low, high = self._interval(values) if name == self.headline else (None, None)
        return Summary(fmean(values), stdev(values) if len(values) > 1 else None, len(values), low, high)

    def _interval(self, values: Sequence[float]) -> tuple[float | None, float | None]:
        """Of the headline, given its value per seed."""
        only = self.done[0].stage.metrics if len(self.done) == 1 else {}
        stored, right = (only.get("ci_low"), only.get("ci_high")), aligned(self.scored)
        # Of several draws of labels, a record holds the mean of their intervals.
        if right is None or (None not in stored and "top1_draws_sd" not in only):
            return stored
        if len(right) == 1:
            low, high = interval(right[0])
            return 100 * low, 100 * high
        mean, half = fmean(values), margin(100 * right.mean(axis=0), np.array(values))
        return max(mean - half, 0.0), min(mean + half, 100.0)

    @cached_property
    def constant(self) -> dict[str, Summary]:
        """Measures of the most frequent class predicted everywhere, where the records hold them."""
        names = {name.removeprefix(_CONSTANT): name for name in self.metrics if name.startswith(_CONSTANT)}
        return {name: self.metrics[stored] for name, stored in names.items()}

    def fact(self, name: str) -> int | None:
        """A whole number that the runs' records state (``params``, ``feature_dim``, ``pretrain_epochs``)."""
        value = self.stated(name)
        return None if value is None else int(value)

    def stated(self, name: str) -> Any:
        """What the runs' records state under a name, ``None`` where they state nothing."""
        return next((run.stage.facts[name] for run in self.done if name in run.stage.facts), None)


def aggregate(runs: Iterable[Run]) -> list[Cell]:
    """Group runs into cells, sorted by table, method, encoder and protocol."""
    benches: dict[Bench, list[Run]] = defaultdict(list)
    for run in runs:
        labels = run.stage.labels
        bench = Bench(**{field.name: getattr(labels, field.name) for field in fields(Bench)})
        benches[bench].append(run)
    cells = [cell for bench, group in benches.items() for cell in _cells(bench, group)]
    return sorted(cells, key=lambda cell: (*astuple(cell.bench), cell.method, cell.encoder, cell.protocol))


def frame(cells: Iterable[Cell]) -> pd.DataFrame:
    """The long table with the columns ``COLUMNS``: one row per cell and metric, missing numbers left empty.

    The majority class has rows of its own, as a method without encoder, once for each protocol on untrimmed recordings.
    """
    rows = []
    constant: dict[tuple[Bench, str], Cell] = {}
    for cell in cells:
        shared = {
            **vars(cell.bench),
            "method": cell.method,
            "encoder": cell.encoder,
            "protocol": cell.protocol,
            "status": cell.status,
            "keys": " ".join(run.stage.key for run in cell.done or cell.runs),
            **{name: cell.fact(name) for name in _WHOLE[1:]},
            "pooling": cell.stated("pooling"),
        }
        summaries = {name: one for name, one in cell.metrics.items() if not name.startswith(_CONSTANT)}
        if cell.constant and constant.setdefault((cell.bench, cell.protocol), cell) is cell:
            own = {"method": "majority", "encoder": "", "protocol": cell.protocol, "status": "done"}
            rows += [
                vars(cell.bench) | own | {"metric": name, "mean": s.mean, "n": s.n} for name, s in cell.constant.items()
            ]
        for metric, s in (summaries or {cell.headline: Summary(float("nan"), None, 0)}).items():
            numbers = {"metric": metric, "mean": s.mean, "sd": s.sd, "n": s.n, "ci_low": s.low, "ci_high": s.high}
            rows.append(shared | numbers)
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    real = ("mean", "sd", "ci_low", "ci_high")
    table = table.astype(dict.fromkeys(_WHOLE, "Int64") | dict.fromkeys(real, "float64"))
    return table.sort_values(list(COLUMNS[: COLUMNS.index("mean")]), kind="stable", ignore_index=True)


def _cells(bench: Bench, runs: Sequence[Run]) -> list[Cell]:
    groups = _experiments(runs)
    origins: dict[tuple[str, str], set[str]] = defaultdict(set)
    definitions: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for one in groups:
        origins[one.method, one.encoder].add(one.origin)
        definitions[one.protocol].add((one.definition, one.data))
    cells = []
    for one, group in groups.items():
        version, variant = group[0].version, digest([one.definition, one.data])
        method = _distinct(one.method, f"#{one.origin[:4]}", origins[one.method, one.encoder])
        protocol = _distinct(one.protocol, f"v{version} #{variant[:4]}", definitions[one.protocol])
        ordered = sorted(group, key=lambda run: (run.stage.labels.seed, run.stage.key))
        cells.append(Cell(bench, method, one.encoder, protocol, tuple(ordered)))
    return cells


class _Experiment(NamedTuple):
    """What the seeds of one cell have in common, see :class:`leaderboard.collect.Run`."""

    method: str
    encoder: str
    protocol: str
    origin: str
    definition: str
    data: str


def _experiments(runs: Sequence[Run]) -> dict[_Experiment, list[Run]]:
    """The runs of a bench by experiment; no seed is done twice in one."""
    origins: dict[tuple[str, str], set[str]] = defaultdict(set)
    data: dict[str, set[str]] = defaultdict(set)
    for run in runs:
        labels = run.stage.labels
        origins[labels.method, labels.encoder] |= {run.origin} - {""}
        data[labels.protocol] |= {run.data} if run.stage.status == "done" else set()
    found: dict[_Experiment, list[Run]] = defaultdict(list)
    for run in runs:
        labels = run.stage.labels
        # A run whose pre-training is not known (never planned, or its folder is gone) joins the others of its name, and so does
        # one whose data nothing was evaluated on: they were missing, say, or could not be used.
        origin = run.origin or min(origins[labels.method, labels.encoder], default="")
        known = data[labels.protocol]
        place = run.data if run.data in known else min(known, default="")
        names = labels.method, labels.encoder, labels.protocol
        found[_Experiment(*names, origin, run.definition, place)].append(run)
    apart: dict[_Experiment, list[Run]] = {}
    for one, group in found.items():
        seeds = [run.stage.labels.seed for run in group if run.stage.status == "done"]
        if len(set(seeds)) == len(seeds):
            apart[one] = group
        else:  # nothing tells which of them belong together, so each stands alone
            apart |= {one._replace(origin=run.stage.key): [run] for run in group}
    return apart


def _distinct(name: str, variant: str, variants: Collection[object]) -> str:
    return f"{name} {variant}" if len(variants) > 1 else name
