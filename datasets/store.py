"""Prepared data on disk: arrays, ``samples.csv`` and ``manifest.json`` in a folder that is whole or not there.

Trimmed clips lie in ``clips.npy``; what untrimmed recordings lie in is told in :mod:`datasets.untrimmed`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from datasets.layout import Layout
from datasets.mapped import AT_ONCE, picked_rows
from engine.config import BenchError, digest

if TYPE_CHECKING:  # torch is imported where it is used: processes that read raw files do without it
    from datasets.clips import ClipSet, Split

FORMAT = 1
"""Raised when the files' form changes; older stores are then refused."""
COLUMNS = ("id", "label", "length")
"""Columns every sample table has; all others say where a sample comes from (``subject``, ``camera`` ...)."""


@dataclass(frozen=True)
class Finding:
    """Something to tell about a source file.

    Attributes:
        place: file and, where it helps, frame, line or joint.
        reason: what is wrong or odd there.
    """

    place: str
    reason: str

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


def first_of(findings: Sequence[Finding], most: int = 5) -> str:
    """The first few in words, for the end of a message."""
    told = list(dict.fromkeys(map(str, findings)))
    if not told:
        return ""
    return f" {'The first of them: ' if len(told) > most else ''}{'; '.join(told[:most]).removesuffix('.')}."


@dataclass(frozen=True)
class Store:
    """An opened store of any kind.

    Attributes:
        folder: where it lies.
        samples: one row per clip or recording: ``id``, ``length`` (raw frames) and what else is known (``subject`` ...).
        layout: skeleton layout.
        classes: class names, index = label.
        manifest: the manifest file's content.
        arrays: all arrays by name, memory-mapped read-only.
        digest: checksum of all of it; the same data gives the same digest wherever it lies.
        unit: what a row is, in the plural.
    """

    unit: ClassVar[str] = "rows"

    folder: Path
    samples: pd.DataFrame
    layout: Layout
    classes: tuple[str, ...]
    manifest: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]]
    digest: str

    def cut_digest(self, name: str, train: NDArray[np.bool_], test: NDArray[np.bool_], group: str) -> str:
        """Checksum of the data and of how it is cut.

        Args:
            name: ``dataset/split``, for messages.
            train: (N,) bool, rows of the training part.
            test: (N,) bool, rows of the test part; a row in neither is left out.
            group: column along which it is cut.

        Raises:
            BenchError: a part is empty, or the parts overlap.
        """
        if not train.any() or not test.any() or (train & test).any():
            values = ", ".join(map(str, pd.unique(self.samples[group])[:20]))
            raise BenchError(
                f"{name}: {train.sum()} training and {test.sum()} test {self.unit}, {(train & test).sum()} in both; each "
                f"part must hold {self.unit}, and they share none. Values of {group}: {values}."
            )
        parts = [hashlib.sha256(np.packbits(part).tobytes()).hexdigest() for part in (train, test)]
        return digest({"store": self.digest, "parts": parts, "group": group})

    def findings(self, kind: str) -> tuple[Finding, ...]:
        """What preparation noted under ``kind`` in the manifest: ``skipped``, ``missing`` or ``remarks``."""
        return tuple(Finding(**entry) for entry in self.manifest.get(kind, []))

    def warn_of_skipped(self) -> None:
        """Warn of what was left out: for data that is prepared on first use, without a report."""
        if skipped := self.findings("skipped"):
            text = f"{len(skipped)} {self.unit} were skipped, the first: {skipped[0]}. See data check."
            warnings.warn(text, stacklevel=2)

    def damage(self) -> tuple[str, ...]:
        """Files whose bytes are not those that were written."""
        sums: Mapping[str, str] = self.manifest["sha256"]
        return tuple(name for name, expected in sums.items() if file_sha256(self.folder / name) != expected)

    def intact(self) -> Self:
        """Itself, after reading all files once: to be called before anything is computed; a gigabyte takes about a second.

        Raises:
            BenchError: a file's bytes are not those that were written.
        """
        if damaged := self.damage():
            raise BenchError(
                f"{self.folder / damaged[0]} is damaged: its checksum is not the one in manifest.json. "
                "Delete the folder and prepare the data again."
            )
        return self


@dataclass(frozen=True)
class Prepared(Store):
    """An opened store of trimmed clips; its table also has the column ``label``."""

    unit: ClassVar[str] = "clips"

    @property
    def clips(self) -> NDArray[np.float32]:
        """(N, M, T, V, C) float32, metres, memory-mapped read-only."""
        return self.arrays["clips"]

    def select(self, chosen: NDArray[np.bool_]) -> ClipSet:
        """Read the chosen samples (N,) bool: into memory, or if they would take much of it, into a mapped file."""
        import torch

        from datasets.clips import ClipSet, from_storage

        clips = torch.from_numpy(picked_rows(self.clips, np.flatnonzero(chosen), self.folder.parent))
        rows = self.samples[chosen]
        return ClipSet(
            clips=from_storage(clips),
            labels=torch.from_numpy(rows["label"].to_numpy(np.int64, copy=True)),
            presence=torch.cat([(part != 0).flatten(2).any(2) for part in torch.split(clips, AT_ONCE)]),
            ids=tuple(rows["id"]),
            groups={str(name): group_of(self.samples[name])[chosen] for name in rows if name not in COLUMNS},
            lengths=torch.from_numpy(rows["length"].to_numpy(np.int64, copy=True)),
        )

    def split(self, name: str, train: NDArray[np.bool_], test: NDArray[np.bool_], group: str) -> Split:
        """Cut a split.

        Args:
            name: ``dataset/split``.
            train: (N,) bool, training samples.
            test: (N,) bool, test samples; a sample in neither part is left out.
            group: sample column along which it is cut.

        Raises:
            BenchError: a part is empty, or the parts overlap.
        """
        from datasets.clips import Split

        checksum = self.cut_digest(name, train, test, group)
        return Split(
            name=name,
            layout=self.layout,
            train=self.select(train),
            test=self.select(test),
            classes=self.classes,
            group=group,
            digest=checksum,
        )


class ClipFile:
    """An ``.npy`` file of clips that grows row by row, so that memory does not grow with it; a context manager.

    What it holds at the end has the bytes that ``numpy.save`` would have written.

    Args:
        path: where to; an older file is replaced.
        row: shape of one clip, (M, T, V, C).
    """

    def __init__(self, path: Path, row: tuple[int, ...]) -> None:
        self.path = path
        self.row = row
        self.count = 0

    def __enter__(self) -> ClipFile:
        self._file = self.path.open("wb")
        self._write_header()
        return self

    def __exit__(self, *_: object) -> None:
        self._file.seek(0)
        self._write_header()  # numpy leaves room in it for any number of rows
        self._file.close()

    def append(self, clips: NDArray[np.float32]) -> None:
        """Add clips (n, M, T, V, C).

        Raises:
            ValueError: they are of another shape.
        """
        if clips.shape[1:] != self.row:
            raise ValueError(f"clips {clips.shape}, expected {self.row} each")
        self._file.write(np.ascontiguousarray(clips, np.float32).data)
        self.count += len(clips)

    def _write_header(self) -> None:
        shape = (self.count, *self.row)
        header = {"descr": np.dtype(np.float32).str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)


def write_store(
    folder: Path,
    clips: NDArray[np.float32] | ClipFile,
    samples: pd.DataFrame,
    layout: Layout,
    classes: Sequence[str],
    manifest: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]] | None = None,
) -> str:
    """Write prepared clips; see :func:`write_arrays`.

    Args:
        folder: where to.
        clips: (N, M, T, V, C), metres; a closed file on the same disk is moved into the store, not copied.
        samples: N rows with the columns ``id`` (unique), ``label``, ``length`` and any others.
        layout: skeleton layout.
        classes: class names, index = label.
        manifest: what else to record as JSON: ``version`` (of the dataset), ``rules``, ``source``, ``skipped``,
            ``remarks``.
        arrays: further arrays to keep, by name.

    Returns:
        The digest of the data.

    Raises:
        ValueError: clips, samples, layout and classes do not belong together.
    """
    shape = (clips.count, *clips.row) if isinstance(clips, ClipFile) else clips.shape
    if len(shape) != 5 or shape[0] != len(samples) or shape[3] != len(layout):
        raise ValueError(f"clips {shape} do not fit {len(samples)} samples of {len(layout)} joints")
    if missing := [name for name in COLUMNS if name not in samples]:
        raise ValueError(f"sample table without {missing}")
    if len(samples) and not 0 <= samples["label"].min() <= samples["label"].max() < len(classes):
        raise ValueError(f"labels outside 0..{len(classes) - 1}")
    stored = clips if isinstance(clips, ClipFile) else np.ascontiguousarray(clips, np.float32)
    files = {"clips": stored, **(arrays or {})}
    return write_arrays(folder, files, samples, layout, classes, {"shape": list(shape), **manifest})


def write_arrays(
    folder: Path,
    arrays: Mapping[str, NDArray[Any] | ClipFile],
    samples: pd.DataFrame,
    layout: Layout,
    classes: Sequence[str],
    manifest: Mapping[str, Any],
) -> str:
    """Write arrays and what is known about them; the folder appears complete or not at all, and replaces an older one.

    A closed file of clips is moved into the folder, so it has to lie on the same disk.

    Returns:
        The digest of the data.

    Raises:
        BenchError: a sample's text, its name say, has a character that would break the lines of the table.
    """
    for column in samples.select_dtypes(exclude=["number", "bool"]):
        if bad := [text for text in map(str, samples[column]) if any(ord(one) < 32 for one in text)]:
            raise BenchError(f"{column} {bad[0]!r} of a sample has a control character. Rename it in the source.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        for name, values in arrays.items():
            path = temporary / f"{name}.npy"
            if isinstance(values, ClipFile):
                values.path.replace(path)
            else:
                np.save(path, values, allow_pickle=False)
        samples.to_csv(temporary / "samples.csv", index=False, lineterminator="\n")
        content = {
            "format": FORMAT,
            "layout": asdict(layout),
            "classes": list(classes),
            **manifest,
            "sha256": {path.name: file_sha256(path) for path in sorted(temporary.iterdir())},
            "bytes": {path.name: path.stat().st_size for path in sorted(temporary.iterdir())},
        }
        (temporary / "manifest.json").write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
        temporary.chmod(0o755)
        _replace(folder, temporary)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return _digest(content)


StoreT = TypeVar("StoreT", bound=Store)


def open_store(folder: Path) -> Prepared:
    """Open prepared clips; see :func:`open_arrays`."""
    return open_arrays(folder, Prepared, ("clips",))


def open_arrays(folder: Path, kind: type[StoreT], needed: Sequence[str]) -> StoreT:
    """Open prepared data; sizes are verified here, checksums by :meth:`Store.intact`.

    Args:
        folder: where it lies.
        kind: class of the store.
        needed: names of the arrays that such a store has at least.

    Raises:
        BenchError: something is missing, cut short, or of another format.
    """
    try:
        content = json.loads((folder / "manifest.json").read_text())
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']}, this version reads {FORMAT}")
        for name, size in content["bytes"].items():
            if (folder / name).stat().st_size != size:
                raise ValueError(f"{name} has {(folder / name).stat().st_size} bytes instead of {size}")
        arrays = {
            Path(name).stem: np.load(folder / name, mmap_mode="r", allow_pickle=False)
            for name in content["bytes"]
            if name.endswith(".npy")
        }
        samples = pd.read_csv(folder / "samples.csv", dtype={"id": str}, keep_default_na=False)
        fields = content["layout"]
        layout = Layout(
            fields["name"],
            tuple(fields["joints"]),
            tuple(fields["bones"]),
            fields["centre"],
            tuple(fields["shoulders"]) if fields["shoulders"] else None,
        )
        if missing := [name for name in needed if name not in arrays]:
            raise KeyError(*missing)
        if unchecked := content["bytes"].keys() - content["sha256"].keys():
            raise ValueError(f"no checksum of {', '.join(sorted(unchecked))}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BenchError(f"{folder} is damaged ({error}). Delete it and prepare the data again.") from None
    return kind(folder, samples, layout, tuple(content["classes"]), content, arrays, _digest(content))


def group_of(column: pd.Series[Any]) -> NDArray[np.int64]:
    """A sample column as integers: numbers as they are, words numbered in alphabetical order."""
    if column.dtype.kind in "iub":
        return column.to_numpy(np.int64)
    return np.unique(column.to_numpy(str), return_inverse=True)[1].astype(np.int64)


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(content: Mapping[str, Any]) -> str:
    return digest({key: content.get(key) for key in ("format", "version", "rules", "layout", "classes", "sha256")})


def _replace(folder: Path, new: Path) -> None:
    """Put ``new`` in the place of ``folder``; a kill in between leaves no folder rather than half of one."""
    if folder.exists():
        old = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.old."))
        folder.rename(old / "store")
        new.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
        return
    with suppress(OSError):  # another process was first with the same data
        new.rename(folder)
        return
    if not folder.is_dir():
        raise OSError(f"cannot write {folder}")
    shutil.rmtree(new, ignore_errors=True)
