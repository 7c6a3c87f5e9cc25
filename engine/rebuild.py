"""From records back to stages: what a record says about itself is checked against the plug-ins of this suite."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

from pydantic import ValidationError

from engine.cells import SCRATCH, SUPERVISED
from engine.choices import Choice, Settings, choose, tuned_keys, with_changes
from engine.config import BenchError, as_dict, digest, identifying, known_keys, suggestion
from engine.records import Record
from engine.registry import KINDS, Kind, Plugin, locate, scan
from engine.stages import NUMERICS, Data, Stage
from protocols.base import FeatureConfig

Outside = Mapping[tuple[Kind, str], Plugin]
"""Plug-ins outside the tree that the user named, by kind and name."""


def outside_plugins(named: Sequence[str]) -> Outside:
    """Load plug-ins named ``file.py:Class``, of whatever kind; only what is named here is ever run.

    Raises:
        BenchError: a file holds no such plug-in.
    """
    found: dict[tuple[Kind, str], Plugin] = {}
    for name in named:
        if ".py" not in name:
            raise BenchError(f"--plugin {name}: write FILE.py:CLASS; plug-ins of the suite need not be named.")
        problems = []
        for kind in KINDS:
            try:
                plugin = locate(kind, name)
            except BenchError as error:
                problems.append(str(error))
            else:
                found[kind, plugin.name] = plugin
                break
        else:
            raise BenchError(problems[0])
    return found


def rebuild(records: Mapping[str, Record], asked: Mapping[str, str], outside: Outside) -> dict[str, Stage]:
    """The stages that records came from.

    Args:
        records: by key, parents first.
        asked: how data are asked for (``npz:clips.npz#auto``) by their name in records, where that differs.
        outside: see :func:`outside_plugins`.

    Returns:
        Stages by key; each has the key of its record.

    Raises:
        BenchError: a plug-in is unknown or has another version here, a setting is unknown, a label is not what the settings
            come to, or the key is another one; the message says what was expected.
    """
    stages: dict[str, Stage] = {}
    for key, record in records.items():
        stages[key] = _stage(record, [stages[parent] for parent in record.parents], asked, outside)
    return stages


def _stage(record: Record, parents: Sequence[Stage], asked: Mapping[str, str], outside: Outside) -> Stage:
    identity, labels = record.identity, record.labels
    _expect(record, "numerics", identity.get("numerics"), NUMERICS)
    _expect(record, "kind", record.kind, _part(record, "kind", str))
    kind: Kind = "methods" if record.kind in ("pretrain", "features") else "protocols"
    data = _part(record, "data", dict)
    if set(data) != {"name", "digest"} or not all(isinstance(text, str) for text in data.values()):
        raise BenchError(f"{_name(record)}: data in the identity should be a name and a digest, not {data!r}.")
    if labels.source and not parents:
        raise BenchError(
            f"{_name(record)}: it names the source {labels.source!r}, and no parent that was trained there."
        )
    source = parents[0].data.asked if labels.source else ""
    if record.kind == "features":
        if not parents:
            raise BenchError(f"{_name(record)}: features are those of a pre-training, and no parent is named.")
        choice = replace(parents[0].choice, config=_config(record, FeatureConfig, identity.get("config")))
    else:
        choice = _choice(record, kind, identity, data["name"], outside)
    encoder = None
    if "encoder" in identity:
        encoder = _choice(record, "encoders", _part(record, "encoder", dict), data["name"], outside, choice)
    stage = Stage(
        record.kind,  # type: ignore[arg-type]
        choice,
        Data(asked.get(data["name"]) or _ask(data["name"], outside), data["name"], data["digest"], source),
        _part(record, "seed", int),
        labels,
        encoder,
        tuple(parents),
    )
    _check_labels(stage, record)
    for name in sorted({*identity, *stage.identity}):
        _expect(record, name, identity.get(name), stage.identity.get(name))
    _expect(record, "key", record.key, stage.key)
    return stage


def _choice(
    record: Record,
    kind: Kind,
    identity: Mapping[str, Any],
    data: str,
    outside: Outside,
    method: Choice | None = None,
) -> Choice:
    """A plug-in as an identity describes it; ``method``: the one whose encoder it is."""
    name, preset = identity.get("plugin"), identity.get("preset")
    if not isinstance(name, str) or not isinstance(preset, str):
        raise BenchError(f"{_name(record)}: the identity names no plug-in and preset of {kind}.")
    if identity.get("source"):
        plugin = outside.get((kind, name))
        if plugin is None:
            raise BenchError(
                f"{_name(record)} used {name} of a file outside the suite: name it by --plugin FILE.py:CLASS."
            )
        _expect(record, f"source of {name}", identity["source"], plugin.source)
    else:
        known = scan(kind)
        if name not in known:
            raise BenchError(f"{_name(record)}: the suite has no {kind[:-1]} {name!r}.{suggestion(name, known)}")
        plugin = known[name]
    cls = plugin.load()
    try:
        config = _config(record, cls.Config, identity.get("config"))
    except BenchError:
        _expect(record, f"version of {name}", identity.get("version"), cls.version)  # the likely reason
        raise
    _expect(record, f"version of {name}", identity.get("version"), Choice(plugin, config, preset).identity["version"])
    imports = bool(getattr((method.plugin if method else plugin).load(), "imports", False))
    recipe, budget = _part(record, "recipe", str), "full" if method and imports else _part(record, "budget", str)
    tuned = () if method and imports else tuned_keys(budget, data, record.labels.encoder.partition("[")[0])
    imported = {preset: {key: as_dict(config).get(key) for key in ("weights", "release", "stream")}} if imports else {}
    plain = as_dict(choose(plugin, preset, Settings(recipe, budget, tuned, {}, {} if method else imported)).config)
    values = as_dict(config)
    # In the order in which --set shows them.
    changed = {
        path: _at(values, path) for path in sorted(known_keys(cls.Config)) if _at(values, path) != _at(plain, path)
    }
    changes = Settings(recipe, budget, tuned, {plugin.name: changed}, {} if method else imported)
    return replace(choose(plugin, preset, changes), config=config)


def _check_labels(stage: Stage, record: Record) -> None:
    """Labels name what the identity says.

    The precision of a training is settled by the machine where ``auto`` was asked for, so a label may leave it out.
    """
    labels, identity = record.labels, record.identity
    for name in ("stream", "recipe", "budget", "seed"):
        _expect(record, f"label {name}", getattr(labels, name), identity.get(name))
    dataset = re.sub(r"\[frames=\d+\]$", "", labels.dataset)
    place = f"{dataset}/{labels.split}"
    _expect(record, "label dataset/split", place, stage.data.name)
    pretrain = stage
    while pretrain.kind != "pretrain":
        if not pretrain.parents:
            raise BenchError(f"{_name(record)}: no pre-training is among its parents.")
        pretrain = pretrain.parents[0]
    assert pretrain.encoder is not None
    method = with_changes(pretrain.choice.name, _changes(pretrain, own=True))
    trained = stage if stage.kind == "evaluate" else stage.parents[0] if stage.kind == "fuse" else None
    if trained and pretrain.choice.plugin.name == SCRATCH and trained.choice.plugin.load().needs == "encoder":
        method = method.replace(SCRATCH, SUPERVISED, 1)
    protocol = {"pretrain": "", "features": "", "evaluate": stage.choice.label, "fuse": ""}[stage.kind]
    if stage.kind == "fuse":
        fusion = stage.choice.label
        protocol = stage.parents[0].labels.protocol + (f" {fusion}" if fusion != stage.choice.plugin.name else "")
    _expect_name(record, "method", labels.method, method)
    _expect_name(record, "encoder", labels.encoder, pretrain.encoder.label)
    _expect_name(record, "protocol", labels.protocol, protocol)
    wanted = pretrain.data.name if pretrain.data.name != stage.data.name else ""
    _expect(record, "label source", labels.source, wanted)


def _changes(stage: Stage, own: bool = False) -> list[str]:
    """Changes of a pre-training and of those before it, those with their plug-ins' names."""
    named = [change if own else f"{stage.choice.plugin.name}.{change}" for change in stage.choice.changes]
    return named + [change for parent in stage.parents for change in _changes(parent)]


def _expect_name(record: Record, what: str, found: str, wanted: str) -> None:
    if _without_precision(found) != _without_precision(wanted):
        _expect(record, f"label {what}", found, wanted)


def _without_precision(name: str) -> str:
    left = re.sub(r"[\w.]*\bprecision=\w+,?", "", name)
    return left.replace(",]", "]").replace("[]", "")


def _ask(name: str, outside: Outside) -> str:
    """How to ask for data of a name, as far as the name tells."""
    dataset, _, split = name.rpartition("/")
    if plugin := outside.get(("datasets", dataset)):
        return f"{plugin.path}:{plugin.class_name}/{split}"
    base = dataset.partition(":")[0]
    if base not in scan("datasets"):
        return ""  # told when the data are wanted
    return f"{dataset}#{split}" if ":" in dataset else name


def _config(record: Record, cls: Any, values: Any) -> Any:
    try:
        config = cls.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise BenchError(f"{_name(record)}: setting {where} is {first['input']!r}. {first['msg']}.") from None
    if digest(identifying(config)) != digest(values):
        missing = sorted(set(_leaves(identifying(config))) ^ set(_leaves(values)))
        raise BenchError(f"{_name(record)}: settings are not whole ({', '.join(missing) or 'other values'}).")
    return config


def _leaves(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    found: list[str] = []
    for name, value in values.items():
        found += _leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else [f"{prefix}{name}"]
    return found


def _at(values: Mapping[str, Any], path: str) -> Any:
    return reduce(lambda node, part: node[part], path.split("."), values)


def _part(record: Record, name: str, kind: type) -> Any:
    value = record.identity.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise BenchError(f"{_name(record)}: {name} in the identity should be of type {kind.__name__}, not {value!r}.")
    return value


def _expect(record: Record, what: str, found: Any, wanted: Any) -> None:
    if found != wanted or type(found) is not type(wanted):
        raise BenchError(f"{_name(record)}: {what} is {found!r}, expected {wanted!r}.")


def _name(record: Record) -> str:
    return f"Record {record.key} ({record.kind} of {record.labels.method})"
