from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from datasets.clips import from_storage, to_storage
from datasets.corruptions import CORRUPTIONS, corrupt
from datasets.layout import NTU25


@pytest.fixture
def clips() -> Tensor:
    stored = torch.randn(6, 2, 8, 25, 3)
    stored[::2, 1] = 0  # one person
    return from_storage(stored)


def apply(name: str, clips: Tensor, strength: float) -> np.ndarray:
    generator = Generator().manual_seed(3)
    return to_storage(CORRUPTIONS[name].apply(clips, strength, NTU25, generator)).numpy()


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_strength_zero_changes_nothing_and_absent_persons_stay_absent(name, clips) -> None:
    kind = CORRUPTIONS[name]
    assert kind.strengths[0] == 0
    assert list(kind.strengths) == sorted(set(kind.strengths))
    assert np.array_equal(apply(name, clips, 0.0), to_storage(clips).numpy())
    strongest = apply(name, clips, kind.strengths[-1])
    assert not strongest[::2, 1].any()
    assert not np.array_equal(strongest, to_storage(clips).numpy())


def test_noise_has_the_deviation_it_names_and_only_grows(clips) -> None:
    clean = to_storage(clips).numpy()
    weak, strong = (apply("noise", clips, s) - clean for s in (0.02, 0.1))
    present = clean.any(axis=(2, 3, 4))
    assert strong[present].std() == pytest.approx(0.1, rel=0.05)
    np.testing.assert_allclose(5 * weak, strong, atol=1e-5)


def test_missing_joints_are_whole_nested_and_as_many_as_named(clips) -> None:
    clean = to_storage(clips).numpy()
    lost = {s: ~apply("missing", clips, s).any(axis=-1) & clean.any(axis=-1) for s in (0.1, 0.4)}
    assert (lost[0.1] <= lost[0.4]).all()
    for share, gone in lost.items():
        assert gone[clean.any(axis=-1)].mean() == pytest.approx(share, abs=0.04)
    kept = ~lost[0.4]
    assert np.array_equal(apply("missing", clips, 0.4)[kept], clean[kept])


def test_occluded_limbs_are_whole_limbs_of_the_whole_clip(clips) -> None:
    clean = to_storage(clips).numpy()
    limbs = [set(part) for part in NTU25.parts[1:]]
    before = [set[int]() for _ in clips]
    for count in (1, 2, 4):
        seen = apply("occluded", clips, count)
        for i, clip in enumerate(seen):
            hidden = {v for v in range(25) if not clip[:, :, v].any()}
            assert sum(limb <= hidden for limb in limbs) == count
            assert hidden == set().union(*(limb for limb in limbs if limb <= hidden))
            assert before[i] <= hidden
            before[i] = hidden
            rest = [v for v in range(25) if v not in hidden]
            assert np.array_equal(clip[:, :, rest], clean[i][:, :, rest])
    assert len({tuple(sorted(one)) for one in before}) == 1  # all four
    one_hidden = {tuple(np.flatnonzero(~clip.any(axis=(0, 1, 3)))) for clip in apply("occluded", clips, 1)}
    assert len(one_hidden) > 1  # which limb is drawn clip by clip


def test_dropped_frames_are_filled_along_straight_lines(clips) -> None:
    clean, found = to_storage(clips).numpy(), apply("frames", clips, 0.75)
    draws = torch.rand(6, 8, generator=Generator().manual_seed(3)).numpy()
    for clip, (stored, draw) in enumerate(zip(clean, draws, strict=True)):
        kept = sorted(np.argsort(draw, kind="stable")[:2])  # a quarter of eight frames
        for person, joint, axis in np.ndindex(2, 25, 3):
            line = np.interp(np.arange(8), kept, stored[person, kept, joint, axis])
            np.testing.assert_allclose(found[clip, person, :, joint, axis], line, atol=1e-6)


def test_a_lost_interval_is_one_interval_and_grows(clips) -> None:
    clean = to_storage(clips).numpy()
    lost = {s: ~apply("gap", clips, s).any(axis=(3, 4))[:, 0] for s in (0.25, 0.5, 0.75)}
    for share, gone in lost.items():
        assert (gone.sum(axis=1) == share * 8).all()
        assert (np.abs(np.diff(gone.astype(int), prepend=0, append=0, axis=1)).sum(axis=1) == 2).all()
    assert (lost[0.25] <= lost[0.5]).all()
    assert (lost[0.5] <= lost[0.75]).all()
    seen = ~lost[0.5]
    assert np.array_equal(apply("gap", clips, 0.5)[:, 0][seen], clean[:, 0][seen])


def test_turned_clips_are_turned_about_y_to_either_side(clips) -> None:
    clips = clips.repeat(4, 1, 1, 1, 1)
    clean, turned = to_storage(clips).numpy(), apply("rotation", clips, 30.0)
    signs = set()
    for before, after in zip(clean, turned, strict=True):
        fits = []
        for sign in (1, -1):
            cos, sin = np.cos(np.deg2rad(30 * sign)), np.sin(np.deg2rad(30 * sign))
            matrix = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
            fits += [sign] * np.allclose(after, before @ matrix.T, atol=1e-5)
        assert len(fits) == 1
        signs.add(fits[0])
    assert signs == {1, -1}


@pytest.mark.parametrize("number", [1, 3, 5, 6])
def test_a_hidden_part_is_that_part(clips, number) -> None:
    clean, found = to_storage(clips).numpy(), apply("part", clips, number)
    gone = NTU25.parts[number - 1] if number < 6 else ()
    kept = [v for v in range(25) if v not in gone]
    assert not found[..., list(gone), :].any()
    assert np.array_equal(found[..., kept, :], clean[..., kept, :])


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_same_clips_are_corrupted_the_same_way(clips, name) -> None:
    strength = CORRUPTIONS[name].strengths[-1]
    first = corrupt(clips, name, strength, NTU25)
    torch.rand(3)
    assert torch.equal(first, corrupt(clips.clone(), name, strength, NTU25))
    assert torch.equal(corrupt(clips, name, 0.0, NTU25), clips)


def test_draws_are_what_they_were() -> None:
    """Golden: another platform or version that drew otherwise would change records."""
    clips = from_storage(torch.ones(2, 1, 8, 25, 3))
    lost = ~to_storage(corrupt(clips, "gap", 0.25, NTU25)).any(dim=(3, 4))[:, 0]
    assert lost.int().argmax(dim=1).tolist() == [6, 4]
