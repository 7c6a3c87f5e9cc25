"""Prepared splits as npz: what is written, and that it reads back to the same clips."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from datasets.base import Cut, Dataset
from datasets.check import CheckReport
from datasets.clips import ClipSet, to_storage
from datasets.export import export
from datasets.layout import KINECT20, NTU25, Layout
from datasets.npz import Npz
from datasets.nw_ucla import NorthwesternUCLA
from datasets.store import write_store
from engine.config import BenchError

STICK = Layout.from_parents("stick", ("hip", "neck", "left_hand", "right_hand"), (-1, 0, 1, 1))


class _Stored(Dataset):
    """A dataset whose store is written by the test."""

    splits = {"mine": "by hand"}

    def prepare(self, source: Path | None, tell: Any, on_bad: Any = "skip") -> CheckReport:
        raise NotImplementedError

    def cut(self, samples: pd.DataFrame, split: str) -> Cut:
        if split != "mine":
            raise BenchError(f"no split {split}")
        order = np.arange(len(samples))
        return Cut("mine", order % 3 == 0, order % 3 == 1, "subject")


def stored(tmp_path: Path, layout: Layout, frames: int = 7, persons: int = 2) -> _Stored:
    dataset = _Stored(tmp_path / "data", "", frames)
    draw = np.random.default_rng(0)
    clips = draw.normal(size=(9, persons, frames, len(layout), 3)).astype(np.float32)  # neither centred nor turned
    clips[::2, 1:] = 0
    clips[1, :, :2] = 0  # frames without a body at the start
    samples = pd.DataFrame(
        {
            "id": [f"clip {i}" for i in range(9)],
            "label": np.arange(9) % 4,
            "length": 30,
            "subject": np.arange(9) // 2 + 1,
            "room": list("abcabcabc"),
            "seated": np.arange(9) % 2 == 0,
        }
    )
    write_store(dataset.folder, clips, samples, layout, ("sit", "stand", "wave", "bow"), {"version": 1, "rules": {}})
    return dataset


def assert_equal(found: ClipSet, expected: ClipSet) -> None:
    assert found.ids == expected.ids
    assert torch.equal(to_storage(found.clips), to_storage(expected.clips))
    assert torch.equal(found.labels, expected.labels)
    assert torch.equal(found.presence, expected.presence)
    for name, values in expected.groups.items():
        if name != "split":
            np.testing.assert_array_equal(
                np.unique(values, return_inverse=True)[1], np.unique(found.groups[name], return_inverse=True)[1]
            )


@pytest.mark.parametrize(("layout", "persons"), [(NTU25, 2), (KINECT20, 1), (STICK, 2)])
def test_a_split_reads_back_the_same(tmp_path: Path, layout: Layout, persons: int) -> None:
    dataset = stored(tmp_path, layout, persons=persons)
    path = tmp_path / "out.npz"
    assert export(dataset, "mine", path) == (3, 3)
    before = dataset.load("mine")
    after = Npz(tmp_path / "data", str(path), frames=7).load("split")
    assert dataclasses.replace(after.layout, name="") == dataclasses.replace(before.layout, name="")
    assert after.classes == before.classes
    assert_equal(after.train, before.train)
    assert_equal(after.test, before.test)
    assert Npz(tmp_path / "data", str(path), frames=7).load("room=a").train.ids == before.train.ids
    report = Npz(tmp_path / "data", str(path), frames=7).check()
    assert report.problems == ()
    assert report.remarks == ()


def test_exported_twice_is_the_same_and_so_is_its_export(tmp_path: Path) -> None:
    dataset = stored(tmp_path, NTU25)
    export(dataset, "mine", tmp_path / "one.npz")
    export(Npz(tmp_path / "data", str(tmp_path / "one.npz"), frames=7), "split", tmp_path / "two.npz")
    with np.load(tmp_path / "one.npz") as one, np.load(tmp_path / "two.npz") as two:
        assert set(one) == set(two)
        for key in set(one) - {"source"}:
            np.testing.assert_array_equal(one[key], two[key], err_msg=key)
        assert str(one["source"]).startswith("test_export/mine, digest ")


def test_the_keys_are_those_of_the_exchange_format(tmp_path: Path) -> None:
    export(stored(tmp_path, NTU25), "mine", tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz", allow_pickle=False) as file:
        content = dict(file)
    assert content["xyz"].shape == (6 * 7, 2, 25, 3)
    assert content["xyz"].dtype == np.float32
    assert content["offsets"].tolist() == [0, 7, 14, 21, 28, 35, 42]
    assert content["split"].tolist() == ["train", "test"] * 3
    assert content["name"].tolist() == ["clip 0", "clip 1", "clip 3", "clip 4", "clip 6", "clip 7"]
    assert content["label"].tolist() == [0, 1, 3, 0, 2, 3]
    assert content["parents"].tolist().count(-1) == 1
    assert content["parents"][NTU25.centre] == -1
    assert (str(content["unit"]), bool(content["prepared"])) == ("m", True)


def test_an_unprepared_file_is_still_prepared(tmp_path: Path) -> None:
    export(stored(tmp_path, NTU25), "mine", tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as file:
        content = dict(file)
    np.savez(tmp_path / "raw.npz", **content | {"prepared": np.array(False)})
    raw = Npz(tmp_path / "data", str(tmp_path / "raw.npz"), frames=7).load("split")
    assert not raw.train.clips[:, :, :, NTU25.centre].any()  # centred
    np.savez(tmp_path / "odd.npz", **content | {"prepared": np.array("yes")})
    with pytest.raises(BenchError, match="prepared must be true or false; it is <U3"):
        Npz(tmp_path / "data", str(tmp_path / "odd.npz"), frames=7).load("split")


def test_what_cannot_be_written(tmp_path: Path) -> None:
    dataset = stored(tmp_path, NTU25)
    with pytest.raises(BenchError, match=r"ends in \.npz"):
        export(dataset, "mine", tmp_path / "out.npy")
    with pytest.raises(BenchError, match="a folder that exists"):
        export(dataset, "mine", tmp_path / "none" / "out.npz")
    with pytest.raises(BenchError, match="no split other"):
        export(dataset, "other", tmp_path / "out.npz")
    odd = dataclasses.replace(NTU25, name="odd", shoulders=(5, 9))
    with pytest.raises(BenchError, match="Layout odd cannot be told from joint names and parents"):
        export(stored(tmp_path / "odd", odd), "mine", tmp_path / "out.npz")
    assert not list(tmp_path.glob("*.npz"))
    assert not list(tmp_path.glob(".out*"))


@pytest.mark.slow
def test_real_data_and_back(shared: Path, tmp_path: Path) -> None:
    dataset = NorthwesternUCLA(tmp_path / "data")
    dataset.prepare(shared / "data" / "nw_ucla_all_sqe.zip", lambda line: None)
    assert export(dataset, "xview", tmp_path / "nw_ucla.npz") == (1020, 464)
    before = dataset.load("xview")
    after = Npz(tmp_path / "data", str(tmp_path / "nw_ucla.npz")).load("split")
    assert after.layout == before.layout == NTU25
    assert_equal(after.train, before.train)
    assert_equal(after.test, before.test)
