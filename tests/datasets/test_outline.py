"""What a plan is made of where embedded data are not there yet."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from datasets import synthetic_untrimmed
from datasets.base import Dataset
from datasets.synthetic import DOMAIN, Synthetic
from datasets.synthetic_b import SyntheticB
from datasets.synthetic_untrimmed import SyntheticUntrimmed
from datasets.targets import adapt, refuse_shared
from engine.config import BenchError
from engine.data import Splits


class Small(Synthetic):
    """Two actions, one of them of two persons, of two subjects."""

    domain = replace(DOMAIN, subjects=(1, 2), actions=(DOMAIN.actions[0], DOMAIN.actions[-1]))


def outlined(dataset):
    dataset.outlined = True
    return dataset


@pytest.mark.parametrize("split", ["xsub", "xview"])
def test_clips_are_those_that_are_generated_but_for_their_content(tmp_path: Path, split: str) -> None:
    made, outline = (
        Small(tmp_path / "made", frames=20).load(split),
        outlined(Small(tmp_path / "none", frames=20)).load(split),
    )
    assert not (tmp_path / "none").exists()
    for real, drawn in ((made.train, outline.train), (made.test, outline.test)):
        assert drawn.clips.shape == real.clips.shape
        assert drawn.ids == real.ids
        assert torch.equal(drawn.labels, real.labels)
        assert drawn.groups.keys() == real.groups.keys()
        assert all((drawn.groups[name] == real.groups[name]).all() for name in real.groups)
        with pytest.raises(TypeError, match="meta"):
            drawn.clips.numpy()
    assert (made.name, made.layout, made.classes, made.group) == (
        outline.name,
        outline.layout,
        outline.classes,
        outline.group,
    )
    assert made.digest != outline.digest


def test_recordings_have_the_lengths_that_are_generated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic_untrimmed, "SUBJECTS", 2)
    monkeypatch.setattr(synthetic_untrimmed.generate, "__defaults__", (range(1, 3),))
    made = SyntheticUntrimmed(tmp_path / "made").load_untrimmed("xview")
    outline = outlined(SyntheticUntrimmed(tmp_path / "none")).load_untrimmed("xview")
    assert not (tmp_path / "none").exists()
    for real, drawn in ((made.train, outline.train), (made.test, outline.test)):
        assert drawn.frames.shape == real.frames.shape
        assert drawn.offsets.tolist() == real.offsets.tolist()
        assert drawn.ids == real.ids
    assert (made.name, made.layout, made.classes, made.fps) == (
        outline.name,
        outline.layout,
        outline.classes,
        outline.fps,
    )


@pytest.mark.parametrize("dataset", [Synthetic, SyntheticB])
def test_outlines_have_the_numbers_that_are_known(tmp_path: Path, dataset: type[Synthetic]) -> None:
    for split, numbers in dataset.expected.items():
        found = outlined(dataset(tmp_path)).load(split)
        assert (len(found.train), len(found.test)) == numbers


def test_names_still_tell_what_was_seen_in_pretraining(tmp_path: Path) -> None:
    source, same, other = (outlined(kind(tmp_path)) for kind in (Synthetic, Synthetic, SyntheticB))
    source, same, other = source.load("xsub"), same.load("xview"), other.load("xsub")
    with pytest.raises(BenchError, match="are in the training part of synthetic/xsub"):
        refuse_shared(same, source)
    refuse_shared(adapt(other, source), source)


def test_what_is_there_is_read_and_not_outlined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Synthetic, "domain", Small.domain)
    told: list[str] = []
    assert Splits(tmp_path, 20, told.append, read_only=True)("synthetic").train.clips.is_meta
    assert "not generated" in told[0]
    made = Splits(tmp_path, 20)("synthetic")
    found = Splits(tmp_path, 20, told.append, read_only=True)("synthetic")
    assert torch.equal(found.train.clips, made.train.clips)
    assert found.digest == made.digest
    assert len(told) == 1


class Undrawn(Small):
    """Embedded, without an outline, as a plug-in may be."""

    outline = Dataset.outline


def test_without_an_outline_data_are_made_for_the_plan_alone(tmp_path: Path) -> None:
    told: list[str] = []
    split = Splits(tmp_path / "data", 20, told.append, read_only=True)(f"{__file__}:Undrawn")
    assert split.train.clips.abs().sum() > 0
    assert not (tmp_path / "data").exists()
    assert split.digest == Splits(tmp_path / "made", 20, told.append)(f"{__file__}:Undrawn").digest
    assert [line.partition(" ")[0] for line in told] == ["Generating"]
