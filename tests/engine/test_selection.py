from __future__ import annotations

from pathlib import Path

import pytest

from engine.plan import Request
from engine.selection import build_all, encoders, join, lacks, lacks_data, place

PLUGINS = Path(__file__).parent / "plugins" / "tiny.py"
COMMON = {"datasets": (f"{PLUGINS}:Tiny/subject",), "sets": (f"encoder={PLUGINS}:TinyEncoder",), "seeds": (0,)}
METHOD = f"{PLUGINS}:TinyCLR"


@pytest.mark.parametrize(
    ("kind", "name", "reason"),
    [
        ("methods", "aimclr", ""),
        ("methods", "hiclr:dae", ""),
        ("methods", "hiclr:nothing", "method hiclr has no preset nothing"),
        ("methods", "longt gan", "the suite does not have this method"),
        ("protocols", "linear:actclr", ""),
        ("protocols", "transfer:linear:actclr", ""),
        ("protocols", "transfer:actclr", "protocol transfer has no preset actclr"),
        ("protocols", "detection", "the suite has no protocol detection yet"),
    ],
)
def test_what_is_lacking_is_named(kind, name: str, reason: str) -> None:
    assert lacks(kind, name) == reason


@pytest.mark.parametrize(
    ("method", "sets", "names"),
    [
        ("hiclr", (), ("stgcn",)),
        ("hiclr:transformer", (), ("dsta",)),
        ("hiclr:transformer", ("encoder=ctrgcn,stgcn", "hiclr.nnm.on=false"), ("ctrgcn", "stgcn")),
        ("supervised", (), ("stgcn",)),
        ("raw", ("encoder=ctrgcn,stgcn",), ("coordinates",)),
    ],
)
def test_a_methods_encoders(method: str, sets: tuple[str, ...], names: tuple[str, ...]) -> None:
    assert encoders(method, sets) == names


def test_data_that_are_not_there_are_named(tmp_path: Path) -> None:
    assert lacks_data("synthetic", tmp_path) == ""
    assert lacks_data("ntu60/xsub", tmp_path) == f"ntu60 is not prepared in {tmp_path}/ (data prepare)"
    assert lacks_data("nowhere/xsub", tmp_path) == "the suite has no dataset nowhere yet"
    assert lacks_data("ntu60/xwest", tmp_path).startswith("ntu60 has no split 'xwest'")
    assert list(tmp_path.iterdir()) == []
    assert place("ntu60", tmp_path) == "ntu60/xsub"


def test_data_of_a_file_below_are_found(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(PLUGINS.parents[1])
    assert lacks_data("plugins/tiny.py:Tiny/subject", tmp_path) == ""


def test_requests_become_one_plan_of_what_is_shown_and_needed(world, tmp_path: Path) -> None:
    streams = Request(methods=(METHOD,), protocols=("linear", "knn"), streams=("joint", "bone"), **COMMON)
    again = Request(methods=(METHOD,), protocols=("linear",), **COMMON)

    def shown(labels) -> bool:
        return labels.method == "tinyclr" and (labels.protocol, labels.stream) in (
            ("linear", "joint+bone"),
            ("knn", "bone"),
        )

    plans = build_all([streams, again], tmp_path, world.store, False, str)
    plan = join(plans, lambda stage: shown(stage.labels))
    assert [job.stage.kind for job in plan.jobs].count("pretrain") == 2
    assert {(job.stage.labels.method, job.stage.labels.protocol, job.stage.labels.stream) for job in plan.jobs} == {
        ("tinyclr", "", "joint"), ("tinyclr", "", "bone"), ("tinyclr", "linear", "joint"), ("tinyclr", "linear", "bone"),
        ("tinyclr", "knn", "bone"), ("tinyclr", "linear", "joint+bone"),
    }  # fmt: skip
    seen: set[str] = set()
    for job in plan.jobs:
        assert all(parent.key in seen for parent in job.stage.parents)
        seen.add(job.stage.key)
