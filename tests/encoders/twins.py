"""Pieces of the slow twins: one body, plain numpy, one loop or sum per line of the specification."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Array = NDArray[np.float64]


def randomised(module: Any) -> Any:
    """The module in double precision and evaluation mode, with every number in it drawn anew (statistics, gains, biases)."""
    module = module.double().eval()
    generator = torch.Generator().manual_seed(5)

    def draw(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator, dtype=torch.float64)

    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(0.5).add_(0.3 * draw(parameter))
        for norm in module.modules():
            if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
                norm.running_mean.copy_(0.3 * draw(norm.running_mean))
                norm.running_var.copy_(0.5 + draw(norm.running_var).abs())
    return module


def array(tensor: Tensor) -> Array:
    return tensor.detach().numpy()


def affine(layer: Any, x: Array) -> Array:
    """Linear layer, or 1x1 convolution, of x (C, ...)."""
    return np.tensordot(array(layer.weight).reshape(layer.weight.shape[:2]), x, 1) + array(layer.bias).reshape(
        -1, *[1] * (x.ndim - 1)
    )


def batch_norm(norm: Any, x: Array) -> Array:
    """Of x (C, T, V) with running statistics."""
    mean, variance, weight, bias = (
        array(v)[:, None, None] for v in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    return (x - mean) / np.sqrt(variance + norm.eps) * weight + bias


def temporal(weight: Array, bias: Array, x: Array, stride: int, dilation: int = 1) -> Array:
    """Convolution over time of x (C, T, V), zeros around it; weight (C', C, kernel, 1)."""
    kernel = weight.shape[2]
    reach = (kernel - 1) * dilation // 2
    padded = np.pad(x, ((0, 0), (reach, reach), (0, 0)))
    rows = []
    for t in range(0, x.shape[1] + 2 * reach - (kernel - 1) * dilation, stride):
        taps = padded[:, t : t + (kernel - 1) * dilation + 1 : dilation]
        rows.append(np.einsum("ock,ckv->ov", weight[..., 0], taps) + bias[:, None])
    return np.stack(rows, axis=1)
