"""Parts of ActCLR: the unsupervised actionlet and the distillation over the queue (actclr.md 5, 8)."""

from __future__ import annotations

from functools import cache
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datasets.layout import Layout
from engine.config import Config, knob
from methods.blocks import Embedder


class ActionletConfig(Config):
    """Difference activation mapping: where a clip differs from the average motion."""

    anchor: Literal["dataset", "batch"] = knob(
        "dataset", "average of all training clips (Eq. 2) or of the batch (code)"
    )
    anchor_norm: Literal["running", "batch"] = knob(
        "running", "BatchNorm of the anchor's pass: running statistics, or those of the anchor alone (code)"
    )
    encoder: Literal["momentum", "online"] = knob(
        "momentum", "network that sees the difference: momentum (paper), online (code)"
    )
    mode: Literal["ramp", "binary", "relative"] = knob(
        "ramp", "clip the scaled map to 0..1 (code); threshold it; or divide by each clip's maximum"
    )
    threshold: float = knob(0.5, "mode binary: threshold on the ramp", ge=0, le=1)
    n_ref: int = knob(128, "batch size that fixes the ramp's slope, whatever the batch is (actclr.md 5.3)", ge=1)
    smooth: Literal["parts", "none"] = knob("parts", "average the map over each body part (code)")


@torch.no_grad()
def difference_activation(
    maps: Tensor, embedder: Embedder, anchor: Tensor, layout: Layout, config: ActionletConfig
) -> Tensor:
    """Actionlet mask (N, M, T', V) in 0..1.

    The gradient of the similarity between a clip's embedding and the anchor's, averaged over time and joints, weighs the
    channels of the maps. Pooling is a mean over frames, joints and the persons that count, so the gradient has a closed
    form and needs no second backward pass.

    Args:
        maps: (N, M, D, T', V).
        embedder: its projector must be Linear, ReLU, Linear.
        anchor: embedding (1, d) of the average motion.
        layout: skeleton, for smoothing over body parts.
        config: settings.
    """
    first, _, second = embedder.projector
    assert isinstance(first, nn.Linear)
    assert isinstance(second, nn.Linear)
    hidden = F.linear(embedder.encoder.pool(maps), first.weight, first.bias)
    z = F.linear(hidden.relu(), second.weight, second.bias)
    length = z.norm(dim=1, keepdim=True).clamp(min=1e-12)
    unit, target = z / length, F.normalize(anchor, dim=1)
    slope = -(target - (unit * target).sum(dim=1, keepdim=True) * unit) / length
    channels = ((slope @ second.weight) * (hidden > 0)) @ first.weight  # (N, D)
    activation = torch.einsum("nd,nmdtv->nmtv", channels, maps).relu()
    if config.smooth == "parts":
        activation = activation @ part_average(layout, activation.device, activation.dtype)
    if config.mode == "relative":
        return activation / activation.amax(dim=(1, 2, 3), keepdim=True).clamp(min=1e-12)
    width, frames, joints = maps.shape[2:]
    persons = embedder.encoder.counted(maps.mean(dim=(3, 4))).sum(dim=1).clamp(min=1)[:, None, None, None]
    ramp = (activation / (config.n_ref * persons * frames * joints * width * 1e-8)).clamp(max=1.0)
    return ramp if config.mode == "ramp" else (ramp >= config.threshold).float()


@cache
def part_average(layout: Layout, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Matrix (V, V) that replaces every joint by the mean of its body part."""
    matrix = torch.zeros(len(layout), len(layout), device=device, dtype=dtype)
    for part in layout.parts:
        rows = torch.tensor(part, device=device)
        matrix[rows[:, None], rows] = 1 / len(part)
    return matrix


class DistillConfig(Config):
    """Similarity distillation over the queue."""

    tau_student: float = knob(0.1, "student temperature (paper)", gt=0)
    tau_teacher: float = knob(0.04, "teacher temperature (paper)", gt=0)
    square_student: bool = knob(False, "square the student's similarities (released code)")
    topk: int | None = knob(None, "compare only the teacher's most similar keys; released code: 8192")
    drop_above: float | None = knob(None, "ignore keys more similar than this (near duplicates); released code: 0.95")
    form: Literal["ce", "kl"] = knob("ce", "cross-entropy (paper) or KL divergence (code); equal gradients")


def distill(student: Tensor, teacher: Tensor, config: DistillConfig) -> Tensor:
    """Loss between similarities to the queue, (N, K) each; no gradient to the teacher."""
    teacher = teacher.detach()
    if config.drop_above is not None:
        teacher = teacher.masked_fill(teacher > config.drop_above, -1.0)
    if config.topk is not None and config.topk < teacher.shape[1]:
        teacher, index = teacher.topk(config.topk, dim=1)
        student = student.gather(1, index)
    if config.square_student:
        student = student**2
    log_student = F.log_softmax(student / config.tau_student, dim=1)
    log_teacher = F.log_softmax(teacher / config.tau_teacher, dim=1)
    gap = log_student if config.form == "ce" else log_student - log_teacher
    return -(log_teacher.exp() * gap).sum(dim=1).mean()


def mixture_weights(saliency: Tensor, shift: int, used: Tensor, replaced: Tensor) -> Tensor:
    """Share (N,) of the partner's saliency in a mixed clip (actclr.md 6.5).

    Args:
        saliency: actionlet masks (N, M, T', V).
        shift: partner distance.
        used: what of the partner went in, (T', V).
        replaced: what of the clip went out, (T', V).
    """
    weight = torch.exp(saliency / 0.1)
    total = weight.sum(dim=(2, 3)) + 1e-5
    partner = ((weight * used).sum(dim=(2, 3)) / total).mean(dim=1).roll(-shift, dims=0)
    own = ((weight * (1 - replaced)).sum(dim=(2, 3)) / total).mean(dim=1)
    return partner / (partner + own)
