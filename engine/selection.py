"""What of a wish list the suite can do, and plans of several requests in one, cut down to what is going to be shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from engine.cells import SCRATCH, SUPERVISED, encoder_of
from engine.choices import parse_name, parse_sets, preset_tables
from engine.config import BenchError
from engine.data import Splits, open_dataset
from engine.plan import Job, Plan, Request, build
from engine.registry import Kind, locate, scan
from engine.stages import Stage
from engine.store import RunStore


def lacks(kind: Kind, name: str) -> str:
    """Why the suite has no plug-in ``name`` or ``name:preset`` of a kind; "" if it has."""
    base, _, preset = name.partition(":")
    plugins = scan(kind)
    if base not in plugins:
        return (
            "the suite does not have this method" if kind == "methods" else f"the suite has no {kind[:-1]} {base} yet"
        )
    try:
        preset_tables(plugins[base], preset, getattr(plugins[base].load(), "presets", {}))
    except BenchError:
        return f"{kind[:-1]} {base} has no preset {preset}"
    return ""


def encoders(method: str, sets: Sequence[str]) -> tuple[str, ...]:
    """Names of the encoders that a method, or training from scratch, is run with under ``--set`` options."""
    plugin, preset = parse_name("methods", SCRATCH if method == SUPERVISED else method)
    chosen = parse_sets(sets).encoders or (plugin.load().usual_encoder(preset),)
    return tuple(dict.fromkeys(encoder_of(plugin, locate("encoders", name)).name for name in chosen))


def lacks_data(asked: str, data: Path) -> str:
    """Why a dataset cannot be used, "" if it can; reads and prepares nothing."""
    name = asked.partition("/")[0]
    if ".py" not in asked and name.isidentifier() and (reason := lacks("datasets", name)):
        return reason
    try:
        dataset, _ = open_dataset(asked, data)
        if dataset.embedded or ":" in asked:
            return ""  # made, or read and prepared, on first use
        if not dataset.folder.is_dir():
            return f"{dataset.name} is not prepared in {data}/ (data prepare)"
        dataset.prepared()
    except BenchError as error:
        return str(error).splitlines()[0]
    return ""


def place(asked: str, data: Path) -> str:
    """``dataset/split`` as records name what was asked for.

    Raises:
        BenchError: unknown, or not prepared where the split is found in the data.
    """
    dataset, split = open_dataset(asked, data)
    return Splits(data)(asked).name if split == "auto" else f"{dataset.name}/{split}"


def build_all(
    requests: Sequence[Request], data: Path, store: RunStore, gpu: bool, tell: Callable[[str], None]
) -> list[Plan]:
    """Build requests that share the frames per clip; every dataset is loaded once."""
    plans: list[Plan] = []
    for request in requests:
        plans.append(build(request, data, store, gpu=gpu, tell=tell, splits=plans[0].splits if plans else None))
    return plans


def join(plans: Sequence[Plan], shown: Callable[[Stage], bool]) -> Plan:
    """One plan of several, cut down to the evaluations and fusions that are shown and what they need."""
    jobs = {job.stage.key: job for plan in plans for job in plan.jobs}
    kept: list[Job] = []
    needed: set[str] = set()
    for key, job in reversed(jobs.items()):
        if key in needed or (job.stage.kind in ("evaluate", "fuse") and shown(job.stage)):
            kept.append(job)
            needed.update(parent.key for parent in job.stage.parents)
    notes = dict.fromkeys(note for plan in plans for note in plan.notes)
    return Plan(tuple(reversed(kept)), plans[0].splits, tuple(notes))
