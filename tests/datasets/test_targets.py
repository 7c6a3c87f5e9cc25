"""Targets of a transfer: joints and persons of the source, and no test clip that the pre-training has seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from datasets.clips import ClipSet, Split, from_storage
from datasets.layout import KINECT20, LAYOUTS, NTU25, Layout, joint_map
from datasets.ntu60 import NTU60
from datasets.ntu120 import NTU120
from datasets.ntu_write import skeleton_text
from datasets.prepare import Preparation
from datasets.targets import adapt, adapt_untrimmed, refuse_shared
from datasets.untrimmed import RecordingSet, UntrimmedSplit
from engine.config import BenchError

UTD = Layout.from_parents(
    "utd_mhad",
    (
        "head", "shoulder_center", "spine", "hip_center",
        "left_shoulder", "left_elbow", "left_wrist", "left_hand", "right_shoulder", "right_elbow", "right_wrist", "right_hand",
        "left_hip", "left_knee", "left_ankle", "left_foot", "right_hip", "right_knee", "right_ankle", "right_foot",
    ),
    (1, 2, 3, -1, 1, 4, 5, 6, 1, 8, 9, 10, 3, 12, 13, 14, 3, 16, 17, 18),
)  # fmt: skip
"""UTD-MHAD as its npz file names it: another order and spelling than Kinect v1 has."""


def clips(layout, ids, persons=1, frames=4, seed=0):
    stored = torch.randn(len(ids), persons, frames, len(layout), 3, generator=torch.Generator().manual_seed(seed))
    count = len(ids)
    return ClipSet(
        from_storage(stored),
        torch.zeros(count, dtype=torch.int64),
        torch.ones(count, persons, dtype=torch.bool),
        tuple(ids),
        {"subject": np.arange(count)},
        torch.full((count,), frames),
    )


def split(name, layout, train=("a", "b"), test=("c", "d"), seed=0, **more):
    parts = clips(layout, train, seed=2 * seed, **more), clips(layout, test, seed=2 * seed + 1, **more)
    return Split(name, layout, *parts, ("one",), "subject", f"digest of {name}")


def untrimmed(name, test=("r1", "r2"), layout=KINECT20):
    def part(ids):
        frames = torch.randn(10 * len(ids), 1, len(layout), 3)
        labels, offsets = torch.zeros(len(frames), dtype=torch.int64), np.arange(0, len(frames) + 1, 10)
        return RecordingSet(frames, labels, offsets, tuple(ids), {"subject": np.arange(len(ids))})

    classes, rules = ("background", "one"), Preparation(frames=4)
    return UntrimmedSplit(name, layout, part(("r0",)), part(test), classes, "subject", 30.0, rules, "digest")


# --- joints


def test_joints_of_utd_mhad_are_told_by_name():
    """The orders are those that the description of the data states."""
    assert joint_map(UTD, KINECT20) == (3, 2, 1, 0, *range(4, 20))
    kinect_to_ntu = (*range(20), 2, 7, 7, 11, 11)
    assert joint_map(KINECT20, NTU25) == kinect_to_ntu
    assert joint_map(UTD, NTU25) == tuple((3, 2, 1, 0, *range(4, 20))[v] for v in kinect_to_ntu)
    assert joint_map(NTU25, UTD)[:4] == (3, 20, 1, 0)


@given(order=st.permutations(range(20)), known=st.sampled_from(sorted(LAYOUTS)))
def test_any_order_of_known_joints_can_be_mapped(order, known):
    """Whatever the order, a joint's name and its parent's stay with it."""
    names = [KINECT20.joints[v] for v in order]
    parents = [-1 if v == KINECT20.centre else order.index(KINECT20.bones[v]) for v in order]
    shuffled = Layout.from_parents("shuffled", names, parents)
    found = joint_map(shuffled, LAYOUTS[known])
    plain = joint_map(KINECT20, LAYOUTS[known])
    assert [names[v] for v in found] == [KINECT20.joints[v] for v in plain]
    assert found[LAYOUTS[known].centre] == shuffled.centre  # what is at the origin stays there


def test_a_layout_named_like_a_known_one_is_told_by_its_joints():
    impostor = Layout.from_parents("kinect20", ("hip", "neck", "left_hand"), (-1, 0, 1))
    with pytest.raises(BenchError, match=r"No joint mapping from kinect20 to ntu25: kinect20 has no spine_base, "):
        joint_map(impostor, NTU25)


def test_british_spelling_is_the_same_joint():
    here = Layout.from_parents("here", ("HipCentre", "Head"), (-1, 0))
    there = Layout.from_parents("there", ("head", "hip_center"), (1, -1))
    assert joint_map(here, there) == (1, 0)


# --- adapting


def test_adapted_clips_have_the_joints_and_persons_of_the_source():
    source, target = split("s/x", NTU25, persons=2), split("t/x", UTD, seed=1)
    found = adapt(target, source)
    assert found.layout == NTU25
    assert (found.name, found.classes) == (target.name, target.classes)
    assert found.digest != target.digest
    for part, own in ((found.train, target.train), (found.test, target.test)):
        assert part.clips.shape == (2, 3, 4, 25, 2)
        assert part.clips.permute(0, 4, 2, 3, 1).is_contiguous()
        for joint, theirs in (("head", "head"), ("neck", "shoulder_center"), ("left_thumb", "left_hand")):
            here, there = NTU25.joints.index(joint), UTD.joints.index(theirs)
            assert torch.equal(part.clips[:, :, :, here, 0], own.clips[:, :, :, there, 0])
        assert not part.clips[..., 1].any()
        assert part.presence.tolist() == [[True, False]] * 2
        assert part.ids == own.ids


def test_what_fits_is_left_alone():
    source, target = split("s/x", NTU25), split("t/x", NTU25, seed=1, persons=2)
    assert adapt(target, source) is target
    assert adapt_untrimmed(recordings := untrimmed("t/x"), split("s/x", KINECT20)) is recordings


def test_other_frames_are_refused():
    with pytest.raises(BenchError, match=r"t/x has 4 frames per clip, s/x 5; prepare both with the same --frames"):
        adapt(split("t/x", NTU25), split("s/x", NTU25, frames=5))


def test_untrimmed_recordings_are_adapted_as_clips_are():
    target = untrimmed("t/x")
    found = adapt_untrimmed(target, split("s/x", NTU25, persons=2))
    assert found.test.frames.shape == (20, 2, 25, 3)
    assert torch.equal(found.test.frames[:, 0, NTU25.joints.index("right_thumb")], target.test.frames[:, 0, 11])
    assert not found.test.frames[:, 1].any()
    assert found.digest != target.digest


# --- shared clips


NAMES = [f"S001C00{camera}P001R001A0{action:02}" for camera in (1, 2) for action in (1, 2)]


def test_ntu_names_mean_the_same_recording_in_every_dataset():
    source = split("ntu120/xsub", NTU25, train=[*NAMES[:2], "S018C001P041R001A061"])
    target = split("form:NTU60/xview", NTU25, test=[NAMES[2], f"{NAMES[1]}.skeleton", NAMES[0]], seed=1)
    with pytest.raises(
        BenchError, match=rf"2 of 3 test clips of form:NTU60/xview .* ntu120/xsub \(the first: {NAMES[1]}"
    ):
        refuse_shared(target, source)
    refuse_shared(split("ntu60/xview", NTU25, train=NAMES[:2], test=NAMES[2:], seed=1), source)


def test_other_names_mean_something_within_one_dataset_only():
    source = split("pku/xsub", NTU25, train=("clip1", "clip2"))
    refuse_shared(split("other/xsub", NTU25, test=("clip1", "clip3"), seed=1), source)
    with pytest.raises(BenchError, match=r"1 of 2 test clips of pku/xview .*the first: clip1"):
        refuse_shared(split("pku/xview", NTU25, test=("clip1", "clip3"), seed=1), source)


def test_preparations_are_of_one_dataset_but_files_are_not():
    source = split("nw_ucla:trajectory/xsub", NTU25, train=("clip1", "clip2"))
    with pytest.raises(BenchError, match=r"1 of 2 test clips of nw_ucla/xview .*the first: clip1"):
        refuse_shared(split("nw_ucla/xview", NTU25, test=("clip1", "clip3"), seed=1), source)
    for kind in ("npz", "form"):
        source = split(f"{kind}:one/xsub", NTU25, train=("clip1", "clip2"))
        refuse_shared(split(f"{kind}:two/xsub", NTU25, test=("clip1", "clip3"), seed=1), source)


def test_recordings_are_told_by_where_their_clips_come_from():
    def target(name, video, camera):
        found = untrimmed(name, ("0002-L", "0003-L", "0003-M"))
        groups = {"video": np.array(video), "camera": np.array(camera)}
        return replace(found, test=replace(found.test, groups=groups))

    source = split("pku/xsub", KINECT20)
    places = {"video": np.array([2, 4]), "camera": np.array([1, 2]), "episode": np.array([1, 1])}
    source = replace(source, train=replace(source.train, groups=places))
    with pytest.raises(BenchError, match=r"1 of 3 test recordings of pku/xview .*the first: 0002-L\)"):
        refuse_shared(target("pku/xview", [2, 3, 3], [1, 1, 2]), source)
    refuse_shared(target("pku/xview", [3, 4, 5], [1, 1, 1]), source)
    refuse_shared(target("another/xview", [2, 3, 3], [1, 1, 2]), source)
    refuse_shared(target("pku/xview", [2, 2, 2], [1, 1, 1]), source)  # which of the three it is, nobody knows


@given(row=st.integers(0, 1), other=st.integers(0, 1), joint=st.integers(0, 24))
def test_equal_content_is_found_whatever_its_name(row, other, joint):
    source, target = split("s/x", NTU25), split("t/x", NTU25, seed=1)
    refuse_shared(target, source)
    target.test.clips[row] = source.train.clips[other]
    with pytest.raises(BenchError, match=rf"1 of 2 test clips of t/x .*the first: {'cd'[row]}\)"):
        refuse_shared(target, source)
    target.test.clips[row, 0, 0, joint, 0] += 1  # the frame in the middle is still the same
    refuse_shared(target, source)


def test_shared_content_is_found_behind_a_joint_mapping():
    target = split("t/x", UTD, seed=1)
    source = adapt(split("s/x", UTD), split("n/x", NTU25, persons=2))
    source.train.clips[1] = adapt(target, source).test.clips[0]
    with pytest.raises(BenchError, match=r"1 of 2 test clips"):
        refuse_shared(adapt(target, source), source)


@pytest.mark.parametrize("rule", ["xsub", "xset"])
def test_ntu120_leaks_into_ntu60_unless_its_clips_are_left_out(tmp_path, rule):
    """Raw files of both downloads: performers 1 and 45 train under xsub, setups 2 and 18 under xset."""
    raw = tmp_path / "raw"
    raw.mkdir()
    places = [(1, 1), (2, 1), (1, 3), (2, 3), (18, 45), (19, 45), (18, 44), (19, 44)]
    for seed, (setup, performer) in enumerate(places):
        poses = np.random.default_rng(seed).normal([0, 0, 3], 0.3, (5, 25, 3))
        for camera in (1, 2):
            name = f"S{setup:03}C{camera:03}P{performer:03}R001A{1 if setup < 18 else 61:03}"
            (raw / f"{name}.skeleton").write_bytes(skeleton_text([[(2**56 + 1, pose + camera)] for pose in poses]))
    datasets = [cls(tmp_path / "data", frames=8) for cls in (NTU60, NTU120)]
    for dataset in datasets:
        dataset.prepare(raw, lambda line: None)
    small, large = datasets
    target = small.load("xview")
    with pytest.raises(BenchError, match=rf"of 4 test clips of ntu60/xview are in the training part of ntu120/{rule}"):
        refuse_shared(target, large.load(rule))
    added = large.load(f"{rule}_added")
    refuse_shared(target, added)
    assert {name[:4] for name in (*added.train.ids, *added.test.ids)} == {"S018", "S019"}
    whole = large.load(rule)
    for part, of in ((added.train, whole.train), (added.test, whole.test)):
        assert set(part.ids) == {name for name in of.ids if name[:4] in ("S018", "S019")}
    forgotten = replace(target, test=replace(target.test, ids=tuple("abcd")))
    with pytest.raises(BenchError, match="test clips of ntu60/xview"):
        refuse_shared(forgotten, large.load(rule))  # by content, as nobody knows the names
