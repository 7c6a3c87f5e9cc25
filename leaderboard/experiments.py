"""What figures are drawn from: every method of a bench with all that was measured on it and what it left behind."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from pydantic import ValidationError

from engine.config import BenchError
from engine.records import Record
from leaderboard.cells import Bench, Cell, Summary
from leaderboard.collect import Run
from leaderboard.features import stored
from leaderboard.style import RGB, method_colours, wrapped
from leaderboard.tables import is_reference, method_order, method_title

MAIN = ("linear", "knn")
"""Protocols that stand for a method where one number is wanted, the first one first."""
_MARKERS = ("o", "s", "^", "D", "v", "P")
_LINES: tuple[Any, ...] = ("-", (0, (1, 1)), (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (7, 1, 1, 1, 1, 1)))


@dataclass(frozen=True)
class Experiment:
    """A method on a bench.

    Attributes:
        method: as records name it.
        title: as figures name it.
        colour: the same in all figures of a results folder.
        cells: by protocol.
        results: the folder of all runs.
        place: of its encoder among those that the method ran on; tells points and lines of one colour apart.
    """

    method: str
    title: str
    colour: RGB
    cells: Mapping[str, Cell]
    results: Path
    place: int = 0

    def handle(self, line: bool = False) -> Line2D:
        """Its entry in a legend: a dot, hollow for references, or a line, dashed for references."""
        if line:
            return Line2D([], [], color=self.colour, lw=1.5, ls=self.dashes, label=self.label)
        face = "white" if self.reference else self.colour
        return Line2D([], [], color=self.colour, ls="", marker=self.marker, mew=1.5, mfc=face, label=self.label)

    @property
    def label(self) -> str:
        """Its title in lines that fit beside a figure."""
        return wrapped(self.title, 1.75, 8)

    @property
    def marker(self) -> str:
        """The shape of its points."""
        return _MARKERS[self.place % len(_MARKERS)]

    @property
    def dashes(self) -> Any:
        """The style of its lines."""
        return (0, (4, 2)) if self.reference else _LINES[self.place % len(_LINES)]

    @property
    def reference(self) -> bool:
        """Whether it is only read against."""
        return is_reference(self.method)

    def cell(self, *protocols: str) -> Cell | None:
        """The first of these protocols that is done."""
        return next((self.cells[name] for name in protocols if name in self.cells and self.cells[name].done), None)

    def top1(self, *protocols: str) -> Summary | None:
        """Its accuracy under the first of these protocols that is done."""
        cell = self.cell(*protocols)
        return cell.metrics.get("top1") if cell else None

    @cached_property
    def pretrainings(self) -> list[Record]:
        """Records of the pre-trainings, one per seed, as far as they are still there."""
        seeds: dict[int, Record] = {}
        for cell in self.cells.values():
            for run in cell.done:
                if run.stage.labels.seed not in seeds and (record := self._pretraining(run.stage.parents)):
                    seeds[run.stage.labels.seed] = record
        return [seeds[seed] for seed in sorted(seeds)]

    def features(self, part: str) -> NDArray[np.float32] | None:
        """Encoder features (N, D) of ``train`` or ``test`` by the first seed; ``None`` where they are not there any more."""
        return next((found for _, run in self._on_features() if (found := stored(run.stage, part)) is not None), None)

    def test(self) -> tuple[NDArray[np.int64], tuple[str, ...]] | None:
        """Labels (n,) and names of the test clips, rows as in ``features("test")``."""
        for _, run in self._on_features():
            try:
                with np.load(run.stage.folder / "scores.npz", allow_pickle=False) as stored:
                    return stored["label"], tuple(stored["id"])
            except (OSError, KeyError, ValueError, EOFError):
                continue
        return None

    def _on_features(self) -> list[tuple[str, Run]]:
        found = [(name, self.cells[name]) for name in MAIN if name in self.cells]
        return [(name, cell.done[0]) for name, cell in found if cell.done and cell.done[0].stage.kind == "evaluate"]

    def _pretraining(self, parents: Iterable[str]) -> Record | None:
        for key in parents:
            for kind in ("pretrain", "features"):
                if (folder := self._folder(kind, key)) and (record := self._read(folder)):
                    return record if kind == "pretrain" else self._pretraining(record.parents)
        return None

    def _folder(self, kind: str, key: str) -> Path | None:
        return next(iter(sorted(self.results.glob(f"runs/{kind}/*/{key}"))), None)

    @staticmethod
    def _read(folder: Path) -> Record | None:
        try:
            return Record.model_validate_json((folder / "record.json").read_bytes())
        except (OSError, ValidationError):
            return None


def experiments(cells: Iterable[Cell], results: Path) -> dict[Bench, list[Experiment]]:
    """Experiments of all benches without other data to evaluate on, each in the order of the leaderboard.

    Args:
        cells: of the leaderboard.
        results: the folder with ``runs/``.
    """
    benches: dict[Bench, dict[tuple[str, str], dict[str, Cell]]] = defaultdict(lambda: defaultdict(dict))
    for cell in cells:
        if not cell.bench.source:
            benches[cell.bench][cell.method, cell.encoder][cell.protocol] = cell
    colours = method_colours(method for names in benches.values() for method, _ in names)
    found = {}
    for bench, names in benches.items():
        made = [
            Experiment(
                method,
                method_title(method) + _told(method, encoder, names),
                colours[method],
                protocols,
                results,
                _encoders(method, names).index(encoder),
            )
            for (method, encoder), protocols in names.items()
        ]
        found[bench] = sorted(made, key=_order)
    return found


def _told(method: str, encoder: str, names: Iterable[tuple[str, str]]) -> str:
    """The encoder behind a method's name, where the method ran on several."""
    return f", {encoder}" if len(_encoders(method, names)) > 1 else ""


def _encoders(method: str, names: Iterable[tuple[str, str]]) -> list[str]:
    """Those that a method ran on."""
    return sorted(encoder for other, encoder in names if other == method)


def _order(experiment: Experiment) -> tuple[int, float, tuple[str, str]]:
    return method_order(experiment.cell(*MAIN) or next(iter(experiment.cells.values())))


def measured(
    found: Iterable[Experiment], protocols: tuple[str, ...] = MAIN
) -> tuple[str, list[tuple[Experiment, Cell]]]:
    """The first of the protocols under which anything but references is done, and all experiments done under it.

    Raises:
        BenchError: there is none.
    """
    listed = list(found)
    for protocol in protocols:
        done = [(one, cell) for one in listed if (cell := one.cell(protocol))]
        if any(not one.reference for one, _ in done):
            return protocol, done
    raise BenchError(f"no method is evaluated by {' or '.join(protocols)}")
