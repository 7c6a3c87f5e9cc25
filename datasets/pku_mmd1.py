"""PKU-MMD part I: 51 actions in 1,076 long recordings under 3 cameras (see ``datasets/pku.py``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

import pandas as pd

from datasets import pku
from datasets.base import Content, Cut, Dataset, OnBad
from datasets.check import CheckReport
from datasets.pku_files import place_of

TEST_VIDEOS = range(291, 335)
"""Videos that test in ``xsub``; the performers of a video are not published (aimclr.md 1.4)."""
_VIDEOS = (*range(2, 247), *range(251, 365))
_ABSENT = ("0060-L",)

RELEASE = pku.Release(
    part=1,
    title="PKU-MMD I",
    recordings=tuple(stem for stem in pku.stems_of(f"{number:04}" for number in _VIDEOS) if stem not in _ABSENT),
    trains={
        "xsub": lambda stem: place_of(stem, 1)["video"] not in TEST_VIDEOS,
        "xview": lambda stem: not stem.endswith("L"),
    },
    group={"xsub": "video", "xview": "camera"},
)


class PKUMMD1(Dataset):
    """The dataset ``pku_mmd1``, trimmed clips and untrimmed recordings.

    ``pku_mmd1:zero-based`` takes the frames of label rows as counted from 0, ``pku_mmd1:released`` cuts long clips and clips
    with gaps as AimCLR's code.
    """

    title: ClassVar[str] = "PKU-MMD I: 51 actions, 1,076 recordings, 3 cameras, from text files; clips and untrimmed"
    aliases: ClassVar[tuple[str, ...]] = ("pku1", "pku_mmd_1", "pku-mmd-1", "pku-mmd1", "pkummd1", "pku-mmd-i")
    release: ClassVar[pku.Release] = RELEASE
    version: ClassVar[int] = 2
    splits: ClassVar[Mapping[str, str]] = {
        "xsub": "the official file in the source, else: videos 0291 to 0334 test, the others train",
        "xview": "the official file in the source, else: cameras M and R train, L tests",
    }
    targets: ClassVar[Mapping[str, str]] = {"transfer": "pku_mmd2", "segmentation": "pku_mmd1"}
    expected: ClassVar[Mapping[str, tuple[int, int]]] = {"xsub": (18841, 2704)}
    expected_recordings: ClassVar[Mapping[str, tuple[int, int]]] = {"xsub": (944, 132), "xview": (718, 358)}

    @property
    def contents(self) -> tuple[Content, ...]:
        """See :attr:`Dataset.contents`."""
        return ("recordings", "clips")

    def prepare(self, source: Path | None, tell: Callable[[str], None], on_bad: OnBad = "skip") -> CheckReport:
        """Prepare from a folder of skeleton, label and split files; see :meth:`Dataset.prepare`."""
        pku.prepare(self, self.release, source, tell, on_bad)
        return self.check()

    def cut(self, samples: pd.DataFrame, split: str) -> Cut:
        """See :meth:`Dataset.cut`."""
        return pku.cut(self.release, samples, split, self.name)
