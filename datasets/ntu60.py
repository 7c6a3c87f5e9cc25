"""NTU RGB+D: 60 actions, 40 performers, 3 cameras, 17 setups, from its ``.skeleton`` files (see ``datasets/ntu.py``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

import pandas as pd

from datasets import ntu
from datasets.base import Cut, Dataset, OnBad
from datasets.check import CheckReport
from datasets.ntu_release import Release

SUBJECTS = (1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38)
"""Training performers of ``xsub`` (aimclr.md 1.3)."""
CLASSES = (
    "drink water", "eat meal", "brush teeth", "brush hair", "drop", "pick up", "throw", "sit down", "stand up", "clapping",
    "reading", "writing", "tear up paper", "put on jacket", "take off jacket", "put on a shoe", "take off a shoe",
    "put on glasses", "take off glasses", "put on a hat", "take off a hat", "cheer up", "hand waving",
    "kicking something", "reach into pocket", "hopping", "jump up", "phone call", "play with phone",
    "type on a keyboard", "point to something", "taking a selfie", "check time", "rub two hands", "nod head or bow",
    "shake head", "wipe face", "salute", "put palms together", "cross hands in front", "sneeze or cough", "staggering",
    "falling down", "headache", "chest pain", "back pain", "neck pain", "nausea or vomiting", "fan self",
    "punch or slap", "kicking", "pushing", "pat on back", "point finger", "hugging", "giving object", "touch pocket",
    "shaking hands", "walking towards", "walking apart",
)  # fmt: skip
"""Class names, index = label = action number of the file name - 1."""

RELEASE = Release(
    title="NTU RGB+D",
    setups=17,
    classes=CLASSES,
    training={"xsub": ("subject", SUBJECTS), "xview": ("camera", (2, 3))},
    recorded={"xsub": (40320, 16560), "xview": (37920, 18960)},
    listed=302,
)


class NTU60(Dataset):
    """The dataset ``ntu60``; ``ntu60:tracked`` follows bodies by id, ``ntu60:released`` cuts clips as AimCLR's code."""

    title: ClassVar[str] = "NTU RGB+D: 60 actions, 40 performers, 3 cameras, from .skeleton files"
    version: ClassVar[int] = 1
    splits: ClassVar[Mapping[str, str]] = {
        "xsub": "20 of 40 performers train, the others test (official)",
        "xview": "cameras 2 and 3 train, camera 1 tests (official)",
    }
    targets: ClassVar[Mapping[str, str]] = {"transfer": "pku_mmd2", "segmentation": "pku_mmd2"}
    expected: ClassVar[Mapping[str, tuple[int, int]]] = {"xsub": (40091, 16487), "xview": (37646, 18932)}

    def prepare(self, source: Path | None, tell: Callable[[str], None], on_bad: OnBad = "skip") -> CheckReport:
        """Prepare from a folder or zip of ``.skeleton`` files, or a form of others; see :meth:`Dataset.prepare`."""
        ntu.prepare(self, RELEASE, source, tell, on_bad)
        return self.check()

    def split_names(self, samples: pd.DataFrame) -> tuple[str, ...]:
        """See :meth:`Dataset.split_names`."""
        return RELEASE.split_names(samples)

    def cut(self, samples: pd.DataFrame, split: str) -> Cut:
        """See :meth:`Dataset.cut`."""
        return RELEASE.cut(samples, split, self.name)
