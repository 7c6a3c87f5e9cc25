"""NTU RGB+D from raw files: splits, preparation in parts, what is missing, faults; files are made by the writer."""

from __future__ import annotations

import json
import re
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datasets import ntu, ntu60, ntu120
from datasets.layout import NTU25
from datasets.ntu60 import NTU60
from datasets.ntu120 import NTU120
from datasets.ntu_files import absent_from, numbers, read_missing, table
from datasets.ntu_write import emit, skeleton_text
from datasets.prepare import Preparation, prepare_clips
from datasets.synthetic import partner_of
from datasets.synthetic_scene import observe, perform
from engine.config import BenchError
from run_bench import main

LIST = "NTU_RGBD_samples_with_missing_skeletons.txt"


def quiet(line):
    """Take a line of progress and drop it."""


def name_of(setup=1, camera=1, subject=1, replication=1, action=1):
    return f"S{setup:03}C{camera:03}P{subject:03}R{replication:03}A{action:03}"


def text(seed=0, frames=3):
    poses = np.random.default_rng(seed).normal([0, 0, 3], 0.3, (frames, 25, 3))
    return skeleton_text([[(2**56 + 1, pose)] for pose in poses])


def write(folder, names, start=0):
    folder.mkdir(exist_ok=True, parents=True)
    for seed, name in enumerate(names, start):
        (folder / f"{name}.skeleton").write_bytes(text(seed))
    return folder


@pytest.fixture
def source(tmp_path):
    """Two performers (1 trains, 3 tests), three cameras, two actions: 12 files."""
    names = [name_of(1, c, p, 1, a) for p in (1, 3) for c in (1, 2, 3) for a in (1, 60)]
    return write(tmp_path / "raw", names)


def prepare(tmp_path, source, argument="", on_bad="skip", cls=NTU60, processes=1):
    dataset = cls(tmp_path / "data", argument, frames=8)
    dataset.processes = processes
    return dataset, dataset.prepare(source, quiet, on_bad)


def store_bytes(dataset):
    return {path.name: path.read_bytes() for path in dataset.folder.iterdir()}


def test_emitted_clips_come_back_as_they_were_seen(tmp_path):
    assert emit(tmp_path / "raw", 40) == 40
    dataset, report = prepare(tmp_path, tmp_path / "raw")
    assert (report.ok, report.shape, len(report.skipped)) == (True, (40, 2, 8, 25, 3), 0)
    prepared = dataset.prepared()
    for subject, performer in ((1, 1), (2, 3)):  # wave is action 23; subject 1 trains, 2 tests, in NTU as well
        scene = perform(0, subject, 1, partner_of(subject))
        for camera in (1, 2, 3):
            row = prepared.samples.index[prepared.samples["id"] == name_of(1 + subject, camera, performer, 1, 23)]
            seen = observe(scene, camera - 1)[0]
            raw = np.stack([seen, np.zeros_like(seen)], axis=1).astype(np.float32)
            expected, used = prepare_clips(raw, np.array([0, len(raw)]), NTU25, Preparation(frames=8))
            np.testing.assert_allclose(prepared.clips[row], expected, atol=1e-6)
            assert prepared.samples["length"][row].tolist() == used.tolist()
    xsub, xview = dataset.load("xsub"), dataset.load("xview")
    assert set(xsub.train.groups["subject"]) == {1, 2, 4, 5, 8, 9, 13}
    assert set(xsub.test.groups["subject"]) == {3, 6, 7, 10, 11}
    assert set(xview.test.groups["camera"]) == {1}
    assert xsub.classes[22] == "hand waving"
    with pytest.raises(BenchError, match="not empty"):
        emit(tmp_path / "raw", 1)


def test_golden_clip_through_the_text(tmp_path):
    """aimclr.md 1.5: the released cut, from a file of 103 frames in which the second body enters in frame 40."""
    c, t, v = np.meshgrid(np.arange(3), np.arange(103), np.arange(25), indexing="ij")
    one = 0.3 * np.sin(0.05 * t + 0.7 * c + 0.31 * v) + 0.02 * v + 2.5 * (c == 2)
    two = 0.25 * np.cos(0.04 * t + 0.5 * c - 0.23 * v) + 0.015 * v + 3.0 * (c == 2)
    bodies = [[(1, one[:, f].T), (2, two[:, f].T)][: 2 if f >= 40 else 1] for f in range(103)]
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / f"{name_of()}.skeleton").write_bytes(skeleton_text(bodies))
    dataset = NTU60(tmp_path / "data", "released")
    ntu.prepare(dataset, ntu60.RELEASE, tmp_path / "raw", quiet, "stop")
    clip = dataset.prepared().clips[0]
    assert clip.sum() == pytest.approx(-280.390070, abs=1e-3)
    assert np.abs(clip).sum() == pytest.approx(1616.043544, abs=1e-3)
    np.testing.assert_allclose(clip[0, 0, 0], (-0.353463, -0.380684, 0.414812), atol=2e-6)
    np.testing.assert_allclose(clip[1, 49, 8], (-0.725874, -0.657679, -0.443903), atol=2e-6)


def test_body_selection_is_a_setting_and_in_the_manifest(tmp_path, source):
    pose = np.random.default_rng(0).normal(0, 0.2, (25, 3)) + np.linspace([0, -0.9, 3], [0, 0.9, 3], 25)
    frames = [[(2, pose + 1), (1, pose + 0.1 * t)] for t in range(20)]
    (source / f"{name_of(action=2)}.skeleton").write_bytes(skeleton_text(frames))
    stores = {word: prepare(tmp_path, source, word)[0].prepared() for word in ("", "first-two", "tracked")}
    assert [store.manifest["rules"]["bodies"] for store in stores.values()] == ["first-two", "first-two", "tracked"]
    listed, tracked = (stores[word].clips[1] for word in ("", "tracked"))
    np.testing.assert_allclose(tracked, listed[::-1], atol=1e-6)
    with pytest.raises(BenchError, match=r"no such body selection or preparation 'track'.* Did you mean 'tracked'"):
        prepare(tmp_path, source, "track")


def test_the_number_of_processes_and_an_interruption_change_no_byte(tmp_path, source, monkeypatch):
    monkeypatch.setattr(ntu, "_PART", 4)
    (source / f"{name_of(action=7)}.skeleton").write_bytes(b"2\n0\n0\n")
    (source / f"{name_of(action=8)}.skeleton").write_bytes(text()[:-100])
    one, _ = prepare(tmp_path / "one", source)
    two, _ = prepare(tmp_path / "two", source, processes=2)
    assert store_bytes(one) == store_bytes(two)

    def until_the_third(bodies, rules, files, read=ntu._read_part):
        if len(list(work.glob("*.npz"))) == 2:
            raise KeyboardInterrupt
        return read(bodies, rules, files)

    three = NTU60(tmp_path / "three" / "data", frames=8)
    work = three.folder.with_name(f".{three.folder.name}.work")
    with monkeypatch.context() as patch:
        patch.setattr(ntu, "_read_part", until_the_third)
        with pytest.raises(KeyboardInterrupt):
            prepare(tmp_path / "three", source)
    with pytest.raises(BenchError, match="is not prepared"):
        three.load("xsub")
    parts = sorted(work.glob("*.npz"))
    assert len(parts) == 2
    parts[1].write_bytes(parts[1].read_bytes()[:-50])  # a part that a crash cut short is made again
    told = []
    three.prepare(source, told.append)
    assert "continuing: 1 of 4 parts are there" in told
    assert store_bytes(three) == store_bytes(one)
    assert not work.exists()


def test_folder_tree_and_zip_give_the_same_bytes(tmp_path, source):
    archive = tmp_path / "x.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(source.iterdir(), reverse=True):
            file.write(path, f"nturgb+d_skeletons/{path.name}")
        file.writestr("__MACOSX/._S001C001P001R001A001.skeleton", b"\0")
    stores = [prepare(tmp_path / kind, path)[0].prepared() for kind, path in (("a", source), ("b", archive))]
    (tmp_path / "zips").mkdir()
    archive.rename(tmp_path / "zips" / "x.zip")
    stores.append(prepare(tmp_path / "c", tmp_path / "zips")[0].prepared())
    assert len({store.digest for store in stores}) == 1
    assert len({store.manifest["source"]["sha256"] for store in stores}) == 1


def test_empty_files_are_missing_not_bad(tmp_path, source):
    (source / f"{name_of(action=2)}.skeleton").write_bytes(b"2\n0\n0\n")
    (source / f"{name_of(action=3)}.skeleton").write_bytes(b"0\n")
    _, report = prepare(tmp_path, source, on_bad="stop")
    assert [str(found) for found in report.missing] == [
        f"{name_of(action=2)}.skeleton: no body in any frame (2 frames)",
        f"{name_of(action=3)}.skeleton: no body in any frame (0 frames)",
    ]
    assert report.shape[0] == 12


def test_the_users_list_decides_what_is_missing(tmp_path, source):
    heading = "The following samples have missing skeletons\n\nnames:\n"
    (source / LIST).write_text(f"{heading}{name_of(action=1)}\n{name_of(action=5)}\n")
    (source / f"{name_of(action=2)}.skeleton").write_bytes(b"0\n")
    dataset, report = prepare(tmp_path, source)
    assert [found.place for found in report.missing] == [f"{name_of(action=1)}.skeleton"]
    assert [str(found) for found in report.skipped] == [
        f"{name_of(action=2)}.skeleton: no body in any frame (0 frames), though it is not on the list of missing skeletons"
    ]
    assert name_of(action=1) not in set(dataset.prepared().samples["id"])
    (source / LIST).write_text(f"{name_of()}\nS1C1\n")
    with pytest.raises(BenchError, match=r"skeletons.txt, line 2: expected a name such as .*, found 'S1C1'"):
        read_missing(source / LIST)
    (source / LIST).write_text("nothing\n")
    with pytest.raises(BenchError, match="expected a list of names"):
        prepare(tmp_path, source)


def test_a_deviation_from_the_known_counts_is_explained_file_by_file(tmp_path, monkeypatch):
    """A complete set of two recordings (performer 1 trains, 3 tests), and what can be wrong with it."""
    monkeypatch.setattr(
        ntu60, "RELEASE", replace(ntu60.RELEASE, recorded={"xsub": (180, 180), "xview": (240, 120)}, listed=1)
    )
    names = [name_of(1, c, p, 1, a) for p in (1, 3) for c in (1, 2, 3) for a in range(1, 61)]
    source = write(tmp_path / "raw", names)
    (source / f"{names[0]}.skeleton").unlink()
    (source / f"{names[1]}.skeleton").write_bytes(b"0\n")
    (source / f"{names[200]}.skeleton").write_bytes(text()[:200])
    _, report = prepare(tmp_path, source)
    assert {found.place for found in report.missing} == {names[0], f"{names[1]}.skeleton"}
    assert [found.place for found in report.skipped] == [f"{names[200]}.skeleton"]
    lines = {found.place: found.reason for found in report.remarks}
    assert lines["xsub"] == (
        "180 + 180 training and test files recorded, less 1 + 0 (no body in any frame), 0 + 1 (bad, see skipped), 1 + 0 (not "
        "in the source, though other files of its recording are): 178 + 179 clips"
    )
    assert lines["xview"].endswith("): 240 + 117 clips")
    assert any("no list of samples with missing skeletons" in place for place in lines)
    monkeypatch.setattr(ntu60, "RELEASE", replace(ntu60.RELEASE, recorded={"xsub": (190, 190), "xview": (240, 140)}))
    _, report = prepare(tmp_path / "larger", source)
    lines = {found.place: found.reason for found in report.remarks}
    assert "10 + 10 (their recordings are not in the source at all): 178 + 179 clips" in lines["xsub"]


def test_a_part_of_the_dataset_says_so(tmp_path, source):
    _, report = prepare(tmp_path, source)
    assert any("a part of NTU RGB+D, 12 of 56880 files" in str(found) for found in report.remarks)
    assert any("the complete set has 40091 and 16487" in warning for warning in report.warnings)
    assert report.ok


def test_ntu120_takes_both_downloads(tmp_path):
    names = [
        name_of(setup, 1, p, 1, a)
        for setup, a in ((1, 60), (18, 61), (32, 120))
        for p in (1, 103, 106)
        if p < 41 or a > 60
    ]
    source = write(tmp_path / "raw", names)
    dataset, report = prepare(tmp_path, source, cls=NTU120)
    assert report.shape[0] == 7
    xsub, xset = dataset.load("xsub"), dataset.load("xset")
    assert set(xsub.train.groups["subject"]) == {1, 103}
    assert set(xsub.test.groups["subject"]) == {106}
    assert set(xset.train.groups["setup"]) == {18, 32}
    assert set(xset.train.labels.tolist()) == {60, 119}
    _, report = prepare(tmp_path, source)
    assert report.shape[0] == 1
    assert any("6 files of setups above 17" in str(found) for found in report.remarks)


def test_official_numbers_agree_with_each_other(shared):
    """Recorded files less the listed ones are the published counts; the lists of performers are the spec's."""
    spec = (shared / "spec" / "aimclr.md").read_text()
    rows = re.findall(r"^(ntu\d+)_(\w+),(\d+),(\d+),(\d+),(\d+),(\d+),(\d+),(\d+)$", spec, re.MULTILINE)
    assert len(rows) == 4
    for dataset, split, *values in rows:
        train, test, no_train, no_test, left_train, left_test, classes = map(int, values)
        cls, release = {"ntu60": (NTU60, ntu60.RELEASE), "ntu120": (NTU120, ntu120.RELEASE)}[dataset]
        assert release.recorded[split] == (train, test)
        assert release.files == train + test
        assert release.listed == no_train + no_test
        assert cls.expected[split] == (left_train, left_test) == (train - no_train, test - no_test)
        assert len(release.classes) == len(set(release.classes)) == classes
    first = re.search(r"training performers \(20\): ([\d ]+)\.", spec)
    more = re.search(r"the 20 above plus ([\d ]+)\.", spec)
    assert first
    assert more
    assert tuple(map(int, first[1].split())) == ntu60.SUBJECTS
    assert tuple(map(int, (first[1] + " " + more[1]).split())) == ntu120.SUBJECTS
    assert len(ntu120.SUBJECTS) == 53


def test_absent_files_are_those_of_recordings_that_are_there():
    present = [name_of(20, c, 50, 2, a) for c in (1, 2, 3) for a in range(61, 121)]
    assert absent_from(present[1:]) == [present[0]]
    assert absent_from(present) == []
    assert len(absent_from(present[:1])) == 179


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"setup": 33}, "setup 33 of the name; expected 1 to 32"),
        ({"camera": 4}, "camera 4 .* expected 1 to 3"),
        ({"subject": 41}, "performer 41 .* expected 1 to 40 in setup 1"),
        ({"replication": 3}, "replication 3 .* expected 1 to 2"),
        ({"action": 61}, "action 61 .* expected 1 to 60 in setup 1"),
        ({"setup": 18}, "action 1 .* expected 61 to 120 in setup 18"),
    ],
)
def test_names_that_no_recording_has(tmp_path, source, changes, message):
    (source / f"{name_of(**changes)}.skeleton").write_bytes(text())
    dataset, report = prepare(tmp_path, source, cls=NTU120)
    assert re.search(message, str(report.skipped[0]))
    with pytest.raises(BenchError, match=f"{message}.* Mend the file, or skip bad clips"):
        dataset.prepare(source, quiet, "stop")


def test_wrong_folders(tmp_path):
    folder = tmp_path / "raw"
    with pytest.raises(BenchError, match=r"ntu60 needs --source PATH"):
        prepare(tmp_path, None)
    with pytest.raises(BenchError, match="does not exist; give --source"):
        prepare(tmp_path, folder)
    folder.mkdir()
    with pytest.raises(
        BenchError, match=r"holds no file SsssCcccPpppRrrrAaaa.skeleton of NTU RGB\+D, but no files at all"
    ):
        prepare(tmp_path, folder)
    (folder / "a01_s01_e00_v01.json").write_text("{}")
    with pytest.raises(BenchError, match=r"but 1 other files, e.g. a01_s01_e00_v01.json"):
        prepare(tmp_path, folder)
    (folder / "F001V001C001L001.skeleton").write_bytes(text())
    with pytest.raises(BenchError, match=r"skeleton files whose names are of another dataset, e.g. F001V001C001L001"):
        prepare(tmp_path, folder)
    write(folder, [name_of(18, action=61)])
    with pytest.raises(BenchError, match=r"only setups 18 to 32 \(1 files\): .* see ntu120"):
        prepare(tmp_path, folder)
    (tmp_path / "x.zip").write_bytes(b"PK no zip")
    with pytest.raises(BenchError, match=r"neither a folder nor a readable zip.*form:PATH"):
        prepare(tmp_path, tmp_path / "x.zip")
    (folder / f"{name_of()}.skeleton").write_bytes(b"")
    with pytest.raises(BenchError, match=r"none of 1 files is usable. F001V001"):
        prepare(tmp_path, folder)


def test_bad_files_and_repeated_names_are_skipped_and_named(tmp_path, source):
    (source / f"{name_of(action=60)}.skeleton").write_bytes(text().replace(b"\n25\r", b"\n20\r"))
    write(source / "again", [name_of()])
    _, report = prepare(tmp_path, source)
    assert sorted(map(str, report.skipped)) == [
        "S001C001P001R001A001.skeleton: a file of this name was found in another folder of the source already",
        "S001C001P001R001A060.skeleton: line 4: expected 25 joints, found 20",
    ]


def test_command_line(tmp_path, source):
    runner = CliRunner()
    (source / f"{name_of(action=4)}.skeleton").write_bytes(text()[:-40])
    command = ["data", "prepare", "ntu60", "--source", str(source), "--data", str(tmp_path / "data"), "--frames", "8"]
    for options, code, message in (
        ([], 1, "1 bad clips were left out, see above; --on-bad-file skip allows that"),
        (["--on-bad-file", "skip"], 0, "ok, 1 clips skipped"),
        (["--on-bad", "skip", "--processes", "1"], 0, "ok, 1 clips skipped"),
        (["--on-bad-file", "stop"], 2, r"A004.skeleton: line \d+: expected 12 numbers of joint right_thumb"),
    ):
        result = runner.invoke(main, command + options)
        assert (result.exit_code, bool(re.search(message, " ".join(result.output.split())))) == (code, True), (
            result.output
        )
    result = runner.invoke(main, ["data", "emit-ntu", str(tmp_path / "new"), "--files", "3", "--as", "ntu120"])
    assert (result.exit_code, len(list((tmp_path / "new").iterdir()))) == (0, 3), result.output


def test_sample_table():
    row = table([name_of(2, 3, 4, 1, 6)]).iloc[0]
    assert row.to_dict() == {
        "id": "S002C003P004R001A006", "label": 5, "setup": 2, "camera": 3, "subject": 4, "replication": 1
    }  # fmt: skip
    assert numbers("S032C001P106R002A120") == (32, 1, 106, 2, 120)


names = st.one_of(
    st.builds(
        name_of, st.integers(0, 40), st.integers(0, 4), st.integers(0, 110), st.integers(0, 3), st.integers(0, 130)
    ),
    st.text("SCPRA0123.", max_size=20),
)
contents = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([text(1), text(2), text(3)[:500], b"0\n", b"1\n0\n", text(4).replace(b" ", b","), b"9" * 30]),
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=st.dictionaries(names, contents, max_size=4), listed=st.none() | st.text(max_size=30))
def test_no_folder_crashes_the_preparation(tmp_path_factory, files, listed):
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "raw").mkdir()
    for name, content in files.items():
        (folder / "raw" / f"{name}.skeleton").write_bytes(content)
    if listed is not None:
        (folder / "raw" / LIST).write_text(listed)
    try:
        dataset, report = prepare(folder, folder / "raw")
    except BenchError:
        assert not NTU60(folder / "data", frames=8).folder.exists()
        return
    manifest = json.loads((dataset.folder / "manifest.json").read_text())
    assert report.shape[0] + len(report.skipped) + len(report.missing) >= 1
    assert manifest["source"]["files"] >= report.shape[0] >= 1


def test_a_broken_link_is_a_bad_file(tmp_path, source):
    (source / "S001C001P001R001A002.skeleton").symlink_to(tmp_path / "nowhere.skeleton")
    _, report = prepare(tmp_path, source)
    (found,) = [finding for finding in report.skipped if "A002" in finding.place]
    assert "cannot be read" in found.reason
