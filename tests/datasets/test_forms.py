"""Interchange forms: the same recordings through every one of them, and every way to get a file wrong."""

from __future__ import annotations

import os
import pickle
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from datasets.clips import to_storage
from datasets.form import Form
from datasets.interchange import split_name
from datasets.layout import NTU25
from datasets.ntu60 import NTU60
from datasets.ntu120 import NTU120
from datasets.prepare import Preparation, prepare_clips
from engine.config import BenchError
from run_bench import main

TRAIN = {"xsub": (1, 2, 4, 5, 8, 9), "xview": (2, 3)}
"""Subjects and cameras that train (aimclr.md 1.3), as far as they occur here."""


@cache
def recordings() -> dict[str, NDArray[np.float32]]:
    """Raw clips (F, 2, 25, 3) by NTU name; every third has a second person, from frame 2 on."""
    draw = np.random.default_rng(0)
    clips = {}
    for number in range(12):
        camera, subject, action = number % 3 + 1, number % 4 + 1, number % 5 + 1
        clip = draw.normal(scale=0.4, size=(4 + number, 2, 25, 3)).astype(np.float32) + np.float32(2)
        clip[:, 1] *= number % 3 == 0
        clip[:2, 1] = 0
        clips[f"S001C{camera:03d}P{subject:03d}R002A{action:03d}"] = clip
    assert len(clips) == 12
    return clips


def label(name: str) -> int:
    return int(name[-3:]) - 1


def trains(name: str, split: str) -> bool:
    return int(name[9:12] if split == "xsub" else name[5:8]) in TRAIN[split]


def prepared(name: str, frames: int = 50) -> NDArray[np.float32]:
    clip = recordings()[name]
    return prepare_clips(clip, np.array([0, len(clip)]), NTU25, Preparation(frames=frames))[0][0]


def names(split: str, part: str) -> list[str]:
    return [name for name in recordings() if trains(name, split) == (part == "train")]


def write_aimclr(
    folder: Path, split: str, frames: int, protocol: int = 2, kind: str = "position", **changes: Any
) -> Path:
    """A folder of four files: 300 raw frames, or prepared clips."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, word in (("train", "train"), ("test", "val")):
        chosen = names(split, part)
        clips = np.zeros((len(chosen), 3, frames, 25, 2), np.float32)
        for row, name in enumerate(chosen):
            clip = recordings()[name] if frames == 300 else prepared(name, frames).transpose(1, 0, 2, 3)
            clips[row, :, : len(clip)] = clip.transpose(3, 0, 2, 1)
        np.save(folder / f"{word}_{kind}.npy", changes.get(f"{word}_clips", clips))
        content = ([f"{name}.skeleton" for name in chosen], [label(name) for name in chosen])
        (folder / f"{word}_label.pkl").write_bytes(pickle.dumps(changes.get(f"{word}_label", content), protocol))
    return folder


def write_ctrgcn(path: Path, split: str = "xsub", save: Any = np.savez, **changes: Any) -> Path:
    """An npz of 300 frames of 150 numbers, one-hot labels."""
    arrays: dict[str, Any] = {}
    for part in ("train", "test"):
        chosen = names(split, part)
        clips = np.zeros((len(chosen), 300, 150), np.float32)
        for row, name in enumerate(chosen):
            clips[row, : len(recordings()[name])] = recordings()[name].reshape(-1, 150)
        arrays |= {f"x_{part}": clips, f"y_{part}": np.eye(60)[[label(name) for name in chosen]]}
    save(path, **{key: value for key, value in (arrays | changes).items() if value is not None})
    return path


def pyskl(**changes: Any) -> dict[str, Any]:
    annotations = []
    for name, clip in recordings().items():
        persons = clip if clip[:, 1].any() else clip[:, :1]
        points = persons.transpose(1, 0, 2, 3).copy()
        annotations.append({"frame_dir": name, "label": label(name), "keypoint": points, "total_frames": len(clip)})
    split = {
        f"{rule}_{'val' if part == 'test' else part}": names(rule, part) for rule in TRAIN for part in ("train", "test")
    }
    return {"split": split, "annotations": annotations} | changes


def write_pyskl(path: Path, content: Any = None, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(pyskl() if content is None else content, protocol))
    return path


def load(tmp_path: Path, path: Path, split: str = "auto", frames: int = 50) -> Any:
    return Form(tmp_path / "data", str(path), frames).load(split)


def assert_as_recorded(split: Any, rule: str, frames: int = 50, named: bool = True, atol: float = 0) -> None:
    for clips, part in ((split.train, "train"), (split.test, "test")):
        expected = names(rule, part)
        if named:  # a file with two splits has one order for both
            expected = sorted(expected, key=clips.ids.index)
            assert list(clips.ids) == expected
        else:
            assert list(clips.ids) == [f"{part}_{row}" for row in range(len(expected))]
        assert clips.labels.tolist() == [label(name) for name in expected]
        wanted = np.stack([prepared(name, frames) for name in expected])
        np.testing.assert_allclose(to_storage(clips.clips).numpy(), wanted, atol=atol, rtol=0)
        if named:
            assert clips.groups["subject"].tolist() == [int(name[9:12]) for name in expected]
            assert clips.groups["camera"].tolist() == [int(name[5:8]) for name in expected]


def test_every_form_gives_the_same_clips(tmp_path: Path) -> None:
    """The forms hold the same raw clips, so what is prepared from them is equal to the last bit."""
    for rule in TRAIN:
        write_aimclr(tmp_path / "frame300" / rule, rule, 300, kind="data")
    write_ctrgcn(tmp_path / "NTU60_CS.npz", "xsub")
    write_ctrgcn(tmp_path / "NTU60_CV.npz", "xview", np.savez_compressed)
    write_pyskl(tmp_path / "ntu60_3danno.pkl")
    for rule in TRAIN:
        assert_as_recorded(load(tmp_path, tmp_path / "frame300", rule), rule)
        assert_as_recorded(load(tmp_path, tmp_path / "ntu60_3danno.pkl", rule), rule)
    assert_as_recorded(load(tmp_path, tmp_path / "NTU60_CS.npz"), "xsub", named=False)
    assert_as_recorded(load(tmp_path, tmp_path / "NTU60_CV.npz", "xview"), "xview", named=False)


@pytest.mark.parametrize("frames", [50, 64])
def test_prepared_clips_stay_as_they_are(tmp_path: Path, frames: int) -> None:
    """Not turned a second time: the released turn leaves frames misaligned, and another one would move them again."""
    for rule in TRAIN:
        write_aimclr(tmp_path / "NTU-60_frame50" / rule, rule, frames, protocol=0)
    for rule in TRAIN:
        split = load(tmp_path, tmp_path / "NTU-60_frame50", rule, frames)
        assert split.name == f"form:NTU-60_frame50/{rule}"
        assert split.group == {"xsub": "subject", "xview": "camera"}[rule]
        assert_as_recorded(split, rule, frames)
    assert Form(tmp_path / "data", str(tmp_path / "NTU-60_frame50"), frames).check().problems == ()


def test_a_prepared_file_equals_the_released_preparation(tmp_path: Path) -> None:
    """aimclr.md 1.5's golden recording as a 300-frame file comes out as that section says."""
    c, t, v = np.meshgrid(np.arange(3), np.arange(103), np.arange(25), indexing="ij")
    raw = np.zeros((1, 3, 300, 25, 2), np.float32)
    raw[0, :, :103, :, 0] = 0.3 * np.sin(0.05 * t + 0.7 * c + 0.31 * v) + 0.02 * v + 2.5 * (c == 2)
    second = 0.25 * np.cos(0.04 * t + 0.5 * c - 0.23 * v) + 0.015 * v + 3.0 * (c == 2)
    raw[0, :, 40:103, :, 1] = second[:, 40:]
    names_of = [([f"S001C001P00{k}R001A001.skeleton"], [0]) for k in (1, 3)]
    folder = write_aimclr(
        tmp_path / "xsub", "xsub", 300, train_clips=raw, val_clips=raw, train_label=names_of[0], val_label=names_of[1]
    )
    clip = load(tmp_path, folder).train.clips[0].numpy()  # (C, T, V, M)
    assert np.isclose(clip.sum(), -280.390070, atol=1e-2)
    assert np.isclose(np.abs(clip).sum(), 1616.043544, atol=1e-2)
    np.testing.assert_allclose(clip[:, 25, 3, 0], (-0.412139, -0.582972, 0.635993), atol=1e-5)
    np.testing.assert_allclose(clip[:, 20, 0, 1], (-0.429042, -0.251378, -0.105643), atol=1e-5)


@pytest.mark.parametrize("protocol", range(6))
def test_pyskl_in_every_protocol_and_half_precision(tmp_path: Path, protocol: int) -> None:
    content = pyskl()
    for annotation in content["annotations"]:
        annotation["keypoint"] = annotation["keypoint"].astype(np.float16)
        annotation["label"] = np.int64(annotation["label"])
    split = load(tmp_path, write_pyskl(tmp_path / "half.pkl", content, protocol), "xview")
    assert_as_recorded(split, "xview", atol=0.1)  # some shoulder lines are short here


def test_labels_as_arrays(tmp_path: Path) -> None:
    chosen = {word: names("xsub", part) for word, part in (("train", "train"), ("val", "test"))}
    labels = {
        f"{word}_label": (np.array(found), np.array([label(name) for name in found])) for word, found in chosen.items()
    }
    assert_as_recorded(load(tmp_path, write_aimclr(tmp_path / "cs", "xsub", 300, **labels), "xsub"), "xsub")


def test_names_of_splits_and_of_pku(tmp_path: Path) -> None:
    spelled = ("NTU60_CS", "cv", "NTU120_CSet", "xsetup", "NTU120_CSub", "pku_part1_xview", "other", "success")
    assert [split_name(text) for text in spelled] == [
        "xsub", "xview", "xset", "xset", "xsub", "xview", "split", "split",
    ]  # fmt: skip
    train = (["A001N001V002C003L001.skeleton", "F002V001C050L007.skeleton"], [2, 49])
    val = (["A026N013V003C051L012.skeleton", "free.skeleton"], [50, 3])
    clips = np.ones((2, 3, 300, 25, 2), np.float32)
    folder = write_aimclr(
        tmp_path / "pku", "xsub", 300, train_label=train, val_label=val, train_clips=clips, val_clips=clips
    )
    split = load(tmp_path, folder)
    assert split.name == "form:pku/split"
    assert split.train.ids == ("A001N001V002C003L001", "F002V001C050L007")
    assert len(split.classes) == 51


def test_bad_clips_are_skipped_and_reported_or_stop(tmp_path: Path) -> None:
    content = pyskl()
    bad = content["annotations"]
    bad[0]["keypoint"] = bad[0]["keypoint"].copy()
    bad[0]["keypoint"][0, 1, 4, 2] = np.nan
    bad[1]["keypoint"] = np.zeros((2, 5, 17, 3), np.float32)
    bad[2]["label"] = 7
    bad[3]["total_frames"] = 99
    bad[4]["keypoint"] = np.zeros((1, 8, 25, 3), np.float32)
    bad[5]["keypoint"] = np.ones((3, 9, 25, 3), np.float32)
    bad[6]["keypoint"] = np.zeros((1, 10, 25, 2), np.float32)
    bad[7]["keypoint"] = "kpfile"
    dataset = Form(tmp_path / "data", str(write_pyskl(tmp_path / "bad.pkl", content)))
    report = dataset.prepare(None, print)
    found = [str(finding) for finding in report.skipped]
    assert len(found) == 8
    for finding, name, reason in zip(
        found, recordings(),
        ("frame 1, joint left_shoulder: nan", "shape (2, 5, 17, 3); expected 25 joints", "label 7 does not belong",
         "total_frames does not equal", "all 8 frames are zero", "3 persons", "2D keypoints have no depth", "keypoint is str"),
        strict=False,
    ):  # fmt: skip
        assert name in finding
        assert reason in finding
    with pytest.raises(BenchError, match=r"sample 0 .*nan is no coordinate"):
        Form(tmp_path / "other", str(tmp_path / "bad.pkl")).prepare(None, print, "stop")


def test_rows_that_are_not_one_hot(tmp_path: Path) -> None:
    y = np.eye(60)[[label(name) for name in names("xsub", "train")]]
    y[0, 5] = 1
    y[1] = 0
    dataset = Form(tmp_path / "data", str(write_ctrgcn(tmp_path / "NTU60_CS.npz", y_train=y)))
    report = dataset.prepare(None, print)
    assert [str(finding) for finding in report.skipped] == [
        "sample 0 (train_0): its row in y is not one-hot",
        "sample 1 (train_1): its row in y is not one-hot",
    ]


def test_clips_left_out_on_first_use_are_told(tmp_path: Path) -> None:
    content = pyskl()
    content["annotations"][1]["keypoint"] = np.zeros((2, 5, 17, 3), np.float32)
    path = write_pyskl(tmp_path / "a.pkl", content)
    with pytest.warns(UserWarning, match=r"1 clips were skipped, the first: .*See data check"):
        load(tmp_path, path)


def test_a_changed_file_is_prepared_again(tmp_path: Path) -> None:
    first = load(tmp_path, write_pyskl(tmp_path / "a.pkl"))
    stores = set((tmp_path / "data" / "form").iterdir())
    assert load(tmp_path, tmp_path / "a.pkl").digest == first.digest
    assert set((tmp_path / "data" / "form").iterdir()) == stores
    content = pyskl()
    content["annotations"][0]["keypoint"] = content["annotations"][0]["keypoint"] * 2
    write_pyskl(tmp_path / "a.pkl", content)
    os.utime(tmp_path / "a.pkl", (1, 1))
    assert load(tmp_path, tmp_path / "a.pkl").digest != first.digest


def ntu60(tmp_path: Path, source: Path, argument: str = "") -> NTU60:
    dataset = NTU60(tmp_path / "ntu", argument)
    report = dataset.prepare(source, print)
    assert report.ok
    return dataset


def test_forms_become_ntu60(tmp_path: Path) -> None:
    """With names both official splits come out, though the files of AimCLR hold one; without them only the file's own."""
    write_aimclr(tmp_path / "aim" / "xsub", "xsub", 300)
    sources = (tmp_path / "aim", tmp_path / "aim" / "xsub", write_pyskl(tmp_path / "ntu60_3danno.pkl"))
    for number, source in enumerate(sources):
        dataset = ntu60(tmp_path / str(number), source)
        for rule in TRAIN:
            split = dataset.load(rule)
            assert split.name == f"ntu60/{rule}"
            assert split.classes[22] == "hand waving"
            assert_as_recorded(split, rule)
    dataset = ntu60(tmp_path / "3", write_ctrgcn(tmp_path / "NTU60_CV.npz", "xview"))
    assert_as_recorded(dataset.load("xview"), "xview", named=False)
    assert tuple(dataset.check().splits) == ("xview",)
    with pytest.raises(BenchError, match="does not say which subject a clip is of, so it has only the split xview"):
        dataset.load("xsub")
    assert [finding.place for finding in dataset.check().remarks] == ["NTU60_CV.npz"]


def test_forms_become_ntu60_from_the_command_line(tmp_path: Path) -> None:
    source = write_pyskl(tmp_path / "ntu60_3danno.pkl")
    place = ["--data", str(tmp_path / "data")]
    result = CliRunner().invoke(main, ["data", "prepare", "ntu60", "--source", str(source), *place])
    assert result.exit_code == 0, result.output
    assert "form pyskl, 12 clips" in result.output
    result = CliRunner().invoke(main, ["data", "prepare", "ntu60", "--source", f"pysckl={source}", *place])
    assert result.exit_code == 2
    assert "Did you mean 'pyskl'?" in " ".join(result.output.split())


def test_other_clips_do_not_become_ntu60(tmp_path: Path) -> None:
    content = pyskl()
    names_in = content["split"]
    names_in["xsub_train"], names_in["xsub_val"] = names_in["xsub_val"], names_in["xsub_train"]
    other = write_pyskl(tmp_path / "other.pkl", content)
    with pytest.raises(BenchError, match=r"its xsub is not the official split: S001C.* \(12 clips differ\)"):
        ntu60(tmp_path, other)
    strangers = (["A001N001V002C003L001.skeleton", "F002V001C050L007.skeleton"], [2, 49])
    clips = np.ones((2, 3, 300, 25, 2), np.float32)
    changes = {"train_clips": clips, "val_clips": clips}
    swapped = (strangers[0][::-1], strangers[1][::-1])
    again = (["A001N001V002C003L002.skeleton", "F002V001C050L008.skeleton"], [2, 49])
    pku = write_aimclr(tmp_path / "pku", "xsub", 300, train_label=swapped, val_label=again, **changes)
    with pytest.raises(BenchError, match=r"F002V001C050L007, which is no name of NTU RGB\+D"):
        ntu60(tmp_path, pku)
    with pytest.raises(BenchError, match=r"the file's name must tell the split: xsub or xview"):
        ntu60(tmp_path, write_ctrgcn(tmp_path / "data.npz"))
    labels = np.eye(120)[[label(name) + 100 for name in names("xsub", "train")]]
    with pytest.raises(BenchError, match=r"has 60 classes; is it ntu120\?"):
        ntu60(tmp_path, write_ctrgcn(tmp_path / "many_CS.npz", y_train=labels))
    with pytest.raises(
        BenchError, match=r"NTU60_CS\.npz is NTU RGB\+D 60 by its name, not NTU RGB\+D 120: prepare it as ntu60"
    ):
        NTU120(tmp_path / "data").prepare(write_ctrgcn(tmp_path / "NTU60_CS.npz"), lambda line: None)
    with pytest.raises(BenchError, match="prepared already; ntu60:released needs raw ones"):
        ntu60(tmp_path, write_aimclr(tmp_path / "frame50", "xsub", 50), "released")
    with pytest.raises(BenchError, match="who is in a clip was chosen by those who made it; ntu60:tracked needs"):
        ntu60(tmp_path, other, "tracked")


def test_the_second_part_of_ntu120_is_left_out_of_ntu60(tmp_path: Path) -> None:
    content = pyskl()
    second = [dict(each) for each in content["annotations"][:2]]
    for each in second:
        each["frame_dir"], each["label"] = each["frame_dir"].replace("S001", "S018")[:-3] + "061", 60
    content["annotations"] = second + content["annotations"]
    content["split"] = {"xset_train": [each["frame_dir"] for each in second], "xset_val": list(recordings())}
    source = write_pyskl(tmp_path / "ntu120_3danno.pkl", content)
    dataset = ntu60(tmp_path, source)
    assert_as_recorded(dataset.load("xsub"), "xsub")
    assert str(dataset.check().remarks[1]) == "ntu120_3danno.pkl: 2 clips of setups above 17 left alone"
    whole = NTU120(tmp_path / "ntu")
    whole.prepare(source, print)
    assert [len(part) for part in (whole.load("xset").train, whole.load("xset").test)] == [2, 12]
    content["annotations"] = second
    content["split"] = {"xset_train": [each["frame_dir"] for each in second]}
    with pytest.raises(BenchError, match="setups above 17 only"):
        ntu60(tmp_path, write_pyskl(tmp_path / "second.pkl", content))


def test_a_form_by_its_name(tmp_path: Path) -> None:
    """What the ending does not tell can be said; a path with = in it is still a path."""
    other = write_pyskl(tmp_path / "ntu60.annotations")
    with pytest.raises(BenchError, match=r"other endings: ctrgcn=PATH or pyskl=PATH"):
        load(tmp_path, other)
    split = Form(tmp_path / "data", f"pyskl={other}").load("xview")
    assert split.name == "form:ntu60/xview"
    assert_as_recorded(split, "xview")
    with pytest.raises(
        BenchError, match=r"There is no form 'aimcrl'. Did you mean 'aimclr'\? Known: aimclr, ctrgcn, pyskl"
    ):
        Form(tmp_path / "data", f"aimcrl={other}").load("xview")
    with pytest.raises(BenchError, match=r"of an \.npy give its folder"):
        Form(tmp_path / "data", f"aimclr={other}").load("xview")
    odd = tmp_path / "frames=300" / "ntu.pkl"
    odd.parent.mkdir()
    assert_as_recorded(load(tmp_path, write_pyskl(odd), "xsub"), "xsub")
