"""Files and words that mean harm: nothing is run, nothing is written elsewhere, and every refusal is one message."""

from __future__ import annotations

import ast
import os
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import run_bench
from datasets import archives
from datasets.entries import of_zip
from datasets.forms_aimclr import read_aimclr
from datasets.npz_file import read_recordings
from engine.choices import parse_sets
from engine.config import BenchError, canonical, resolve
from engine.options import names, seeds
from engine.registry import KINDS, ROOT
from methods.aimclr import AimCLR

FOLDERS = (*KINDS, "engine", "leaderboard", "benchmarks")


def calls() -> Iterator[tuple[str, str, ast.Call]]:
    """Every call in the project: file, dotted name, node."""
    for path in [ROOT / "run_bench.py", *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))]:
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Call):
                yield str(path.relative_to(ROOT)), ast.unparse(node.func), node


def argument(call: ast.Call, name: str) -> str:
    return next((ast.unparse(keyword.value) for keyword in call.keywords if keyword.arg == name), "")


def test_nothing_in_the_project_unpickles_or_evaluates() -> None:
    seen = set()
    for place, name, call in calls():
        where = f"{place}, line {call.lineno}: {name}"
        if name == "torch.load":
            assert argument(call, "weights_only") == "True", where
            seen.add(name)
        if name in ("np.load", "numpy.load"):
            assert argument(call, "allow_pickle") == "False", where
            seen.add(name)
        assert name not in ("eval", "exec", "compile", "__import__", "os.system", "os.popen"), where
        assert not name.endswith((".read_pickle", ".extractall", ".extract", "joblib.load", "yaml.load")), where
        assert name.partition(".")[0] not in ("pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve"), where
        assert argument(call, "shell") in ("", "False"), where
        if name.endswith("exec_module"):
            assert place == "engine/registry.py", where  # the file that was named on the command line
    assert seen == {"torch.load", "np.load"}


class Malicious:
    """Leaves a folder behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_arrays_of_objects_are_refused(tmp_path: Path) -> None:
    evil = np.array([Malicious(tmp_path / "run")], dtype=object)
    np.savez(tmp_path / "clips.npz", xyz=evil, offsets=np.array([0, 1]), label=np.array([0]))
    with pytest.raises(BenchError, match=r"clips\.npz cannot be read as an npz of plain arrays: Object arrays"):
        read_recordings(tmp_path / "clips.npz", "", "stop")
    folder = tmp_path / "xsub"
    folder.mkdir()
    for part in ("train", "val"):
        np.save(folder / f"{part}_position.npy", evil)
        (folder / f"{part}_label.pkl").write_bytes(b"")
    with pytest.raises(BenchError, match=r"position\.npy cannot be read as one plain array"):
        read_aimclr(folder)
    assert not (tmp_path / "run").exists()


def pack(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize(
    "name",
    ["../a.skeleton", "/a.skeleton", "x/../../a.skeleton", "..\\a.skeleton", f"C:{chr(92)}a.skeleton", "\\a.skeleton"],
)
def test_members_that_point_outside_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BenchError, match="points outside of the archive"):
        of_zip(pack(tmp_path / "a.zip", **{name: b""}), ".skeleton", "")


@pytest.mark.parametrize("name", ["a..b/c.skeleton", "x/a../c.skeleton", "x/c...skeleton", "C/a.skeleton"])
def test_dots_in_names_are_no_harm(tmp_path: Path, name: str) -> None:
    assert [entry.member for entry in of_zip(pack(tmp_path / "a.zip", **{name: b""}), ".skeleton", "")] == [name]


def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pack(tmp_path / "bomb.zip", **{"a.skeleton": bytes(1 << 20)})
    assert len(of_zip(path, ".skeleton", "")) == 1
    monkeypatch.setattr(archives, "_UNSUSPICIOUS", 1 << 19)
    with pytest.raises(BenchError, match=r"bomb\.zip is refused: 1,\d+ bytes unpack to 1,048,576, 1015 times as many"):
        of_zip(path, ".skeleton", "")
    with zipfile.ZipFile(path) as archive, pytest.raises(BenchError, match="and at most 1,000 are read"):
        archives.look_over(archive, path, 1000)


def npz(path: Path) -> Path:
    draw = np.random.default_rng(0)
    np.savez(
        path,
        xyz=draw.normal(size=(24, 3, 3)).astype(np.float32),
        offsets=np.arange(0, 25, 6),
        label=np.arange(4) % 2,
        joint_names=np.array(["hip", "neck", "head"]),
        parents=np.array([-1, 0, 1]),
        subject=np.arange(4),
    )
    return path


def test_a_header_that_promises_more_than_there_is_takes_no_memory(tmp_path: Path) -> None:
    path = npz(tmp_path / "clips.npz")
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    content["xyz.npy"] = content["xyz.npy"].replace(b"(24, 3, 3), }" + b" " * 12, b"(24000000000, 3, 3), }   ")
    with pytest.raises(
        BenchError, match=r"xyz\.npy of shape \(24000000000, 3, 3\) needs 864,000,000,000 bytes and has 864"
    ):
        read_recordings(pack(tmp_path / "lies.npz", **content), "", "stop")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=5), st.floats(0.5, 1))
@pytest.mark.filterwarnings("ignore")
def test_a_damaged_npz_gives_clips_or_one_message(tmp_path: Path, damage: Any, kept: float) -> None:
    whole = npz(tmp_path / "whole.npz").read_bytes()
    content = bytearray(whole[: int(len(whole) * kept)] if kept > 0.6 else whole)
    for place, value in damage:
        content[int(place * len(content))] = value
    path = tmp_path / "damaged.npz"
    path.write_bytes(content)
    with suppress(BenchError):
        read_recordings(path, "", "skip")


WORDS = st.text(max_size=12) | st.sampled_from(
    ["", "nan", "Infinity", "-1e999", "[" * 5000, "1" * 5000, "{}", "null", "[1,"]
)


@given(st.sampled_from(["aimclr.", "aimclr.nnm.topk", "aimclr.train.lr", "encoder", "frames", ""]), WORDS, WORDS)
@settings(max_examples=300, deadline=None)
def test_set_options_give_settings_or_one_message(start: str, key: str, value: str) -> None:
    with suppress(BenchError):
        sets = parse_sets([f"{start}{key}={value}", f"{start}={value}"])
        for _, path, word in sets.triples:
            canonical(resolve(AimCLR.Config, {path: word}, owner="aimclr"))


FLAGS = [option for parameter in run_bench.main.params for option in parameter.opts]
COMMANDS = [
    "report", "compare", "table", "import-weights", "list", "describe", "data", "prepare", "check", "export", "reproduce",
    "diff", "submit", "verify", "runs", "gc", "figures", "generate",
]  # fmt: skip
VALUES = [
    "aimclr", "all", "knn", "semi:10", "fusion:best", "synthetic", "npz:", "npz:x.npz#a=1-99999999999", "form:x", "nw_ucla/x",
    "joint", "0-99999999999", "quick", "paper", "a.b=c", "encoder=", "frames=1", "x" * 300, "x" * 300 + ".py", "../..",
    ".py", "a.py:B", ":", "#", "-", "--", "actclr.t1", "list", "\ufeff", "cpu", "imported:x", "aimclr:nothing", "[red]",
]  # fmt: skip


@pytest.mark.parametrize("number", range(4))
def test_no_list_of_arguments_gives_a_traceback(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is typed: a result, or a message and exit status 1 or 2."""

    def no_data(self: Any, *given: Any, **more: Any) -> Any:
        raise BenchError("no data in this test")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("engine.data.Splits.__call__", no_data)
    monkeypatch.setattr("datasets.base.Dataset.prepared", no_data)
    monkeypatch.setattr("datasets.synthetic.Synthetic.prepare", no_data)

    tokens = (
        st.sampled_from(FLAGS)
        | st.sampled_from(VALUES)
        | st.sampled_from(COMMANDS)
        | st.text("ab.:#=,-/é ", max_size=8)
    )

    @settings(max_examples=40, deadline=None, database=None, derandomize=True)
    @given(st.lists(tokens, max_size=7))
    def tried(arguments: list[str]) -> None:
        result = CliRunner().invoke(run_bench.main, arguments[:number] + arguments)
        assert result.exception is None or isinstance(result.exception, SystemExit), (arguments, result.exc_info)
        assert result.exit_code in (0, 1, 2), (arguments, result.output)
        assert "Traceback" not in result.output + result.stderr

    tried()


def test_every_command_is_among_those_that_are_tried() -> None:
    assert set(run_bench.main.commands) <= {*COMMANDS}


def test_names_of_plug_ins_lead_to_no_file_that_was_not_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that lie where a run is started, in results or data are not imported; one that is named is."""
    monkeypatch.chdir(tmp_path)
    for place in ("evil.py", "methods/evil.py", "results/evil.py", "data/evil.py", "aimclr.py", "engine/plan.py"):
        path = tmp_path / place
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"import pathlib; pathlib.Path({str(tmp_path / 'run')!r}).touch()")
    for arguments in (
        ["list"],
        ["describe", "aimclr"],
        ["--methods", "evil", "--plan"],
        ["--datasets", "evil", "--plan"],
    ):
        CliRunner().invoke(run_bench.main, arguments)
        assert not (tmp_path / "run").exists(), arguments
    CliRunner().invoke(run_bench.main, ["describe", "./evil.py:Evil"])
    assert (tmp_path / "run").exists()


def test_long_ranges_are_refused_before_they_fill_memory() -> None:
    import click

    for text in ("0-99999999", "0-" + "9" * 5000, "9" * 30):
        with pytest.raises(click.BadParameter):
            seeds(None, None, (text,))  # type: ignore[arg-type]
    assert names(None, None, ("a,b",)) == ("a", "b")  # type: ignore[arg-type]


def test_a_hostile_record_is_only_damaged(tmp_path: Path) -> None:
    from leaderboard.collect import collect

    folder = tmp_path / "runs" / "evaluate" / "x" / ("0" * 16)
    folder.mkdir(parents=True)
    for content in (
        b"\x80\x04cposix\nsystem\n.",
        b"[" * 100_000,
        b'{"key": 1e999}',
        "\ud800".encode("utf-8", "surrogatepass"),
    ):
        for name in ("record.json", "stage.json", "failure.json", "checksums.json"):
            (folder / name).write_bytes(content)
        assert collect(tmp_path) == []
