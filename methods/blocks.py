"""Parts that methods are built from: embedder, momentum copy, queue, losses, energy-based drop."""

from __future__ import annotations

import copy
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import get_ema_multi_avg_fn

from encoders.base import Encoder
from encoders.stgcn import normal_init
from engine.config import BenchError, Config, knob
from methods.base import Context


class MomentumConfig(Config):
    """Momentum contrast, common to SkeletonCLR, AimCLR, ActCLR and HiCLR."""

    dim: int = knob(128, "embedding size (AimCLR paper, sec. 4)", ge=2)
    queue: int = knob(32768, "keys kept as negatives; 32k as released", ge=2)
    momentum: float = knob(0.999, "momentum of the key encoder", ge=0, le=1)
    temperature: float = knob(0.07, "softmax temperature", gt=0)
    key_init: Literal["copy", "independent"] = knob(
        "copy", "key encoder starts as a copy (MoCo's intent); released code re-initialises it independently"
    )


class Embedder(nn.Module):
    """Encoder and projector (Linear, ReLU, Linear); embeddings are L2-normalised."""

    def __init__(self, encoder: Encoder, dim: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = nn.Sequential(nn.Linear(encoder.dim, encoder.dim), nn.ReLU(), nn.Linear(encoder.dim, dim))
        if getattr(encoder.config, "init", "torch") == "normal":
            self.projector.apply(normal_init)

    def forward(self, clips: Tensor, adjacency: Tensor | None = None) -> Tensor:
        """Clips (N, C, T, V, M) -> unit vectors (N, d)."""
        return self.embed(self.encoder(clips, adjacency))

    def embed(self, maps: Tensor) -> Tensor:
        """Maps (N, M, D, T', V) -> unit vectors (N, d)."""
        return F.normalize(self.projector(self.encoder.pool(maps)), dim=1)


class MomentumCopy(nn.Module):
    """A network that follows another by an exponential moving average; never trained, always in train mode."""

    def __init__(self, online: Embedder, context: Context, config: MomentumConfig) -> None:
        super().__init__()
        if config.key_init == "copy":
            self.network = copy.deepcopy(online)
        else:
            self.network = Embedder(context.make_encoder(), config.dim)
        self.network.requires_grad_(False)
        self._average = get_ema_multi_avg_fn(config.momentum)  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def update(self, online: nn.Module) -> None:
        """Move the parameters towards ``online``; BatchNorm buffers follow their own inputs (released code)."""
        target = [p.detach() for p in self.network.parameters()]
        self._average(target, [p.detach() for p in online.parameters()], torch.tensor(0))

    @torch.no_grad()
    def forward(self, clips: Tensor) -> Tensor:
        """Clips -> unit vectors (N, d), without gradient."""
        return cast(Tensor, self.network(clips))


class Queue(nn.Module):
    """The last K keys, (K, d) unit rows; random at the start. Any batch size: writing wraps around.

    Push in ``after_step``: the backward pass still needs the rows the logits were computed with.
    """

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.keys: Tensor
        self.pointer: Tensor
        self.register_buffer("keys", F.normalize(torch.randn(size, dim), dim=1))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def push(self, keys: Tensor) -> None:
        """Overwrite the oldest rows with ``keys`` (N, d); the last K of them if there are more."""
        size = len(self.keys)
        keys = keys[-size:]
        rows = (self.pointer + torch.arange(len(keys), device=keys.device)) % size
        self.keys[rows] = keys
        self.pointer.copy_((self.pointer + len(keys)) % size)


def logits(query: Tensor, key: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """(N, 1 + K): similarity to the own key in column 0, to the queue's keys after it, over the temperature."""
    own = (query * key).sum(dim=1, keepdim=True)
    return torch.cat([own, query @ queue.T], dim=1) / temperature


def info_nce(scores: Tensor) -> Tensor:
    """Cross-entropy with the own key (column 0) as target."""
    return -F.log_softmax(scores, dim=1)[:, 0].mean()


def nearest_neighbours(*scores: Tensor, topk: int) -> Tensor:
    """Positives (N, 1 + K) bool: the own key and the union of every row of scores' ``topk`` most similar queue entries."""
    positives = torch.zeros_like(scores[0], dtype=torch.bool)
    positives[:, 0] = True
    for matrix in scores:
        positives.scatter_(1, matrix.detach()[:, 1:].topk(topk, dim=1).indices + 1, True)
    return positives


def mined_nce(scores: Tensor, positives: Tensor, form: Literal["log_sum", "mean_log"]) -> Tensor:
    """InfoNCE over several positives.

    Args:
        scores: logits (N, 1 + K).
        positives: (N, 1 + K) bool.
        form: ``log_sum``: -log of the summed probabilities (AimCLR paper); ``mean_log``: mean of -log (released code).
    """
    log_p = F.log_softmax(scores, dim=1)
    if form == "log_sum":
        return -log_p.masked_fill(~positives, -torch.inf).logsumexp(dim=1).mean()
    return -((log_p * positives).sum(dim=1) / positives.sum(dim=1)).mean()


def distribution_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Cross-entropy -sum p_teacher log p_student of two rows of logits; no gradient to the teacher (AimCLR's D3M)."""
    return -(teacher.detach().softmax(dim=1) * F.log_softmax(student, dim=1)).sum(dim=1).mean()


def energy_drop(
    maps: Tensor, threshold: float, temporal: Literal["frames", "elements"], balance: float = 1e-4
) -> Tensor:
    """AimCLR's energy-based attention-guided drop (EADM): the most salient joints and frames are zeroed.

    Args:
        maps: (N, M, D, T', V).
        threshold: attention from which a position is dropped, in (0.5, 1).
        temporal: ``frames`` drops whole frames (paper), ``elements`` single elements (released code, aimclr.md 4.3).
        balance: lambda of the energy function.

    Returns:
        Maps of the same shape; kept values are scaled up by the dropped share, over the whole batch.
    """
    with torch.no_grad():
        energy = (maps - maps.mean(dim=(3, 4), keepdim=True)) ** 2
        variance = energy.sum(dim=(3, 4), keepdim=True) / (maps.shape[3] * maps.shape[4] - 1)
        attention = torch.sigmoid(energy / (4 * (variance + balance)) + 0.5)
        joints = attention.mean(dim=(2, 3), keepdim=True) < threshold
        moments = (
            attention < threshold if temporal == "elements" else attention.mean(dim=(2, 4), keepdim=True) < threshold
        )
        scale = _inverse_share(joints) * _inverse_share(moments)
    return maps * (joints * scale) * moments


def _inverse_share(kept: Tensor) -> Tensor:
    share = kept.float().mean()
    # A GPU would have to be waited for: there the loss becomes NaN, which the training loop reports a little later.
    if share.device.type == "cpu" and not bool(share > 0):
        raise BenchError("EADM dropped everything; raise aimclr.eadm.threshold.")
    return 1 / share
