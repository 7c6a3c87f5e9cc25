from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from datasets.clips import from_storage, to_storage
from datasets.corruptions import CORRUPTIONS
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
