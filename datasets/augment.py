"""Augmentations of whole batches on their device; parameters per sample, all drawn from one generator.

Sources: aimclr.md 3 (released AimCLR), actclr.md 6.1, hiclr.md 1. Every operation is a pair: a pure function of clips and
parameters (tested against per-sample twins), and a draw of those parameters. Memory order inside is (N, M, T, V, C).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from datasets.clips import from_storage, to_storage
from datasets.layout import Layout
from engine.config import BenchError, Config, knob, suggestion

BASIC = ("crop", "shear")
"""HiCLR's basic set, AimCLR's normal set."""
NORMAL = ("flip", "rotate", "noise", "blur", "axis_mask")
"""What AimCLR's extreme and HiCLR's normal set add to BASIC."""


class AugmentConfig(Config):
    """Strengths of the augmentations; defaults are the released code's unless said otherwise."""

    crop_ratio: int = knob(6, "temporal crop: mirror-pad T // ratio frames on both sides, cut T again", ge=1)
    shear: float = knob(0.5, "shear: amplitude of the six off-diagonal entries", ge=0)
    probability: float = knob(0.5, "chance of flip, noise, blur, axis mask, time flip, interpolate", ge=0, le=1)
    mirror: bool = knob(False, "flip also negates x; the released flip only swaps left and right joints")
    rotate_main: float = knob(30.0, "rotation: largest angle about the main axis", unit="degrees", ge=0)
    rotate_other: float = knob(1.0, "rotation: largest angle about the other two axes", unit="degrees", ge=0)
    rotate_signed: bool = knob(False, "angles of both signs; released code: non-negative only")
    noise_sd: float = knob(0.01, "Gaussian noise: standard deviation", unit="m", ge=0)
    noise_absent: bool = knob(False, "noise also fills absent persons (released code)")
    blur_sigma: tuple[float, float] = knob((0.1, 2.0), "Gaussian blur along time: range of sigma", unit="frames")
    blur_normalise: bool = knob(False, "normalise the blur kernel; unnormalised it scales by 1 to 5 (released code)")
    rescale: float = knob(0.5, "rescale: every bone is multiplied by rescale * U(0, 1)", ge=0)


# Pure operations on stored clips (N, M, T, V, C).

Rows = Tensor | slice
"""Numbers of samples, or all of them."""


_PICKS = ("cpu",)
"""Devices that know at once which samples are chosen."""


def change(x: Tensor, chosen: Tensor, operation: Callable[[Tensor, Rows], Tensor]) -> Tensor:
    """Apply an operation to the ``chosen`` samples (N,) bool; it gets their clips and their rows.

    On a GPU all are changed and the chosen ones kept: how many they are is known only when it has been waited for.
    """
    if x.device.type in _PICKS:
        rows = chosen.nonzero()[:, 0]
        return x.index_copy(0, rows, operation(x[rows], rows))
    return torch.where(chosen[:, None, None, None, None], operation(x, slice(None)), x)


@cache
def indices(values: tuple[int, ...], device: torch.device) -> Tensor:
    """Numbers (n,) on a device, kept there: a GPU is waited for while numbers are copied to it."""
    return torch.tensor(values, device=device)


def crop(x: Tensor, start: Tensor, pad: int) -> Tensor:
    """Cut T frames from the clip mirrored at both ends (edge frame repeated), beginning at ``start`` (N,) in 0..2 pad."""
    count, persons, frames = x.shape[:3]
    source = start[:, None] + torch.arange(frames, device=x.device) - pad
    source = torch.where(source < 0, -1 - source, source)
    source = torch.where(source >= frames, 2 * frames - 1 - source, source)
    rows = torch.arange(count * persons, device=x.device).view(count, persons, 1) * frames + source[:, None]
    return x.reshape(count * persons * frames, -1).index_select(0, rows.flatten()).view(x.shape)


def transform(x: Tensor, matrix: Tensor) -> Tensor:
    """Multiply every joint by its sample's matrix (N, 3, 3)."""
    # Joints as columns: on a CPU more than twice as fast as the other way about, with the same bits.
    columns = torch.bmm(matrix.to(x.dtype), x.reshape(x.shape[0], -1, 3).transpose(1, 2))
    return columns.transpose(1, 2).contiguous().view(x.shape)


def shear_matrix(entries: Tensor) -> Tensor:
    """Matrices (N, 3, 3) with unit diagonal from the six off-diagonal ``entries`` (N, 6), row by row."""
    a, b, c, d, e, f = entries.unbind(1)
    one = torch.ones_like(a)
    return torch.stack([one, a, b, c, one, d, e, f, one], dim=1).view(-1, 3, 3)


def rotation_matrix(degrees: Tensor) -> Tensor:
    """R_z R_y R_x (N, 3, 3) for angles (N, 3) about x, y, z, in the released code's handedness."""
    cos, sin = torch.cos(torch.deg2rad(degrees)), torch.sin(torch.deg2rad(degrees))
    zero, one = torch.zeros_like(cos[:, 0]), torch.ones_like(cos[:, 0])

    def rows(*values: Tensor) -> Tensor:
        return torch.stack(values, dim=1).view(-1, 3, 3)

    x = rows(one, zero, zero, zero, cos[:, 0], sin[:, 0], zero, -sin[:, 0], cos[:, 0])
    y = rows(cos[:, 1], zero, -sin[:, 1], zero, one, zero, sin[:, 1], zero, cos[:, 1])
    z = rows(cos[:, 2], sin[:, 2], zero, -sin[:, 2], cos[:, 2], zero, zero, zero, one)
    return z @ y @ x


def flip(x: Tensor, chosen: Tensor, layout: Layout, mirror: bool = False) -> Tensor:
    """Swap left and right joints of the ``chosen`` samples (N,) bool; ``mirror`` also negates x."""

    def flipped(clips: Tensor, rows: Rows) -> Tensor:
        # Numbers are gathered, not joints of three: on a CPU three times as fast.
        columns = indices(tuple(3 * joint + axis for joint in layout.flip for axis in range(3)), x.device)
        swapped = clips.flatten(3).gather(3, columns.expand(*clips.shape[:3], -1)).view(clips.shape)
        return swapped * swapped.new_tensor([-1.0, 1.0, 1.0]) if mirror else swapped

    return change(x, chosen, flipped)


def blur_matrix(sigma: Tensor, frames: int, normalise: bool = False) -> Tensor:
    """Blur along time as matrices (N, T, T): 15 taps exp(-d^2 / 2 sigma^2), zero padding."""
    time = torch.arange(frames, device=sigma.device)
    taps = torch.exp(-(time**2) / (2 * sigma[:, None] ** 2)) * (time <= 7)
    if normalise:
        taps = taps / (2 * taps.sum(dim=1, keepdim=True) - 1)
    return taps[:, (time[:, None] - time[None, :]).abs()]


def mix_time(x: Tensor, matrix: Tensor) -> Tensor:
    """Multiply the time axis by one matrix (T, T) per sample (N, T, T)."""
    return torch.matmul(matrix[:, None].to(x.dtype), x.flatten(3)).view(x.shape)


def interpolation_matrix(length: Tensor, frames: int) -> Tensor:
    """Matrices (N, T, T) that resize time linearly to ``length`` (N,), keep the first T frames and zero the rest."""
    position = torch.arange(frames, device=length.device)
    source = ((position + 0.5) * (frames / length[:, None].double()) - 0.5).clamp(0, frames - 1)
    weights = (1 - (source[:, :, None] - position).abs()).clamp(min=0)
    return weights * (position < length[:, None])[:, :, None]


def to_bones(layout: Layout, like: Tensor) -> Tensor:
    """Matrix (V, V) from joints to bones (child minus parent; the centre joint keeps its position)."""
    return _to_bones(layout, like.device, like.dtype)


@cache
def _to_bones(layout: Layout, device: torch.device, dtype: torch.dtype) -> Tensor:
    matrix = torch.eye(len(layout), device=device, dtype=dtype)
    for child, parent in enumerate(layout.bones):
        if child != parent:
            matrix[child, parent] = -1.0
    return matrix


def from_bones(layout: Layout, like: Tensor) -> Tensor:
    """Inverse of :func:`to_bones`: sums the bones on the way to the centre joint."""
    return _from_bones(layout, like.device, like.dtype)


@cache
def _from_bones(layout: Layout, device: torch.device, dtype: torch.dtype) -> Tensor:
    matrix = torch.eye(len(layout), device=device, dtype=dtype)
    for child in layout.order[1:]:
        matrix[child] += matrix[layout.bones[child]]
    return matrix


def rescale(x: Tensor, factor: Tensor, layout: Layout) -> Tensor:
    """Multiply every bone by its ``factor`` (N, V), one for all frames and persons, and rebuild the joints."""
    bones = torch.matmul(to_bones(layout, x), x)
    # The centre joint is a position, not a bone: it stays.
    factor = factor.index_fill(1, indices((layout.centre,), x.device), 1.0)
    return torch.matmul(from_bones(layout, x), bones * factor[:, None, None, :, None])


# Draws.


def _uniform(count: int, generator: Generator, low: float = 0.0, high: float = 1.0, width: int | None = None) -> Tensor:
    shape = (count,) if width is None else (count, width)
    return torch.rand(shape, generator=generator, device=generator.device) * (high - low) + low


def _integers(count: int, generator: Generator, high: int) -> Tensor:
    return torch.randint(high, (count,), generator=generator, device=generator.device)


def draw_shear(count: int, config: AugmentConfig, generator: Generator) -> Tensor:
    """Shear matrices (N, 3, 3)."""
    return shear_matrix(_uniform(count, generator, -config.shear, config.shear, 6))


def draw_rotation(count: int, config: AugmentConfig, generator: Generator) -> Tensor:
    """Rotation matrices (N, 3, 3): a large angle about one axis, small ones about the others."""
    main = F.one_hot(_integers(count, generator, 3), 3).bool()
    unit = _uniform(count, generator, -1.0 if config.rotate_signed else 0.0, 1.0, 3)
    return rotation_matrix(unit * torch.where(main, config.rotate_main, config.rotate_other))


def _crop(x: Tensor, config: AugmentConfig, layout: Layout, generator: Generator) -> Tensor:
    pad = x.shape[2] // config.crop_ratio
    return crop(x, _integers(len(x), generator, 2 * pad + 1), pad)


def _flip(x: Tensor, config: AugmentConfig, layout: Layout, generator: Generator) -> Tensor:
    return flip(x, _uniform(len(x), generator) < config.probability, layout, config.mirror)


def _noise(x: Tensor, config: AugmentConfig, layout: Layout, generator: Generator) -> Tensor:
    def noisy(clean: Tensor, rows: Rows) -> Tensor:
        noise = torch.randn(clean.shape, generator=generator, device=x.device).mul_(config.noise_sd)
        if not config.noise_absent:
            noise.mul_((torch.linalg.vector_norm(clean.flatten(2), dim=2) > 0)[:, :, None, None, None])
        return clean + noise

    return change(x, _uniform(len(x), generator) < config.probability, noisy)


def _blur(x: Tensor, config: AugmentConfig, layout: Layout, generator: Generator) -> Tensor:
    sigma = _uniform(len(x), generator, *config.blur_sigma)

    def blurred(clips: Tensor, rows: Rows) -> Tensor:
        return mix_time(clips, blur_matrix(sigma[rows], x.shape[2], config.blur_normalise))

    return change(x, _uniform(len(x), generator) < config.probability, blurred)


def _axis_mask(x: Tensor, config: AugmentConfig, layout: Layout, generator: Generator) -> Tensor:
    chosen = _uniform(len(x), generator) < config.probability
    hidden = F.one_hot(_integers(len(x), generator, 3), 3).bool() & chosen[:, None]
    visible = (~hidden).to(x.dtype).repeat(1, x.shape[3])  # over (V, C) at once: long rows multiply faster
    return (x.flatten(3) * visible[:, None, None, :]).view(x.shape)


def _time_flip(x: Tensor, config: AugmentConfig, layout: Layout, generator: Generator) -> Tensor:
    return change(x, _uniform(len(x), generator) < config.probability, lambda clips, rows: clips.flip(2))


def _drop_elements(x: Tensor, config: AugmentConfig, layout: Layout, generator: Generator) -> Tensor:
    return x * (torch.rand(x.shape, generator=generator, device=x.device) < 0.5)


def _interpolate(x: Tensor, config: AugmentConfig, layout: Layout, generator: Generator) -> Tensor:
    length = (x.shape[2] * (0.5 + _uniform(len(x), generator))).int().clamp(min=1)

    def stretched(clips: Tensor, rows: Rows) -> Tensor:
        return mix_time(clips, interpolation_matrix(length[rows], x.shape[2]))

    return change(x, _uniform(len(x), generator) < config.probability, stretched)


def _rescale(x: Tensor, config: AugmentConfig, layout: Layout, generator: Generator) -> Tensor:
    return rescale(x, _uniform(len(x), generator, 0.0, config.rescale, len(layout)), layout)


_MATRICES: dict[str, Callable[[int, AugmentConfig, Generator], Tensor]] = {"shear": draw_shear, "rotate": draw_rotation}
_OPERATIONS: dict[str, Callable[[Tensor, AugmentConfig, Layout, Generator], Tensor]] = {
    "crop": _crop,
    "flip": _flip,
    "noise": _noise,
    "blur": _blur,
    "axis_mask": _axis_mask,
    "time_flip": _time_flip,
    "drop_elements": _drop_elements,
    "interpolate": _interpolate,
    "rescale": _rescale,
}
_COMMUTING = {"crop", "time_flip"}
"""Operations that a 3x3 matrix per sample may be moved past, so that shear and rotation become one product."""

OPERATIONS = (*_MATRICES, *_OPERATIONS)
"""Names that :func:`augment` knows."""


def augment(
    clips: Tensor, operations: Sequence[str], config: AugmentConfig, layout: Layout, generator: Generator
) -> Tensor:
    """Apply ``operations`` in order to clips (N, C, T, V, M); both persons of a sample share its parameters.

    Raises:
        BenchError: unknown operation.
    """
    x = to_storage(clips)
    commuting = _COMMUTING if config.mirror else {*_COMMUTING, "flip"}
    pending: Tensor | None = None
    for name in operations:
        if name in _MATRICES:
            matrix = _MATRICES[name](len(x), config, generator)
            pending = matrix if pending is None else matrix @ pending
            continue
        if name not in _OPERATIONS:
            raise BenchError(
                f"Unknown augmentation {name!r}.{suggestion(name, OPERATIONS)} Known: {', '.join(OPERATIONS)}."
            )
        if pending is not None and name not in commuting:
            x, pending = transform(x, pending), None
        x = _OPERATIONS[name](x, config, layout, generator)
    if pending is not None:
        x = transform(x, pending)
    return from_storage(x)
