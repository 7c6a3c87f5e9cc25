"""Northwestern-UCLA Multiview Action 3D in the JSON form of the field: Kinect v1, 20 joints, one person.

In that form the files of camera 3 of "pick up with two hands" and "drop trash" are copies of camera 2's: 95 of the 464
test clips of ``xview``, the split that papers report, are training clips too. ``xview_clean`` trains without them.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from datasets.archives import look_over
from datasets.base import Cut, Dataset, OnBad
from datasets.check import CheckReport
from datasets.entries import MOST_BYTES
from datasets.layout import KINECT20, LAYOUTS, NTU25, Layout
from datasets.prepare import BadClipError, Preparation, Recordings, inspect, prepare_store, to_layout
from datasets.store import Finding, file_sha256
from engine.config import BenchError, suggestion

_NAME = re.compile(r"a(\d\d)_s(\d\d)_e(\d\d)_v(\d\d)")
_ACTIONS = (1, 2, 3, 4, 5, 6, 8, 9, 11, 12)
"""Action numbers in file names, in the order of the labels 1..10."""
_CLASSES = (
    "pick up with one hand", "pick up with two hands", "drop trash", "walk around", "sit down",
    "stand up", "donning", "doffing", "throw", "carry",
)  # fmt: skip


_PREPARATIONS: Mapping[str, Mapping[str, str]] = {
    # Centred as NTU RGB+D is (aimclr.md 1.5), but turned once: the one sign that the rule of NTU RGB+D has for all frames of a
    # clip leaves those frames askew in which the shoulder line lies on the other side, and people here turn about a lot.
    "once": {"rotation": "sequence"},
    # As NTU RGB+D, with that flaw.
    "ntu": {},
    # As this dataset's supervised loaders do (CTR-GCN and its forks): the clip keeps its trajectory; one turn keeps its shape.
    "trajectory": {"centring": "first", "rotation": "sequence"},
}


class NorthwesternUCLA(Dataset):
    """The dataset ``nw_ucla``, its 20 joints mapped to NTU-25 so that it speaks the same layout as the field's encoders.

    Clips are centred frame by frame, as those of NTU RGB+D, and turned once; ``nw_ucla:ntu`` also turns them frame by frame.
    ``nw_ucla:trajectory`` keeps their trajectory (centred once, on the first frame, and turned once), ``nw_ucla:kinect20`` the
    20 joints, ``nw_ucla:kinect20+trajectory#xview`` both.
    """

    title: ClassVar[str] = "Northwestern-UCLA Multiview Action 3D: 10 actions, 10 subjects, 3 cameras"
    version: ClassVar[int] = 4
    splits: ClassVar[Mapping[str, str]] = {
        "xview": "cameras 1 and 2 train, camera 3 tests",
        "xview_clean": "as xview, without the training clips that equal a test clip byte for byte",
        "xsub": "odd subjects train, even subjects test, all cameras (this suite's rule)",
    }
    expected: ClassVar[Mapping[str, tuple[int, int]]] = {
        "xview": (1020, 464),
        "xview_clean": (925, 464),
        "xsub": (724, 760),
    }

    @property
    def rules(self) -> tuple[Layout, Preparation]:
        """Layout and preparation that the argument asks for.

        Raises:
            BenchError: no such layout or preparation.
        """
        layout, preparation = NTU25, "once"
        for word in filter(None, self.argument.split("+")):
            if word in _PREPARATIONS:
                preparation = word
            elif word in LAYOUTS:
                layout = LAYOUTS[word]
            else:
                known = (*LAYOUTS, *_PREPARATIONS)
                close = suggestion(word, known)
                raise BenchError(
                    f"nw_ucla:{self.argument}: no such layout or preparation {word!r}.{close} Known: {', '.join(known)}."
                )
        return layout, Preparation.model_validate({"frames": self.frames, **_PREPARATIONS[preparation]})

    def prepare(self, source: Path | None, tell: Callable[[str], None], on_bad: OnBad = "skip") -> CheckReport:
        """Prepare from a folder or zip of ``aAA_sSS_eEE_vVV.json`` files; see :meth:`Dataset.prepare`."""
        layout, rules = self.rules
        if source is None:
            raise BenchError("nw_ucla needs --source PATH: the folder or zip with the files aAA_sSS_eEE_vVV.json.")
        recordings = to_layout(read_recordings(source, tell, on_bad), layout)
        tell(f"preparing {len(recordings.clips)} clips, {len(recordings.skipped)} skipped")
        prepare_store(self.folder, recordings, rules, self.version)
        return self.check()

    def cut(self, samples: pd.DataFrame, split: str) -> Cut:
        """See :meth:`Dataset.cut`."""
        camera, subject, recording = (samples[name].to_numpy(np.int64) for name in ("camera", "subject", "recording"))
        if split == "xsub":
            return Cut(split, subject % 2 == 1, subject % 2 == 0, "subject")
        train, test = camera != 3, camera == 3
        if split == "xview_clean":
            train &= ~np.isin(recording, recording[test])
        elif split != "xview":
            known = ", ".join(self.splits)
            raise BenchError(f"nw_ucla has no split {split!r}.{suggestion(split, self.splits)} Known: {known}.")
        return Cut(split, train, test, "camera")


def read_recordings(source: Path, tell: Callable[[str], None], on_bad: OnBad) -> Recordings:
    """Read the JSON files of a folder or zip, in the order of their names.

    Sample columns: ``subject``, ``episode``, ``camera`` from the name; ``recording`` is equal for byte-identical clips.

    Raises:
        BenchError: there is no such file, or one is bad under ``on_bad="stop"``.
    """
    clips: list[NDArray[np.float64]] = []
    rows: list[dict[str, Any]] = []
    skipped: list[Finding] = []
    remarks: list[Finding] = []
    content: dict[bytes, int] = {}
    seen: set[str] = set()
    checksum = hashlib.sha256()
    with _open(source) as (names, read):
        tell(f"reading {len(names)} files of {source}")
        for name in names:
            stem = Path(name).stem
            try:
                if stem in seen:
                    raise BadClipError("a file of this name was already read from another folder of the source")
                seen.add(stem)
                raw = read(name)
                checksum.update(f"{stem} {hashlib.sha256(raw).hexdigest()}\n".encode())
                clip, label = _parse(stem, raw)
                remark = inspect(clip, KINECT20)
            except BadClipError as error:
                skipped.append(Finding(name, str(error)))
                if on_bad == "stop":
                    raise BenchError(f"{source}: {skipped[-1]}. Mend or remove it, or skip bad clips.") from None
                continue
            if remark:
                remarks.append(Finding(name, remark))
            _, subject, episode, camera = _numbers(stem)
            recording = content.setdefault(hashlib.sha256(clip.tobytes()).digest(), len(content))
            rows.append(
                {
                    "id": stem,
                    "label": label,
                    "subject": subject,
                    "episode": episode,
                    "camera": camera,
                    "recording": recording,
                }
            )
            clips.append(clip)
    digest = file_sha256(source) if source.is_file() else checksum.hexdigest()
    manifest = {"name": source.name, "sha256": digest, "files": len(names)}
    return Recordings(clips, pd.DataFrame(rows), KINECT20, _CLASSES, manifest, skipped, remarks)


def _numbers(stem: str) -> tuple[int, int, int, int]:
    """Action, subject, episode and camera of a file name."""
    found = _NAME.fullmatch(stem)
    if not found:
        raise BadClipError("the name is not of the form aAA_sSS_eEE_vVV.json")
    action, subject, episode, camera = map(int, found.groups())
    if action not in _ACTIONS or not 1 <= subject <= 10 or not 1 <= camera <= 3:
        raise BadClipError(
            f"action, subject or camera of the name is unknown (actions {_ACTIONS}, subjects 1-10, cameras 1-3)"
        )
    return action, subject, episode, camera


def _parse(stem: str, raw: bytes) -> tuple[NDArray[np.float64], int]:
    """Clip (F, 1, 20, 3) and 0-based label of one file."""
    action = _numbers(stem)[0]
    try:
        content = json.loads(raw)
    except json.JSONDecodeError as error:
        whole = ", the file is cut short" if raw.lstrip()[:1] == b"{" and not raw.rstrip().endswith(b"}") else ""
        raise BadClipError(f"line {error.lineno}, column {error.colno}: not JSON ({error.msg}){whole}") from None
    except (ValueError, RecursionError) as error:
        raise BadClipError(f"not JSON ({error})") from None
    if not isinstance(content, dict):
        raise BadClipError("not a JSON object with file_name, skeletons and label")
    if missing := [key for key in ("file_name", "skeletons", "label") if key not in content]:
        raise BadClipError(f"key {', '.join(missing)} is missing (found {', '.join(content) or 'none'})")
    label = content["label"]
    if type(label) is not int or not 1 <= label <= len(_CLASSES):
        raise BadClipError(f"label {label!r} is not a whole number from 1 to {len(_CLASSES)}")
    if content["file_name"] != stem:
        raise BadClipError(f"file_name in the file is {content['file_name']!r}")
    if _ACTIONS[label - 1] != action:
        raise BadClipError(
            f"label {label} does not belong to action {action} of the name (label {_ACTIONS.index(action) + 1})"
        )
    return _skeletons(content["skeletons"])[:, None], label - 1


def _skeletons(frames: Any) -> NDArray[np.float64]:
    """Joints (F, 20, 3) of the nested lists of a file."""
    if not isinstance(frames, list):
        raise BadClipError("skeletons is not a list of frames")
    for index, frame in enumerate(frames):
        joints = len(frame) if isinstance(frame, list) else 0
        if joints != len(KINECT20):
            raise BadClipError(f"frame {index} has {joints} joints instead of {len(KINECT20)}")
        for joint, point in enumerate(frame):
            if (
                not isinstance(point, list)
                or len(point) != 3
                or not all(type(value) in (int, float) for value in point)
            ):
                raise BadClipError(f"frame {index}, joint {KINECT20.joints[joint]}: not three numbers")
    try:
        return np.array(frames, np.float64).reshape(len(frames), len(KINECT20), 3)
    except OverflowError:
        raise BadClipError("a number is out of range") from None


@contextmanager
def _open(source: Path) -> Iterator[tuple[list[str], Callable[[str], bytes]]]:
    """Names of all JSON files of a folder or zip, and a function that reads one; a zip is not unpacked to disk.

    Raises:
        BenchError: not there, not a zip, or without any JSON file of the dataset's naming.
    """
    if source.is_dir():
        yield (
            _sorted([path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()], source),
            (lambda name: _guarded((source / name).read_bytes)),
        )
        return
    if not source.exists():
        raise BenchError(
            f"{source} does not exist; give --source the folder or zip with the files aAA_sSS_eEE_vVV.json."
        )
    try:
        archive = zipfile.ZipFile(source)
    except (OSError, zipfile.BadZipFile) as error:
        raise BenchError(f"{source} is not a readable zip ({error}); downloaded completely?") from None
    with archive:
        look_over(archive, source)
        yield _sorted(archive.namelist(), source), lambda name: _guarded(lambda: _member(archive, name))


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    if (size := archive.getinfo(name).file_size) > MOST_BYTES:
        raise BadClipError(f"{size} bytes; such a file has a few hundred thousand at most")
    return archive.read(name)


def _guarded(read: Callable[[], bytes]) -> bytes:
    try:
        return read()
    except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError) as error:
        raise BadClipError(f"cannot be read ({error})") from None


def _sorted(names: list[str], source: Path) -> list[str]:
    visible = [name for name in names if not re.search(r"(^|/)(\.|__MACOSX/)", name)]
    found = sorted((name for name in visible if name.endswith(".json")), key=lambda name: (Path(name).stem, name))
    if any(_NAME.fullmatch(Path(name).stem) for name in found):
        return found
    others = sorted(name for name in visible if not name.endswith("/"))
    there = f"{len(others)} other files, e.g. {others[0]}" if others else "no files at all"
    raise BenchError(f"{source} holds no file named aAA_sSS_eEE_vVV.json (NW-UCLA in JSON form), but {there}.")
