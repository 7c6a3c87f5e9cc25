"""Annotation pickles of PYSKL and MMAction2 (``ntu60_3danno.pkl``): splits by name, and a dictionary per clip.

``{"split": {"xsub_train": [names], "xsub_val": [names], ...}, "annotations": [{"frame_dir": name, "label": class,
"keypoint": (M, T, 25, 3), "total_frames": T}, ...]}``; they are read without unpickling (:mod:`datasets.pickles`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from datasets.interchange import Clips, Interchange, table
from datasets.layout import NTU25
from datasets.pickles import read_pickle
from datasets.prepare import BadClipError, Float
from engine.config import BenchError

_PARTS = {"train": "train", "val": "test", "test": "test"}
_NEEDED = ("frame_dir", "label", "keypoint")


def read_pyskl(path: Path) -> Interchange:
    """Read an annotation pickle with 3D keypoints of NTU's 25 joints.

    Raises:
        BenchError: not such a file, or a pickle that asks for anything but numpy arrays and plain containers.
    """
    content = read_pickle(path)
    if not isinstance(content, dict) or not isinstance(content.get("split"), dict):
        raise BenchError(f"{path}: expected a dictionary with split and annotations, found {_what(content)}.")
    annotations = content.get("annotations")
    if not isinstance(annotations, list) or not annotations:
        raise BenchError(f"{path}: annotations is {_what(annotations)}; expected a list with a dictionary per clip.")
    names, labels = [], []
    for row, annotation in enumerate(annotations):
        if not isinstance(annotation, dict) or any(key not in annotation for key in _NEEDED):
            raise BenchError(f"{path}, annotation {row}: expected {', '.join(_NEEDED)}, found {_what(annotation)}.")
        name, label = annotation["frame_dir"], annotation["label"]
        if not isinstance(name, str) or type(label) is not int or abs(label) > 10_000:
            raise BenchError(f"{path}, annotation {row}: frame_dir must be a word and label a class number.")
        names.append(name)
        labels.append(label)
    parts = _parts(content["split"], names, path)
    samples, faults = table(names, labels, parts)

    def clips() -> Clips:
        yield from map(_clip, annotations)

    return Interchange("pyskl", [path], samples, tuple(parts), clips, faults=faults)


def _parts(split: dict[Any, Any], names: list[str], path: Path) -> dict[str, list[str]]:
    """Split -> ``train``, ``test`` or an empty word per sample."""
    known = set(names)
    found: dict[str, dict[str, str]] = {}
    for key, members in split.items():
        name, _, word = str(key).rpartition("_")
        if word not in _PARTS:
            raise BenchError(f"{path}: split {str(key)[:40]!r} is neither ..._train nor ..._val.")
        if not isinstance(members, list) or not all(isinstance(member, str) for member in members):
            raise BenchError(f"{path}: split {key} is {_what(members)}; expected a list of sample names.")
        column = found.setdefault(name or "split", {})
        if strangers := [member for member in members if member not in known]:
            raise BenchError(
                f"{path}: {len(strangers)} names of split {key} have no annotation, e.g. {strangers[0][:60]}."
            )
        if twice := [member for member in members if column.get(member, _PARTS[word]) != _PARTS[word]]:
            raise BenchError(f"{path}: {twice[0][:60]} both trains and tests in split {name}.")
        column |= dict.fromkeys(members, _PARTS[word])
    return {name: [column.get(sample, "") for sample in names] for name, column in found.items()}


def _clip(annotation: dict[str, Any]) -> Float | BadClipError:
    points = annotation["keypoint"]
    if not isinstance(points, np.ndarray) or points.ndim != 4 or points.dtype.kind != "f":
        return BadClipError(f"keypoint is {_what(points)}; expected float (persons, frames, {len(NTU25)}, 3)")
    if points.shape[2:] != (len(NTU25), 3):
        flat = " (2D keypoints have no depth, and are not read)" if points.shape[3] == 2 else ""
        return BadClipError(f"keypoint is of shape {points.shape}; expected {len(NTU25)} joints of x, y, z{flat}")
    if annotation.get("total_frames", points.shape[1]) != points.shape[1]:
        return BadClipError(f"total_frames does not equal the {points.shape[1]} frames of keypoint")
    return np.asarray(points).transpose(1, 0, 2, 3)


def _what(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape}"
    if isinstance(value, dict):
        return f"a dictionary with {', '.join(str(key)[:30] for key in list(value)[:8]) or 'nothing'}"
    return f"{'an empty ' if value == [] else ''}{type(value).__name__}"
