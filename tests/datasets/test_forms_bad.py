"""Interchange forms: missing, wrong, damaged and hostile files, each with one message."""

from __future__ import annotations

import os
import pickle
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datasets.form import Form, read_form
from engine.config import BenchError

N = 3
CLIPS = np.ones((N, 3, 300, 25, 2), np.float32)
NAMES = [f"S001C001P00{subject}R001A00{subject}.skeleton" for subject in (1, 2, 4)]
LABELS = [0, 1, 3]
OTHERS = [f"S001C001P00{subject}R001A00{subject}.skeleton" for subject in (3, 6, 7)]


def write_aimclr(folder: Path, frames: int = 300, **changes: Any) -> Path:
    """A folder of four files with three clips per part."""
    folder.mkdir(parents=True, exist_ok=True)
    for word, names, labels in (("train", NAMES, LABELS), ("val", OTHERS, [2, 5, 6])):
        np.save(folder / f"{word}_position.npy", changes.get(f"{word}_clips", CLIPS[:, :, :frames]))
        (folder / f"{word}_label.pkl").write_bytes(pickle.dumps(changes.get(f"{word}_label", (names, labels))))
    return folder


def write_ctrgcn(path: Path, **changes: Any) -> Path:
    """An npz with three clips per part."""
    arrays: dict[str, Any] = {"x_train": np.ones((N, 9, 150), np.float32), "y_train": np.eye(60)[:N]}
    arrays |= {"x_test": arrays["x_train"], "y_test": arrays["y_train"]} | changes
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


def pyskl(**changes: Any) -> dict[str, Any]:
    """Content of an annotation pickle with three clips."""
    points = np.ones((1, 4, 25, 3), np.float32)
    names = [name.removesuffix(".skeleton") for name in NAMES]
    annotations = [
        {"frame_dir": name, "label": label, "keypoint": points, "total_frames": 4}
        for name, label in zip(names, LABELS, strict=True)
    ]
    return {"split": {"xsub_train": names[:2], "xsub_val": names[2:]}, "annotations": annotations} | changes


def write_pyskl(path: Path, content: Any) -> Path:
    path.write_bytes(pickle.dumps(content))
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_clips": CLIPS[:, :, :, :20]}, r"train_position\.npy has 20 joints and 2 persons; expected 25 and 2"),
        ({"train_clips": CLIPS[:, :2]}, r"train_position\.npy is float32 .*; expected float \(N, 3, T, 25, 2\)"),
        ({"train_clips": CLIPS.astype(int)}, r"train_position\.npy is int64"),
        ({"train_clips": CLIPS[:2]}, rf"has {N} names and {N} labels for the 2 clips of train_position\.npy"),
        ({"train_clips": CLIPS[:, :, :50]}, "different frames or preparation"),
        ({"train_label": (NAMES, LABELS[:-1])}, rf"{N} names and {N - 1} labels"),
        ({"train_label": NAMES}, "expected a pair of lists"),
        ({"train_label": (NAMES, [[0]] * N)}, "expected a pair of lists"),
        ({"train_label": (NAMES[:-1] + NAMES[:1], LABELS)}, "is there twice in xsub"),
        ({"val_label": (NAMES, LABELS), "val_clips": CLIPS}, r"is there twice in xsub.*label file that of another part"),
        ({"train_label": {"a": 1}}, "expected a pair of lists"),
    ],
)  # fmt: skip
def test_wrong_files_of_aimclr(tmp_path: Path, changes: Any, message: str) -> None:
    folder = write_aimclr(tmp_path / "xsub", **changes)
    with pytest.raises(BenchError, match=message):
        read_form(folder)


def test_labels_of_another_part_or_class(tmp_path: Path) -> None:
    folder = write_aimclr(tmp_path / "xsub", train_label=(NAMES, [5000, -1, *[59] * (N - 2)]))
    report = Form(tmp_path / "data", str(folder)).prepare(None, print)
    assert len(report.skipped) == N
    assert "label 5000 is no class" in str(report.skipped[0])
    assert "label -1 is no class" in str(report.skipped[1])
    assert "label 59 does not belong to the action of the name" in str(report.skipped[2])


def test_missing_files_of_aimclr(tmp_path: Path) -> None:
    folder = write_aimclr(tmp_path / "xsub")
    (folder / "val_label.pkl").unlink()
    with pytest.raises(BenchError, match=r"val_label\.pkl is missing; it names the clips of val_position\.npy"):
        read_form(folder)
    (folder / "val_position.npy").unlink()
    with pytest.raises(BenchError, match=r"holds train_position\.npy only"):
        read_form(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BenchError, match=r"holds no train_position\.npy.*found nothing"):
        read_form(tmp_path / "empty")
    for twin in ("cs", "xsub"):
        write_aimclr(tmp_path / "both" / twin)
    with pytest.raises(BenchError, match="cs, xsub are not different splits"):
        read_form(tmp_path / "both")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_test": None}, r"y_test is missing; .*found x_train, y_train, x_test"),
        ({"x_train": np.zeros((N, 300, 120), np.float32)}, r"x_train is float32 .*expected float \(N, frames, 150\)"),
        ({"y_train": np.eye(60)[:2]}, rf"y_train has 2 rows for {N} clips"),
        ({"y_train": np.zeros(N)}, r"y_train is float64 .*expected one-hot"),
        ({"x_train": np.asfortranarray(np.zeros((N, 3, 150)))}, "no plain array of numbers, stored by rows"),
        ({"x_train": np.array([{}], object)}, "no plain array of numbers"),
    ],
)
def test_wrong_files_of_ctrgcn(tmp_path: Path, changes: Any, message: str) -> None:
    with pytest.raises(BenchError, match=message):
        read_form(write_ctrgcn(tmp_path / "NTU60_CS.npz", **changes))


ANNOTATIONS = pyskl()["annotations"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "expected a dictionary with split and annotations, found list"),
        ({"annotations": ANNOTATIONS}, "found a dictionary with annotations"),
        (pyskl(annotations=[]), "annotations is an empty list"),
        (pyskl(annotations=[{"frame_dir": "a"}]), "annotation 0: expected frame_dir, label, keypoint, found a dictionary"),
        (pyskl(annotations=[ANNOTATIONS[0] | {"label": "sit"}]), "annotation 0: frame_dir must be a word"),
        (pyskl(split={"xsub_train": ["gone"]}), "1 names of split xsub_train have no annotation, e.g. gone"),
        (pyskl(split={"xsub": []}), "split 'xsub' is neither"),
        (pyskl(split={"xsub_train": 3}), "split xsub_train is int; expected a list"),
        (pyskl(split={f"a_{part}": [ANNOTATIONS[0]["frame_dir"]] for part in ("train", "val")}), "both trains and tests"),
    ],
)  # fmt: skip
def test_wrong_files_of_pyskl(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(BenchError, match=message):
        read_form(write_pyskl(tmp_path / "ntu.pkl", content))


def test_wrong_names(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="form needs a file or folder"):
        Form(tmp_path / "data").load("auto")
    with pytest.raises(BenchError, match="there is no such file or folder"):
        Form(tmp_path / "data", str(tmp_path / "gone.npz")).load("auto")
    (tmp_path / "a.npy").write_bytes(b"")
    with pytest.raises(BenchError, match=r"of an \.npy give its folder"):
        read_form(tmp_path / "a.npy")
    with pytest.raises(BenchError, match=r"has no split 'xsbu'\. Did you mean 'xsub'\? It has xsub"):
        Form(tmp_path / "data", str(write_pyskl(tmp_path / "a.pkl", pyskl()))).load("xsbu")


class Runs:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_nothing_in_a_file_is_run(tmp_path: Path) -> None:
    evil = Runs(tmp_path / "run")
    content = pyskl()
    content["annotations"][1]["keypoint"] = evil
    paths = [
        write_pyskl(tmp_path / "evil.pkl", content),
        write_aimclr(tmp_path / "label", train_label=([*NAMES[:-1], evil], LABELS)),
        write_aimclr(tmp_path / "array"),
        write_ctrgcn(tmp_path / "evil.npz", x_test=np.array([evil], object)),
    ]
    np.save(tmp_path / "array" / "train_position.npy", np.array([evil], object), allow_pickle=True)
    (tmp_path / "pickle").mkdir()
    for path in (tmp_path / "array").iterdir():
        (tmp_path / "pickle" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "pickle" / "val_position.npy").write_bytes(pickle.dumps(evil))
    for path in (*paths, tmp_path / "pickle"):
        with pytest.raises(BenchError, match=r"mkdir|allow_pickle|no plain array|Python objects"):
            read_form(path)
    assert not (tmp_path / "run").exists()


@cache
def whole(form: str) -> dict[str, bytes]:
    """The bytes of a small file of every form, by file name."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if form == "aimclr":
            write_aimclr(folder, 8)
        elif form == "pyskl":
            write_pyskl(folder / "a.pkl", pyskl())
        else:
            write_ctrgcn(folder / "a.npz")
        return {path.name: path.read_bytes() for path in folder.iterdir()}


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
@pytest.mark.filterwarnings("ignore")  # numpy and zipfile warn about odd headers
@pytest.mark.parametrize("form", ["aimclr", "pyskl", "ctrgcn"])
def test_any_damage_gives_clips_or_a_message(tmp_path: Path, form: str, data: st.DataObject) -> None:
    files = whole(form)
    chosen = data.draw(st.sampled_from(sorted(files)))
    content = bytearray(files[chosen])
    # Most of a file is coordinates: half of the damage goes to its first and last bytes, where the structure is.
    near = st.integers(0, 400).flatmap(lambda at: st.sampled_from([at, -1 - at]))
    kind = data.draw(st.sampled_from(["bytes", "cut", "insert"]))
    at = data.draw(near | st.integers(0, len(content) - 1)) % len(content)
    if kind == "bytes":
        for place, value in data.draw(st.lists(st.tuples(near, st.integers(0, 255)), min_size=1, max_size=4)):
            content[place % len(content)] = value
    elif kind == "cut":
        del content[at:]
    else:
        content[at:at] = data.draw(st.binary(max_size=12))
    folder = tmp_path / "fuzz"
    folder.mkdir(exist_ok=True)
    for name, raw in files.items():
        (folder / name).write_bytes(content if name == chosen else raw)
    with suppress(BenchError):
        found = read_form(folder if form == "aimclr" else folder / chosen)
        list(found.clips())
        store = Form(tmp_path / "data", str(folder if form == "aimclr" else folder / chosen), 4)
        store.prepare(None, lambda line: None)
