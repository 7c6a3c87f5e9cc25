"""NW-UCLA: the real files where they are at hand, and small made-up ones with every fault."""

from __future__ import annotations

import json
import zipfile
import zlib

import numpy as np
import pytest
import torch

from datasets.clips import to_storage
from datasets.layout import KINECT20, NTU25
from datasets.nw_ucla import NorthwesternUCLA
from engine.config import BenchError

ACTIONS = (1, 2, 3, 4, 5, 6, 8, 9, 11, 12)


def quiet(line: str) -> None:
    """Take a line of progress and drop it."""


def clip_json(name, frames=4, **changes):
    joints = np.random.default_rng(zlib.crc32(name.encode())).normal([0, 0, 3], size=(frames, 20, 3))
    content = {"file_name": name, "skeletons": joints.round(5).tolist(), "label": ACTIONS.index(int(name[1:3])) + 1}
    return json.dumps(content | changes)


@pytest.fixture
def source(tmp_path):
    """A folder with 2 actions x 2 subjects x 3 cameras."""
    folder = tmp_path / "all_sqe"
    folder.mkdir()
    for action in (1, 12):
        for subject in (1, 2):
            for camera in (1, 2, 3):
                name = f"a{action:02}_s{subject:02}_e00_v{camera:02}"
                (folder / f"{name}.json").write_text(clip_json(name))
    return folder


def prepare(tmp_path, source, argument="", on_bad="skip"):
    dataset = NorthwesternUCLA(tmp_path / "data", argument, frames=10)
    return dataset, dataset.prepare(source, quiet, on_bad)


def test_splits_of_a_folder(tmp_path, source):
    dataset, report = prepare(tmp_path, source)
    assert report.ok
    assert not report.skipped
    split = dataset.load("xview")
    assert split.name == "nw_ucla/xview"
    assert split.layout == NTU25
    assert split.train.clips.shape == (8, 3, 10, 25, 1)
    assert set(split.train.groups["camera"]) == {1, 2}
    assert set(split.test.groups["camera"]) == {3}
    assert set(split.train.labels.tolist()) == {0, 9}
    assert split.classes[0] == "pick up with one hand"
    xsub = dataset.load("xsub")
    assert set(xsub.train.groups["subject"]) == {1}
    assert set(xsub.test.groups["subject"]) == {2}
    with pytest.raises(BenchError, match=r"no split 'xset'.*Did you mean 'xsub'"):
        dataset.load("xset")


def test_folder_and_zip_give_the_same_bytes(tmp_path, source):
    first, _ = prepare(tmp_path, source)
    archive = tmp_path / "x.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(source.iterdir(), reverse=True):
            file.write(path, f"anything/{path.name}")
        file.writestr("__MACOSX/anything/._a01_s01_e00_v01.json", b"\x00")
    other, _ = prepare(tmp_path / "other", archive)
    assert (first.folder / "clips.npy").read_bytes() == (other.folder / "clips.npy").read_bytes()
    assert first.load("xview").digest == other.load("xview").digest


def test_copies_across_cameras_are_reported_and_left_out_of_the_clean_split(tmp_path, source):
    name = "a01_s01_e00_v0"
    content = json.loads((source / f"{name}3.json").read_text())
    (source / f"{name}2.json").write_text(json.dumps(content | {"file_name": f"{name}2"}))
    dataset, report = prepare(tmp_path, source)
    assert report.splits["xview"].copies == (f"{name}2",)
    assert report.splits["xview_clean"].copies == ()
    assert f"{name}2" not in dataset.load("xview_clean").train.ids
    assert len(dataset.load("xview_clean").train) == 7
    assert dataset.load("xview_clean").test.ids == dataset.load("xview").test.ids


GOOD = "a01_s01_e00_v01"
FAULTS = {
    "truncated": (GOOD, clip_json(GOOD)[:-40], r"line 1, column \d+: not JSON .*cut short"),
    "binary": (GOOD, b"\xff\xfe\x00{", "not JSON"),
    "nested": (GOOD, "[" * 100_000, "not JSON"),
    "list": (GOOD, "[1]", "not a JSON object"),
    "joints": (
        GOOD,
        clip_json(GOOD, skeletons=[[[0, 0, 1]] * 20, [[0, 0, 1]] * 19]),
        "frame 1 has 19 joints instead of 20",
    ),
    "ntu": (GOOD, clip_json(GOOD, skeletons=[[[0, 0, 1]] * 25]), "frame 0 has 25 joints instead of 20"),
    "pair": (
        GOOD,
        clip_json(GOOD, skeletons=[[[0, 0, 1]] * 7 + [[0, 1]] + [[0, 0, 1]] * 12]),
        "joint HandLeft: not three",
    ),
    "word": (GOOD, clip_json(GOOD, skeletons=[[[0, "0", 1]] * 20]), "frame 0, joint HipCenter: not three numbers"),
    "scalar": (GOOD, clip_json(GOOD, skeletons=3), "not a list of frames"),
    "nan": (
        GOOD,
        clip_json(GOOD, skeletons=[[[0, 0, 1]] * 20, [[0, float("nan"), 1]] * 20]),
        "frame 1, .*HipCenter: nan is no",
    ),
    "huge": (
        GOOD,
        clip_json(GOOD, skeletons=[[[0, 0, 1]] * 20]).replace("[0, 0, 1]", "[0, 0, 1e999]"),
        "inf is no coordinate",
    ),
    "digits": (
        GOOD,
        clip_json(GOOD, skeletons=[[[0, 0, 1]] * 20]).replace("0, 1]", "0, 1" + "0" * 5000 + "]"),
        "not JSON",
    ),
    "bigint": (GOOD, clip_json(GOOD, skeletons=[[[0, 0, 1]] * 20]).replace("0, 1]", "0, 1" + "0" * 400 + "]"), "range"),
    "empty": (GOOD, clip_json(GOOD, skeletons=[]), "no frames"),
    "zeros": (GOOD, clip_json(GOOD, skeletons=[[[0, 0, 0]] * 20] * 3), "all 3 frames are zero"),
    "missing": (GOOD, json.dumps({"file_name": GOOD, "label": 1}), "key skeletons is missing"),
    "label": (GOOD, clip_json(GOOD, label=11), "label 11 is not a whole number from 1 to 10"),
    "label type": (GOOD, clip_json(GOOD, label="1"), "label '1' is not"),
    "other label": (GOOD, clip_json(GOOD, label=2), "label 2 does not belong to action 1"),
    "other name": (GOOD, clip_json("a01_s09_e00_v01"), "file_name in the file is 'a01_s09_e00_v01'"),
    "bad name": ("S001C001P001R001A001", clip_json(GOOD), "not of the form"),
    "bad camera": ("a01_s01_e00_v04", clip_json("a01_s01_e00_v04"), "camera of the name is unknown"),
    "bad action": ("a07_s01_e00_v01", clip_json(GOOD, file_name="a07_s01_e00_v01"), "action, .*unknown"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_files_are_reported_and_skipped_or_stop(tmp_path, source, fault):
    name, content, reason = FAULTS[fault]
    (source / f"{name}.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    total = len(list(source.iterdir()))
    _, report = prepare(tmp_path, source)
    assert len(report.skipped) == 1
    assert report.shape[0] == total - 1
    assert report.skipped[0].place == f"{name}.json"
    with pytest.raises(BenchError, match=reason) as caught:
        prepare(tmp_path / "again", source, on_bad="stop")
    assert f"{name}.json" in str(caught.value)
    assert not (tmp_path / "again").exists()


def test_repeated_names_are_skipped(tmp_path, source):
    (source / "sub").mkdir()
    (source / "sub" / f"{GOOD}.json").write_text(clip_json(GOOD))
    _, report = prepare(tmp_path, source)
    assert [finding.place for finding in report.skipped] == [f"sub/{GOOD}.json"]


def test_one_frame_clip_is_kept_and_counted(tmp_path, source):
    (source / f"{GOOD}.json").write_text(clip_json(GOOD, frames=1))
    dataset, report = prepare(tmp_path, source)
    assert any(f"single frame (no motion): {GOOD}" in warning for warning in report.warnings)
    train = dataset.load("xview").train
    clip = to_storage(train.clips)[train.ids.index(GOOD)]
    assert (clip == clip[:, :1]).all()
    assert clip.abs().sum() > 0


def test_unusable_sources(tmp_path, source):
    dataset = NorthwesternUCLA(tmp_path / "data")
    with pytest.raises(BenchError, match="needs --source"):
        dataset.prepare(None, quiet)
    with pytest.raises(BenchError, match="does not exist"):
        dataset.prepare(tmp_path / "nowhere", quiet)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BenchError, match="no files at all"):
        dataset.prepare(tmp_path / "empty", quiet)
    (tmp_path / "empty" / "S001C001P001R001A001.skeleton").write_text("103")
    with pytest.raises(BenchError, match=r"1 other files, e\.g\. S001C001P001R001A001\.skeleton"):
        dataset.prepare(tmp_path / "empty", quiet)
    (tmp_path / "cut.zip").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(BenchError, match="not a readable zip"):
        dataset.prepare(tmp_path / "cut.zip", quiet)
    for path in source.iterdir():
        path.write_text("{")
    with pytest.raises(
        BenchError, match=r"none of 12 clips is usable\. The first of them: a01_s01_e00_v01\.json: line 1"
    ):
        dataset.prepare(source, quiet)


def test_damaged_member_of_a_zip_is_skipped(tmp_path, source):
    archive = tmp_path / "x.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(source.iterdir()):
            file.write(path, path.name)
    content = bytearray(archive.read_bytes())
    content[200] ^= 0xFF  # inside the first file's data
    archive.write_bytes(content)
    _, report = prepare(tmp_path, archive)
    assert [str(finding) for finding in report.skipped] == [
        f"{GOOD}.json: cannot be read (Bad CRC-32 for file '{GOOD}.json')"
    ]


def test_not_prepared_shows_the_command(tmp_path):
    with pytest.raises(BenchError, match=r"--frames 64$"):
        NorthwesternUCLA(tmp_path, frames=64).check()
    command = f"python run_bench.py data prepare nw_ucla --source PATH --data '{tmp_path}/my data'"
    with pytest.raises(BenchError) as caught:
        NorthwesternUCLA(tmp_path / "my data").load("xview")
    assert command in str(caught.value)


def test_other_preparation_is_a_store_of_its_own(tmp_path, source):
    plain, _ = prepare(tmp_path, source)
    other, _ = prepare(tmp_path, source, "kinect20+trajectory")
    assert plain.folder != other.folder
    split = other.load("xview")
    assert split.name == "nw_ucla:kinect20+trajectory/xview"
    assert split.layout == KINECT20
    assert plain.load("xview").digest != split.digest
    assert other.prepared().manifest["rules"]["rotation"] == "sequence"
    assert split.train.clips[:, :, :, KINECT20.centre].any()
    assert not plain.load("xview").train.clips[:, :, :, NTU25.centre].any()
    with pytest.raises(BenchError, match=r"no such layout or preparation 'trajectry'\. Did you mean 'trajectory'"):
        NorthwesternUCLA(tmp_path, "trajectry").prepare(source, quiet)


@pytest.fixture(scope="module")
def real(shared, tmp_path_factory):
    path = shared / "data" / "nw_ucla_all_sqe.zip"
    if not path.is_file():
        pytest.skip("the NW-UCLA zip is absent")
    dataset = NorthwesternUCLA(tmp_path_factory.mktemp("data"))
    return dataset, dataset.prepare(path, quiet)


def test_real_counts(real):
    _, report = real
    assert report.ok
    assert not report.skipped
    counts = {name: (sum(count.train), sum(count.test)) for name, count in report.splits.items()}
    assert counts == {"xview": (1020, 464), "xview_clean": (925, 464), "xsub": (724, 760)}
    assert report.lengths == (1, 31, 201)
    assert len(report.splits["xview"].copies) == 95
    assert report.splits["xsub"].copies == ()
    assert len(report.remarks) == 2


def test_real_clips_are_clean(real):
    dataset, _ = real
    split = dataset.load("xview")
    clips = split.train.clips
    assert clips.isfinite().all()
    assert split.train.presence.all()
    assert not clips[:, :, :, NTU25.centre].any()
    assert (clips[:, 1, :, 3]).median() > 0.1  # heads are above the shoulders
    left, right = NTU25.shoulders
    line = (clips[:, :, :, right] - clips[:, :, :, left]).mean(dim=2)  # (N, C, M)
    assert (line[:, 0] > -1e-6).all()
    assert line[:, 2].abs().max() < 1e-5
    fit, held_out = split.validation()
    assert set(split.train.groups["camera"][held_out]) == {2}
    assert len(fit) + len(held_out) == 1020


def test_turning_frame_by_frame_as_ntu_is_leaves_some_frames_askew(real, shared, tmp_path):
    dataset = NorthwesternUCLA(tmp_path, "ntu")
    dataset.prepare(shared / "data" / "nw_ucla_all_sqe.zip", quiet)
    clips = dataset.load("xview").train.clips
    left, right = NTU25.shoulders
    line = clips[:, :, :, right] - clips[:, :, :, left]  # (N, C, T, M)
    angle = torch.atan2(line[:, 2].abs(), line[:, 0]).rad2deg()
    assert angle.median() < 1  # but for frames that the released turn leaves misaligned
    assert 0.05 < (angle > 5).float().mean() < 0.25


def test_the_trajectory_can_be_kept(real, shared, tmp_path):
    """Who walks moves, only the first frame's centre joint is (nearly) the origin, and one turn keeps the path's shape."""
    dataset = NorthwesternUCLA(tmp_path, "trajectory")
    dataset.prepare(shared / "data" / "nw_ucla_all_sqe.zip", quiet)
    split = dataset.load("xview")
    clips = split.train.clips
    left, right = NTU25.shoulders
    line = (clips[:, :, :, right] - clips[:, :, :, left]).mean(dim=2)  # (N, C, M)
    assert (line[:, 0] > -1e-6).all()
    assert line[:, 2].abs().max() < 1e-5
    centre = clips[:, :, :, NTU25.centre, 0]
    assert centre[:, :, 0].norm(dim=1).median() < 0.02
    walking = split.train.labels == split.classes.index("walk around")
    assert centre[walking].flatten(1).std(dim=1).median() > 0.1
