"""Figures from finished runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from engine.config import BenchError
from engine.options import WIDTH, changed_option, data_option, listed, read_option, results_option
from engine.registry import match

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from datasets.clips import Split
    from engine.bench import Bench as Workbench
    from engine.stages import Stage
    from leaderboard.cells import Bench, Cell
    from leaderboard.experiments import Experiment
    from leaderboard.skeletons import Skeleton

_CLIPS, _MASKED = 20, 4
"""Classes that the player and the figure of actionlets show."""
_TRUTH = "synthetic"
"""The set that knows which joints an action moves."""
_WRITTEN = (".svg", ".png", ".gif", ".json")
_NAMES = """
\b
From what runs left:    curves knn_linear labels confusion gain tsne rank
With data and weights:  average_motion actionlets clips views robustness
"""


@dataclass
class Scene:
    """What the figures of one bench are drawn from; data and networks are read when a figure needs them."""

    bench: Bench
    experiments: list[Experiment]
    results: Path
    data: Path
    console: Console
    reads: Mapping[str, str]

    @property
    def title(self) -> str:
        """One line about the bench."""
        place = f"{self.bench.dataset}/{self.bench.split} · {self.bench.stream} stream"
        return f"{place} · recipe {self.bench.recipe} · budget {self.bench.budget}"

    @property
    def dataset(self) -> str:
        """The dataset without its number of frames."""
        return self.bench.dataset.partition("[")[0]

    @property
    def asked(self) -> str:
        """The data as one asks for them."""
        named = f"{self.dataset}{'#' if ':' in self.dataset else '/'}{self.bench.split}"
        return self.reads.get(f"{self.dataset}/{self.bench.split}", named)

    @cached_property
    def frames(self) -> int | None:
        """Frames per clip, as the records state them."""
        facts = [run.stage.facts for one in self.experiments for cell in one.cells.values() for run in cell.done]
        return next((int(one["frames"]) for one in facts if "frames" in one), None)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, none where the data are not here."""
        from engine.data import open_dataset

        try:
            dataset, _ = open_dataset(self.asked, self.data, self.frames)
            return tuple(dataset.prepared().classes) if dataset.folder.is_dir() else ()
        except BenchError:
            return ()

    @cached_property
    def workbench(self) -> Workbench:
        """Runs, data and device of probes."""
        import torch

        from engine.bench import Bench as Workbench
        from engine.data import Splits
        from engine.progress import Reporter
        from engine.store import RunStore

        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return Workbench(RunStore(self.results), Splits(self.data, self.frames), device, Reporter(self.console))

    @cached_property
    def split(self) -> Split:
        """The data.

        Raises:
            BenchError: they are not prepared here.
        """
        return self.workbench.splits(self.asked, self.workbench.device)

    @cached_property
    def skeleton(self) -> Skeleton:
        """What is drawn of the data's layout."""
        from leaderboard.skeletons import Skeleton

        return Skeleton(self.split.layout.bones, self.split.layout.sides)

    def stage(self, key: str) -> Stage:
        """The stage of a finished run.

        Raises:
            BenchError: its record or an earlier one is gone, or made by other versions or a file outside of the project.
        """
        from engine.lookup import lineage
        from engine.rebuild import rebuild

        return rebuild(lineage(self.results, key), self.reads, {})[key]

    def methods(self) -> list[tuple[Experiment, Any]]:
        """The trained methods with the weights of their first seed, as far as these can be read.

        Raises:
            BenchError: none can.
        """
        found = []
        for one in self.experiments:
            if one.pretrainings and one.pretrainings[0].curve:
                try:
                    found.append((one, self.workbench.method(self.stage(one.pretrainings[0].key))))
                except BenchError as error:
                    self.note(f"without {one.title}: {error}")
        if not found:
            raise BenchError("no weights of a trained method can be read")
        return found

    def note(self, text: str, style: str = "dim") -> None:
        """Print one indented line."""
        line = " ".join(text.split())
        self.console.print(f"  {line}", style=style, highlight=False, markup=False, soft_wrap=True)


@click.command(epilog=_NAMES)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@listed("--methods", None, "Methods beside the reference rows.  [default: all]")
@changed_option
@read_option
@results_option
@data_option
def figures(
    names: tuple[str, ...], methods: tuple[str, ...], changed: bool, asked: tuple[str, ...], results: Path, data: Path
) -> None:
    """Draw figures NAME (default: all) of the runs in RESULTS, into RESULTS/figures."""
    from engine.commands.reproduce import data_names
    from engine.commands.run import assert_own_datasets
    from leaderboard.cells import aggregate
    from leaderboard.collect import collect
    from leaderboard.experiments import experiments
    from leaderboard.shown import shown
    from leaderboard.style import canvas

    assert_own_datasets()
    wanted = [match(name, {known: known for known in FIGURES}, "figure") for name in names] or list(FIGURES)
    console, reads = Console(width=WIDTH), data_names(asked)
    everything = aggregate(collect(results))
    cells, left_out = shown(everything, changed)
    found = experiments(_chosen(cells, methods), results)
    if left_out:
        console.print(left_out, style="dim", highlight=False, markup=False)
    if not found:
        raise BenchError(f"No evaluations in {results / 'runs'}. Run something: python run_bench.py --methods aimclr")
    suffixes = _suffixes(list(dict.fromkeys(cell.bench for cell in everything if not cell.bench.source)))
    drawn = set()
    for bench in found:
        scene = Scene(bench, found[bench], results, data, console, reads)
        console.print(scene.title, style="bold", highlight=False, markup=False)
        for name in wanted:
            with canvas():
                try:
                    paths = FIGURES[name](scene, results / "figures" / f"{name}{suffixes[bench]}")
                except BenchError as error:
                    scene.note(f"{name}: skipped, {str(error).splitlines()[0]}")
                    continue
            drawn.add(name)
            scene.note(f"{name}: {paths[0].with_suffix('')}.{{{','.join(path.suffix[1:] for path in paths)}}}", "")
    for name in drawn:
        # Skipped ones included: their runs are still there.
        current = {f"{name}{suffix}" for suffix in suffixes.values()}
        for old in (results / "figures").glob(f"{name}[-.]*"):
            if old.stem not in current and old.suffix in _WRITTEN and old.is_file():
                old.unlink()  # of runs that are gone, or named when there were fewer benches


def _chosen(cells: Sequence[Cell], methods: Sequence[str]) -> list[Cell]:
    """Cells of some methods, with presets and changes of any kind, and of the reference rows; of all where none is named.

    Raises:
        BenchError: there are no runs of a method.
    """
    from leaderboard.tables import base_name, is_reference

    known = {name: name for cell in cells if not is_reference(name := base_name(cell.method))}
    wanted = {match(name, known, "method") for name in methods} or set(known)
    return [cell for cell in cells if is_reference(cell.method) or base_name(cell.method) in wanted]


def _suffixes(benches: Sequence[Bench]) -> dict[Bench, str]:
    """What tells the files of benches apart: the parts of their names that are not the same in all of them."""
    columns = [column for column in zip(*map(astuple, benches), strict=True) if len(set(column)) > 1]
    plain = [[re.sub(r"[^A-Za-z0-9]+", "_", part) for part in column] for column in columns]
    told = zip(*plain, strict=True) if plain else [()] * len(benches)
    return {bench: "".join(f"-{part}" for part in parts) for bench, parts in zip(benches, told, strict=True)}


def _saved(draw: Callable[[Scene], Figure]) -> Callable[[Scene, Path], list[Path]]:
    """A figure as SVG and PNG."""

    def save(scene: Scene, path: Path) -> list[Path]:
        from leaderboard import style

        return style.save(draw(scene), path, scene.title)

    return save


def _from_records(name: str, *, named: bool = False) -> Callable[[Scene, Path], list[Path]]:
    """A figure that needs only what runs left; ``named``: and the names of the classes."""

    def draw(scene: Scene) -> Figure:
        drawing = import_module(f"leaderboard.drawings.{name}")
        figure: Figure = drawing.draw(scene.experiments, *([scene.classes] if named else []))
        return figure

    return _saved(draw)


def _average_motion(scene: Scene) -> Figure:
    from engine.probes import average_motion, examples
    from leaderboard.drawings import motion

    (clip,) = examples(scene.split, 1)
    return motion.draw(average_motion(scene.split), clip.poses, scene.skeleton, scene.split.classes[clip.label])


def _actionlets(scene: Scene) -> Figure:
    from datasets.synthetic import load_actionlets
    from engine.probes import attends, attention, examples, fit
    from leaderboard.drawings import actionlets

    test, shown = scene.split.test, examples(scene.split, _MASKED)
    known = scene.dataset == _TRUTH
    truth = load_actionlets(scene.data, scene.bench.split, test.clips.shape[2])[1] if known else None
    masks, lines, fits = {}, {}, {}
    for one, method in scene.methods():
        if attends(method):
            masks[one.title] = attention(method, test.clips)
            if truth is not None:
                fits[one.title], lines[one.title] = fit(masks[one.title], truth, test)
    if not masks:
        raise BenchError("no method here attends to anything (actclr does)")
    listed = [
        actionlets.Masked(
            scene.split.classes[clip.label],
            clip.poses,
            {name: mask[clip.index] for name, mask in masks.items()},
            None if truth is None else truth[clip.index],
            {name: float(each[clip.index]) for name, each in fits.items()},
        )
        for clip in shown
    ]
    return actionlets.draw(listed, scene.skeleton, lines)


def _clips(scene: Scene, path: Path) -> list[Path]:
    from engine.probes import examples
    from leaderboard.drawings import player

    shown = [player.Moving(scene.split.classes[one.label], one.poses) for one in examples(scene.split, _CLIPS)]
    return player.save(shown, scene.skeleton, path, scene.title, columns=5)


def _views(scene: Scene, path: Path) -> list[Path]:
    from engine.probes import examples, views
    from leaderboard.drawings import player

    (clip,) = examples(scene.split, 1)
    own = scene.split.test.clips[clip.index : clip.index + 1]
    rows = [(one.title, views(method, own)) for one, method in scene.methods()]
    name = scene.split.classes[clip.label]
    columns = 1 + max(len(found) for _, found in rows)
    shown: list[player.Moving | None] = []
    for title, found in rows:
        shown.append(player.Moving(name, clip.poses, title))
        shown += [player.Moving(f"{title}, view {i}", view[0], title) for i, view in enumerate(found, 1)]
        shown += [None] * (-len(shown) % columns)
    return player.save(shown, scene.skeleton, path, scene.title, columns)


def _robustness(scene: Scene) -> Figure:
    from engine.probes import KINDS, robustness
    from leaderboard.drawings import robustness as drawing
    from leaderboard.experiments import measured

    protocol, done = measured(scene.experiments, ("knn", "linear"))
    curves: list[tuple[Experiment, Sequence[Mapping[str, Sequence[float]]]]] = []
    for one, cell in done:
        try:
            stages = [scene.stage(run.stage.key) for run in cell.done]
            curves.append((one, [robustness(stage, scene.workbench) for stage in stages]))
        except BenchError as error:
            scene.note(f"without {one.title}: {error}")
    if not curves:
        raise BenchError("nothing that is needed is there any more")
    kinds = {name: drawing.Corrupted(kind.title, kind.unit, kind.strengths) for name, kind in KINDS.items()}
    return drawing.draw(curves, kinds, protocol)


FIGURES: Mapping[str, Callable[[Scene, Path], list[Path]]] = {
    "curves": _from_records("curves"),
    "knn_linear": _from_records("knn_linear"),
    "labels": _from_records("labels"),
    "confusion": _from_records("confusion", named=True),
    "gain": _from_records("gain", named=True),
    "tsne": _from_records("tsne", named=True),
    "rank": _from_records("rank"),
    "average_motion": _saved(_average_motion),
    "actionlets": _saved(_actionlets),
    "clips": _clips,
    "views": _views,
    "robustness": _saved(_robustness),
}
"""Figures by name."""
