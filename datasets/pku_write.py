"""The untrimmed synthetic set as raw PKU-MMD files, so that reading and preparing run without licensed data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from datasets import pku_mmd1, pku_mmd2
from datasets.pku_files import CAMERAS
from datasets.synthetic import SUBJECTS, TRAINING_SUBJECTS
from datasets.synthetic_actions import ACTIONS
from datasets.synthetic_sessions import SESSIONS, Span
from datasets.synthetic_untrimmed import Recording, generate
from engine.config import BenchError

Part = Literal[1, 2]
_RELEASES = {1: pku_mmd1.RELEASE, 2: pku_mmd2.RELEASE}
FOLDERS = {1: ("PKU_Skeleton_Renew", "Train_Label_PKU_final", "Split"), 2: ("skeleton", "label", "split")}
"""Folders of skeletons, labels and split files, as users have them."""
SPLIT_FILES = {1: ("cross-subject.txt", "cross-view.txt"), 2: ("cross_subject_v2.txt", "cross_view_v2.txt")}
# Synthetic class -> the class of PKU-MMD that comes closest; where nothing comes close, one that is free.
_CLASSES = {
    "wave": 13, "clap": 6, "clap overhead": 5, "throw": 41, "punch": 26, "drink": 8, "phone call": 20, "kick": 19,
    "knee raise": 15, "sit down": 33, "stand up": 34, "squat": 17, "bow": 1, "pick up with one hand": 22,
    "pick up with two hands": 9, "walk": 11, "march": 47, "shake hands": 14, "high five": 24, "push": 27,
}  # fmt: skip
CLASS_OF = tuple(_CLASSES[action.name] for action in ACTIONS)
"""Class number of PKU-MMD, from 1, by label of ``synthetic``."""


def skeleton_text(frames: NDArray[np.floating]) -> bytes:
    """The text of a skeleton file (aimclr.md 1.4) of (F, 2, 25, 3), metres."""
    rows = frames.reshape(len(frames), -1).astype(np.float64)
    line = " ".join(["%.7g"] * rows.shape[1])
    return "".join(f"{line % tuple(row)} \r\n" for row in rows.tolist()).encode()


def label_text(spans: Sequence[Span]) -> bytes:
    """The text of a label file: frames are counted from 1, the last one is part of the action."""
    return "".join(f"{CLASS_OF[span.label]},{span.start + 1},{span.stop},2\r\n" for span in spans).encode()


def recordings(part: Part) -> Iterator[tuple[str, Recording]]:
    """All recordings of the synthetic set with the names that they get; training subjects train in ``xsub``."""
    views = {camera: letter for letter, camera in CAMERAS.items()}
    for recording in generate():
        subject, session = int(recording.sample["subject"]), int(recording.sample["session"])
        trains = subject in TRAINING_SUBJECTS
        same = [other for other in range(1, SUBJECTS + 1) if (other in TRAINING_SUBJECTS) == trains]
        rank = same.index(subject)
        if part == 1:
            first = 2 if trains else pku_mmd1.TEST_VIDEOS[0]
            name = f"{first + SESSIONS * rank + session - 1:04}"
        else:
            performers = [n for n in range(1, 14) if (n not in pku_mmd2.TEST_PERFORMERS) == trains]
            again, place = divmod(rank, len(performers))
            name = f"A{SESSIONS * again + session:02}N{performers[place]:02}"
        yield f"{name}-{views[int(recording.sample['camera'])]}", recording


def emit(folder: Path, part: Part, count: int | None = None) -> int:
    """Write the first ``count`` recordings, or all, with labels and the split files of the whole part.

    Returns:
        How many recordings were written.

    Raises:
        BenchError: the folder is not empty.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise BenchError(f"{folder} is not empty; name a new folder.")
    skeletons, labels, splits = (folder / name for name in FOLDERS[part])
    for place in (skeletons, labels, splits):
        place.mkdir()
    written = 0
    for stem, recording in islice(recordings(part), count):
        (skeletons / f"{stem}.txt").write_bytes(skeleton_text(recording.frames))
        (labels / f"{stem}.txt").write_bytes(label_text(recording.spans))
        written += 1
    for name, trains in zip(SPLIT_FILES[part], _RELEASES[part].trains.values(), strict=True):
        lists = [[stem for stem in _RELEASES[part].recordings if trains(stem) == wanted] for wanted in (True, False)]
        (splits / name).write_text(split_text(*lists))
    return written


def split_text(train: Sequence[str], test: Sequence[str]) -> str:
    """The text of an official split file."""
    return f"Training videos:\n{', '.join(train)}, \nValidation videos:\n{', '.join(test)}, \n"
