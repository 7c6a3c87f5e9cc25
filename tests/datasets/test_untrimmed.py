"""Untrimmed recordings: the store, the check, files with a label per frame, and the synthetic set."""

from __future__ import annotations

import io
import math
from functools import partial

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from rich.console import Console

from datasets import untrimmed
from datasets.check import render
from datasets.check_untrimmed import check_recordings
from datasets.layout import KINECT20, NTU25
from datasets.npz import Npz
from datasets.nw_ucla import NorthwesternUCLA
from datasets.prepare import Preparation
from datasets.store import open_store, write_store
from datasets.synthetic import Synthetic
from datasets.synthetic_actions import ACTIONS
from datasets.synthetic_sessions import SESSIONS, perform_session, programme
from datasets.synthetic_untrimmed import SyntheticUntrimmed, generate
from datasets.untrimmed import open_recordings, segments, write_recordings
from engine.config import BenchError
from run_bench import main

CLASSES = ("background", "wave", "bow")
LENGTHS = (7, 4, 9)
LABELS = np.concatenate([[0, 0, 1, 1, 0, 2, 2], [2, 2, 0, 0], [0, 1, 1, 1, 0, 0, 2, 0, 0]])


def bodies(seed=0):
    frames = np.random.default_rng(seed).normal(scale=0.3, size=(sum(LENGTHS), 2, 20, 3)).astype(np.float32)
    frames[:, 1] = 0
    return frames


def write(folder, frames=None, labels=LABELS, fps=30.0, **columns):
    samples = pd.DataFrame({"id": ["r0", "NA", "r2"], "length": LENGTHS, "subject": [1, 2, 3], **columns})
    frames = bodies() if frames is None else frames
    return write_recordings(folder, frames, labels, samples, KINECT20, CLASSES, fps, {"version": 1})


TRAIN = np.array([True, False, True])


def test_what_is_written_comes_back(tmp_path):
    digest = write(tmp_path / "s", place=["b", "a", "b"])
    stored = open_recordings(tmp_path / "s")
    assert (stored.digest, stored.layout, stored.classes, stored.fps) == (digest, KINECT20, CLASSES, 30.0)
    assert stored.damage() == ()
    assert not stored.frames.flags.writeable
    split = stored.split("toy/xsub", TRAIN, ~TRAIN, "subject", 50)
    frames = bodies()
    np.testing.assert_array_equal(split.train.frames.numpy(), np.concatenate([frames[:7], frames[11:]]))
    np.testing.assert_array_equal(split.train.labels.numpy(), np.concatenate([LABELS[:7], LABELS[11:]]))
    np.testing.assert_array_equal(split.test.frames.numpy(), frames[7:11])
    assert (split.train.offsets.tolist(), split.test.offsets.tolist()) == ([0, 7, 16], [0, 4])
    assert (split.train.ids, split.test.ids) == (("r0", "r2"), ("NA",))
    assert (split.train.groups["subject"].tolist(), split.train.groups["place"].tolist()) == ([1, 3], [1, 1])
    assert (split.rules.frames, split.rules.length) == (50, "all")
    assert math.isnan(open_recordings_without_rate(tmp_path).fps)


def open_recordings_without_rate(tmp_path):
    write(tmp_path / "without", fps=None)
    return open_recordings(tmp_path / "without")


def test_digests_depend_on_frames_labels_and_cut(tmp_path):
    relabelled = LABELS.copy()
    relabelled[0] = 1
    digests = [
        write(tmp_path / "a"),
        write(tmp_path / "b"),
        write(tmp_path / "c", bodies(1)),
        write(tmp_path / "d", labels=relabelled),
    ]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3
    stored = open_recordings(tmp_path / "a")
    other = np.array([True, True, False])
    assert (
        stored.split("x", TRAIN, ~TRAIN, "subject", 50).digest != stored.split("x", other, ~other, "subject", 50).digest
    )
    with pytest.raises(BenchError, match=r"3 training and 0 test recordings.* Values of subject: 1, 2, 3"):
        stored.split("x", TRAIN | True, TRAIN & False, "subject", 50)


def test_digests_depend_on_the_rules_of_preparation_but_for_the_frames(tmp_path, monkeypatch):
    write(tmp_path / "s")
    stored = open_recordings(tmp_path / "s")
    digests = [stored.split("x", TRAIN, ~TRAIN, "subject", frames).digest for frames in (50, 64)]
    assert digests[0] == digests[1]
    monkeypatch.setattr(untrimmed, "VERSION", untrimmed.VERSION + 1)
    digests.append(stored.split("x", TRAIN, ~TRAIN, "subject", 50).digest)
    monkeypatch.setattr(untrimmed, "Preparation", partial(Preparation, centring="first"))
    digests.append(stored.split("x", TRAIN, ~TRAIN, "subject", 50).digest)
    assert len(set(digests)) == 3


def test_what_does_not_belong_together_is_not_written(tmp_path):
    for frames, labels in ((bodies()[:-1], LABELS[:-1]), (bodies(), LABELS[:-1]), (bodies(), LABELS + 1)):
        with pytest.raises(ValueError, match=r"do not fit|labels outside"):
            write(tmp_path / "s", frames, labels)
    assert list(tmp_path.iterdir()) == []


def test_a_store_of_the_other_kind_or_cut_short_is_refused(tmp_path):
    write(tmp_path / "s")
    with pytest.raises(BenchError, match=r"damaged \('clips'\)"):
        open_store(tmp_path / "s")
    table = pd.DataFrame({"id": ["a"], "label": [0], "length": [1]})
    write_store(tmp_path / "c", np.zeros((1, 2, 5, 20, 3), np.float32), table, KINECT20, CLASSES, {})
    with pytest.raises(BenchError, match="damaged"):
        open_recordings(tmp_path / "c")
    (tmp_path / "s" / "frames.npy").write_bytes((tmp_path / "s" / "frames.npy").read_bytes()[:-4])
    with pytest.raises(BenchError, match=r"frames.npy has"):
        open_recordings(tmp_path / "s")


def test_segments_end_with_their_recording():
    starts, classes = segments(LABELS, np.array([0, 7, 11, 20]))
    assert starts.tolist() == [0, 2, 4, 5, 7, 9, 11, 12, 15, 17, 18, 20]
    assert classes.tolist() == [0, 1, 0, 2, 2, 0, 0, 1, 0, 2, 0]


def test_check_counts_what_is_there(tmp_path):
    frames = bodies()
    frames[12:14] = 0
    frames[3, 0, 5] = 9
    write(tmp_path / "s", frames)
    report = check_recordings("toy", open_recordings(tmp_path / "s"), {"xsub": (TRAIN, ~TRAIN)}, {"xsub": (5, 6)})
    assert report.ok
    assert report.splits["xsub"].train == (8, 5, 3)
    assert report.splits["xsub"].test == (2, 0, 2)
    assert report.lengths == (4, 7, 9)
    assert "5 actions of 1 / 2 / 3 frames" in report.facts
    assert "xsub: 2 training and 1 test recordings, background 50.0 and 50.0 %" in report.facts
    assert any("1 recordings have frames without a body (2 frames): r2" in line for line in report.warnings)
    assert any("1 recordings with a joint more than 2.5 m from the centre" in line for line in report.warnings)
    assert any("the complete set has 5 and 6" in line for line in report.warnings)
    assert any("classes without test frames in xsub: wave" in line for line in report.warnings)
    console = Console(width=120, file=io.StringIO())
    console.print(render(report))
    assert "toy: 3 recordings, 20 frames at 30 per second of 2 persons, 20 joints, 2 classes" in console.file.getvalue()
    path = tmp_path / "s" / "labels.npy"
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)
    broken = check_recordings("toy", open_recordings(tmp_path / "s"), {}, {})
    assert any("labels.npy differs" in line for line in broken.problems)


# Files with a label per frame


def content(**changes):
    parents = [-1 if v == KINECT20.centre else parent for v, parent in enumerate(KINECT20.bones)]
    arrays = {
        "xyz": bodies()[:, 0],
        "offsets": np.cumsum([0, *LENGTHS]),
        "frame_label": LABELS - 1,
        "label_names": np.array(["wave", "bow"]),
        "joint_names": np.array(KINECT20.joints),
        "parents": np.array(parents),
        "subject": np.array([1, 2, 3]),
        "fps": np.array(15),
    }
    return {key: value for key, value in (arrays | changes).items() if value is not None}


def stream(tmp_path, **changes):
    path = tmp_path / "streams.npz"
    np.savez(path, **content(**changes))
    return Npz(tmp_path / "data", str(path), frames=6)


def test_npz_with_frame_labels(tmp_path):
    data = stream(tmp_path)
    split = data.load_untrimmed("subject=1,3")
    assert (split.name, split.classes, split.fps) == ("npz:streams/subject=1,3", CLASSES, 15.0)
    np.testing.assert_array_equal(split.train.labels.numpy(), np.concatenate([LABELS[:7], LABELS[11:]]))
    np.testing.assert_array_equal(split.test.frames.numpy()[:, 0], bodies()[7:11, 0])
    assert split.layout == KINECT20
    again = Npz(data.root, str(data.path), frames=9)
    assert again.load_untrimmed("subject=1,3").digest == split.digest  # recordings know of no number of frames
    assert data.check().unit == "recordings"
    without = stream(tmp_path, fps=None, label_names=None, unit=np.array("mm")).load_untrimmed("auto")
    assert math.isnan(without.fps)
    assert without.classes == ("background", "class 0", "class 1")
    np.testing.assert_allclose(without.test.frames[:, 0], bodies()[7:11, 0] / 1000, rtol=1e-6)


def test_a_file_is_decompressed_once(tmp_path, monkeypatch):
    opened = []

    def load(file, *rest, load=np.load, **more):
        opened.append(str(getattr(file, "name", file)))
        return load(file, *rest, **more)

    monkeypatch.setattr(np, "load", load)
    data = stream(tmp_path)
    data.recordings()
    assert opened.count(str(data.path)) == 1


def test_the_other_kind_of_data_is_named(tmp_path):
    with pytest.raises(BenchError, match=r"npz:streams holds untrimmed recordings.*trimmed clips are needed here"):
        stream(tmp_path).load("subject=1")
    clips = stream(tmp_path, frame_label=None, label=np.array([0, 1, 0]))
    clips.load("subject=1,3")
    for dataset in (clips, Synthetic(tmp_path), NorthwesternUCLA(tmp_path)):
        with pytest.raises(BenchError, match=r"has no untrimmed recordings with a label per frame"):
            dataset.load_untrimmed("subject=1")
    with pytest.raises(BenchError, match=r"synthetic_untrimmed holds untrimmed recordings"):
        SyntheticUntrimmed(tmp_path).load("xsub")
    assert not (tmp_path / "synthetic_untrimmed").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frame_label": LABELS[:-1]}, "19 frame labels for 20 frames"),
        ({"frame_label": LABELS / 2}, "frame_label must be a list of whole numbers; it is float64"),
        ({"prepared": np.array(True)}, "prepared is for clips"),
        ({"fps": np.array(0)}, "fps must be one positive number"),
        ({"fps": np.array("15")}, "fps must be one positive number"),
        ({"frame_label": LABELS * 0 + 5}, r"none of 3 recordings is usable. streams.npz, recording 0"),
    ],
)
def test_wrong_files(tmp_path, changes, message):
    with pytest.raises(BenchError, match=message):
        stream(tmp_path, **changes).load_untrimmed("subject=1")


def test_bad_recordings_are_named(tmp_path):
    xyz, labels = content()["xyz"].copy(), content()["frame_label"].copy()
    xyz[12, 4, 1] = np.nan
    labels[8] = -2
    data = stream(tmp_path, xyz=xyz, frame_label=labels)
    report = data.prepare(None, lambda line: None)
    assert [str(found) for found in report.skipped] == [
        "streams.npz, recording 1 (recording000001): frame 1: label -2 is not in -1 (background)..1",
        "streams.npz, recording 2 (recording000002): frame 1, joint ShoulderLeft: nan is no coordinate (1 joints in all)",
    ]
    with pytest.raises(BenchError, match=r"frame 1: label -2.*Mend"):
        data.prepare(None, lambda line: None, "stop")


def test_utkinect_streams(shared, tmp_path):
    path = shared / "data" / "utkinect_streams.npz"
    if not path.is_file():
        pytest.skip("utkinect_streams.npz is absent")
    data = Npz(tmp_path, str(path))
    split = data.load_untrimmed("subject=1-5")
    assert (len(split.train), len(split.test), len(split.classes), split.layout) == (10, 10, 11, KINECT20)
    raw = dict(np.load(path))
    both = np.concatenate([split.train.labels, split.test.labels])
    assert (both > 0).mean() == pytest.approx((raw["frame_label"] >= 0).mean())
    assert (both > 0).mean() == pytest.approx(0.38, abs=0.005)
    first = raw["name"].tolist().index(split.train.ids[0])
    here = slice(raw["offsets"][first], raw["offsets"][first + 1])
    np.testing.assert_array_equal(split.train.labels[: split.train.offsets[1]], raw["frame_label"][here] + 1)
    np.testing.assert_array_equal(split.train.frames[: split.train.offsets[1], 0], raw["xyz"][here])


# The synthetic set


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory):
    return SyntheticUntrimmed(tmp_path_factory.mktemp("data"))


def test_synthetic_is_made_on_first_use_and_cut_as_the_clips_are(synthetic):
    report = synthetic.check()
    assert report.ok
    assert not report.warnings
    assert report.shape[1:] == (2, 25, 3)
    assert 300 <= report.lengths[0] < report.lengths[2] <= 900
    assert 50_000 <= report.shape[0] <= 60_000
    assert all(min(count.train + count.test) > 100 for count in report.splits.values())
    xsub, xview = synthetic.load_untrimmed("xsub"), synthetic.load_untrimmed("xview")
    assert (len(xsub.train), len(xsub.test), len(xview.train), len(xview.test)) == (42, 30, 48, 24)
    assert set(xsub.train.groups["subject"]) == {1, 3, 4, 6, 8, 9, 11}
    assert set(xview.test.groups["camera"]) == {1}
    assert xsub.classes == ("background", *(action.name for action in ACTIONS))
    assert (xsub.fps, xsub.layout) == (30.0, NTU25)


def test_a_part_of_the_synthetic_set_is_the_same_as_in_the_whole(synthetic):
    split = synthetic.load_untrimmed("xsub")
    for recording in generate([3]):
        row = split.train.ids.index(recording.sample["id"])
        here = slice(*split.train.offsets[row : row + 2])
        np.testing.assert_array_equal(split.train.frames[here], recording.frames)
        labels = np.zeros(len(recording.frames), int)
        for span in recording.spans:
            labels[span.start : span.stop] = span.label + 1
        np.testing.assert_array_equal(split.train.labels[here], labels)


def test_sessions_hold_their_programme_and_partners_only_when_needed():
    for subject in (1, 2, 7):
        performed = []
        for number in range(1, SESSIONS + 1):
            session = perform_session(subject, number, subject + 1)
            labels = [span.label for span in session.spans]
            performed += labels
            assert labels == programme(subject, number)
            ends = [0, *(frame for span in session.spans for frame in (span.start, span.stop)), session.bodies.shape[1]]
            assert ends == sorted(ends)
            present = session.bodies[1].any(axis=(1, 2))
            for span in session.spans:
                two = ACTIONS[span.label].partner is not None
                assert present[span.start : span.stop].all() if two else not present[span.start : span.stop].any()
            assert session.bodies[0].any(axis=(1, 2)).all()
            assert session.bodies[0, ..., 1].min() >= -1e-9  # nobody sinks into the floor
            assert np.abs(np.diff(session.bodies[0], axis=0)).max() < 0.4  # nor jumps, in metres a frame
        assert len(performed) == len(set(performed))
        names = [ACTIONS[label].name for label in performed]
        if "sit down" in names:
            assert names[names.index("sit down") + 1] == "stand up"


def test_hands_meet_when_the_action_says_so():
    found = 0
    for subject in range(1, 13):
        for number in range(1, SESSIONS + 1):
            session = perform_session(subject, number, subject % 12 + 1)
            hands = [NTU25.joints.index(name) for name in ("left_hand", "right_hand")]
            for span in session.spans:
                if ACTIONS[span.label].name in ("shake hands", "high five"):
                    one, two = (session.bodies[person, span.start : span.stop][:, hands] for person in (0, 1))
                    apart = np.linalg.norm((one[:, :, None] - two[:, None])[..., [0, 2]], axis=-1)
                    assert apart.min() < 0.02
                    found += 1
    assert found > 10


def test_command_line(tmp_path):
    path = tmp_path / "streams.npz"
    np.savez(path, **content())
    result = CliRunner().invoke(main, ["data", "check", f"npz:{path}#subject=1,3", "--data", str(tmp_path / "data")])
    assert result.exit_code == 0, result.output
    assert "npz:streams: 3 recordings, 20 frames at 15 per second of 1 person" in " ".join(result.output.split())
    assert "background (50.0 % of the frames)" in " ".join(result.output.split())
    listed = CliRunner().invoke(main, ["list"]).output
    assert "synthetic-untrimmed" in listed
