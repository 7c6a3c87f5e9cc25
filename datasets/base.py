"""What a dataset offers: prepared once into the data folder, then loaded as splits and checked."""

from __future__ import annotations

import shlex
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from datasets.check import CheckReport, check_store
from datasets.check_untrimmed import check_recordings
from datasets.store import Prepared, Store, open_store
from datasets.untrimmed import RecordingStore, open_recordings
from engine.config import BenchError

if TYPE_CHECKING:
    from datasets.clips import Split
    from datasets.untrimmed import UntrimmedSplit

Content = Literal["clips", "recordings"]
"""What a dataset can hold: trimmed clips with one label each, untrimmed recordings with a label per frame."""
OnBad = Literal["skip", "stop"]
"""What preparation does with a bad clip: report it and leave it out, or stop with an error."""


@dataclass(frozen=True)
class Cut:
    """Which samples a split trains and tests on.

    Attributes:
        name: the split's name in tables.
        train, test: (N,) bool; samples in neither are left out.
        group: the sample column along which the split is cut, e.g. ``subject``.
    """

    name: str
    train: NDArray[np.bool_]
    test: NDArray[np.bool_]
    group: str


class Dataset(ABC):
    """One dataset; a file in ``datasets/`` whose name is the dataset's name.

    A subclass writes ``prepare`` (raw files to a store, see :func:`datasets.store.write_store`) and ``cut`` (the split
    rules); loading and checking are the same for all.

    Attributes:
        title: one line.
        version: raised whenever the same source gives other prepared data or splits.
        splits: split name -> its rule in one line; the first one is the default.
        embedded: made on first use, needs no source.
        expected: split name -> known numbers of training and test clips; a check says where they differ.
        expected_recordings: the same of untrimmed recordings.
        targets: protocol that evaluates on other data -> that data's name where none is asked for, e.g. ``{"transfer":
            "synthetic_b"}``; of its splits the one of the source's name is taken, if there is one.
        processes: how many a reader of raw files may use, 0 = one per core; the result is the same.
        outlined: stand :meth:`outline` in for embedded data that are not there, instead of making them.
    """

    title: ClassVar[str] = ""
    version: ClassVar[int] = 1
    splits: ClassVar[Mapping[str, str]] = {}
    embedded: ClassVar[bool] = False
    expected: ClassVar[Mapping[str, tuple[int, int]]] = {}
    expected_recordings: ClassVar[Mapping[str, tuple[int, int]]] = {}
    targets: ClassVar[Mapping[str, str]] = {}
    processes: int = 0
    outlined: bool = False

    def __init__(self, root: Path, argument: str = "", frames: int = 50) -> None:
        """Name a dataset; nothing is read yet.

        Args:
            root: folder of all prepared data (``--data``).
            argument: what follows the colon of a name such as ``npz:PATH``.
            frames: T, frames of every prepared clip.
        """
        self.root = root
        self.argument = argument
        self.frames = frames

    @property
    def name(self) -> str:
        """What tables call the dataset: its file's name and the argument."""
        stem = type(self).__module__.rpartition(".")[2]
        return f"{stem}:{self.argument}" if self.argument else stem

    @property
    def folder(self) -> Path:
        """Where the prepared data lies: one folder per version and number of frames."""
        return self.root / self.name.replace(":", "-") / f"frames{self.frames}-v{self.version}"

    @property
    def untrimmed_folder(self) -> Path:
        """Where the prepared untrimmed recordings lie, which know of no number of frames."""
        return self.root / self.name.replace(":", "-") / f"untrimmed-v{self.version}"

    @property
    def contents(self) -> tuple[Content, ...]:
        """What the dataset holds."""
        return ("clips",)

    @abstractmethod
    def prepare(self, source: Path | None, tell: Callable[[str], None], on_bad: OnBad = "skip") -> CheckReport:
        """Prepare the data into ``folder``.

        Args:
            source: file or folder with the raw data; ``None`` for data that needs none.
            tell: takes lines of progress.
            on_bad: what happens to a bad clip; one that is skipped is in the report.

        Raises:
            BenchError: no usable source, or a bad clip under ``on_bad="stop"``.
        """

    @abstractmethod
    def cut(self, samples: pd.DataFrame, split: str) -> Cut:
        """Which samples a split trains and tests on.

        Args:
            samples: the store's sample table.
            split: one of ``splits``.

        Raises:
            BenchError: unknown split.
        """

    def split_names(self, samples: pd.DataFrame) -> tuple[str, ...]:
        """The splits that these samples allow; a check counts them."""
        return tuple(self.splits)

    def prepared(self) -> Prepared:
        """The store of the prepared data; embedded data is made where it is missing.

        Raises:
            BenchError: not prepared yet (the message shows the command that does it), or damaged.
        """
        if "clips" not in self.contents:
            raise BenchError(
                f"{self.name} holds untrimmed recordings with a label per frame; trimmed clips are needed here, with one "
                "label each. For segmentation name it under --targets, and clips to pre-train on under --datasets."
            )
        if self._is_outlined(self.folder):
            outline = self.outline()
            assert isinstance(outline, Prepared)
            return outline
        self._assert_prepared(self.folder)
        return open_store(self.folder)

    def outline(self) -> Store:
        """Embedded data by name and shape, without their content; :mod:`datasets.outline`."""
        raise NotImplementedError(f"{self.name} has no outline")

    @property
    def has_outline(self) -> bool:
        """Whether there is one; other data are made in a temporary folder where nothing may be written."""
        return type(self).outline is not Dataset.outline

    def recordings(self) -> RecordingStore:
        """The store of the untrimmed recordings; see :meth:`prepared`."""
        if "recordings" not in self.contents:
            raise BenchError(f"{self.name} has no untrimmed recordings with a label per frame, as segmentation needs.")
        if self._is_outlined(self.untrimmed_folder):
            outline = self.outline()
            assert isinstance(outline, RecordingStore)
            return outline
        self._assert_prepared(self.untrimmed_folder)
        return open_recordings(self.untrimmed_folder)

    def _is_outlined(self, folder: Path) -> bool:
        return self.outlined and self.embedded and not folder.is_dir()

    def _assert_prepared(self, folder: Path) -> None:
        if folder.is_dir():
            return
        if not self.embedded:
            options = f"--data {shlex.quote(str(self.root))}" + f" --frames {self.frames}" * (self.frames != 50)
            raise BenchError(
                f"{self.name} is not prepared in {self.root} (looked for {folder}). Prepare it once:\n"
                f"  python run_bench.py data prepare {self.name} --source PATH {options}"
            )
        self.prepare(None, lambda line: None)

    def load(self, split: str) -> Split:
        """A split with its clips in memory.

        Raises:
            BenchError: unknown split, data not prepared or damaged, or a part of the split is empty.
        """
        prepared = self.prepared().intact()
        cut = self.cut(prepared.samples, split)
        return prepared.split(f"{self.name}/{cut.name}", cut.train, cut.test, cut.group)

    def load_untrimmed(self, split: str) -> UntrimmedSplit:
        """A split of the untrimmed recordings, in memory.

        Raises:
            BenchError: the dataset has none, and what :meth:`load` raises.
        """
        stored = self.recordings().intact()
        cut = self.cut(stored.samples, split)
        return stored.split(f"{self.name}/{cut.name}", cut.train, cut.test, cut.group, self.frames)

    def check(self, split: str = "") -> CheckReport:
        """Verify checksums and look for everything that is odd in the prepared data.

        Args:
            split: one that is to be counted beside those of :meth:`split_names`, such as a rule of one's own.

        Raises:
            BenchError: data not prepared, or too damaged to be read; or the split does not exist, or has an empty part.
        """
        found = [self._check(content, split) for content in self.contents]
        return replace(found[0], more=found[1]) if found[1:] else found[0]

    def _check(self, content: Content, split: str) -> CheckReport:
        store = self.prepared() if content == "clips" else self.recordings()
        cuts = [self.cut(store.samples, name) for name in self.split_names(store.samples)]
        if split:
            cuts.append(self.cut(store.samples, split))
            store.cut_digest(f"{self.name}/{cuts[-1].name}", cuts[-1].train, cuts[-1].test, cuts[-1].group)
        masks = {cut.name: (cut.train, cut.test) for cut in cuts}
        if isinstance(store, Prepared):
            return check_store(self.name, store, masks, self.expected)
        return check_recordings(self.name, store, masks, self.expected_recordings)
