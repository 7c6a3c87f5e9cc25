"""Actionlet masks scored against the truth that the synthetic set knows: IoU beside chance and plain motion energy."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d
from torch import Tensor

from datasets.clips import to_storage

Mask = NDArray[np.bool_]


def actionlet_iou(mask: Mask, truth: Mask) -> NDArray[np.float64]:
    """Intersection over union (N,) of masks and truth (N, M, T, V); 1 where both are empty."""
    both, either = _cells(mask & truth), _cells(mask | truth)
    return np.where(either > 0, both / np.maximum(either, 1), 1.0)


def chance_iou(mask: Mask, truth: Mask, presence: Mask) -> NDArray[np.float64]:
    """IoU (N,) that a mask of the same area has on average when its cells lie anywhere on the present persons (N, M).

    The ratio of the expected intersection to the union that goes with it, exact to a fraction of a percent.
    """
    area, true = _cells(mask), _cells(truth)
    both = area * true / np.maximum(presence.sum(axis=1) * mask.shape[2] * mask.shape[3], 1)
    return np.asarray(np.where(area + true > 0, both / np.maximum(area + true - both, 1e-9), 1.0))


def largest(values: NDArray[np.floating], count: NDArray[np.int64]) -> Mask:
    """Mask of the ``count`` (N,) largest values of each clip (N, M, T, V)."""
    flat = values.reshape(len(values), -1)
    order = np.argsort(-flat, axis=1, kind="stable")
    mask = np.zeros(flat.shape, bool)
    np.put_along_axis(mask, order, np.arange(flat.shape[1]) < count[:, None], axis=1)
    return mask.reshape(values.shape)


def motion_energy(clips: Tensor) -> NDArray[np.float64]:
    """Speed of every joint (N, M, T, V) in metres per frame, averaged over three frames; clips are (N, C, T, V, M)."""
    stored = to_storage(clips).double().cpu().numpy()
    steps = np.linalg.norm(np.diff(stored, axis=2, append=stored[:, :, -1:]), axis=-1)
    return np.asarray(uniform_filter1d(steps, 3, axis=2, mode="nearest"))


def score_actionlets(
    mask: Tensor, truth: Mask, clips: Tensor, presence: Tensor, threshold: float | None = 0.5
) -> dict[str, float]:
    """Score actionlet masks.

    Args:
        mask: (N, M, T', V) in 0..1; stretched to T frames.
        truth: (N, M, T, V), see :func:`datasets.synthetic.load_actionlets`.
        clips: (N, C, T, V, M) joint clips, for the motion-energy baseline.
        presence: (N, M) bool; absent persons are left out.
        threshold: what counts as inside; ``None`` takes each clip's largest values, as many as the truth has.

    Returns:
        Percent, means over clips: ``iou``; ``iou_chance`` for cells drawn at random and ``iou_energy`` for the cells
        that move fastest, both with the mask's area in every clip; ``area`` and ``area_truth``, shares of the bodies.

    Raises:
        ValueError: shapes do not belong together.
    """
    count, persons, frames, joints = truth.shape
    if (mask.shape[0], mask.shape[1], mask.shape[3]) != (count, persons, joints) or clips.shape[2] != frames:
        raise ValueError(f"mask {tuple(mask.shape)}, truth {truth.shape}, clips {tuple(clips.shape)} do not fit")
    rows = torch.arange(frames, device=mask.device) * mask.shape[2] // frames
    there = presence.cpu().numpy()
    weight = np.where(there[:, :, None, None], mask[:, :, rows].detach().float().cpu().numpy(), -1.0)
    inside = weight >= threshold if threshold is not None else largest(weight, _cells(truth))
    energy = np.where(there[:, :, None, None], motion_energy(clips), -1.0)
    whole = there.sum(axis=1) * frames * joints
    values = {
        "iou": actionlet_iou(inside, truth),
        "iou_chance": chance_iou(inside, truth, there),
        "iou_energy": actionlet_iou(largest(energy, _cells(inside)), truth),
        "area": _cells(inside) / whole,
        "area_truth": _cells(truth) / whole,
    }
    return {name: 100 * float(value.mean()) for name, value in values.items()}


def _cells(mask: Mask) -> NDArray[np.int64]:
    return np.asarray(mask.sum(axis=(1, 2, 3)))
