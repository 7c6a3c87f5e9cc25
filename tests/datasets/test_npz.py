"""The generic npz: rules, units, persons, layouts, and every way to get the file wrong."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from datasets.clips import to_storage
from datasets.export import export
from datasets.layout import KINECT20
from datasets.npz import Npz
from engine.config import BenchError

JOINTS = ["hip", "neck", "left_shoulder", "right_shoulder"]


def content(count=8, **changes):
    rng = np.random.default_rng(0)
    lengths = rng.integers(2, 9, count)
    arrays = {
        "xyz": rng.normal(size=(lengths.sum(), 4, 3)).astype(np.float32),
        "offsets": np.concatenate([[0], np.cumsum(lengths)]),
        "label": np.arange(count) % 2,
        "joint_names": np.array(JOINTS),
        "parents": np.array([-1, 0, 1, 1]),
        "subject": np.arange(count) // 2 + 1,
    }
    return {key: value for key, value in (arrays | changes).items() if value is not None}


def save(tmp_path, **changes):
    path = tmp_path / "my clips.npz"
    np.savez(path, **content(**changes))
    return path


def dataset(tmp_path, **changes):
    return Npz(tmp_path / "data", str(save(tmp_path, **changes)), frames=6)


def subjects(split):
    return sorted(set(split.train.groups["subject"].tolist())), sorted(set(split.test.groups["subject"].tolist()))


def test_prepared_on_first_use_and_again_when_the_file_changes(tmp_path):
    first = dataset(tmp_path).load("auto")
    assert first.name == "npz:my_clips/subject"
    assert subjects(first) == ([1, 3], [2, 4])
    assert first.train.clips.shape == (4, 3, 6, 4, 1)
    assert first.train.ids == ("clip000000", "clip000001", "clip000004", "clip000005")
    assert first.classes == ("class 0", "class 1")
    stores = set((tmp_path / "data" / "npz").iterdir())
    assert len(stores) == 1
    assert dataset(tmp_path).load("subject").digest == first.digest
    assert set((tmp_path / "data" / "npz").iterdir()) == stores
    changed = dataset(tmp_path, xyz=content()["xyz"] + np.float32(1)).load("auto")
    assert changed.digest != first.digest
    assert len(list((tmp_path / "data" / "npz").iterdir())) == 2


@pytest.mark.parametrize(
    ("rule", "train"),
    [("subject", [1, 3]), ("subject=1-2,4", [1, 2, 4]), ("subject= 3 ", [3]), ("column=subject", [1, 3])],
)
def test_rules_by_subject(tmp_path, rule, train):
    split = dataset(tmp_path).load(rule)
    assert subjects(split) == (train, [s for s in (1, 2, 3, 4) if s not in train])
    assert split.group == "subject"


def test_view_is_the_camera(tmp_path):
    data = dataset(tmp_path, view=np.array([1, 1, 2, 2, 3, 3, 1, 1]))
    for rule in ("view=1,2", "camera=1,2"):
        split = data.load(rule)
        assert split.name == "npz:my_clips/camera=1,2"
        assert split.group == "camera"
        assert split.test.groups["camera"].tolist() == [3, 3]
    assert data.load("view").test.groups["camera"].tolist() == [2, 2]


TRAIN = np.array([True, True, False, True, False, False, True, True])


@pytest.mark.parametrize(
    "values", [np.where(TRAIN, "train", "test"), TRAIN, TRAIN.astype(int), np.where(TRAIN, "Train", "TEST")]
)
def test_stored_column(tmp_path, values):
    data = dataset(tmp_path, split=values, mine=values)
    for rule, name in (("auto", "split"), ("split", "split"), ("column=mine", "mine")):
        split = data.load(rule)
        assert split.name == f"npz:my_clips/{name}"
        assert [split.train.ids, split.test.ids] == [
            tuple(f"clip{i:06d}" for i in np.flatnonzero(part)) for part in (TRAIN, ~TRAIN)
        ]
    assert set(data.check().splits) == {"subject", "split"}


def test_column_of_words(tmp_path):
    data = dataset(tmp_path, room=np.array(list("aabbccaa")))
    assert data.load("room=a,c").test.ids == ("clip000002", "clip000003")
    assert list(data.check().splits) == ["subject"]
    words = dataset(tmp_path, subject=np.array(list("aabbccaa")))
    assert words.check().splits == {}
    with pytest.raises(BenchError, match=r"values a, b, c do not say what trains.*room=VALUE"):
        data.load("room")


def test_unknown_rules_name_the_columns(tmp_path):
    data = dataset(tmp_path)
    with pytest.raises(
        BenchError, match=r"no column 'subjet'\. Did you mean 'subject'\? The file has the columns subject"
    ):
        data.load("subjet")
    with pytest.raises(BenchError, match=r"no column 'camera'.*columns subject"):
        data.load("view")
    with pytest.raises(BenchError, match="empty value"):
        data.load("subject=1,,2")
    with pytest.raises(BenchError, match=r"8 training and 0 test clips.*Values of subject: 1, 2, 3, 4"):
        data.load("subject=1-9")
    with pytest.raises(BenchError, match=r"no column 'split or subject'.*no column to cut by"):
        dataset(tmp_path, subject=None).load("auto")


def test_units_and_persons(tmp_path):
    metres = dataset(tmp_path).load("auto")
    for unit, scale in (("mm", 1000), ("Centimetres", 100), ("metre", 1), ("m", 1)):
        other = dataset(tmp_path, xyz=content()["xyz"] * np.float32(scale), unit=np.array(unit)).load("auto")
        np.testing.assert_allclose(other.train.clips, metres.train.clips, atol=1e-4)
    with pytest.raises(BenchError, match="unit 'inch' is unknown"):
        dataset(tmp_path, unit=np.array("inch")).load("auto")
    xyz = content()["xyz"]
    pair = dataset(tmp_path, xyz=np.stack([xyz, xyz * 0], axis=1)).load("auto")
    assert pair.train.clips.shape == (4, 3, 6, 4, 2)
    assert pair.train.presence.tolist() == [[True, False]] * 4
    np.testing.assert_array_equal(to_storage(pair.train.clips)[:, :1], to_storage(metres.train.clips))


def test_half_precision_is_computed_in_single(tmp_path):
    half = dataset(tmp_path, xyz=content()["xyz"].astype(np.float16)).load("auto")
    single = dataset(tmp_path, xyz=content()["xyz"].astype(np.float16).astype(np.float32)).load("auto")
    np.testing.assert_array_equal(half.train.clips, single.train.clips)


def test_any_layout_and_known_ones(tmp_path):
    layout = dataset(tmp_path).load("auto").layout
    assert (layout.name, layout.joints, layout.centre, layout.shoulders) == ("my clips", tuple(JOINTS), 1, (2, 3))
    xyz = np.random.default_rng(0).normal(size=(len(content()["xyz"]), 20, 3))
    parents = [-1, 0, 1, 2, 2, 4, 5, 6, 2, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18]
    known = dataset(tmp_path, xyz=xyz, joint_names=np.array(KINECT20.joints), parents=np.array(parents)).load("auto")
    assert known.layout == KINECT20


def test_bad_clips_are_skipped_with_a_warning_or_stop(tmp_path):
    xyz, offsets = content()["xyz"], content()["offsets"]
    xyz[offsets[2] + 1, 3, 0] = np.nan
    xyz[offsets[4] : offsets[5]] = 0
    names = np.array(["a", "b", "c", "d", "e", "f", "a", "h"])
    changes = {
        "xyz": xyz,
        "name": names,
        "label": np.array([0, 1, 0, 1, 0, 5, 0, 1]),
        "label_names": np.array(["wave", "bow"]),
    }
    with pytest.warns(UserWarning, match=r"4 clips were skipped, the first: my clips\.npz, clip 2 \(c\): frame 1"):
        split = dataset(tmp_path, **changes).load("auto")
    assert split.train.ids + split.test.ids == ("a", "b", "d", "h")
    assert split.classes == ("wave", "bow")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = dataset(tmp_path, **changes).check()
    assert [str(finding) for finding in report.skipped] == [
        "my clips.npz, clip 2 (c): frame 1, joint right_shoulder: nan is no coordinate (1 joints in all)",
        f"my clips.npz, clip 4 (e): all {offsets[5] - offsets[4]} frames are zero",
        "my clips.npz, clip 5 (f): label 5 is not in 0..1",
        "my clips.npz, clip 6 (a): clip 0 has the same name",
    ]
    with pytest.raises(BenchError, match=r"clip 2 \(c\): frame 1, joint right_shoulder: nan.*Mend"):
        dataset(tmp_path, **changes).prepare(None, lambda line: None, "stop")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"xyz": None}, r"xyz missing; found offsets, label, joint_names, parents, subject"),
        ({"label": None}, "label missing"),
        ({"joint_names": None, "parents": None}, "joint_names, parents missing"),
        ({"joint_names": np.array(["a", "b"])}, "xyz has 4 joints"),
        ({"joint_names": np.array(["a", "a", "b", "c"])}, "must be unique"),
        ({"parents": np.array([-1, 0, -1, 1])}, "one tree"),
        ({"xyz": np.zeros((40, 4, 2), np.float32)}, r"xyz is float32 \(40, 4, 2\); expected float \(F, V, 3\)"),
        ({"xyz": np.zeros((40, 4, 3), int)}, "xyz is int64"),
        ({"offsets": np.array([0, len(content()["xyz"])])}, "2 offsets for 8 labels"),
        ({"offsets": np.array([], int)}, "offsets must be a list of whole numbers"),
        ({"offsets": np.array([0, 3, 2, 5, 6, 7, 8, 9, 40])}, "must rise from 0 to the"),
        (
            {"offsets": np.array([0, 3, 2, 5, 6, 7, 8, 9, len(content()["xyz"])])},
            r"offsets\[1\] is 3, offsets\[2\] 2",
        ),
        ({"offsets": content()["offsets"] + 1}, "must rise"),
        ({"label": np.linspace(0, 1, 8)}, "whole numbers"),
        ({"label": np.array(list("abababab"))}, "whole numbers"),
        ({"name": np.array(["a"])}, "name must be 8 words"),
        ({"label_names": np.array([["a"], ["b"]])}, "label_names must be a list"),
        ({"subject": np.array([{}] * 8, object)}, "cannot be read as an npz of plain arrays: Object arrays"),
    ],
)
def test_wrong_files(tmp_path, changes, message):
    with pytest.raises(BenchError, match=message) as caught:
        dataset(tmp_path, **changes).load("auto")
    assert "my clips" in str(caught.value)
    assert not (tmp_path / "data" / "npz").exists()


def test_unreadable_files(tmp_path):
    for name, data in (("text.npz", b"no archive"), ("cut.npz", save(tmp_path).read_bytes()[:500])):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(BenchError, match=f"{name} cannot be read as an npz"):
            Npz(tmp_path / "data", str(tmp_path / name)).load("auto")
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(BenchError, match="not a zip file"):
        Npz(tmp_path / "data", str(tmp_path / "one.npy")).load("auto")
    with pytest.raises(BenchError, match="there is no such file"):
        Npz(tmp_path / "data", "nowhere.npz").load("auto")
    with pytest.raises(BenchError, match="npz needs a file"):
        Npz(tmp_path / "data").load("auto")
    with pytest.raises(BenchError, match="its own source"):
        dataset(tmp_path).prepare(tmp_path, lambda line: None)


def real(shared, tmp_path, name):
    path = shared / "data" / name
    if not path.is_file():
        pytest.skip(f"{name} is absent")
    return Npz(tmp_path, str(path))


def test_utd_mhad(shared, tmp_path):
    data = real(shared, tmp_path, "utd_mhad.npz")
    split = data.load("auto")
    assert (len(split.train), len(split.test), len(split.classes)) == (431, 430, 27)
    assert split.name == "npz:utd_mhad/subject"
    assert split.layout.joints[split.layout.centre] == "shoulder_center"
    assert split.train.clips.isfinite().all()
    assert data.check().ok


def test_utkinect(shared, tmp_path):
    split = real(shared, tmp_path, "utkinect_segments.npz").load("subject=1-5")
    assert (len(split.train), len(split.test), len(split.classes)) == (100, 99, 10)
    assert split.layout == KINECT20
    with pytest.raises(BenchError, match="trimmed clips are needed"):
        real(shared, tmp_path, "utkinect_streams.npz").load("auto")


def test_one_changed_byte_is_found_before_anything_is_computed(tmp_path):
    first = dataset(tmp_path)
    first.load("auto")
    clips = first.folder / "clips.npy"
    raw = bytearray(clips.read_bytes())
    raw[-5] ^= 1
    clips.chmod(0o644)
    clips.write_bytes(raw)
    with pytest.raises(BenchError, match=r"clips\.npy is damaged: its checksum"):
        dataset(tmp_path).load("auto")
    assert not dataset(tmp_path).check().ok


def test_a_layout_that_cannot_be_flipped_or_turned_is_told(tmp_path):
    def told(*joints):
        return [
            line
            for line in dataset(tmp_path, joint_names=np.array(joints)).check().warnings
            if "flip" in line or "turned" in line
        ]

    assert told(*JOINTS) == []
    assert "no joint's name says left or right" in told("hip", "neck", "a", "b")[0]
    lone = told("hip", "neck", "left_shoulder", "right_hand")
    assert "2 joints have no partner" in lone[0]
    assert "left_shoulder, right_hand" in lone[0]
    assert "not turned" in lone[1]


@pytest.mark.parametrize("subject", [None, np.ones(8, int)])
def test_data_that_no_rule_can_cut_are_not_ok(tmp_path, subject):
    report = dataset(tmp_path, subject=subject, view=None).check()
    assert not report.ok
    assert any("no split has both" in line for line in report.problems)


def test_a_rule_that_must_be_named_is_told_and_no_fault(tmp_path):
    report = dataset(tmp_path, subject=None, fold=np.arange(8) % 3).check()
    assert report.ok
    assert any("can be named by values of fold" in line for line in report.warnings)


def test_a_damaged_table_of_samples_is_told_as_such_everywhere(tmp_path):
    first = dataset(tmp_path)
    first.load("auto")
    table = first.folder / "samples.csv"
    table.chmod(0o644)
    table.write_text(table.read_text().replace("subject", "subjekt"))
    manifest = first.folder / "manifest.json"
    for use in (lambda: dataset(tmp_path).load("auto"), lambda: export(dataset(tmp_path), "auto", tmp_path / "a.npz")):
        with pytest.raises(BenchError, match=r"samples\.csv is damaged: its checksum"):
            use()
    manifest.chmod(0o644)
    manifest.write_text(manifest.read_text().replace('"sha256"', '"sha265"'))
    with pytest.raises(BenchError, match="is damaged"):
        dataset(tmp_path).load("auto")
