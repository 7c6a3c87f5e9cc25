"""From a request to a plan: a deduplicated list of stages, parents first, with what is known about each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

from datasets.clips import Split
from datasets.streams import STREAMS
from engine import imports
from engine.cells import Cells, encoder_of, fuse, lineage
from engine.choices import (
    Settings,
    assign,
    choose,
    parse_name,
    parse_sets,
    preset_tables,
    tuned_keys,
)
from engine.config import BenchError, Overrides, suggestion
from engine.data import Splits
from engine.records import Labels
from engine.registry import Plugin, locate
from engine.stages import Stage
from engine.store import RunStore, State
from engine.targets import home, places
from methods.base import Method

REFERENCES = ("random", "raw")
"""Methods that every table carries."""
FUSION = "fusion"
"""The protocol that joins several streams."""
RECIPES = ("paper", "released")
BUDGETS = ("quick", "full")
_SMALL = 5000
"""Fewer training clips than this, and no GPU: the quick budget is the default."""


@dataclass(frozen=True)
class Request:
    """What was asked for; a budget of ``None`` is chosen by the size of the data, no targets are the datasets' own.

    ``overrides`` are changes by plug-in beside those of ``sets``, which they win over.
    """

    methods: tuple[str, ...]
    protocols: tuple[str, ...]
    datasets: tuple[str, ...] = ("synthetic",)
    targets: tuple[str, ...] = ()
    streams: tuple[str, ...] = ("joint",)
    seeds: tuple[int, ...] = (0,)
    budget: str | None = None
    recipe: str = "paper"
    sets: tuple[str, ...] = ()
    overrides: Mapping[str, Overrides] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """A stage of a plan and its state; ``reason`` says why it is unsupported or failed."""

    stage: Stage
    state: State
    reason: str = ""


@dataclass(frozen=True)
class Plan:
    """What a request comes to.

    Attributes:
        jobs: all stages, parents before children; finished stages that nothing needs any more are left out.
        splits: the loaded data.
        notes: choices made on the user's behalf, in words.
    """

    jobs: tuple[Job, ...]
    splits: Splits
    notes: tuple[str, ...] = ()

    @property
    def todo(self) -> tuple[Job, ...]:
        """Jobs that running the plan would run."""
        return tuple(job for job in self.jobs if job.state in ("to do", "resume", "retry"))

    @property
    def stages(self) -> dict[str, Stage]:
        """All stages by key, and those that they start from."""
        found: dict[str, Stage] = {}
        stages = [job.stage for job in self.jobs]
        while stages:
            stage = stages.pop()
            if stage.key not in found:
                found[stage.key] = stage
                stages += stage.parents
        return found

    def count(self, state: State) -> int:
        """Number of jobs in a state."""
        return sum(job.state == state for job in self.jobs)


def build(
    request: Request,
    data: Path,
    store: RunStore,
    gpu: bool = False,
    tell: Callable[[str], None] = lambda line: None,
    splits: Splits | None = None,
) -> Plan:
    """Resolve a request completely and look up what of it is done.

    Args:
        request: what was asked for.
        data: folder of prepared data.
        store: where results are.
        gpu: whether the run will have a GPU; only the default budget depends on it.
        tell: takes a line when data has to be generated first.
        splits: of an earlier plan with the same data and frames, so that nothing is loaded twice.

    Raises:
        BenchError: unknown names, keys, values, streams, or data that is not prepared.
    """
    for stream in request.streams:
        _known(stream, STREAMS, "stream")
    _known(request.recipe, RECIPES, "recipe")
    if request.budget is not None:
        _known(request.budget, BUDGETS, "budget")
    sets = parse_sets(request.sets)
    notes: dict[str, None] = {}
    # The run that a method starts from has to be made anyway: its row costs seconds and shows what was added.
    imported = imports.found(store.results)
    methods = _unique(
        pair
        for name in (*REFERENCES, *request.methods)
        for plugin, preset in [parse_name("methods", name)]
        for pair in (
            *((earlier, "") for earlier in lineage(plugin)[:0:-1]),
            *((plugin, each) for each in (imported if plugin.load().imports and not preset else [preset])),
        )
    )
    evaluators, fusions = _sorted_protocols(request, notes)
    names = sets.encoders or [
        plugin.load().usual_encoder(preset) for plugin, preset in methods if plugin.name not in REFERENCES
    ]
    chosen = list(dict.fromkeys(locate("encoders", name) for name in names)) or [
        locate("encoders", Method.default_encoder)
    ]
    ancestors = [ancestor for plugin, _ in methods for ancestor in lineage(plugin)]
    encoders = [encoder_of(plugin, encoder) for plugin, encoder in product(ancestors, chosen)]
    changes = assign(sets.triples, [*ancestors, *(plugin for plugin, _ in (*evaluators, *fusions)), *encoders])
    overrides = {
        name: {**changes.get(name, {}), **request.overrides.get(name, {})} for name in {*changes, *request.overrides}
    }
    splits = splits or Splits(data, sets.frames, tell, store.read_only)
    if request.targets and not any(plugin.load().on_targets for plugin, _ in evaluators):
        raise BenchError("--targets: no protocol of this run evaluates on other data; add one, e.g. transfer.")
    stages: dict[str, Stage] = {}
    reasons: dict[str, str] = {}
    if not imported and any(parse_name("methods", name)[0].load().imports for name in request.methods):
        notes[f"nothing is imported in {store.results}/ yet: see import-weights"] = None

    def add(cell: Stage, reason: str | None) -> None:
        for stage in [cell] if reason else _with_ancestors(cell):
            stages.setdefault(stage.key, stage)
        if reason:
            reasons[cell.key] = reason

    for asked in request.datasets:
        at = home(asked, splits)
        budget = request.budget or _default_budget(splits(asked), gpu, notes)
        settings = Settings(request.recipe, budget, tuned_keys(budget, at.data.name), overrides, imported)
        where = {p: places(p, at, request.targets, splits) for p in dict.fromkeys(plugin for plugin, _ in evaluators)}
        refused = [place.reason for found in where.values() for place in found]
        if all(refused):
            raise BenchError(refused[0])
        for seed in request.seeds:
            by_stream: dict[Labels, list[tuple[Stage, str | None]]] = {}
            for stream, encoder in product(request.streams, chosen):
                labels = Labels(
                    dataset=at.dataset,
                    split=at.split,
                    stream=stream,
                    method="",
                    encoder="",
                    recipe=request.recipe,
                    budget=budget,
                    seed=seed,
                )
                on_it = replace(settings, tuned=tuned_keys(budget, at.data.name, encoder.name))
                cells = Cells(at, on_it, encoder, labels, splits)
                for (method, method_preset), (protocol, preset) in product(methods, evaluators):
                    if method.load().encoder_name and encoder is not chosen[0]:
                        continue  # it always uses the same one
                    if not (sets.encoders or _is_usual(encoder, method, method_preset)):
                        continue
                    for place in where[protocol]:
                        there = replace(settings, tuned=tuned_keys(budget, place.data.name, encoder.name))
                        cell, reason = cells.cell(method, method_preset, choose(protocol, preset, there), place)
                        add(cell, reason)
                        key = cell.labels.model_copy(update={"stream": ""})
                        by_stream.setdefault(key, []).append((cell, reason))
            for parts, (plugin, preset) in product(by_stream.values(), fusions):
                add(*fuse(parts, choose(plugin, preset, settings)))
    return Plan(tuple(_jobs(stages.values(), reasons, store)), splits, tuple(notes))


def _sorted_protocols(
    request: Request, notes: dict[str, None]
) -> tuple[list[tuple[Plugin, str]], list[tuple[Plugin, str]]]:
    """Protocols that evaluate a stream, and those that fuse several; with several streams there is always one of these."""
    asked = _unique(pair for name in request.protocols for pair in _headlines(*parse_name("protocols", name)))
    for plugin, preset in asked:
        preset_tables(plugin, preset, plugin.load().presets)
    fusions = [(plugin, preset) for plugin, preset in asked if plugin.load().needs == "scores"]
    evaluators = [pair for pair in asked if pair not in fusions]
    if not evaluators:
        raise BenchError(
            f"{fusions[0][0].name} combines the scores of other protocols: name at least one, e.g. linear."
        )
    if len(request.streams) > 1:
        return evaluators, _unique([parse_name("protocols", FUSION), *fusions])
    if fusions:
        notes[f"{fusions[0][0].name}: nothing to combine with one stream (--streams {','.join(STREAMS)})"] = None
    return evaluators, []


def _headlines(protocol: Plugin, preset: str) -> list[tuple[Plugin, str]]:
    return [(protocol, one) for one in ([preset] if preset else protocol.load().headlines)]


def _with_ancestors(stage: Stage) -> list[Stage]:
    return [earlier for parent in stage.parents for earlier in _with_ancestors(parent)] + [stage]


def _jobs(stages: Iterable[Stage], reasons: Mapping[str, str], store: RunStore) -> list[Job]:
    """Parents before children, without unfinished stages that nothing needs (features deleted to save space, say)."""
    known: dict[str, Job] = {}
    for stage in stages:
        state, reason = store.state(stage)
        if stage.key in reasons:
            state, reason = "unsupported", reasons[stage.key]
        if state not in ("done", "unsupported"):
            broken = next((known[parent.key] for parent in stage.parents if known[parent.key].state == "failed"), None)
            if broken:
                state, reason = "failed", broken.stage.blamed(broken.reason)
        known[stage.key] = Job(stage, state, reason)
    kept: list[Job] = []
    needed: set[str] = set()
    for job in reversed(known.values()):
        if job.state in ("done", "unsupported") or job.stage.kind in ("evaluate", "fuse") or job.stage.key in needed:
            kept.append(job)
            if job.state not in ("done", "unsupported"):
                needed.update(
                    p.key for p in job.stage.parents if job.state != "failed" or known[p.key].state == "failed"
                )
    return kept[::-1]


def _is_usual(encoder: Plugin, method: Plugin, preset: str) -> bool:
    """Whether a method is run with an encoder where the user names none: its own, reference rows with all that others use."""
    return method.name in REFERENCES or encoder.name == method.load().usual_encoder(preset)


def _default_budget(split: Split, gpu: bool, notes: dict[str, None]) -> str:
    small = len(split.train) < _SMALL and not gpu
    why = f"{len(split.train):,} training clips, {'a' if gpu else 'no'} GPU"
    other = "--budget full: the published settings" if small else "--budget quick: a short run"
    notes[f"{split.name}: budget {'quick' if small else 'full'} ({why}; {other})"] = None
    return "quick" if small else "full"


def _unique(items: Iterable[tuple[Plugin, str]]) -> list[tuple[Plugin, str]]:
    return list(dict.fromkeys(items))


def _known(name: str, names: Sequence[str], what: str) -> None:
    if name not in names:
        raise BenchError(f"Unknown {what} {name!r}.{suggestion(name, names)} Known: {', '.join(names)}.")
