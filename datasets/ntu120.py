"""NTU RGB+D 120: 120 actions, 106 performers, 3 cameras, 32 setups, from its ``.skeleton`` files.

It contains all of NTU RGB+D (setups 1 to 17, actions 1 to 60), so both downloads belong into the source; see
``datasets/ntu.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd

from datasets import ntu, ntu60
from datasets.base import Cut, Dataset, OnBad
from datasets.check import CheckReport
from datasets.ntu_release import Release
from engine.config import BenchError

SUBJECTS = (
    *ntu60.SUBJECTS,
    45, 46, 47, 49, 50, 52, 53, 54, 55, 56, 57, 58, 59, 70, 74, 78, 80, 81, 82, 83, 84, 85, 86, 89, 91, 92, 93, 94, 95,
    97, 98, 100, 103,
)  # fmt: skip
"""Training performers of ``xsub`` (aimclr.md 1.3)."""
CLASSES = (
    *ntu60.CLASSES,
    "put on headphone", "take off headphone", "shoot at basket", "bounce ball", "tennis bat swing",
    "juggle table tennis ball", "hush", "flick hair", "thumb up", "thumb down", "make OK sign", "make victory sign",
    "staple book", "counting money", "cutting nails", "cutting paper", "snap fingers", "open bottle", "sniff",
    "squat down", "toss a coin", "fold paper", "ball up paper", "play magic cube", "apply cream on face",
    "apply cream on hand", "put on bag", "take off bag", "put object into bag", "take object out of bag", "open a box",
    "move heavy objects", "shake fist", "throw up cap", "capitulate", "cross arms", "arm circles", "arm swings",
    "run on the spot", "butt kicks", "cross toe touch", "side kick", "yawn", "stretch oneself", "blow nose",
    "hit with object", "wield knife", "knock over", "grab stuff", "shoot with gun", "step on foot", "high-five",
    "cheers and drink", "carry object", "take a photo", "follow", "whisper", "exchange things", "support somebody",
    "rock-paper-scissors",
)  # fmt: skip
"""Class names, index = label = action number of the file name - 1."""

RELEASE = Release(
    title="NTU RGB+D 120",
    setups=32,
    classes=CLASSES,
    training={"xsub": ("subject", SUBJECTS), "xset": ("setup", tuple(range(2, 33, 2)))},
    recorded={"xsub": (63360, 51120), "xset": (54720, 59760)},
    listed=535,
)


_ADDED = "_added"
"""Ends the names of splits without the recordings that are also in NTU RGB+D."""


class NTU120(Dataset):
    """The dataset ``ntu120``; ``ntu120:tracked`` follows bodies by id, ``ntu120:released`` cuts clips as AimCLR's code."""

    title: ClassVar[str] = "NTU RGB+D 120: 120 actions, 106 performers, 32 setups, from .skeleton files"
    version: ClassVar[int] = 1
    splits: ClassVar[Mapping[str, str]] = {
        "xsub": "53 of 106 performers train, the others test (official)",
        "xset": "even setups train, odd ones test (official)",
        "xsub_added": "xsub without the recordings of NTU RGB+D (setups 1 to 17), for a transfer to ntu60",
        "xset_added": "xset without them",
    }
    targets: ClassVar[Mapping[str, str]] = {"transfer": "pku_mmd2", "segmentation": "pku_mmd2"}
    expected: ClassVar[Mapping[str, tuple[int, int]]] = {
        "xsub": (63026, 50919),
        "xset": (54468, 59477),
        "xsub_added": (63026 - 40091, 50919 - 16487),  # what is in NTU RGB+D trains and tests there as here
    }

    def prepare(self, source: Path | None, tell: Callable[[str], None], on_bad: OnBad = "skip") -> CheckReport:
        """Prepare from a folder or zip of ``.skeleton`` files, or a form of others; see :meth:`Dataset.prepare`."""
        ntu.prepare(self, RELEASE, source, tell, on_bad)
        return self.check()

    def split_names(self, samples: pd.DataFrame) -> tuple[str, ...]:
        """See :meth:`Dataset.split_names`."""
        official = RELEASE.split_names(samples)
        return (*official, *(name + _ADDED for name in official)) if "setup" in samples else official

    def cut(self, samples: pd.DataFrame, split: str) -> Cut:
        """See :meth:`Dataset.cut`."""
        if split not in self.splits or not split.endswith(_ADDED):
            return RELEASE.cut(samples, split, self.name)
        whole = RELEASE.cut(samples, split.removesuffix(_ADDED), self.name)
        if "setup" not in samples:
            raise BenchError(
                f"{self.name} was prepared from a file that does not name its clips, so nobody knows which of them are NTU "
                f"RGB+D's. Prepare {self.name} from the raw files, or a form that names its clips."
            )
        added = samples["setup"].to_numpy(np.int64) > ntu60.RELEASE.setups
        return Cut(split, whole.train & added, whole.test & added, whole.group)
