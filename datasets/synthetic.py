"""The embedded synthetic set: 20 actions of a jointed body, generated on first use, with the truth about what moves.

Twelve subjects perform every action twice; three cameras with a noisy sensor see each take. What hides the class from
naive features is what augmentations can imitate: time shift, tempo, tilted views, body shape, noise and lost joints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter1d

from datasets.base import Cut, Dataset, OnBad
from datasets.check import CheckReport
from datasets.layout import NTU25
from datasets.outline import outline_clips
from datasets.prepare import VERSION, Preparation, prepare_clips, resample
from datasets.store import Store, write_store
from datasets.synthetic_actions import ACTIONS, Action
from datasets.synthetic_body import Array
from datasets.synthetic_scene import SENSOR, Performance, Sensor, observe, perform
from engine.config import BenchError, as_dict, suggestion

SUBJECTS = 12
TRAINING_SUBJECTS = (1, 3, 4, 6, 8, 9, 11)
TAKES = 2
DISPLACED = 0.05
"""Distance from the idle place beyond which a joint belongs to the actionlet, metres."""
AROUND = 3
"""Raw frames before and after that count as well, so that a swinging limb does not leave the actionlet in passing."""

_SUBJECTS = range(1, SUBJECTS + 1)


@dataclass(frozen=True)
class Domain:
    """What a generated set consists of.

    Attributes:
        subjects: numbers of all subjects.
        training: those that train under ``xsub``.
        actions: the classes.
        sensor: the cameras.
    """

    subjects: tuple[int, ...] = tuple(_SUBJECTS)
    training: tuple[int, ...] = TRAINING_SUBJECTS
    actions: tuple[Action, ...] = ACTIONS
    sensor: Sensor = SENSOR


DOMAIN = Domain()
"""That of the synthetic set."""


@dataclass(frozen=True)
class RawClip:
    """One clip before preparation.

    Attributes:
        sample: ``id``, ``label``, ``subject``, ``camera`` and ``take``; all but the label count from 1.
        joints: (L, M, V, 3) float32, metres, as seen by :func:`datasets.synthetic_scene.observe`; absent = zero.
        moved: (L, M, V) float32, metres, as :func:`displacement`; zero for an absent person.
    """

    sample: Mapping[str, int | str]
    joints: NDArray[np.float32]
    moved: NDArray[np.float32]


def generate(
    labels: Iterable[int] | None = None,
    subjects: Iterable[int] | None = None,
    takes: int = TAKES,
    domain: Domain = DOMAIN,
) -> Iterator[RawClip]:
    """Generate raw clips; a part of the set holds the same clips as the whole.

    Args:
        labels: classes to generate, ``None`` for all.
        subjects: subjects to generate, ``None`` for all.
        takes: takes of every subject.
        domain: what the set consists of.
    """
    wanted = domain.subjects if subjects is None else tuple(subjects)
    for label in range(len(domain.actions)) if labels is None else labels:
        for subject in wanted:
            for take in range(1, takes + 1):
                scene = perform(label, subject, take, partner_of(subject, domain), domain.actions)
                moved = _two(displacement(scene))
                for camera in _cameras(domain):
                    sample = _sample(label, subject, take, camera)
                    yield RawClip(sample, _two(observe(scene, camera - 1, domain.sensor)), moved)


def _cameras(domain: Domain) -> range:
    return range(1, len(domain.sensor.cameras) + 1)


def _sample(label: int, subject: int, take: int, camera: int) -> dict[str, int | str]:
    name = f"a{label + 1:02}_s{subject:02}_t{take}_c{camera}"
    return {"id": name, "label": label, "subject": subject, "camera": camera, "take": take}


def partner_of(subject: int, domain: Domain = DOMAIN) -> int:
    """The second person of a subject's two-person clips: the next subject of the same part of ``xsub``."""
    part = [other for other in domain.subjects if (other in domain.training) == (subject in domain.training)]
    return part[(part.index(subject) + 1) % len(part)]


def displacement(performance: Performance) -> Array:
    """How far the action moves every joint (M, L, V), metres: the distance to where it would be in the idling body.

    Positions are relative to the centre joint, as in prepared clips (the centre joint itself therefore never moves).
    What a body does beside the action (sway, fidgets) does not count, nor the posture that it was in before the action.
    """
    own, idle = (bodies - bodies[:, :, [NTU25.centre]] for bodies in (performance.bodies, performance.idle))
    apart = np.linalg.norm(own - idle, axis=-1)
    return np.asarray(maximum_filter1d(apart, 2 * AROUND + 1, axis=1, mode="nearest"))


def _two(bodies: Array) -> NDArray[np.float32]:
    """(1 or 2, L, ...) -> (L, 2, ...), the absent person zero."""
    both = np.zeros((bodies.shape[1], 2, *bodies.shape[2:]), np.float32)
    both[:, : len(bodies)] = bodies.swapaxes(0, 1)
    return both


class Synthetic(Dataset):
    """The dataset ``synthetic``: prepares itself, and again only when its version or the frames per clip change."""

    title: ClassVar[str] = "embedded: 20 actions, 12 subjects, 3 cameras, generated"
    version: ClassVar[int] = 1
    splits: ClassVar[Mapping[str, str]] = {
        "xsub": f"subjects {', '.join(map(str, TRAINING_SUBJECTS))} train, the others test, all cameras",
        "xview": "cameras 2 and 3 train, camera 1 tests",
    }
    embedded: ClassVar[bool] = True
    expected: ClassVar[Mapping[str, tuple[int, int]]] = {"xsub": (840, 600), "xview": (960, 480)}
    targets: ClassVar[Mapping[str, str]] = {"transfer": "synthetic_b", "segmentation": "synthetic_untrimmed"}
    domain: ClassVar[Domain] = DOMAIN

    def prepare(self, source: Path | None, tell: Callable[[str], None], on_bad: OnBad = "skip") -> CheckReport:
        """Generate and prepare the set; see :meth:`Dataset.prepare`."""
        if source is not None or self.argument:
            name = self.name.partition(":")[0]
            raise BenchError(f"{name} is generated: it takes no --source and nothing after a colon.")
        tell(f"generating {self.name}")
        raw = list(generate(domain=self.domain))
        offsets = np.cumsum([0, *(len(clip.joints) for clip in raw)])
        rules = Preparation(frames=self.frames)
        clips, lengths = prepare_clips(np.concatenate([clip.joints for clip in raw]), offsets, NTU25, rules)
        moved = resample(np.concatenate([clip.moved for clip in raw]), offsets[:-1], lengths, self.frames)
        truth = (moved > DISPLACED).transpose(0, 2, 1, 3)  # (N, M, T, V)
        samples = pd.DataFrame([clip.sample for clip in raw])
        samples.insert(2, "length", lengths)
        manifest = {"version": self.version, "rules": {"version": VERSION, **as_dict(rules), "displaced": DISPLACED}}
        arrays = {"actionlets": np.packbits(truth.reshape(len(truth), -1), axis=1)}
        write_store(
            self.folder, clips, samples, NTU25, [action.name for action in self.domain.actions], manifest, arrays
        )
        return self.check()

    def outline(self) -> Store:
        """See :meth:`Dataset.outline`; how long the raw clips are is not known."""
        numbers = product(
            range(len(self.domain.actions)), self.domain.subjects, range(1, TAKES + 1), _cameras(self.domain)
        )
        samples = pd.DataFrame([_sample(*each) for each in numbers])
        samples.insert(2, "length", 0)
        classes = [action.name for action in self.domain.actions]
        return outline_clips(self.folder, (2, self.frames, len(NTU25), 3), samples, NTU25, classes)

    def cut(self, samples: pd.DataFrame, split: str) -> Cut:
        """See :meth:`Dataset.cut`."""
        if split == "xsub":
            train, group = np.isin(samples["subject"].to_numpy(np.int64), self.domain.training), "subject"
        elif split == "xview":
            train, group = samples["camera"].to_numpy(np.int64) != 1, "camera"
        else:
            known = ", ".join(self.splits)
            raise BenchError(f"{self.name} has no split {split!r}.{suggestion(split, self.splits)} Known: {known}.")
        return Cut(split, train, ~train, group)


def load_actionlets(root: Path, split: str = "xsub", frames: int = 50) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The true actionlets of the synthetic set: which joints the action moves, and when.

    True where the action takes a joint more than :data:`DISPLACED` from where it would be in the idling body, in that
    frame or within :data:`AROUND` raw frames of it (see :func:`displacement`). The body that ``sit down`` leaves seated
    stays displaced; that of ``stand up`` starts out seated, in its place.

    Args:
        root: folder of all prepared data, as for :class:`Synthetic`.
        split: which split.
        frames: T.

    Returns:
        Training and test part, (n, M, T, V) each, rows in the split's order.

    Raises:
        BenchError: unknown split, or damaged data.
    """
    dataset = Synthetic(root, frames=frames)
    prepared = dataset.prepared().intact()
    cut = dataset.cut(prepared.samples, split)
    count, persons, _, joints, _ = prepared.clips.shape
    bits = np.unpackbits(prepared.arrays["actionlets"], axis=1, count=persons * frames * joints)
    truth = bits.astype(bool).reshape(count, persons, frames, joints)
    return truth[cut.train], truth[cut.test]
