"""Datasets as they are asked for: ``synthetic``, ``nw_ucla/xview``, ``npz:PATH#RULE``, ``file.py:Class/split``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from engine.config import BenchError, suggestion
from engine.registry import locate

if TYPE_CHECKING:
    import torch

    from datasets.base import Dataset
    from datasets.clips import Split
    from datasets.untrimmed import UntrimmedSplit

DEFAULT_FRAMES = 50


def open_dataset(asked: str, root: Path, frames: int | None = None) -> tuple[Dataset, str]:
    """A dataset object and the name of the split asked for (the first one by default).

    Args:
        asked: as on the command line.
        root: folder of prepared data.
        frames: frames per clip, ``None`` for the default.

    Raises:
        BenchError: unknown dataset or split.
    """
    name, argument, split = asked, "", ""
    if ".py" in asked:
        if found := re.fullmatch(r"(.+\.py(?::\w+)?)/(\w+)", asked):
            name, split = found.groups()
    elif ":" in asked:
        name, _, rest = asked.partition(":")
        argument, _, split = rest.partition("#")
    else:
        name, _, split = asked.partition("/")
    cls = locate("datasets", name).load()
    if split and not argument and split not in cls.splits:
        known = ", ".join(cls.splits)
        raise BenchError(f"{name} has no split {split!r}.{suggestion(split, cls.splits)} Known: {known}.")
    dataset: Dataset = cls(root, argument, DEFAULT_FRAMES if frames is None else frames)
    return dataset, split or next(iter(cls.splits))


class Splits:
    """Loaded splits, kept in memory (and on the device) between stages.

    Args:
        root: folder of prepared data.
        frames: frames per clip, ``None`` for the default.
        tell: takes a line when something is about to take long.
        read_only: write nothing; embedded data that are missing are only outlined (:mod:`datasets.outline`), files that are
            prepared on first use are prepared in a temporary folder.
    """

    def __init__(
        self,
        root: Path,
        frames: int | None = None,
        tell: Callable[[str], None] = lambda line: None,
        read_only: bool = False,
    ) -> None:
        self.root = root
        self.frames = frames
        self._tell = tell
        self._read_only = read_only
        self._loaded: dict[tuple[str, str, str], Split] = {}
        self._untrimmed: dict[tuple[str, str], UntrimmedSplit] = {}

    def __call__(self, asked: str, device: torch.device | str = "cpu", like: str = "") -> Split:
        """Load a split, with its clips on a device.

        Args:
            asked: as on the command line.
            device: where the clips are wanted.
            like: another split, whose layout this one is brought into (:func:`datasets.targets.adapt`).

        Raises:
            BenchError: unknown, not prepared yet (the message shows the command that prepares it), or of a layout that
                cannot be mapped.
        """
        key = asked, str(device), like
        if key not in self._loaded:
            if str(device) != "cpu":
                loaded = self(asked, "cpu", like)
                self._loaded[key] = replace(loaded, train=loaded.train.to(device), test=loaded.test.to(device))
            elif like:
                from datasets.targets import adapt

                self._loaded[key] = adapt(self(asked), self(like))
            else:
                with self._opened(asked) as (dataset, split):
                    self._loaded[key] = dataset.load(split)
        return self._loaded[key]

    def load_untrimmed(self, asked: str, like: str = "") -> UntrimmedSplit:
        """Load a split of untrimmed recordings, which stay in main memory: windows of them go to the device.

        Args:
            asked: as on the command line.
            like: a split of clips, whose layout this one is brought into (:func:`datasets.targets.adapt_untrimmed`).

        Raises:
            BenchError: as above, or the dataset has no untrimmed recordings.
        """
        key = asked, like
        if key not in self._untrimmed:
            if like:
                from datasets.targets import adapt_untrimmed

                self._untrimmed[key] = adapt_untrimmed(self.load_untrimmed(asked), self(like))
            else:
                with self._opened(asked) as (dataset, split):
                    self._untrimmed[key] = dataset.load_untrimmed(split)
        return self._untrimmed[key]

    @contextmanager
    def _opened(self, asked: str) -> Iterator[tuple[Dataset, str]]:
        dataset, split = open_dataset(asked, self.root, self.frames)
        missing = not any(map(Path.is_dir, (dataset.folder, dataset.untrimmed_folder)))
        makes_itself = dataset.embedded or bool(dataset.argument)
        if missing and self._read_only and dataset.has_outline:
            dataset.outlined = True
            self._tell(
                f"{dataset.name} is not generated in {self.root}/ yet: its keys, and what of it is done, are not known"
            )
        elif missing and self._read_only and makes_itself:
            with TemporaryDirectory() as folder:
                yield open_dataset(asked, Path(folder), self.frames)
            return
        elif missing and dataset.embedded:
            self._tell(f"Generating {dataset.name} in {self.root}/ (once) ...")
        yield dataset, split
