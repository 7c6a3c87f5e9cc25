"""Stores: whole or not there, the same digest for the same data, damage is noticed; and the report of a check."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console

import datasets.mapped as mapped_module
import datasets.store as store_module
from datasets.check import check_store, render
from datasets.clips import to_storage
from datasets.layout import KINECT20
from datasets.store import ClipFile, group_of, open_store, write_store
from engine.config import BenchError

CLASSES = ("wave", "bow", "kick")


def sample_clips(count=6, seed=0):
    clips = np.random.default_rng(seed).normal(scale=0.3, size=(count, 2, 5, 20, 3)).astype(np.float32)
    clips[:, :, :, KINECT20.centre] = 0
    clips[1::2, 1] = 0
    return clips


def table(count=6, **columns):
    rows = {"id": [f"NA{i}" if i else "NA" for i in range(count)], "label": [i % 3 for i in range(count)]}
    return pd.DataFrame(rows | {"length": range(1, count + 1), "subject": [i // 2 for i in range(count)], **columns})


def write(folder, clips=None, samples=None, **manifest):
    clips = sample_clips() if clips is None else clips
    return write_store(
        folder, clips, table(len(clips)) if samples is None else samples, KINECT20, CLASSES, {"version": 1, **manifest}
    )


def parts(count=6):
    train = np.arange(count) < count - 2
    return train, ~train


@pytest.mark.parametrize("sizes", [[6], [1, 0, 3, 2], [0]])
def test_a_growing_file_has_the_bytes_of_a_saved_array(tmp_path, sizes):
    clips = sample_clips(sum(sizes))
    with ClipFile(tmp_path / "grown.npy", clips.shape[1:]) as grown:
        for start, size in zip(np.cumsum([0, *sizes]), sizes, strict=False):
            grown.append(clips[start : start + size].transpose(0, 1, 2, 4, 3).copy().transpose(0, 1, 2, 4, 3))
    np.save(tmp_path / "saved.npy", clips)
    assert (tmp_path / "grown.npy").read_bytes() == (tmp_path / "saved.npy").read_bytes()


def test_a_growing_file_becomes_the_store_of_the_same_clips(tmp_path):
    with ClipFile(tmp_path / "grown.npy", sample_clips().shape[1:]) as grown:
        grown.append(sample_clips())
        with pytest.raises(ValueError, match="expected"):
            grown.append(sample_clips()[:, :1])
    assert write(tmp_path / "a", grown, table()) == write(tmp_path / "b")
    assert not grown.path.exists()
    for name in ("clips.npy", "samples.csv", "manifest.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    with ClipFile(tmp_path / "short.npy", sample_clips().shape[1:]) as short:
        short.append(sample_clips(5))
    with pytest.raises(ValueError, match="do not fit 6 samples"):
        write(tmp_path / "c", short, table())


def test_clips_that_would_fill_the_memory_are_mapped(tmp_path, monkeypatch):
    write(tmp_path / "s")
    in_memory = open_store(tmp_path / "s").split("toy/xsub", *parts(), "subject").train
    monkeypatch.setattr(mapped_module, "IN_MEMORY", 0.0)
    monkeypatch.setattr(mapped_module, "AT_ONCE", 3)  # in two pieces
    mapped = open_store(tmp_path / "s").split("toy/xsub", *parts(), "subject").train
    assert [path.name for path in tmp_path.iterdir()] == ["s"]  # the file has no name any more
    assert torch.equal(mapped.clips, in_memory.clips)
    assert torch.equal(mapped.presence, in_memory.presence)
    assert to_storage(mapped.clips).is_contiguous()
    assert torch.equal(mapped.subset(np.array([2, 0])).clips, in_memory.subset(np.array([2, 0])).clips)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device here that is always full")
def test_a_full_disk_is_an_error_and_no_crash(tmp_path, monkeypatch):
    write(tmp_path / "s")
    full = Path("/dev/full").open("wb", buffering=0)  # noqa: SIM115
    monkeypatch.setattr(mapped_module, "IN_MEMORY", 0.0)
    monkeypatch.setattr(mapped_module.tempfile, "TemporaryFile", lambda dir: full)
    with pytest.raises(OSError, match="No space left"):
        open_store(tmp_path / "s").split("toy/xsub", *parts(), "subject")


def test_what_is_written_comes_back(tmp_path):
    clips = sample_clips()
    extra = np.arange(12).reshape(6, 2)
    words = table(place=list("abcabc"))
    digest = write_store(tmp_path / "s", clips, words, KINECT20, CLASSES, {"version": 1}, {"truth": extra})
    prepared = open_store(tmp_path / "s")
    assert prepared.digest == digest
    assert prepared.layout == KINECT20
    assert prepared.classes == CLASSES
    np.testing.assert_array_equal(prepared.arrays["truth"], extra)
    assert not prepared.clips.flags.writeable
    split = prepared.split("toy/xsub", *parts(), "subject")
    assert split.train.clips.shape == (4, 3, 5, 20, 2)
    assert to_storage(split.train.clips).is_contiguous()
    np.testing.assert_array_equal(to_storage(split.test.clips).numpy(), clips[4:])
    assert split.train.ids == ("NA", "NA1", "NA2", "NA3")
    assert split.train.presence.tolist() == [[True, True], [True, False]] * 2
    assert split.test.labels.tolist() == [1, 2]
    assert split.test.lengths.tolist() == [5, 6]
    assert split.train.groups["subject"].tolist() == [0, 0, 1, 1]
    assert split.train.groups["place"].tolist() == [0, 1, 2, 0]
    split.train.clips.add_(1)  # memory of its own


def test_digest_depends_on_data_and_cut_but_not_on_the_place(tmp_path):
    first, again = write(tmp_path / "a"), write(tmp_path / "b" / "c")
    assert first == again
    names = ("clips.npy", "samples.csv", "manifest.json")
    assert all((tmp_path / "a" / n).read_bytes() == (tmp_path / "b" / "c" / n).read_bytes() for n in names)
    changed = sample_clips()
    changed[0, 0, 0, 0, 0] += 1e-6
    others = [
        write(tmp_path / "d", changed),
        write(tmp_path / "e", samples=table(subject=[9] * 6)),
        write(tmp_path / "f", rules={"x": 1}),
        write_store(tmp_path / "g", sample_clips(), table(), KINECT20, CLASSES, {"version": 2}),
    ]
    assert len({first, *others}) == 5
    prepared = open_store(tmp_path / "a")
    train, test = parts()
    digests = {
        prepared.split("a/b", train, test, "subject").digest,
        prepared.split("a/b", test, train, "subject").digest,
    }
    train[0] = False
    digests.add(prepared.split("a/b", train, test, "subject").digest)
    assert len(digests) == 3
    assert write(tmp_path / "h", source={"name": "x", "sha256": "0"}) == first


def test_nothing_is_left_of_a_failed_write(tmp_path, monkeypatch):
    write(tmp_path / "s")
    before = (tmp_path / "s" / "manifest.json").read_bytes()
    monkeypatch.setattr(store_module, "file_sha256", lambda path: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write(tmp_path / "s", sample_clips(seed=1))
    with pytest.raises(ZeroDivisionError):
        write(tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["s"]
    assert (tmp_path / "s" / "manifest.json").read_bytes() == before


def test_writing_again_replaces(tmp_path):
    write(tmp_path / "s")
    digest = write(tmp_path / "s", sample_clips(seed=1))
    assert open_store(tmp_path / "s").digest == digest
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


@pytest.mark.parametrize(
    ("samples", "message"),
    [(table(5), "5 samples"), (table().drop(columns="length"), "length"), (table(label=[3] * 6), "outside 0..2")],
)
def test_mismatched_parts_are_refused(tmp_path, samples, message):
    with pytest.raises(ValueError, match=message):
        write_store(tmp_path / "s", sample_clips(), samples, KINECT20, CLASSES, {})


def test_damaged_stores_are_refused(tmp_path):
    folder = tmp_path / "s"
    write(folder)
    content = (folder / "clips.npy").read_bytes()
    (folder / "clips.npy").write_bytes(content[:-8])
    with pytest.raises(BenchError, match=r"clips\.npy has \d+ bytes instead of \d+.*Delete it"):
        open_store(folder)
    (folder / "clips.npy").unlink()
    with pytest.raises(BenchError, match="damaged"):
        open_store(folder)
    for text in ("[1]", "{", "{}", json.dumps({"format": 99})):
        (folder / "manifest.json").write_text(text)
        with pytest.raises(BenchError, match="damaged"):
            open_store(folder)


def test_empty_or_overlapping_parts_are_refused(tmp_path):
    write(tmp_path / "s")
    prepared = open_store(tmp_path / "s")
    train, test = parts()
    with pytest.raises(BenchError, match=r"toy/x: 4 training and 0 test clips.*Values of subject: 0, 1, 2"):
        prepared.split("toy/x", train, test & False, "subject")
    with pytest.raises(BenchError, match="2 in both"):
        prepared.split("toy/x", train | test, test, "subject")


def test_words_become_numbers_in_alphabetical_order():
    assert group_of(pd.Series(["b", "a", "b"])).tolist() == [1, 0, 1]
    assert group_of(pd.Series([True, False])).tolist() == [1, 0]
    assert group_of(pd.Series([7, 3])).tolist() == [7, 3]


def shown(report):
    console = Console(file=io.StringIO(), width=300)
    console.print(render(report))
    return console.file.getvalue()


def check(folder: Path, expected=None):
    return check_store("toy", open_store(folder), {"xsub": parts()}, expected or {})


def test_check_of_good_data(tmp_path):
    write(tmp_path / "s")
    report = check(tmp_path / "s")
    assert report.ok
    assert report.splits["xsub"].train == (2, 1, 1)
    assert report.splits["xsub"].test == (0, 1, 1)
    assert report.lengths == (1, 3.5, 6)
    text = shown(report)
    assert "6 clips of 2 persons, 5 frames, 20 joints, 3 classes" in text
    assert "1 clips have a single frame (no motion): NA" in text
    assert "1 classes without test clips in xsub: wave" in text
    assert text.rstrip().endswith("ok")


def test_check_finds_what_is_wrong(tmp_path):
    clips = sample_clips()
    clips[0, 0, 2, 3, 1:] = np.nan, np.inf
    clips[2] = 0
    clips[3, 0, 0, KINECT20.centre, 0] = 0.5
    clips[5] = clips[1]
    clips[4, 0, 0, 9] = 7
    skipped = [{"place": "a/b.json", "reason": "no frames"}]
    folder = tmp_path / "s"
    write(folder, clips, table(id=["a", "b", "c", "d", "e", "a"]), skipped=skipped, remarks=skipped)
    content = bytearray((folder / "samples.csv").read_bytes())
    content[-2:-1] = b"7"
    (folder / "samples.csv").write_bytes(content)
    report = check(folder, {"xsub": (5, 2)})
    assert not report.ok
    text = shown(report)
    for line in (
        "samples.csv differs from what was written",
        "1 ids occur more than once: a",
        "1 clips hold NaN or infinity: a",
        "1 clips are all zero: c",
        "1 clips whose centre joint ShoulderCenter is not 0: d",
        "1 clips with a joint more than 2.5 m from the centre",
        "1 clips occur more than once, byte for byte: b = a",
        "xsub: 1 training clips equal a test clip",
        "xsub: 4 training and 2 test clips; the complete set has 5 and 2",
        "a/b.json: no frames",
        "not usable: problems found, 1 clips skipped",
    ):
        assert line in text
    assert report.splits["xsub"].copies == ("b",)


def test_long_reports_are_cut_short(tmp_path):
    write(tmp_path / "s", skipped=[{"place": f"f{i}", "reason": "bad"} for i in range(40)])
    text = shown(check(tmp_path / "s"))
    assert "f15: bad" in text
    assert "f16: bad" not in text
    assert "... and 24 more, all listed in manifest.json" in text


@pytest.mark.parametrize("name", ["a\rb", "a\nb", "\0"])
def test_a_name_that_would_break_the_table_is_refused(tmp_path, name):
    samples = table()
    samples["id"] = [name, *samples["id"][1:]]
    with pytest.raises(BenchError, match=r"id .* of a sample has a control character"):
        write(tmp_path / "x", sample_clips(), samples)
    assert not list(tmp_path.iterdir())
