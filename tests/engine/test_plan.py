from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from engine import stages
from engine.config import BenchError
from engine.plan import Plan, Request, build
from engine.rebuild import outside_plugins, rebuild
from engine.registry import ROOT
from methods.random import Random

PLUGINS = Path(__file__).parent / "plugins" / "tiny.py"


def keys(plan: Plan) -> dict[str, str]:
    """Keys by what they are."""
    return {f"{j.stage.kind} {j.stage.labels.method} {j.stage.labels.protocol}".strip(): j.stage.key for j in plan.jobs}


def labels(plan: Plan, kind: str = "evaluate") -> list[str]:
    return [job.stage.labels.method for job in plan.jobs if job.stage.kind == kind]


def test_a_request_becomes_stages_with_parents_first(world):
    plan = world.plan("TinyCLR", "Means,knn")
    assert [str(job.stage) for job in plan.jobs if job.stage.labels.method == "tinyclr"] == [
        "pretrain of tinyclr on tiny/subject, joint, seed 0",
        "features of tinyclr on tiny/subject, joint, seed 0",
        "means of tinyclr on tiny/subject, joint, seed 0",
        "knn of tinyclr on tiny/subject, joint, seed 0",
    ]
    seen: set[str] = set()
    for job in plan.jobs:
        assert all(parent.key in seen for parent in job.stage.parents) or job.state == "unsupported"
        seen.add(job.stage.key)
    assert len(seen) == len(plan.jobs)


def test_reference_rows_are_always_there_and_asked_for_twice_is_once(world):
    assert labels(world.plan("TinyCLR", "knn")) == ["random", "raw", "tinyclr"]
    assert labels(world.plan("random,TinyCLR,rand", "knn")) == ["random", "raw", "tinyclr"]
    encoders = {job.stage.labels.method: job.stage.labels.encoder for job in world.plan("TinyCLR", "knn").jobs}
    assert encoders == {"random": "tinyencoder", "raw": "coordinates", "tinyclr": "tinyencoder"}


def test_a_method_that_starts_from_another_shares_its_run(world):
    plan = world.plan("TinyNext,TinyCLR", "knn")
    pretrains = {job.stage.labels.method: job.stage for job in plan.jobs if job.stage.kind == "pretrain"}
    assert list(pretrains) == ["random", "raw", "tinyclr", "tinynext"]
    assert pretrains["tinynext"].parents[0].key == pretrains["tinyclr"].key
    assert labels(world.plan("TinyNext", "knn"), "pretrain") == ["random", "raw", "tinyclr", "tinynext"]
    assert labels(world.plan("TinyNext", "knn"), "evaluate") == ["random", "raw", "tinyclr", "tinynext"]


def test_seeds_and_streams_multiply(world):
    plan = world.plan("TinyCLR", "knn", seeds=(0, 2), streams=("joint", "bone"))
    cells = [
        (j.stage.labels.method, j.stage.labels.stream, j.stage.seed) for j in plan.jobs if j.stage.kind == "evaluate"
    ]
    assert len(cells) == len(set(cells)) == 3 * 2 * 2


def test_protocols_share_features_that_are_the_same(world):
    plan = world.plan("TinyCLR", "Means,knn,linear,knn:actclr")
    count = sum(job.stage.kind == "features" and job.stage.labels.method == "tinyclr" for job in plan.jobs)
    assert count == 2  # pooled encoder output, and the projector's on augmented clips


def test_what_cannot_be_run_says_why_and_costs_nothing(world):
    plan = world.plan("TinyCLR", "Means,knn:actclr")
    reasons = {str(job.stage): job.reason for job in plan.jobs if job.state == "unsupported"}
    assert reasons == {
        "means of raw on tiny/subject, joint, seed 0": "raw coordinates are refused",
        "knn:actclr of random on tiny/subject, joint, seed 0": "random has no projector",
        "knn:actclr of raw on tiny/subject, joint, seed 0": "raw has no projector",
    }
    assert "raw" not in labels(plan, "pretrain")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"sets": ("means.epochs=5",)}, {"evaluate"}),
        ({"sets": ("tinyclr.mining.topk=7",)}, {"tinyclr", "tinynext"}),
        ({"sets": ("tinynext.mining.topk=7",)}, {"tinynext"}),
        ({"sets": ("tinyencoder.width=7",)}, {"random", "tinyclr", "tinynext"}),
        ({"sets": ("frames=20",)}, {"all"}),
        ({"seeds": (1,)}, {"all"}),
        ({"streams": ("bone",)}, {"all"}),
        ({"budget": "full"}, {"all"}),
        ({"recipe": "released"}, {"all"}),
        ({"datasets": (f"{PLUGINS}:Tiny/other",)}, {"all"}),
        ({"methods": "TinyNext,TinyCLR:wide,TinyCLR"}, set()),
        ({"protocols": "knn,Means"}, set()),
        ({"sets": ("means.epochs=3", "tinyclr.scale=1")}, set()),  # equal to the defaults
        ({"budget": "quick", "datasets": (f"{PLUGINS}:Tiny/subject",)}, set()),  # what was chosen anyway
    ],
)
def test_a_key_changes_with_what_changes_the_result_and_nothing_else(world, change, expected):
    def by_place(plan: Plan) -> dict[tuple[str, str], str]:
        names = [(re.sub(r"\[.*", "", job.stage.labels.method), job.stage.kind) for job in plan.jobs]
        return dict(zip(names, (job.stage.key for job in plan.jobs), strict=True))

    before = by_place(world.plan("TinyNext,TinyCLR", "Means"))
    after = by_place(world.plan(**{"methods": "TinyNext,TinyCLR", "protocols": "Means", **change}))
    changed = {place for place in before if before[place] != after[place]}
    wanted = {p for p in before if expected & {"all", p[0]} or p[1] in expected}
    assert changed == wanted


def test_versions_and_numerics_are_part_of_keys(world, monkeypatch):
    before = keys(world.plan())
    monkeypatch.setattr(Random, "version", 2)
    after = keys(world.plan())
    assert {name.split()[1] for name in before if before[name] != after[name]} == {"random", "raw"}
    monkeypatch.setattr(stages, "NUMERICS", stages.NUMERICS + 1)
    assert not set(after.values()) & set(keys(world.plan()).values())


def test_the_data_digest_is_part_of_keys(world, monkeypatch):
    from dataclasses import replace

    from engine.data import Splits

    before = keys(world.plan())
    load = Splits.__call__
    monkeypatch.setattr(Splits, "__call__", lambda self, *names: replace(load(self, *names), digest="other"))
    assert not set(before.values()) & set(keys(world.plan()).values())


def test_the_content_of_a_plugin_outside_the_tree_is_part_of_its_keys(world, tmp_path):
    copy = tmp_path / "moved" / "tiny.py"
    copy.parent.mkdir()
    copy.write_bytes(PLUGINS.read_bytes())
    encoder = (f"encoder={copy}:TinyEncoder",)

    def moved() -> dict[str, str]:
        return keys(world.plan(f"{copy}:TinyCLR", f"{copy}:Means", sets=encoder))

    before = keys(world.plan())
    assert moved() == before  # where it lies does not matter
    copy.write_bytes(PLUGINS.read_bytes() + b"# another\n")
    assert not set(moved().values()) & set(before.values()) - {before["evaluate raw means"]}


def test_keys_are_the_same_in_another_process_and_folder(world, tmp_path):
    code = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}, {str(Path(__file__).parent)!r}]
from pathlib import Path
import conftest, torch
torch.set_num_threads(3)
world = conftest.World(Path('elsewhere'), [], [])
print(*[job.stage.key for job in world.plan('TinyNext,TinyCLR:wide', 'Means,knn,linear', seeds=(0, 3)).jobs])
"""
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    run = [sys.executable, "-c", code]
    there = subprocess.run(
        run, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    ).stdout.split()
    plan = world.plan("TinyNext,TinyCLR:wide", "Means,knn,linear", seeds=(0, 3))
    assert [job.stage.key for job in plan.jobs] == there


def test_labels_tell_apart_what_differs(world):
    def method(sets: tuple[str, ...]) -> tuple[str, str, str]:
        found = [job.stage.labels for job in world.plan("TinyNext", "Means", sets=sets).jobs][-1]
        return found.method, found.encoder, f"{found.dataset} {found.protocol}"

    assert method(()) == ("tinynext", "tinyencoder", "tiny means")
    assert method(("tinynext.scale=2",))[0] == "tinynext[scale=2.0]"
    assert method(("tinyclr.scale=2",))[0] == "tinynext[tinyclr.scale=2.0]"
    assert method(("tinyclr.scale=2", "tinynext.scale=3"))[0] == "tinynext[scale=3.0,tinyclr.scale=2.0]"
    assert method(("tinyencoder.width=9",))[1] == "tinyencoder[width=9]"
    assert method(("frames=20", "means.epochs=9"))[2] == "tiny[frames=20] means[epochs=9]"
    assert method(("frames=50",))[2] == "tiny means"


def test_the_budget_follows_the_data_and_says_so(world, monkeypatch):
    plan = world.plan()
    assert plan.jobs[0].stage.labels.budget == "quick"
    assert plan.notes == (
        "tiny/subject: budget quick (30 training clips, no GPU; --budget full: the published settings)",
    )
    assert world.plan(budget="full").notes == ()
    monkeypatch.setattr("engine.plan._SMALL", 30)
    assert world.plan().jobs[0].stage.labels.budget == "full"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"streams": ("bones",)}, r"Unknown stream 'bones'\. Did you mean 'bone'\?"),
        ({"recipe": "papers"}, r"Unknown recipe 'papers'\. Did you mean 'paper'\?"),
        ({"budget": "quik"}, r"Unknown budget 'quik'\. Did you mean 'quick'\?"),
        ({"datasets": ("synthetik",)}, r"Unknown dataset 'synthetik'"),
        (
            {"datasets": (f"{PLUGINS}:Tiny/subjects",)},
            r"has no split 'subjects'\. Did you mean 'subject'\? Known: subject",
        ),
        ({"sets": ("tinycrl.scale=2",)}, r"--set tinycrl\.scale=2: .*Did you mean 'tinyclr'\?"),
        ({"sets": ("tinynext.scale=2",)}, r"Unknown plug-in of this run 'tinynext'"),
        ({"sets": ("encoder=stgnc",)}, r"Unknown encoder 'stgnc'\. Did you mean 'stgcn'\?"),
    ],
)
def test_wrong_requests_are_refused_with_a_suggestion(world, change, message):
    with pytest.raises(BenchError, match=message):
        world.plan(**change)
    assert not world.results.exists()


def test_a_method_that_cannot_use_an_encoder_is_marked_with_the_reason(world):
    """ActCLR and AimCLR need maps of joints; what starts from an unsupported run is unsupported, too."""
    plan = world.plan("aimclr,actclr,skeletonclr,hiclr:dae", "knn", sets=("encoder=bigru",))
    states = {job.stage.labels.method: (job.state, job.reason) for job in plan.jobs if job.stage.kind == "evaluate"}
    assert {name for name, (state, _) in states.items() if state == "unsupported"} == {"aimclr", "actclr", "hiclr:dae"}
    assert states["aimclr"][1].startswith("aimclr with bigru: EADM needs maps of joints")
    assert states["actclr"][1].startswith("actclr with bigru: actionlets need maps of joints")
    assert states["hiclr:dae"][1].startswith("hiclr with bigru: drop/add edges")
    assert not [
        job for job in plan.jobs if job.stage.kind == "pretrain" and job.stage.labels.method in ("aimclr", "actclr")
    ]
    without = world.plan("aimclr", "knn", sets=("encoder=bigru", "aimclr.eadm.on=false"))
    assert not [job for job in without.jobs if job.state == "unsupported"]


def test_several_encoders_run_every_method_on_each(world):
    plan = world.plan(
        "TinyCLR,skeletonclr", "knn,linear", sets=("encoder=bigru,stgcn", "bigru.hidden=4"), streams=("joint", "bone")
    )
    cells = [
        (job.stage.labels.method, job.stage.labels.encoder, job.stage.labels.stream)
        for job in plan.jobs
        if job.stage.kind in ("evaluate", "fuse")
    ]
    rows = {(method, encoder) for method, encoder, _ in cells}
    bigru = "bigru[hidden=4]"
    assert rows == {("raw", "coordinates")} | {
        (method, encoder) for method in ("random", "tinyclr", "skeletonclr") for encoder in (bigru, "stgcn")
    }
    # Two protocols on two streams and on their fusion, once each: nothing is mixed between encoders.
    assert len(cells) == len(rows) * 2 * 3
    for job in plan.jobs:
        if job.stage.kind == "fuse":
            assert len(job.stage.parents) == 2
            assert {parent.labels.encoder for parent in job.stage.parents} == {job.stage.labels.encoder}


def test_methods_use_the_encoder_of_their_paper_unless_one_is_named(world):
    def rows(*sets: str) -> set[tuple[str, str]]:
        request = Request(("skeletonclr", "mamp"), ("knn",), (f"{PLUGINS}:Tiny",), sets=sets)
        plan = build(request, world.results / "data", world.store)
        return {(job.stage.labels.method, job.stage.labels.encoder) for job in plan.jobs}

    transformer, reference = "skeleton_transformer", {("raw", "coordinates")}
    assert rows() == reference | {
        ("random", "stgcn"),
        ("skeletonclr", "stgcn"),
        ("random", transformer),
        ("mamp", transformer),
    }
    assert rows(f"encoder={transformer}") == reference | {
        (method, transformer) for method in ("random", "skeletonclr", "mamp")
    }


def test_settings_may_be_tuned_for_an_encoder(world):
    request = Request(("hiclr",), ("knn",), (f"{PLUGINS}:Tiny",), sets=("encoder=dsta,stgcn", "hiclr.moco.dim=8"))
    plan = build(request, world.results / "data", world.store)
    evaluated = [job.stage for job in plan.jobs if job.stage.kind == "evaluate"]
    trained = {stage.labels.encoder: stage for stage in evaluated if stage.labels.method.startswith("hiclr")}
    queues = {encoder: one.parents[0].parents[0].choice.config.moco.queue for encoder, one in trained.items()}
    assert queues == {"dsta": 128, "stgcn": 256}
    # What is tuned is no change of the user's, also where a stage is built from its record.
    assert {stage.labels.method for stage in trained.values()} == {"hiclr[moco.dim=8]"}
    old = {job.stage.key: job.stage.record() for job in plan.jobs}
    rebuilt = rebuild(old, {}, outside_plugins([f"{PLUGINS}:Tiny"]))
    assert {key: stage.key for key, stage in rebuilt.items()} == {key: key for key in old}
