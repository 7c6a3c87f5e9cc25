"""PKU-MMD from raw files: end to end from the writer, frame rules, overlaps, splits, folders, faults."""

from __future__ import annotations

import re
import shutil
import zipfile
from dataclasses import replace
from itertools import islice, permutations

import numpy as np
import pytest
from click.testing import CliRunner

from datasets import pku
from datasets.layout import NTU25
from datasets.pku_files import place_of
from datasets.pku_mmd1 import PKUMMD1
from datasets.pku_mmd2 import PKUMMD2
from datasets.pku_write import CLASS_OF, FOLDERS, emit, recordings, skeleton_text, split_text
from datasets.prepare import Preparation, prepare_clips
from engine.config import BenchError
from run_bench import main

CLASSES = {1: PKUMMD1, 2: PKUMMD2}
LABELS = "7,3,6,2\n51,9,12,1\n"


def quiet(line):
    """Take a line of progress and drop it."""


def bodies(frames=20, seed=0):
    values = np.random.default_rng(seed).normal([0, 0, 3], 0.3, (frames, 2, 25, 3)).round(4)
    values[:, 1] = 0
    return values


def write(folder, stems, labels=LABELS, frames=20, part=1):
    """Recordings of random bodies, all with the same labels, in the folders of the official release."""
    skeletons, texts, _ = (folder / name for name in FOLDERS[part])
    for place in (skeletons, texts):
        place.mkdir(exist_ok=True, parents=True)
    for seed, stem in enumerate(stems):
        (skeletons / f"{stem}.txt").write_bytes(skeleton_text(bodies(frames, seed)))
        (texts / f"{stem}.txt").write_text(labels)
    return folder


@pytest.fixture
def source(tmp_path):
    """Two videos (0002 trains, 0291 tests) in three views."""
    return write(tmp_path / "raw", [f"{video}-{view}" for video in ("0002", "0291") for view in "LMR"])


def prepare(tmp_path, source, argument="", on_bad="skip", part=1, processes=1):
    dataset = CLASSES[part](tmp_path / "data", argument, frames=8)
    dataset.processes = processes
    return dataset, dataset.prepare(source, quiet, on_bad)


def stores(dataset):
    folders = (dataset.folder, dataset.untrimmed_folder)
    return {f"{folder.name}/{path.name}": path.read_bytes() for folder in folders for path in folder.iterdir()}


@pytest.mark.parametrize("part", [1, 2])
def test_emitted_recordings_come_back_trimmed_and_untrimmed(tmp_path, part):
    assert emit(tmp_path / "raw", part, 12) == 12
    dataset, report = prepare(tmp_path, tmp_path / "raw", part=part)
    assert report.ok
    assert report.more.ok
    assert (report.skipped, report.more.skipped) == ((), ())
    clips, stored = dataset.prepared(), dataset.recordings()
    truth = dict(islice(recordings(part), 12))
    assert stored.samples["id"].tolist() == sorted(truth)
    names = []
    for row, stem in enumerate(stored.samples["id"]):
        recording = truth[stem]
        here = slice(stored.offsets[row], stored.offsets[row + 1])
        np.testing.assert_array_equal(stored.frames[here], recording.frames)
        labels = np.array([0, *CLASS_OF])[recording.labels]
        np.testing.assert_array_equal(stored.labels[here], labels)
        place = place_of(stem, part)
        assert place["camera"] == recording.sample["camera"]
        cut = clips.samples[clips.samples["recording"] == stem]
        assert cut["label"].tolist() == [CLASS_OF[span.label] - 1 for span in recording.spans]
        assert cut["episode"].tolist() == list(range(1, len(recording.spans) + 1))
        raw = [recording.frames[span.start : span.stop] for span in recording.spans]
        offsets = np.cumsum([0, *map(len, raw)])
        expected, used = prepare_clips(np.concatenate(raw), offsets, NTU25, Preparation(frames=8))
        np.testing.assert_array_equal(clips.clips[cut.index], expected)
        assert cut["length"].tolist() == used.tolist()
        names += cut["id"].tolist()
    assert len(set(names)) == len(names) == len(clips.samples)
    subject = {stem: recording.sample["subject"] for stem, recording in truth.items()}
    for split in ("xsub", "xview"):
        trimmed, untrimmed = dataset.load(split), dataset.load_untrimmed(split)
        assert untrimmed.classes == ("background", *trimmed.classes)
        assert len(trimmed.classes) == 51
        assert untrimmed.fps == 30
        for name in ("train", "test"):
            ids = set(getattr(untrimmed, name).ids)
            if split == "xsub":  # subject 1 of the synthetic set trains, 2 tests
                assert ids == {stem for stem in truth if subject[stem] == (1 if name == "train" else 2)}
            else:
                assert ids == {stem for stem in truth if stem.endswith("L") == (name == "test")}
    files = {1: ("cross-subject.txt", "cross-view.txt"), 2: ("cross_subject_v2.txt", "cross_view_v2.txt")}[part]
    rules = {"rows": "one-based", "splits": {"xsub": files[0], "xview": files[1]}}
    assert stored.manifest["rules"] == rules
    with pytest.raises(BenchError, match="not empty"):
        emit(tmp_path / "raw", part, 1)


def test_names_of_clips_are_those_of_the_field(tmp_path):
    dataset, _ = prepare(tmp_path, write(tmp_path / "one", ["0002-M", "0291-L"]))
    assert dataset.prepared().samples["id"].tolist() == [
        "F002V002C007L001", "F002V002C051L002", "F291V001C007L001", "F291V001C051L002"
    ]  # fmt: skip
    dataset, _ = prepare(tmp_path, write(tmp_path / "two", ["A03N02-R", "A03N11-R"], part=2), part=2)
    samples = dataset.prepared().samples
    assert samples["id"].tolist()[:2] == ["A003N002V003C007L001", "A003N002V003C051L002"]
    assert samples["subject"].tolist() == [2, 2, 11, 11]


@pytest.mark.parametrize(("rule", "rows"), [("", [(2, 6), (8, 12)]), ("zero-based", [(3, 6), (9, 12)])])
def test_frame_rules(tmp_path, source, rule, rows):
    dataset, _ = prepare(tmp_path, source, rule)
    stored, clips = dataset.recordings(), dataset.prepared()
    labels = np.zeros(20, int)
    for (start, stop), label in zip(rows, (7, 51), strict=True):
        labels[start:stop] = label
    assert stored.labels[:20].tolist() == labels.tolist()
    raw = [bodies()[start:stop].astype(np.float32) for start, stop in rows]
    expected, _ = prepare_clips(np.concatenate(raw), np.cumsum([0, *map(len, raw)]), NTU25, Preparation(frames=8))
    np.testing.assert_array_equal(clips.clips[:2], expected)
    assert {name: clips.manifest["rules"][name] for name in ("rows", "frames")} == {
        "rows": rule or "one-based",
        "frames": 8,
    }
    with pytest.raises(BenchError, match=r"no such frame rule or preparation 'zero'.* Did you mean 'zero-based'"):
        prepare(tmp_path, source, "zero")


@pytest.mark.parametrize("order", [*permutations(range(3))])
def test_the_later_action_wins(tmp_path, order):
    rows = ("7,3,10,2\n", "9,8,12,2\n", "11,5,6,2\n")
    source = write(tmp_path / "raw", ["0002-L", "0291-L"], "".join(rows[i] for i in order))
    dataset, _ = prepare(tmp_path, source)
    expected = [0, 0, 7, 7, 11, 11, 7, 9, 9, 9, 9, 9, 0, 0]
    assert dataset.recordings().labels[:14].tolist() == expected
    assert dataset.prepared().samples["length"].tolist()[:3] == [(8, 5, 2)[i] for i in order]  # clips are cut whole


def test_released_cut(tmp_path):
    source = write(tmp_path / "raw", ["0002-L", "0291-L"], "7,3,313,2\n8,320,340,2\n", frames=340)
    dataset, _ = prepare(tmp_path, source, "released")
    lengths = dataset.prepared().samples["length"].tolist()
    assert lengths[:2] == [300, 21]
    central = bodies(340)[2 + 5 : 2 + 5 + 300].astype(np.float32)  # 311 frames: floor(11 / 2) in
    expected, _ = prepare_clips(central, np.array([0, 300]), NTU25, Preparation(frames=8, length="released"))
    np.testing.assert_array_equal(dataset.prepared().clips[:1], expected)
    assert (dataset.recordings().labels[:340] > 0).sum() == 311 + 21
    whole, _ = prepare(tmp_path, source)
    assert whole.prepared().samples["length"].tolist()[:2] == [311, 21]


def test_actions_beyond_the_end_are_cut_and_noted(tmp_path):
    source = write(tmp_path / "raw", ["0002-L", "0291-L"], "7,0,5,2\n9,18,25,2\n")
    dataset, report = prepare(tmp_path, source)
    assert dataset.prepared().samples["length"].tolist()[:2] == [5, 3]
    assert [str(note) for note in report.remarks if note.place == "0002-L.txt"] == [
        "0002-L.txt: label line 1: frames 0 to 5 cut to those that are there, 1 to 20",
        "0002-L.txt: label line 2: frames 18 to 25 cut to those that are there, 1 to 20",
    ]


def test_an_action_of_no_frame_under_the_rule_is_noted_and_the_others_stay(tmp_path):
    source = write(tmp_path / "raw", ["0002-L", "0291-L"], "7,3,3,2\n51,9,12,1\n8,20,20,2\n")
    dataset, report = prepare(tmp_path, source, "zero-based", on_bad="stop")
    assert dataset.prepared().samples["length"].tolist() == [3, 3]
    assert [str(note) for note in report.remarks if note.place == "0002-L.txt"] == [
        "0002-L.txt: label line 1: frames 3 to 3, no frame under this rule",
        "0002-L.txt: label line 3: frames 20 to 20, no frame under this rule",
    ]
    dataset, _ = prepare(tmp_path, source)
    assert dataset.prepared().samples["length"].tolist() == [1, 4, 1] * 2
    source = write(tmp_path / "beyond", ["0002-L", "0291-L"], "51,9,12,1\n7,21,21,2\n")
    with pytest.raises(BenchError, match="label line 2: frames 21 to 21, expected some of the 20 frames"):
        prepare(tmp_path / "beyond", source, "zero-based", on_bad="stop")


def test_an_action_without_a_body_is_missing_not_bad(tmp_path):
    source = write(tmp_path / "raw", ["0002-L", "0291-L"])
    frames = bodies()
    frames[2:6] = 0
    (source / FOLDERS[1][0] / "0002-L.txt").write_bytes(skeleton_text(frames))
    dataset, report = prepare(tmp_path, source, on_bad="stop")
    assert [str(found) for found in report.more.missing] == [
        "0002-L: label line 1: no body in any frame of this action"
    ]
    assert dataset.prepared().samples["id"].tolist()[0] == "F002V001C051L002"
    assert dataset.recordings().labels[2:6].tolist() == [7] * 4


def test_the_number_of_processes_and_an_interruption_change_no_byte(tmp_path, source, monkeypatch):
    monkeypatch.setattr(pku, "_PART", 2)
    (source / FOLDERS[1][0] / "0002-M.txt").write_bytes(b"1 2 3\n")
    one, _ = prepare(tmp_path / "one", source)
    two, _ = prepare(tmp_path / "two", source, processes=2)
    assert stores(one) == stores(two)

    def until_the_third(earlier, pairs, read=pku._read_part):
        if len(list(work.glob("*.npz"))) == 2:
            raise KeyboardInterrupt
        return read(earlier, pairs)

    three = PKUMMD1(tmp_path / "three" / "data", frames=8)
    work = three.untrimmed_folder.with_name(f".{three.untrimmed_folder.name}.work")
    with monkeypatch.context() as patch:
        patch.setattr(pku, "_read_part", until_the_third)
        with pytest.raises(KeyboardInterrupt):
            prepare(tmp_path / "three", source)
    for load in (three.load, three.load_untrimmed):
        with pytest.raises(BenchError, match="is not prepared"):
            load("xsub")
    told = []
    three.processes = 1
    three.prepare(source, told.append)
    assert "continuing: 2 of 3 parts are there" in told
    assert stores(three) == stores(one)
    assert not work.exists()


def test_folders_of_any_name_and_zips_give_the_same_data(tmp_path, source):
    first, _ = prepare(tmp_path / "a", source)
    (tmp_path / "b" / "raw").mkdir(parents=True)
    for name, new in zip(FOLDERS[1], ("x", "y"), strict=False):  # names that do not tell: lines of labels have commas
        shutil.copytree(source / name, tmp_path / "b" / "raw" / new)
    second, _ = prepare(tmp_path / "b", tmp_path / "b" / "raw")
    (tmp_path / "c").mkdir()
    for name in FOLDERS[1][:2]:
        with zipfile.ZipFile(tmp_path / "c" / f"{name}.zip", "w") as archive:
            for path in (source / name).iterdir():
                archive.write(path, path.name)
    third, _ = prepare(tmp_path / "c", tmp_path / "c")
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        for path in source.rglob("*.txt"):
            archive.write(path, path.relative_to(source).as_posix())
    fourth, _ = prepare(tmp_path / "d", tmp_path / "d.zip")
    for other in (second, third, fourth):
        assert other.recordings().digest == first.recordings().digest
        assert other.prepared().digest == first.prepared().digest


def test_official_split_files_are_read_and_differences_told(tmp_path, source):
    (source / "Split").mkdir()
    names = ["0002-L", "0002-M", "0002-R", "0291-L", "0291-M"]
    (source / "Split" / "cross-subject.txt").write_text(split_text(names[3:], names[:3]))
    dataset, report = prepare(tmp_path, source)
    assert set(dataset.load_untrimmed("xsub").train.ids) == {"0291-L", "0291-M"}
    assert set(dataset.load_untrimmed("xsub").test.ids) == {"0002-L", "0002-M", "0002-R", "0291-R"}
    assert dataset.recordings().manifest["rules"]["splits"] == {"xsub": "cross-subject.txt", "xview": "rule"}
    told = [str(found) for found in report.remarks]
    assert any("1 recordings are in neither list and test, as in the released code: 0291-R" in line for line in told)
    assert any("differs from the known rule of xsub in 5 recordings, the first: 0002-L" in line for line in told)


def test_of_two_split_files_the_one_of_this_part_counts(tmp_path, source):
    (source / "cross-subject.txt").write_text(split_text(["A01N01-L"], ["A01N02-L"]))
    (source / "cross-subject_v2.txt").write_text(
        split_text(["0291-L", "0291-M", "0291-R"], ["0002-L", "0002-M", "0002-R"])
    )
    dataset, _ = prepare(tmp_path, source)
    assert dataset.load("xsub").train.groups["video"].tolist() == [291] * 6


def spoil(source, which, stem, content):
    path = source / FOLDERS[1][which] / f"{stem}.txt"
    path.write_bytes(content) if content is not None else path.unlink()


GOOD = skeleton_text(bodies())


@pytest.mark.parametrize(
    ("which", "content", "message"),
    [
        (0, GOOD[:-300], r"0002-L.txt: line 20: expected 150 numbers .* \(the last line: was the file copied completely\?\)"),
        (0, b"\n".join(b" ".join(line.split()[:120]) for line in GOOD.splitlines()), "line 1: expected 150 .* found 120"),
        (0, GOOD.replace(GOOD.split()[3], b"NaN", 1), "line 1: .* coordinate x of joint spine_mid of body 1, found 'NaN'"),
        (0, GOOD.replace(b" ", b","), "line 1: expected 150 numbers separated by spaces .* found 1"),
        (0, b"", "the file is empty"),
        (0, skeleton_text(bodies() * 0), "all 20 frames are zero"),
        (0, skeleton_text(bodies() * 1e7), "is no coordinate"),
        (0, skeleton_text(bodies(8)), "label line 2: frames 9 to 12, expected some of the 8 frames of the skeleton file"),
        (0, None, "PKU_final/0002-L.txt: no skeleton file of this name"),
        (1, None, "PKU_Skeleton_Renew/0002-L.txt: no label file of this name"),
        (1, b"", "label line 1: expected class"),
        (1, b"7,3,6,2\n52,9,12,1\n", "label line 2: expected a class from 1 to 51, found 52"),
        (1, b"7;3;6;2\n", "label line 1: .* separated by commas, found '7;3;6;2'"),
    ],
)  # fmt: skip
def test_bad_files_are_named_and_skipped_or_stop(tmp_path, source, which, content, message):
    spoil(source, which, "0002-L", content)
    dataset, report = prepare(tmp_path, source)
    assert len(report.skipped) == 1
    assert re.search(message, str(report.skipped[0]))
    assert "0002-L" not in set(dataset.recordings().samples["id"])
    assert len(dataset.prepared().samples) == 10
    with pytest.raises(BenchError, match=f"{message}.* or skip bad files"):
        prepare(tmp_path / "stop", source, on_bad="stop")


def test_wrong_folders(tmp_path):
    with pytest.raises(BenchError, match=r"pku_mmd1 needs --source PATH"):
        prepare(tmp_path, None)
    folder = tmp_path / "raw"
    with pytest.raises(BenchError, match="does not exist; give --source"):
        prepare(tmp_path, folder)
    folder.mkdir()
    with pytest.raises(BenchError, match=r"holds no recording of PKU-MMD I \(a skeleton file .*but no files at all"):
        prepare(tmp_path, folder)
    (folder / "Skeleton.7z").write_bytes(b"7z")
    with pytest.raises(BenchError, match=r"but the archive Skeleton.7z, which must be unpacked first"):
        prepare(tmp_path, folder)
    (folder / "Skeleton.7z").unlink()
    (folder / "S001C001P001R001A001.skeleton").write_bytes(b"0\n")
    with pytest.raises(BenchError, match=r"but 1 other files, e.g. S001C001P001R001A001.skeleton"):
        prepare(tmp_path, folder)
    write(folder, ["A01N01-L"])
    with pytest.raises(BenchError, match=r"but 2 files of the other part, named as A01N01-L.txt: see pku_mmd2"):
        prepare(tmp_path, folder)
    write(folder, ["0999-L"])
    with pytest.raises(
        BenchError, match=r"2 files of no use, e.g. 0999-L.txt: PKU-MMD I has no recording of this name"
    ):
        prepare(tmp_path, folder)
    (tmp_path / "x.zip").write_bytes(b"PK no zip")
    with pytest.raises(BenchError, match="neither a folder nor a readable zip"):
        prepare(tmp_path, tmp_path / "x.zip")
    write(folder, ["0002-L"], labels="x")
    with pytest.raises(BenchError, match=r"none of 1 recordings is usable. 0999-L.txt"):
        prepare(tmp_path, folder)


def test_both_parts_in_one_folder(tmp_path, source):
    write(source, ["A01N01-L", "A01N02-L"])
    dataset, report = prepare(tmp_path, source)
    assert len(dataset.recordings().samples) == 6
    assert any("4 files of the other part of PKU-MMD left alone" in str(found) for found in report.remarks)
    dataset, _ = prepare(tmp_path, source, part=2)
    assert dataset.recordings().samples["id"].tolist() == ["A01N01-L", "A01N02-L"]


def test_a_nearly_complete_source_names_what_is_absent(tmp_path, monkeypatch):
    known = tuple(f"{video:04}-{view}" for video in range(288, 295) for view in "LMR")
    monkeypatch.setattr(PKUMMD1, "release", replace(PKUMMD1.release, recordings=known))
    source = write(tmp_path / "raw", known[:20])
    (source / FOLDERS[1][1] / f"{known[3]}.txt").write_text("x")
    _, report = prepare(tmp_path, source)
    assert [str(found) for found in report.missing] == [f"{known[20]}: not in the source"]
    assert [found.place for found in report.skipped] == [f"{known[3]}.txt"]
    assert any("the complete set has 944 and 132" in line for line in report.warnings)


def test_command_line(tmp_path, source):
    runner = CliRunner()
    spoil(source, 0, "0002-L", GOOD[:-300])
    command = [
        "data",
        "prepare",
        "pku-mmd-1",
        "--source",
        str(source),
        "--data",
        str(tmp_path / "data"),
        "--frames",
        "8",
    ]
    for options, code, message in (
        ([], 1, "1 bad recordings were left out, see above; --on-bad-file skip allows that"),
        (["--on-bad-file", "skip", "--processes", "1"], 0, "ok, 1 recordings skipped"),
        (["--on-bad-file", "stop"], 2, r"0002-L.txt: line 20: expected 150 numbers"),
    ):
        result = runner.invoke(main, command + options)
        shown = " ".join(result.output.split())
        assert (result.exit_code, bool(re.search(message, shown))) == (code, True), result.output
    result = runner.invoke(main, ["data", "emit-pku", str(tmp_path / "new"), "--part", "2", "--recordings", "1"])
    assert (result.exit_code, len(list((tmp_path / "new").rglob("*.txt")))) == (0, 4), result.output
