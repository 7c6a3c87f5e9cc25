"""Batched augmentations against the released code's outputs and against slow per-sample twins."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Generator, Tensor

from datasets import augment as aug
from datasets.augment import AugmentConfig, augment
from datasets.clips import from_storage, to_storage
from datasets.layout import KINECT20, NTU25, Layout
from engine.config import BenchError

Array = NDArray[np.float64]
ORDER = (20, 1, 2, 8, 4, 0, 3, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 22, 21, 24, 23)
"""Child joints in the order of the released bone list (actclr.md 0.1)."""


@pytest.fixture(scope="module")
def fixture(shared: Path) -> Callable[[str], Tensor]:
    with np.load(shared / "fixtures/actclr_aug.npz") as file:
        values = {name: torch.tensor(file[name]) for name in file.files}
    return values.__getitem__


def test_released_outputs(fixture: Callable[[str], Tensor]) -> None:
    x = to_storage(fixture("input")[None].double())

    def check(name: str, got: Tensor) -> None:
        torch.testing.assert_close(from_storage(got)[0], fixture(name).double(), atol=1e-6, rtol=0, msg=name)

    for start in (0, 5, 16):
        check(f"crop_{start}", aug.crop(x, torch.tensor([start]), 8))
    check("shear", aug.transform(x, fixture("shear_R")[None]))
    check("flip", aug.flip(x, torch.tensor([True]), NTU25))
    check("rotate", aug.transform(x, aug.rotation_matrix(fixture("rotate_deg")[None])))
    for sigma in ("0.1", "0.7", "2.0"):
        check(f"blur_{sigma}", aug.mix_time(x, aug.blur_matrix(torch.tensor([float(sigma)]).double(), 50)))
    for draw in ("0.0", "0.3", "0.9999"):
        length = torch.tensor([int(50 * (0.5 + float(draw)))])
        check(f"interp_{draw}", aug.mix_time(x, aug.interpolation_matrix(length, 50)))
    factor = torch.zeros(1, 25)
    factor[0, list(ORDER)] = 0.5 * fixture("rescale_u").float()
    check("rescale", aug.rescale(x.float(), factor, NTU25).double())


def test_numeric_checks_of_the_specification() -> None:
    point = torch.tensor([1.0, 2.0, 3.0]).double().view(1, 1, 1, 1, 3)
    sheared = aug.transform(point, aug.shear_matrix(torch.tensor([[0.1, -0.4, -0.2, 0.5, 0.3, 0.25]]).double()))
    assert sheared.flatten().tolist() == pytest.approx([0, 3.3, 3.8], abs=1e-6)
    for degrees, expected in (
        ((0.5, 20, 0.7), (-0.055601, 2.026934, 3.144590)),
        ((30, 0.2, 0.3), (1.011325, 3.226800, 1.601557)),
        ((0.1, 0.9, 15), (1.439336, 1.690301, 3.011842)),
    ):
        turned = aug.transform(point, aug.rotation_matrix(torch.tensor([degrees]).double()))
        assert turned.flatten().tolist() == pytest.approx(expected, abs=1e-6)
    frames = torch.arange(50.0).view(1, 1, 50, 1, 1)
    assert aug.crop(frames, torch.tensor([12]), 8).flatten().tolist() == [*range(4, 50), 49, 48, 47, 46]
    assert aug.crop(frames, torch.tensor([5]), 8).flatten().tolist()[:5] == [2, 1, 0, 0, 1]
    for sigma, gain in ((0.1, 1.0), (0.5, 1.271), (1.0, 2.507), (2.0, 5.013)):
        assert aug.blur_matrix(torch.tensor([sigma]), 50)[0, 25].sum().item() == pytest.approx(gain, abs=1e-3)
        assert aug.blur_matrix(torch.tensor([sigma]), 50, True)[0, 25].sum().item() == pytest.approx(1.0)


# Twins: one sample at a time, plain loops, straight from the specification's wording.


def twin_crop(clip: Array, start: int, pad: int) -> Array:
    before, after = clip[:, :pad][:, ::-1], clip[:, clip.shape[1] - pad :][:, ::-1]
    padded = np.concatenate([before, clip, after], axis=1)
    return padded[:, start : start + clip.shape[1]]


def twin_blur(clip: Array, sigma: float) -> Array:
    taps = [math.exp(-(i**2) / (2 * sigma**2)) for i in range(-7, 8)]
    blurred = np.zeros_like(clip)
    for t in range(clip.shape[1]):
        for i, weight in zip(range(-7, 8), taps, strict=True):
            if 0 <= t + i < clip.shape[1]:
                blurred[:, t] += weight * clip[:, t + i]
    return blurred


def twin_interpolate(clip: Array, length: int) -> Array:
    frames = clip.shape[1]
    resized = np.zeros_like(clip)
    for t in range(min(length, frames)):
        source = min(max((t + 0.5) * frames / length - 0.5, 0), frames - 1)
        low = int(source)
        high = min(low + 1, frames - 1)
        resized[:, t] = clip[:, low] * (1 - source + low) + clip[:, high] * (source - low)
    return resized


def twin_rescale(clip: Array, factor: Array, layout: Layout) -> Array:
    rebuilt = np.zeros_like(clip)
    for joint in layout.order:
        parent = layout.bones[joint]
        if joint == parent:
            rebuilt[..., joint, :] = clip[..., joint, :]
        else:
            rebuilt[..., joint, :] = (
                rebuilt[..., parent, :] + (clip[..., joint, :] - clip[..., parent, :]) * factor[joint]
            )
    return rebuilt


@pytest.mark.parametrize("layout", [NTU25, KINECT20], ids=lambda layout: layout.name)
@given(frames=st.integers(8, 40), seed=st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_operations_equal_their_twins(layout: Layout, frames: int, seed: int) -> None:
    generator = Generator().manual_seed(seed)
    x = torch.randn(3, 2, frames, len(layout), 3, generator=generator, dtype=torch.float64)

    def check(got: Tensor, twin: Callable[[int, Array], Array]) -> None:
        """The twin works on (M, T, V, C)."""
        for n in range(3):
            np.testing.assert_allclose(got[n].numpy(), twin(n, x[n].numpy()), atol=1e-9)

    pad = frames // 6
    start = torch.randint(2 * pad + 1, (3,), generator=generator)
    check(aug.crop(x, start, pad), lambda n, clip: twin_crop(clip, int(start[n]), pad))
    sigma = torch.rand(3, generator=generator, dtype=torch.float64) * 1.9 + 0.1
    check(aug.mix_time(x, aug.blur_matrix(sigma, frames)), lambda n, clip: twin_blur(clip, float(sigma[n])))
    length = torch.randint(frames // 2, frames * 3 // 2, (3,), generator=generator)
    check(
        aug.mix_time(x, aug.interpolation_matrix(length, frames)),
        lambda n, clip: twin_interpolate(clip, int(length[n])),
    )
    factor = torch.rand(3, len(layout), generator=generator, dtype=torch.float64)
    check(aug.rescale(x, factor, layout), lambda n, clip: twin_rescale(clip, factor[n].numpy(), layout))
    chosen = torch.tensor([True, False, True])
    check(aug.flip(x, chosen, layout), lambda n, clip: clip[:, :, list(layout.flip)] if chosen[n] else clip)
    matrix = torch.randn(3, 3, 3, generator=generator, dtype=torch.float64)
    check(aug.transform(x, matrix), lambda n, clip: np.einsum("ij,mtvj->mtvi", matrix[n].numpy(), clip))


def run(operations: tuple[str, ...], config: AugmentConfig, x: Tensor, layout: Layout = NTU25) -> Tensor:
    return to_storage(augment(from_storage(x), operations, config, layout, Generator().manual_seed(3)))


def test_every_operation_is_drawn_from_one_generator() -> None:
    x = torch.randn(16, 2, 50, 25, 3)
    for name in aug.OPERATIONS:
        first, second = run((name,), AugmentConfig(), x), run((name,), AugmentConfig(), x)
        assert torch.equal(first, second), name
        assert not torch.equal(first, x), name
        assert first.shape == x.shape
        assert first.is_contiguous(), name


def test_parameters_are_per_sample_and_shared_by_both_persons() -> None:
    clip = torch.randn(1, 1, 50, 25, 3).expand(12, 2, -1, -1, -1).contiguous()
    for name in ("crop", "shear", "rotate", "rescale"):
        out = run((name,), AugmentConfig(), clip)
        assert len({tuple(sample.flatten()[:40].tolist()) for sample in out}) > 6, name
        torch.testing.assert_close(out[:, 0], out[:, 1])


def test_fused_matrices_keep_the_order() -> None:
    """Shear and rotation are applied in one product, moved past crop and flip: same result as one by one."""
    x = torch.randn(6, 1, 50, 25, 3, dtype=torch.float64)
    generator = Generator().manual_seed(5)
    config = AugmentConfig()
    fused = to_storage(augment(from_storage(x), ("crop", "shear", "flip", "rotate"), config, NTU25, generator))
    generator.manual_seed(5)
    step = x
    for name in ("crop", "shear", "flip", "rotate"):
        step = to_storage(augment(from_storage(step), (name,), config, NTU25, generator))
    torch.testing.assert_close(fused, step, atol=1e-6, rtol=0)


def test_absent_persons_stay_absent_unless_released() -> None:
    x = torch.randn(8, 2, 50, 25, 3)
    x[:, 1] = 0
    everything = (*aug.BASIC, *aug.NORMAL)
    assert run(everything, AugmentConfig(probability=1.0), x)[:, 1].abs().sum() == 0
    assert (
        run(everything, AugmentConfig(probability=1.0, noise_absent=True), x)[:, 1].abs().flatten(1).sum(1) > 0
    ).all()


def test_strengths_have_the_published_statistics() -> None:
    x = torch.ones(4000, 1, 4, 25, 3)
    noise = run(("noise",), AugmentConfig(), x) - 1
    touched = noise.flatten(1).abs().sum(1) > 0
    assert touched.float().mean().item() == pytest.approx(0.5, abs=0.03)
    assert noise[touched].std().item() == pytest.approx(0.01, rel=0.02)
    masked = run(("axis_mask",), AugmentConfig(), x)[:, 0, 0, 0]
    assert masked.mean(0).tolist() == pytest.approx([1 - 0.5 / 3] * 3, abs=0.03)
    angles = aug.draw_rotation(4000, AugmentConfig(), Generator().manual_seed(0))
    assert (angles.diagonal(dim1=1, dim2=2).amin(1) > math.cos(math.radians(31))).all()


@pytest.mark.parametrize("name", ["flip", "blur", "time_flip", "interpolate"])
@pytest.mark.parametrize("mirror", [False, True])
def test_changing_all_and_keeping_the_chosen_is_the_same(
    name: str, mirror: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, which does not wait to know which are chosen."""
    x = torch.randn(12, 2, 20, 25, 3)
    picked = run((name,), AugmentConfig(mirror=mirror), x)
    monkeypatch.setattr(aug, "_PICKS", ())
    torch.testing.assert_close(run((name,), AugmentConfig(mirror=mirror), x), picked)


def test_noise_on_a_gpu_has_the_same_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    """There noise is drawn for all clips, and so other numbers for each."""
    monkeypatch.setattr(aug, "_PICKS", ())
    noise = run(("noise",), AugmentConfig(), torch.ones(4000, 1, 4, 25, 3)) - 1
    touched = noise.flatten(1).abs().sum(1) > 0
    assert touched.float().mean().item() == pytest.approx(0.5, abs=0.03)
    assert noise[touched].std().item() == pytest.approx(0.01, rel=0.02)


def test_unknown_operation_is_named() -> None:
    with pytest.raises(BenchError, match=r"'rotat'.*Did you mean 'rotate'"):
        run(("rotat",), AugmentConfig(), torch.randn(2, 1, 50, 25, 3))
