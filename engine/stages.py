"""Stages: units of work whose key is a hash of everything that changes their result, and of nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from engine.choices import Choice
from engine.config import digest
from engine.records import Labels, Record

NUMERICS = 1
"""Raised when shared code (trainer, blocks, augmentations, streams, scoring) gives other numbers; voids all records."""

StageKind = Literal["pretrain", "features", "evaluate", "fuse"]


@dataclass(frozen=True)
class Data:
    """The split a stage works on.

    Attributes:
        asked: as written on the command line; may hold a path, so it is no part of a key.
        name: ``dataset/split``.
        digest: checksum of the prepared data and the split rule.
        like: the data (as asked for) of the pre-training, whose layout this is brought into; "" for data that are read
            as they are.
    """

    asked: str
    name: str
    digest: str
    like: str = ""


@dataclass(frozen=True, eq=False)
class Stage:
    """One unit of work.

    Attributes:
        kind: ``pretrain`` (a method), ``features`` (of the method then), ``evaluate`` (a protocol, on features or on the
            encoder, perhaps with other data than the pre-training's) or ``fuse`` (a protocol, on scores of several streams).
        choice: the plug-in that works, and its config (``features``: the method, and what to extract).
        data: the split.
        seed: the seed asked for; what is drawn is derived from it, the kind and the plug-in (``engine.rng``).
        labels: how tables name it; a function of the identity.
        encoder: the encoder a ``pretrain`` stage builds.
        parents: stages whose results it starts from.
    """

    kind: StageKind
    choice: Choice
    data: Data
    seed: int
    labels: Labels
    encoder: Choice | None = None
    parents: tuple[Stage, ...] = ()

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Exactly what is hashed: no paths, devices, threads, dates."""
        identity = {
            "numerics": NUMERICS,
            "kind": self.kind,
            **self.choice.identity,
            "data": {"name": self.data.name, "digest": self.data.digest},
            "stream": self.labels.stream,
            "recipe": self.labels.recipe,
            "budget": self.labels.budget,
            "seed": self.seed,
            "parents": [parent.key for parent in self.parents],
        }
        return identity | ({"encoder": self.encoder.identity} if self.encoder else {})

    @cached_property
    def key(self) -> str:
        """16 hexadecimal digits; names the stage's folder."""
        return digest(self.identity)

    def __str__(self) -> str:
        """E.g. ``linear of aimclr on synthetic/xsub, joint, seed 0``."""
        what = f"{self.labels.protocol or self.kind} of {self.labels.method}"
        place = f"{self.labels.dataset}/{self.labels.split}"
        place += f" from {self.labels.source}" if self.labels.source else ""
        return f"{what} on {place}, {self.labels.stream}, seed {self.seed}"

    @property
    def short(self) -> str:
        """E.g. ``linear of aimclr, joint, seed 0``."""
        plugin, earlier = self.choice.plugin.name, (self.parents[0] if self.parents else self).choice.plugin.name
        what = f"{plugin} of {earlier}" if self.kind in ("evaluate", "fuse") else f"{self.kind} of {plugin}"
        return f"{what}, {self.labels.stream}, seed {self.seed}"

    def blamed(self, reason: str) -> str:
        """Why a stage that needs this one cannot run, after this one has failed (or could not run) for a reason."""
        return reason if " failed: " in reason else f"{self.kind} of {self.choice.plugin.name} failed: {reason}"

    def record(
        self,
        metrics: dict[str, float] | None = None,
        curve: list[dict[str, float]] | None = None,
        facts: dict[str, Any] | None = None,
    ) -> Record:
        """The record of this stage with its outcome."""
        return Record(
            kind=self.kind,
            key=self.key,
            labels=self.labels,
            identity=self.identity,
            parents=tuple(parent.key for parent in self.parents),
            metrics=metrics or {},
            curve=tuple(curve or ()),
            facts=facts or {},
        )
