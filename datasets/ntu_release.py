"""What is known of NTU RGB+D and NTU RGB+D 120, and their official splits (aimclr.md 1.3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from datasets.base import Cut
from engine.config import BenchError, suggestion


@dataclass(frozen=True)
class Release:
    """What is known of a dataset.

    Attributes:
        title: its name.
        setups: it consists of setups 1 to this.
        classes: class names, index = action number - 1.
        training: split name -> sample column and the values that train.
        recorded: split name -> training and test files, those without skeletons included.
        listed: length of the official list of samples with missing skeletons.
    """

    title: str
    setups: int
    classes: tuple[str, ...]
    training: Mapping[str, tuple[str, tuple[int, ...]]]
    recorded: Mapping[str, tuple[int, int]]
    listed: int

    @property
    def files(self) -> int:
        """Files of the complete dataset."""
        return sum(next(iter(self.recorded.values())))

    def trains(self, samples: pd.DataFrame, split: str) -> NDArray[np.bool_]:
        """Which samples (N,) an official split trains on, by the numbers in their names."""
        column, values = self.training[split]
        return np.isin(samples[column].to_numpy(np.int64), values)

    def split_names(self, samples: pd.DataFrame) -> tuple[str, ...]:
        """The splits that can be cut: all of them, or the one that a form without sample names came with."""
        return tuple(name for name, (column, _) in self.training.items() if column in samples or name in samples)

    def cut(self, samples: pd.DataFrame, split: str, name: str) -> Cut:
        """See :meth:`Dataset.cut`; ``name`` is the dataset's."""
        if split not in self.training:
            known = ", ".join(self.training)
            raise BenchError(f"{name} has no split {split!r}.{suggestion(split, self.training)} Known: {known}.")
        column = self.training[split][0]
        if column in samples:
            train = self.trains(samples, split)
            return Cut(split, train, ~train, column)
        if split not in samples:
            raise BenchError(
                f"{name} was prepared from a file that does not say which {column} a clip is of, so it has only the split "
                f"{', '.join(self.split_names(samples))}. Prepare {name} from the raw files or a form that names its clips, "
                f"or read another file's {split} as form:PATH."
            )
        words = samples[split].to_numpy(str)
        return Cut(split, words == "train", words == "test", split)
