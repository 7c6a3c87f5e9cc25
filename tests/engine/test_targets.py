"""Protocols that evaluate on other data than the pre-training's: the plan, its labels, and a run."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from engine import evaluate
from engine.config import BenchError
from engine.plan import Plan
from engine.registry import find
from leaderboard.build import write
from leaderboard.cells import aggregate
from leaderboard.collect import collect
from leaderboard.tables import tables

PLUGINS = Path(__file__).parent / "plugins" / "tiny.py"
NAMES = ("Tiny", "Turned", "Legs", "Stream", "Pairs", "PairStream")
TINY, TURNED, LEGS, STREAM, PAIRS, PAIR_STREAM = (f"{PLUGINS}:{name}" for name in NAMES)


def reasons(plan: Plan) -> dict[str, str]:
    return {str(j.stage): j.reason for j in plan.jobs if j.state == "unsupported" and "tinyclr" in str(j.stage)}


def test_stages_on_a_target_follow_the_pretraining_on_the_source(world):
    plan = world.plan("TinyCLR", "Elsewhere,Means", targets=(TURNED,))
    assert [str(job.stage) for job in plan.jobs if job.stage.labels.method == "tinyclr"] == [
        "pretrain of tinyclr on tiny/subject, joint, seed 0",
        "features of tinyclr on turned/subject from tiny/subject, joint, seed 0",
        "elsewhere:one of tinyclr on turned/subject from tiny/subject, joint, seed 0",
        "elsewhere:two of tinyclr on turned/subject from tiny/subject, joint, seed 0",
        "features of tinyclr on tiny/subject, joint, seed 0",
        "means of tinyclr on tiny/subject, joint, seed 0",
    ]
    found = {str(job.stage): job.stage for job in plan.jobs}
    features = found["features of tinyclr on turned/subject from tiny/subject, joint, seed 0"]
    (pretrain,) = features.parents
    assert pretrain is found["pretrain of tinyclr on tiny/subject, joint, seed 0"]
    assert pretrain.identity["data"] == {"name": "tiny/subject", "digest": "tiny-subject-50"}
    assert features.identity["data"]["name"] == "turned/subject"
    assert features.identity["data"]["digest"] != "turned-subject-50"  # the joints were mapped
    alone = world.plan("TinyCLR", "Means")
    assert {job.stage.key for job in alone.jobs} < {job.stage.key for job in plan.jobs}


def test_target_clips_reach_the_encoder_in_the_layout_of_the_source(world):
    plan = world.plan("TinyCLR", "Elsewhere", targets=(TURNED,))
    stage = next(job.stage for job in plan.jobs if job.stage.kind == "features")
    mapped, own = plan.splits(TURNED, "cpu", stage.data.like), plan.splits(TURNED)
    source = plan.splits(f"{PLUGINS}:Tiny")
    assert mapped.layout == source.layout != own.layout
    names = {"hip": "Hip", "neck": "Neck", "left_hand": "LeftHand", "right_hand": "RightHand"}
    for joint, theirs in names.items():
        here, there = source.layout.joints.index(joint), own.layout.joints.index(theirs)
        assert torch.equal(mapped.test.clips[:, :, :, here], own.test.clips[:, :, :, there])


def test_a_run_on_a_target_is_scored_there_and_stands_in_a_table_of_its_own(world):
    assert not world.run(
        "TinyCLR", "Elsewhere,Means,finetune", targets=(TURNED,), sets=("finetune.train.epochs=1",)
    ).failed
    found = [json.loads(path.read_text()) for path in world.results.glob("runs/evaluate/elsewhere/*/record.json")]
    assert {(r["labels"]["dataset"], r["labels"]["split"], r["labels"]["source"]) for r in found} == {
        ("turned", "subject", "tiny/subject")
    }
    assert {r["labels"]["method"] for r in found} == {"random", "raw", "tinyclr"}
    boards = {board.title.split(" ·")[0]: board for board in tables(aggregate(collect(world.results)))}
    assert {title: board.columns for title, board in boards.items()} == {
        "tiny/subject": ("Finetune[train.epochs=1] top-1", "Means top-1"),
        "turned/subject from tiny/subject": ("Elsewhere:one top-1", "Elsewhere:two top-1"),
    }
    write(world.results, figures=False)
    csv = pd.read_csv(world.results / "leaderboard.csv", keep_default_na=False)
    assert {(row.protocol.split("[")[0], row.dataset, row.source) for row in csv.itertuples()} == {
        ("elsewhere:one", "turned", "tiny/subject"),
        ("elsewhere:two", "turned", "tiny/subject"),
        ("means", "tiny", ""),
        ("finetune", "tiny", ""),
    }
    assert world.run("TinyCLR", "Elsewhere,Means", targets=(TURNED,)).ran == []


def test_records_from_before_there_were_sources_are_read(world):
    world.run("TinyCLR", "Means")
    rewritten = 0
    for path in [*world.results.rglob("checksums.json")]:
        path.unlink()
    for path in world.results.rglob("*.json"):
        content = json.loads(path.read_text())
        rewritten += content.get("labels", {}).pop("source", None) == ""
        path.write_text(json.dumps(content))
    assert rewritten >= 8
    assert world.run("TinyCLR", "Means").ran == []
    assert {run.stage.status for run in collect(world.results)} == {"done", "unsupported"}


def test_targets_that_a_protocol_cannot_use_are_cells_with_a_reason(world):
    plan = world.plan("TinyCLR", "Elsewhere:one,Frames,Means", targets=(TURNED, LEGS, STREAM))
    found = reasons(plan)
    of = "of tinyclr on {}/subject from tiny/subject, joint, seed 0".format
    assert set(found) == {f"elsewhere:one {of('legs')}"}  # those of the other kind are left to the other protocol
    assert (
        "No joint mapping from legs to tiny4: legs has no neck, left_hand, right_hand"
        in found[f"elsewhere:one {of('legs')}"]
    )
    (cell,) = [j.stage for j in plan.jobs if j.stage.kind == "evaluate" and str(j.stage) == f"frames {of('stream')}"]
    assert [parent.kind for parent in cell.parents] == ["pretrain"]
    mapped = plan.splits.load_untrimmed(STREAM, cell.data.like)
    own = plan.splits.load_untrimmed(STREAM)
    assert torch.equal(mapped.test.frames[:, :, 2], own.test.frames[:, :, 2])
    assert torch.equal(mapped.test.frames[:, :, 0], own.test.frames[:, :, 3])
    assert mapped.digest != own.digest


def test_an_encoder_of_all_persons_at_once_reads_no_target_with_more_of_them(world):
    targets, sets = (TURNED, PAIRS, PAIR_STREAM), ("encoder=bigru",)
    found = reasons(world.plan("TinyCLR", "Elsewhere:one,Frames", targets=targets, sets=sets))
    of = "of tinyclr on {}/subject from tiny/subject, joint, seed 0".format
    reason = "bigru is built for 1 person(s), {}/subject has 2".format
    assert found[f"elsewhere:one {of('pairs')}"] == reason("pairs")
    assert found[f"frames {of('pair_stream')}"] == reason("pair_stream")
    assert f"elsewhere:one {of('turned')}" not in found
    # Fewer are filled up with absent ones, and encoders of one person at a time read any number.
    for more in ({"datasets": (PAIRS,), "targets": (TINY,), "sets": sets}, {"targets": (PAIRS,)}):
        assert not reasons(world.plan("TinyCLR", "Elsewhere:one", **more))


def test_protocols_on_untrimmed_recordings_are_dispatched(world, monkeypatch):
    seen = []
    monkeypatch.setattr(
        evaluate, "evaluate_recordings", lambda stage, bench, protocol: seen.append(bench.recordings(stage))
    )
    world.run("random", "Frames", targets=(STREAM,))
    assert [split.name for split in seen] == ["stream/subject"] * 2


def test_no_target_is_a_reason_where_there_are_other_protocols_and_an_error_where_not(world):
    plan = world.plan("TinyCLR", "Elsewhere,Means")
    reason = "tiny has no default target of elsewhere; name one: --targets DATASET/SPLIT"
    assert set(reasons(plan).values()) == {reason}
    with pytest.raises(BenchError, match=reason):
        world.plan("TinyCLR", "Elsewhere")


@pytest.mark.parametrize(
    ("protocols", "target", "message"),
    [
        ("Means", TURNED, "--targets: no protocol of this run evaluates on other data; add one, e.g. transfer"),
        ("Means,Elsewhere", "synthetik", "Unknown dataset 'synthetik'"),
        ("Means,Elsewhere", f"{TURNED}/subjects", "has no split 'subjects'"),
        ("Means,Elsewhere", "npz:nowhere.npz", "there is no such file"),
        ("Elsewhere", STREAM, "stream holds untrimmed recordings"),
        ("Elsewhere", LEGS, "No joint mapping"),
    ],
)
def test_wrong_targets_are_refused(world, protocols, target, message):
    with pytest.raises(BenchError, match=message):
        world.plan("TinyCLR", protocols, targets=(target,))


def test_streams_on_a_target_are_fused_there(world):
    plan = world.plan("TinyCLR", "Elsewhere:one,Means", targets=(TURNED,), streams=("joint", "bone"))
    fused = [str(j.stage) for j in plan.jobs if j.stage.kind == "fuse" and j.stage.labels.method == "tinyclr"]
    assert fused == [
        "elsewhere:one of tinyclr on turned/subject from tiny/subject, joint+bone, seed 0",
        "means of tinyclr on tiny/subject, joint+bone, seed 0",
    ]


def test_transfer_runs_both_variants_with_their_reference_rows(world):
    sets = ("transfer.linear.epochs=5", "transfer.finetune.train.epochs=1", "transfer.finetune.train.batch=8")
    assert not world.run("TinyCLR", "transfer", targets=(TURNED,), sets=sets).failed
    (board,) = tables(aggregate(collect(world.results)))
    assert board.title.startswith("turned/subject from tiny/subject")
    assert [column.split("[")[0] for column in board.columns] == ["Transfer:finetune", "Transfer:linear"]
    cells = {row.name: [entry.text for entry in row.entries] for row in board.rows}
    assert list(cells) == ["raw coordinates", "random encoder", "supervised from scratch", "tinyclr"]
    assert cells["raw coordinates"][0] == "unsupported: raw coordinates have no weights to train"
    assert cells["random encoder"][0] == "see supervised from scratch"
    assert cells["supervised from scratch"][1] == "see random encoder"
    assert board.note == f"Sorted by {board.columns[1]}."
    record = json.loads(next(world.results.glob("runs/evaluate/transfer/*/record.json")).read_text())
    assert (record["facts"]["train_clips"], record["facts"]["test_clips"], record["facts"]["labels"]) == (30, 30, 30)


@pytest.mark.parametrize("split", ["subject", "other"])
def test_the_default_target_is_taken_with_the_split_of_the_same_name(world, monkeypatch, split):
    monkeypatch.setattr(find("datasets", f"{PLUGINS}:Tiny"), "targets", {"elsewhere": TURNED})
    plan = world.plan("TinyCLR", "Elsewhere:one", datasets=(f"{PLUGINS}:Tiny/{split}",))
    (cell,) = [j.stage for j in plan.jobs if j.stage.kind == "evaluate" and j.stage.labels.method == "tinyclr"]
    assert (cell.labels.dataset, cell.labels.split, cell.labels.source) == ("turned", split, f"tiny/{split}")


def test_a_default_target_that_is_not_there_is_a_reason(world, monkeypatch):
    monkeypatch.setattr(find("datasets", f"{PLUGINS}:Tiny"), "targets", {"elsewhere": "ntu60"})
    (reason,) = set(reasons(world.plan("TinyCLR", "Elsewhere,Means")).values())
    assert "ntu60 is not prepared" in reason
    assert reason.endswith("Or name another target: --targets DATASET/SPLIT")


def test_the_data_of_the_pre_training_are_no_target_of_transfer(world):
    (reason,) = set(reasons(world.plan("TinyCLR", "Elsewhere:one", targets=(TINY, TURNED))).values())
    assert reason == "tiny/subject is what was pre-trained on; linear and finetune evaluate there"
