"""The stages behind one cell of the leaderboard, and why there may be none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from datasets.streams import STREAMS
from engine.choices import Choice, Settings, choose, with_changes
from engine.data import DEFAULT_FRAMES, Splits
from engine.records import Labels
from engine.registry import Plugin, locate
from engine.stages import Stage
from engine.targets import Place
from methods.base import Method
from protocols.base import Protocol

SCRATCH, SUPERVISED = "random", "supervised"
"""A method without training, and what its rows are called under protocols that train the encoder from there."""


@dataclass(frozen=True)
class Cells:
    """One pre-training split, stream and seed: builds the stages behind a cell of the leaderboard."""

    at: Place
    settings: Settings
    encoder: Plugin
    labels: Labels
    splits: Splits

    def cell(self, method: Plugin, preset: str, protocol: Choice, place: Place) -> tuple[Stage, str | None]:
        """The evaluation of a method by a protocol in one place, and the reason if it cannot be run."""
        pretrain = self._pretrain(method, preset)
        parents: tuple[Stage, ...] = (pretrain,)
        definition = _definition(protocol)
        changes = {"source": place.source, "stream": self.labels.stream}
        base = pretrain.labels.model_copy(update=self._named(place) | changes)
        labels = base.model_copy(update={"protocol": protocol.label})
        if definition.needs == "encoder" and method.name == SCRATCH:
            labels = labels.model_copy(update={"method": labels.method.replace(SCRATCH, SUPERVISED, 1)})
        if definition.needs in ("features", "frozen"):
            wanted = replace(pretrain.choice, config=definition.features())
            features = Stage("features", wanted, place.data, self.labels.seed, base, parents=parents)
            parents = (features,) if definition.needs == "features" else (features, pretrain)
        cell = Stage("evaluate", protocol, place.data, self.labels.seed, labels, parents=parents)
        has_projector = method.load().project is not Method.project
        reason = place.reason or _unsupported(pretrain) or self._too_many(pretrain, place, definition)
        if not reason and definition.needs_attention and method.load().attention is Method.attention:
            reason = f"{method.name} has no actionlets to pool by"
        if not reason and definition.needs_generator and method.load().generate is Method.generate:
            reason = f"{method.name} generates no clips"
        if not reason and definition.keeps_joints() and not encoder_of(method, self.encoder).load().local:
            reason = f"{self.encoder.name} makes no features of single joints"
        return cell, reason or definition.supports(method.name, has_projector, place.train_clips)

    def _too_many(self, pretrain: Stage, place: Place, definition: Protocol[Any]) -> str | None:
        """Why an encoder that reads all persons as one input cannot read a target; fewer persons are filled up there."""
        assert pretrain.encoder is not None
        if not place.source or not pretrain.encoder.plugin.load().fixed_persons:
            return None
        built, data = self.splits(self.at.data.asked).train.clips.shape[4], place.data
        if definition.needs == "untrimmed":
            persons = self.splits.load_untrimmed(data.asked, data.like).train.frames.shape[1]
        else:
            persons = self.splits(data.asked, like=data.like).train.clips.shape[4]
        if persons <= built:
            return None
        return f"{pretrain.encoder.plugin.name} is built for {built} person(s), {data.name} has {persons}"

    def _named(self, place: Place) -> dict[str, str]:
        frames = self.splits.frames
        changes = [] if frames in (None, DEFAULT_FRAMES) else [f"frames={frames}"]
        return {"dataset": with_changes(place.dataset, changes), "split": place.split}

    def _pretrain(self, method: Plugin, preset: str) -> Stage:
        earlier = _earlier(method)
        parents = (self._pretrain(earlier, ""),) if earlier else ()
        choice = choose(method, preset, self.settings)
        # Imported weights fit the encoder as published and no other.
        settings = Settings(self.settings.recipe, "full", (), {}) if method.load().imports else self.settings
        encoder = choose(encoder_of(method, self.encoder), "", settings)
        changes = (*choice.changes, *(change for parent in parents for change in _changes(parent)))
        method_label = with_changes(choice.name, changes)
        labels = self.labels.model_copy(
            update=self._named(self.at) | {"method": method_label, "encoder": encoder.label}
        )
        if method.load().all_streams:  # one run, whichever of them is evaluated
            labels = labels.model_copy(update={"stream": "+".join(STREAMS)})
        return Stage("pretrain", choice, self.at.data, self.labels.seed, labels, encoder, parents)


def fuse(parts: Sequence[tuple[Stage, str | None]], fusion: Choice) -> tuple[Stage, str | None]:
    """The fusion of a cell's streams, and the reason if it cannot be run."""
    parents = tuple(sorted((stage for stage, _ in parts), key=lambda stage: STREAMS.index(stage.labels.stream)))
    first = parents[0]
    protocol = first.labels.protocol + (f" {fusion.label}" if fusion.label != fusion.plugin.name else "")
    labels = first.labels.model_copy(
        update={"stream": "+".join(stage.labels.stream for stage in parents), "protocol": protocol}
    )
    cell = Stage("fuse", fusion, first.data, first.seed, labels, parents=parents)
    missing = next((reason for _, reason in parts if reason), None)
    return cell, missing or _definition(fusion).combines(_definition(first.choice))


def _unsupported(pretrain: Stage) -> str | None:
    """Why a method, or the one whose run it starts from, cannot use its encoder."""
    assert pretrain.encoder is not None
    supports = pretrain.choice.plugin.load().supports
    reason: str | None = supports(pretrain.choice.config, pretrain.encoder.plugin.load())
    if reason:
        return f"{pretrain.choice.plugin.name} with {pretrain.encoder.plugin.name}: {reason}"
    return next((found for parent in pretrain.parents if (found := _unsupported(parent))), None)


def _definition(protocol: Choice) -> Protocol[Any]:
    definition: Protocol[Any] = protocol.plugin.load()(protocol.config)
    return definition


def _changes(stage: Stage) -> list[str]:
    """Changes of a stage and its ancestors, each with its plug-in's name."""
    own = [f"{stage.choice.plugin.name}.{change}" for change in stage.choice.changes]
    return own + [change for parent in stage.parents for change in _changes(parent)]


def _earlier(method: Plugin) -> Plugin | None:
    name: str | None = method.load().init_from
    if name and ".py" in name:
        name = str(method.path.parent / name)  # beside the file that names it
    return locate("methods", name) if name else None


def lineage(method: Plugin) -> list[Plugin]:
    """A method, and those whose runs it starts from, the nearest first."""
    earlier = _earlier(method)
    return [method, *(lineage(earlier) if earlier else [])]


def encoder_of(method: Plugin, chosen: Plugin) -> Plugin:
    """The encoder of a method: the one that it always uses, or what was chosen."""
    fixed = method.load().encoder_name
    return locate("encoders", fixed) if fixed else chosen
