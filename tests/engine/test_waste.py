from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from click.testing import CliRunner
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st

import run_bench
from engine import waste

NAMES = (
    "record.json", "provenance.json", "stage.json", "checksums.json", "failure.json", "unsupported.json", "scores.npz",
    "features.npz", "weights.safetensors", "checkpoint.pt", "checkpoint-draw1.pt", "checkpoint.previous.pt", ".lock", ".lease",
    ".record.json.ab12cd34", "record.json.damaged1", "notes.txt", "scores.npz.damaged12",
)  # fmt: skip
KEPT = (
    "record.json", "provenance.json", "stage.json", "checksums.json", "failure.json", "unsupported.json", "scores.npz",
    "weights.safetensors", "notes.txt",
)  # fmt: skip
KINDS = ("pretrain", "features", "evaluate", "fuse")
OLD = 1e5


def stage(results: Path, kind: str, key: str, files: dict[str, bytes], age: float = OLD) -> Path:
    folder = results / "runs" / kind / "plugin" / key
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
        os.utime(folder / name, (1e9 - age, 1e9 - age))
    return folder


def names(results: Path) -> set[str]:
    return {one.path.name for one in waste.find(results, now=1e9)}


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(KINDS), st.sets(st.sampled_from(NAMES)), st.lists(st.integers(0, 5), max_size=2)),
        max_size=6,
    ),
    st.floats(0, 1e5),
)
def test_records_and_what_finished_stages_left_are_never_touched(stages, age):
    with tempfile.TemporaryDirectory() as name:
        results = Path(name)
        keys = [f"{number:016x}" for number in range(6)]
        folders = []
        for key, (kind, files, parents) in zip(keys, stages, strict=False):
            content = json.dumps({"parents": [keys[i] for i in parents]}).encode()
            folders.append(stage(results, kind, key, dict.fromkeys(files, content), age))
        wanted = {keys[i] for _, _, parents in stages for i in parents}
        says = {folder: {"record.json", "stage.json"} & {path.name for path in folder.iterdir()} for folder in folders}
        kept = {path: path.read_bytes() for folder in folders for path in folder.iterdir() if path.name in KEPT}
        for folder in folders:
            needed = folder.name in wanted or not all(says.values())  # a stage that says nothing may need all of them
            unfinished = not (folder / "record.json").exists()
            more = [*folder.glob("features.npz")] * needed + [*folder.glob("checkpoint*")] * unfinished
            kept |= {path: path.read_bytes() for path in more}
        found = waste.find(results, now=1e9)
        assert not {one.path for one in found} & set(kept)
        waste.remove(found)
        assert all(path.read_bytes() == content for path, content in kept.items())
        assert waste.find(results, now=1e9) == []


def test_what_is_found_and_why(tmp_path: Path):
    done = {"record.json": b'{"parents": []}', "weights.safetensors": b"w"}
    rest = {"checkpoint.pt": b"123", ".lock": b"", ".record.json.ab12cd34": b"1", "record.json.damaged1": b"12"}
    stage(tmp_path, "pretrain", "a" * 16, done | rest)
    assert names(tmp_path) == set(rest)
    stage(tmp_path, "features", "b" * 16, {"record.json": b'{"parents": []}', "features.npz": b"f"})
    assert "features.npz" in names(tmp_path)
    user = stage(tmp_path, "evaluate", "c" * 16, {"stage.json": json.dumps({"parents": ["b" * 16]}).encode()})
    assert "features.npz" not in names(tmp_path)
    (user / "stage.json").write_text("{")
    assert "features.npz" not in names(tmp_path)  # nobody knows what that stage refers to


def test_stages_in_work_are_left_alone(tmp_path: Path):
    done = {"record.json": b'{"parents": []}', "weights.safetensors": b"w", "checkpoint.pt": b"1"}
    first = stage(tmp_path, "pretrain", "a" * 16, done)
    with FileLock(first / ".lock"):
        assert names(tmp_path) == set()
    second = stage(tmp_path, "pretrain", "b" * 16, done | {".lease": b""}, age=10)
    assert {one.path.parent for one in waste.find(tmp_path, now=1e9)} == {first}
    os.utime(second / ".lease", (1, 1))
    assert {one.path.parent for one in waste.find(tmp_path, now=1e9)} == {first, second}


def test_nothing_is_removed_without_asking(tmp_path: Path):
    done = {"record.json": b'{"parents": []}', "weights.safetensors": b"w", "checkpoint.pt": b"1" * 2500}
    folder = stage(tmp_path, "pretrain", "a" * 16, done)
    shown = CliRunner().invoke(run_bench.main, ["runs", "gc", "--results", str(tmp_path)]).output
    assert "2.5 kB" in shown
    assert "checkpoint of a finished stage" in shown
    assert "Nothing was removed" in shown
    assert (folder / "checkpoint.pt").exists()
    shown = CliRunner().invoke(run_bench.main, ["runs", "gc", "--yes", "--results", str(tmp_path)]).output
    assert "Removed 1 files, 2.5 kB" in shown
    assert {path.name for path in folder.iterdir()} == {"record.json", "weights.safetensors"}
    assert "Nothing to remove" in CliRunner().invoke(run_bench.main, ["runs", "gc", "--results", str(tmp_path)]).output
