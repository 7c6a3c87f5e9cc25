"""Where a plan's cells are evaluated: on the data of the pre-training, or on other data (``--targets``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from datasets.targets import refuse_shared
from engine.config import BenchError
from engine.data import Splits, open_dataset
from engine.registry import Plugin
from engine.stages import Data


@dataclass(frozen=True)
class Place:
    """The data that a cell is evaluated on.

    Attributes:
        data: as stages know it.
        train_clips: size of its training part (recordings, where they are untrimmed).
        source: ``dataset/split`` of the pre-training, "" where that is this place.
        reason: why no cell can be evaluated here, "" if it can.
    """

    data: Data
    train_clips: int
    source: str = ""
    reason: str = ""

    @property
    def dataset(self) -> str:
        """Name of the dataset."""
        return self.data.name.partition("/")[0]

    @property
    def split(self) -> str:
        """Name of the split."""
        return self.data.name.partition("/")[2]


def home(asked: str, splits: Splits) -> Place:
    """The data of a pre-training.

    Raises:
        BenchError: see :meth:`engine.data.Splits.__call__`.
    """
    split = splits(asked)
    return Place(Data(asked, split.name, split.digest), len(split.train))


def places(protocol: Plugin, at: Place, asked: Sequence[str], splits: Splits) -> list[Place]:
    """Where a protocol evaluates what was pre-trained in one place: there, or on every target.

    Args:
        protocol: which protocol.
        at: the place of the pre-training.
        asked: the targets asked for; none: the dataset's own.
        splits: loads them.

    Raises:
        BenchError: a target asked for is unknown or not prepared.
    """
    definition = protocol.load()
    if not definition.on_targets:
        return [at]
    if asked:
        found = [_target(name, at, definition, splits, is_asked=True) for name in asked]
        return [place for place in found if place.data.digest] or found  # those for other protocols are left to them
    own, _ = open_dataset(at.data.asked, splits.root, splits.frames)
    if default := own.targets.get(protocol.name):
        name, _, argument = own.name.partition(":")
        same = f"{own.name}#{at.split}" if argument and default == name else _same_split(default, at, splits)
        return [_target(same, at, definition, splits, is_asked=False)]
    reason = f"{own.name} has no default target of {protocol.name}; name one: --targets DATASET/SPLIT"
    return [Place(at.data, at.train_clips, reason=reason)]


def _target(asked: str, at: Place, definition: Any, splits: Splits, is_asked: bool) -> Place:
    kinds: list[Callable[..., Any]] = [splits, splits.load_untrimmed]
    load, other = kinds[::-1] if definition.needs == "untrimmed" else kinds
    try:
        target = load(asked)
    except BenchError as error:
        # A target may be meant for another protocol of the same run; what nobody can load is the user's mistake.
        if is_asked and not _loads(other, asked):
            raise
        dataset, split = open_dataset(asked, splits.root, splits.frames)
        more = "" if is_asked else "\nOr name another target: --targets DATASET/SPLIT"
        return Place(Data(asked, f"{dataset.name}/{split}", ""), 0, at.data.name, f"{error}{more}")
    data, reason = Data(asked, target.name, target.digest), ""
    if target.name == at.data.name and definition.needs != "untrimmed":
        reason = f"{target.name} is what was pre-trained on; linear and finetune evaluate there"
        return Place(data, len(target.train), at.data.name, reason)
    try:
        like = at.data.asked
        adapted = load(asked, like=like)
        refuse_shared(adapted, splits(like))
        data = Data(asked, target.name, adapted.digest, "" if adapted is target else like)
    except BenchError as error:
        reason = str(error)
    return Place(data, len(target.train), at.data.name, reason)


def _same_split(target: str, at: Place, splits: Splits) -> str:
    """A default target with the split of the source's name, if it has one."""
    try:
        open_dataset(f"{target}/{at.split}", splits.root, splits.frames)
    except BenchError:
        return target
    return f"{target}/{at.split}"


def _loads(load: Callable[[str], Any], asked: str) -> bool:
    try:
        load(asked)
    except BenchError:
        return False
    return True
