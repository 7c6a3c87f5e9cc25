"""Draws of labels: which training clips a protocol may know the labels of, checked and published as files."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.clips import Split
from engine.config import BenchError, digest
from engine.files import write_atomically
from protocols.base import Protocol


@dataclass(frozen=True)
class Draw:
    """Indices (n,) into the training part whose labels are seen in one run; the name is "" for all of them."""

    name: str
    index: NDArray[np.int64]


def draws_of(protocol: Protocol[Any], split: Split) -> list[Draw]:
    """A protocol's draws, or the one that holds all labels.

    Raises:
        BenchError: a draw has fewer or more labels than the protocol's definition, or names a clip twice.
    """
    labels = split.train.labels.cpu().numpy()
    named = protocol.draws(labels, split.digest)
    found = [Draw(name, np.asarray(index)) for name, index in named.items()] or [Draw("", np.arange(len(labels)))]
    for draw in found:
        check(len(np.unique(draw.index)), protocol, split, draw.name)
        if len(np.unique(draw.index)) != len(draw.index):
            raise BenchError(f"Draw {draw.name} of {split.name} names a training clip twice.")
    return found


def check(seen: int, protocol: Protocol[Any], split: Split, name: str = "") -> None:
    """Compare the number of labels that a run sees with the protocol's definition.

    Raises:
        BenchError: they differ.
    """
    wanted = protocol.label_count(split.train.labels.cpu().numpy())
    if seen != wanted:
        what = f"draw {name} of {split.name}" if name else split.name
        raise BenchError(
            f"{type(protocol).__name__} sees {seen} labels in {what}, but its definition asks for {wanted} of "
            f"{len(split.train)}. A result on fewer labels would stand beside results on all of them."
        )


def publish(found: Sequence[Draw], split: Split, results: Path) -> list[str]:
    """Write every named draw to ``<results>/draws/<split>-<digest>/<name>.csv``, once; returns the files' names.

    Raises:
        BenchError: a file is there with another content.
    """
    folder = f"draws/{_plain(split.name)}-{digest([split.name, split.digest])[:8]}"
    files = []
    for draw in found:
        if not draw.name:
            continue
        files.append(f"{folder}/{_plain(draw.name)}.csv")
        path, content = results / files[-1], _table(draw, split)
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            with write_atomically(path) as file:
                file.write(content)
        elif path.read_bytes() != content:
            raise BenchError(
                f"{path} does not hold the draw that belongs to this data. The draws are fixed: restore or delete the file."
            )
    return files


def _table(draw: Draw, split: Split) -> bytes:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("index", "id", "class"))
    for i in draw.index.tolist():
        rows.writerow((i, split.train.ids[i], split.classes[int(split.train.labels[i])]))
    return text.getvalue().encode()


def _plain(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name)
