"""Untrimmed recordings of the embedded synthetic set: several of its actions one after the other, with a label per frame."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from datasets.base import Content, Cut, Dataset, OnBad
from datasets.check import CheckReport
from datasets.layout import NTU25
from datasets.outline import outline_recordings
from datasets.store import Store
from datasets.synthetic import SUBJECTS, Synthetic, partner_of
from datasets.synthetic_actions import ACTIONS
from datasets.synthetic_scene import CAMERAS, RATE
from datasets.synthetic_sessions import SESSIONS, Span, observe_session, perform_session
from datasets.untrimmed import BACKGROUND, write_recordings
from engine.config import BenchError

CLASSES = (BACKGROUND, *(action.name for action in ACTIONS))
"""What frames are labelled with."""


@dataclass(frozen=True)
class Recording:
    """One session as one camera sees it.

    Attributes:
        sample: ``id``, ``subject``, ``session`` and ``camera``, all from 1.
        frames: (L, 2, V, 3) float32, metres; an absent partner is all zero.
        spans: the actions, in order.
    """

    sample: Mapping[str, int | str]
    frames: NDArray[np.float32]
    spans: tuple[Span, ...]

    @property
    def labels(self) -> NDArray[np.int64]:
        """(L,) class of every frame: 0 = background, else the label of ``synthetic`` + 1."""
        labels = np.zeros(len(self.frames), np.int64)
        for span in self.spans:
            labels[span.start : span.stop] = span.label + 1
        return labels


def generate(subjects: Iterable[int] = range(1, SUBJECTS + 1)) -> Iterator[Recording]:
    """Generate recordings; a part of the set holds the same recordings as the whole."""
    for subject in subjects:
        for number in range(1, SESSIONS + 1):
            session = perform_session(subject, number, partner_of(subject))
            for camera in range(1, len(CAMERAS) + 1):
                frames = observe_session(session, camera - 1).astype(np.float32)
                yield Recording(_sample(subject, number, camera), frames, session.spans)


def _sample(subject: int, session: int, camera: int) -> dict[str, int | str]:
    name = f"s{subject:02}_u{session}_c{camera}"
    return {"id": name, "subject": subject, "session": session, "camera": camera}


class SyntheticUntrimmed(Dataset):
    """The dataset ``synthetic_untrimmed``: for segmentation, with the subjects, cameras, splits and actions of ``synthetic``.

    Each of the 12 subjects performs 12 to 14 of the actions in two sessions of about 25 seconds, seen by all three cameras.
    It holds no trimmed clips; those are ``synthetic``.
    """

    title: ClassVar[str] = "embedded: long recordings of the actions of synthetic, with a label per frame"
    aliases: ClassVar[tuple[str, ...]] = ("synthetic-untrimmed",)
    version: ClassVar[int] = 1
    splits: ClassVar[Mapping[str, str]] = Synthetic.splits
    embedded: ClassVar[bool] = True
    expected_recordings: ClassVar[Mapping[str, tuple[int, int]]] = {"xsub": (42, 30), "xview": (48, 24)}

    @property
    def folder(self) -> Path:
        """There is nothing but recordings."""
        return self.untrimmed_folder

    @property
    def contents(self) -> tuple[Content, ...]:
        """See :attr:`Dataset.contents`."""
        return ("recordings",)

    def prepare(self, source: Path | None, tell: Callable[[str], None], on_bad: OnBad = "skip") -> CheckReport:
        """Generate the set; see :meth:`Dataset.prepare`."""
        if source is not None or self.argument:
            raise BenchError("synthetic_untrimmed is generated: it takes no --source and nothing after a colon.")
        tell("generating the untrimmed synthetic set")
        raw = list(generate())
        samples = pd.DataFrame([recording.sample for recording in raw])
        samples.insert(1, "length", [len(recording.frames) for recording in raw])
        frames = np.concatenate([recording.frames for recording in raw])
        labels = np.concatenate([recording.labels for recording in raw])
        manifest = {"version": self.version}
        write_recordings(self.untrimmed_folder, frames, labels, samples, NTU25, CLASSES, RATE, manifest)
        return self.check()

    def outline(self) -> Store:
        """See :meth:`Dataset.outline`; how long a session is shows when it is performed, which is quick."""
        rows = []
        for subject, number in product(range(1, SUBJECTS + 1), range(1, SESSIONS + 1)):
            length = perform_session(subject, number, partner_of(subject)).bodies.shape[1]
            rows += [_sample(subject, number, one + 1) | {"length": length} for one in range(len(CAMERAS))]
        return outline_recordings(self.untrimmed_folder, (2, len(NTU25), 3), pd.DataFrame(rows), NTU25, CLASSES, RATE)

    def cut(self, samples: pd.DataFrame, split: str) -> Cut:
        """As ``synthetic`` is cut; see :meth:`Dataset.cut`."""
        return Synthetic(self.root).cut(samples, split)
