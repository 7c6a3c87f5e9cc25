"""PKU-MMD part II: 41 actions in 1,009 long recordings of 13 performers under 3 cameras (see ``datasets/pku.py``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from datasets import pku
from datasets.pku_files import place_of
from datasets.pku_mmd1 import PKUMMD1

TEST_PERFORMERS = (2, 3, 7)
"""Performers that test in ``xsub`` (aimclr.md 1.4)."""
_ABSENT = ("A05N04-M", "A07N12-M", "A08N12-M", "A14N12-M", "A20N01-M")

RELEASE = pku.Release(
    part=2,
    title="PKU-MMD II",
    recordings=tuple(
        stem
        for stem in pku.stems_of(f"A{video:02}N{subject:02}" for video in range(1, 27) for subject in range(1, 14))
        if stem not in _ABSENT
    ),
    trains={
        "xsub": lambda stem: place_of(stem, 2)["subject"] not in TEST_PERFORMERS,
        "xview": lambda stem: not stem.endswith("L"),
    },
    group={"xsub": "subject", "xview": "camera"},
)


class PKUMMD2(PKUMMD1):
    """The dataset ``pku_mmd2``, trimmed clips and untrimmed recordings, read as part I is.

    ``pku_mmd2:zero-based`` takes the frames of label rows as counted from 0, ``pku_mmd2:released`` cuts long clips and clips
    with gaps as AimCLR's code.
    """

    title: ClassVar[str] = "PKU-MMD II: 41 actions, 1,009 recordings, 3 cameras, from text files; clips and untrimmed"
    aliases: ClassVar[tuple[str, ...]] = ("pku2", "pku_mmd_2", "pku-mmd-2", "pku-mmd2", "pkummd2", "pku-mmd-ii")
    release: ClassVar[pku.Release] = RELEASE
    version: ClassVar[int] = 2
    splits: ClassVar[Mapping[str, str]] = {
        "xsub": "the official file in the source, else: performers 2, 3 and 7 test, the others train",
        "xview": "the official file in the source, else: cameras M and R train, L tests",
    }
    targets: ClassVar[Mapping[str, str]] = {"segmentation": "pku_mmd2"}
    expected: ClassVar[Mapping[str, tuple[int, int]]] = {}
    expected_recordings: ClassVar[Mapping[str, tuple[int, int]]] = {"xsub": (775, 234), "xview": (671, 338)}
