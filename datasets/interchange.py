"""The forms in which the field passes NTU RGB+D and PKU-MMD around: what their readers give, and how it is prepared.

A reader (``forms_*.py``) looks at the file or folder, makes the table of samples, and gives the clips one by one in the
order of the table, so that memory does not grow with the file.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from datasets.layout import NTU25
from datasets.prepare import VERSION, BadClipError, Float, Preparation, as_they_are, inspect, prepare_clips
from datasets.store import ClipFile, Finding, file_sha256, first_of, write_store
from engine.config import BenchError, as_dict

PERSONS = 2
_CHUNK = 256
_MOST_CLASSES = 1000
_NTU = re.compile(r"S(?P<setup>\d{3})C(?P<camera>\d{3})P(?P<subject>\d{3})R(?P<episode>\d{3})A(?P<action>\d{3})")
_PKU1 = re.compile(r"F(?P<video>\d{3})V(?P<camera>\d{3})C(?P<action>\d{3})L(?P<episode>\d{3})")
_PKU2 = re.compile(r"A(?P<video>\d{3})N(?P<subject>\d{3})V(?P<camera>\d{3})C(?P<action>\d{3})L(?P<episode>\d{3})")
_SPLITS = {
    "xsub": ("xsub", "cs", "csub"),
    "xview": ("xview", "cv", "cview"),
    "xset": ("xset", "xsetup", "cset", "csetup"),
}
GROUPS = {"xsub": "subject", "xview": "camera", "xset": "setup"}
"""The column along which a split of this name is cut."""

Clips = Iterator[Float | BadClipError]


@dataclass(frozen=True)
class Interchange:
    """What a file or folder of an interchange form holds.

    Attributes:
        form: name of the form.
        files: what was read.
        samples: one row per clip: ``id``, ``label``, what the id tells (``subject``, ``camera``, ``setup``, ...), and for
            every split a column of ``train``, ``test`` and empty words.
        splits: names of those columns.
        clips: gives the clips (F, M, 25, 3) in the order of the rows, metres, y up, an absent person all zero; an error in
            the place of a clip that cannot be read.
        prepared: whether clips are centred, turned and resampled already.
        faults: row -> why the sample cannot be used, as far as the table tells.
        named: whether ids are the names that the samples' makers gave them.
    """

    form: str
    files: Sequence[Path]
    samples: pd.DataFrame
    splits: tuple[str, ...]
    clips: Callable[[], Clips]
    prepared: bool = False
    faults: Mapping[int, str] = field(default_factory=dict)
    named: bool = True


def is_name(text: str) -> bool:
    """Whether a sample is called as NTU RGB+D calls its own."""
    return _NTU.fullmatch(text) is not None


def split_name(text: str) -> str:
    """``xsub``, ``xview`` or ``xset`` for the name of a file or folder in which it is a word; else ``split``."""
    words = re.findall(r"[a-z]+", text.lower())
    return next((name for name, spelled in _SPLITS.items() if set(words) & set(spelled)), "split")


def table(
    ids: Sequence[str], labels: Sequence[int], parts: Mapping[str, Sequence[str]]
) -> tuple[pd.DataFrame, dict[int, str]]:
    """The table of samples, and what is wrong with its rows.

    Args:
        ids: names; those of NTU RGB+D and PKU-MMD tell subject, camera and so on.
        labels: 0-based classes; where a name tells the action, the label must be that action's.
        parts: split -> ``train``, ``test`` or an empty word per sample.
    """
    found = [_NTU.fullmatch(name) or _PKU2.fullmatch(name) or _PKU1.fullmatch(name) for name in ids]
    told = [{key: int(value) for key, value in match.groupdict().items()} if match else {} for match in found]
    faults: dict[int, str] = {}
    seen: dict[str, int] = {}
    for row, (name, label, about) in enumerate(zip(ids, labels, told, strict=True)):
        if name in seen:
            faults[row] = f"sample {seen[name]} has the same name"
        elif not 0 <= label < _MOST_CLASSES:
            faults[row] = f"label {label} is no class (classes count from 0, and there are fewer than {_MOST_CLASSES})"
        elif about.pop("action", label + 1) != label + 1:
            faults[row] = f"label {label} does not belong to the action of the name (label = action - 1)"
        seen.setdefault(name, row)
    columns = [key for key in ("subject", "camera", "setup", "episode", "video") if all(key in each for each in told)]
    good = [0 if row in faults else label for row, label in enumerate(labels)]
    content: dict[str, Any] = {"id": list(ids), "label": np.array(good, np.int64)}
    content |= {key: [each[key] for each in told] for key in columns if told}
    return pd.DataFrame(content | {name: list(part) for name, part in parts.items()}), faults


def prepare(
    folder: Path,
    found: Interchange,
    rules: Preparation,
    version: int,
    on_bad: str,
    classes: Sequence[str] = (),
    remarks: Sequence[Finding] = (),
) -> None:
    """Prepare clips as they come and write them as a store; what is prepared already is only resampled.

    Args:
        folder: where to.
        found: what a reader found.
        rules: how clips are prepared that are not.
        version: of the dataset.
        on_bad: ``skip`` or ``stop``.
        classes: their names, where they are known.
        remarks: to be kept in the manifest.

    Raises:
        BenchError: a bad clip under ``stop``, or there is no good one.
    """
    rules = as_they_are(rules.frames) if found.prepared else rules
    rows: list[int] = []
    skipped: list[Finding] = []
    good = _good(found, on_bad, rows, skipped)
    lengths: list[int] = []
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as work:
        with ClipFile(Path(work) / "clips.npy", (PERSONS, rules.frames, len(NTU25), 3)) as clips:
            while chunk := list(islice(good, _CHUNK)):
                offsets = np.cumsum([0, *map(len, chunk)])
                ready, used = prepare_clips(np.concatenate(chunk), offsets, NTU25, rules)
                clips.append(ready)
                lengths += used.tolist()
        if not lengths:
            raise BenchError(f"{found.files[0]}: none of {len(skipped)} clips is usable.{first_of(skipped)}")
        samples = found.samples.iloc[rows].reset_index(drop=True)
        samples.insert(2, "length", lengths)
        manifest = {
            "version": version,
            "rules": {"version": VERSION, **as_dict(rules)},
            "source": _source(found.files) | {"form": found.form},
            "skipped": [asdict(finding) for finding in skipped],
            "remarks": [asdict(finding) for finding in remarks],
        }
        names = classes or [f"class {number}" for number in range(int(samples["label"].max()) + 1)]
        write_store(folder, clips, samples, NTU25, names, manifest)


def _good(found: Interchange, on_bad: str, rows: list[int], skipped: list[Finding]) -> Iterator[Float]:
    """Usable clips, filled up to two persons; notes their rows, and what is left out."""
    for row, clip in enumerate(found.clips()):
        try:
            if row in found.faults:
                raise BadClipError(found.faults[row])
            if isinstance(clip, BadClipError):
                raise clip
            if clip.shape[1] > PERSONS:
                raise BadClipError(f"{clip.shape[1]} persons, expected at most {PERSONS}")
            whole = np.zeros((len(clip), PERSONS, *clip.shape[2:]), np.promote_types(clip.dtype, np.float32))
            whole[:, : clip.shape[1]] = clip
            inspect(whole, NTU25)
        except BadClipError as error:
            skipped.append(Finding(f"sample {row} ({found.samples['id'].iloc[row]})", str(error)))
            if on_bad == "stop":
                raise BenchError(f"{found.files[0]}: {skipped[-1]}. Mend it, or skip bad clips.") from None
            continue
        rows.append(row)
        yield whole


def _source(files: Sequence[Path]) -> dict[str, Any]:
    sums = [file_sha256(path) for path in files]
    together = sums[0] if len(sums) == 1 else hashlib.sha256("\n".join(sums).encode()).hexdigest()
    return {"name": files[0].name if len(files) == 1 else files[0].parent.name, "sha256": together, "files": len(files)}
