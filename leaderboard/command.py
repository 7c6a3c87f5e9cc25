"""The command line that repeats a cell of the leaderboard, from how its records are labelled."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from leaderboard.collect import Stage, ancestors

_FROM_SCRATCH = {"supervised": "random"}
"""Rows that are run under another name."""
_FIXED_ENCODER = ("raw", "imported")
"""Methods that leave no choice of the encoder."""
_FILES = ("npz:", "form:")
"""Datasets that are a file of the user's, of which the records hold the name only."""


def command(runs: Sequence[Stage], stages: Mapping[str, Stage]) -> str:
    """One line for a shell that runs all seeds of a cell, and finds them done where they are.

    Args:
        runs: the evaluations of the cell.
        stages: all stages by key; those behind the runs tell whose setting a change is.

    Returns:
        The command. Where the records do not know a path, it holds ``PATH/``.
    """
    first = runs[0]
    labels = first.labels
    method, method_changes = split_label(labels.method)
    encoder, encoder_changes = split_label(labels.encoder)
    protocol, *fusion = labels.protocol.split(" ", 1)
    protocols = [split_label(one) for one in (protocol, *fusion)]
    here, frames = split_label(labels.dataset)
    base = method.partition(":")[0]
    method = _FROM_SCRATCH.get(base, base) + method[len(base) :]
    options = {
        "--methods": f"PATH/FILE.py:{method}" if _is_own(first, stages) else method,
        "--protocols": ",".join(name for name, _ in protocols),
        "--datasets": labels.source or _place(here, labels.split),
        "--targets": _place(here, labels.split) if labels.source else "",
        "--streams": labels.stream.replace("+", ","),
        "--seeds": ",".join(str(stage.labels.seed) for stage in runs),
        "--recipe": labels.recipe,
        "--budget": labels.budget,
    }
    sets = [f"encoder={encoder}"] if base not in _FIXED_ENCODER else []
    sets += [*frames, *_owned(base, method_changes, first, stages)]
    sets += [f"{encoder.partition(':')[0]}.{change}" for change in encoder_changes]
    sets += [f"{name.partition(':')[0]}.{change}" for name, changes in protocols for change in changes]
    words = [word for option, value in options.items() if value for word in (option, value)]
    words += [word for one in sets for word in ("--set", one)]
    return shlex.join(["python", "run_bench.py", *words])


def split_label(label: str) -> tuple[str, list[str]]:
    """``linear:aimclr[epochs=50,lr=[0.1,0.3]]`` to its name and its changes."""
    found = re.fullmatch(r"([^\[]*)\[(.*)\]", label, re.DOTALL)
    if not found:
        return label, []
    return found[1], re.split(r",(?=[A-Za-z_][\w.]*=)", found[2])


def _place(dataset: str, split: str) -> str:
    """As ``--datasets`` takes it."""
    name, colon, argument = dataset.partition(":")
    if not colon:
        return f"{dataset}/{split}"
    path = f"PATH/{argument}" + (".npz" if name == "npz" else "") if f"{name}:" in _FILES else argument
    return f"{name}:{path}#{split}"


def _owned(method: str, changes: Sequence[str], run: Stage, stages: Mapping[str, Stage]) -> list[str]:
    """Changes of a method with its name; those of the method whose run it starts from have theirs already."""
    chain = _pretrains(run, stages)
    config: Any = chain[0].identity.get("config", {}) if chain else {}
    earlier = {str(stage.identity.get("plugin")) for stage in chain[1:]}

    def is_own(change: str) -> bool:
        first = change.partition("=")[0].partition(".")[0]
        return first not in earlier or (isinstance(config, Mapping) and first in config)

    return [f"{method}.{change}" if is_own(change) else change for change in changes]


def _is_own(run: Stage, stages: Mapping[str, Stage]) -> bool:
    """Whether the method is not of the suite: its identity then holds a hash of its file."""
    return any("source" in stage.identity for stage in _pretrains(run, stages)[:1])


def _pretrains(run: Stage, stages: Mapping[str, Stage]) -> list[Stage]:

    return [stage for stage in ancestors(run, stages) if stage.kind == "pretrain"]
