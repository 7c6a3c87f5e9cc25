"""An AimCLR step as one writes it down from the published code: the yardstick for the project's, and its twin in the tests.

Contiguous clips, the adjacency after the 1x1 convolution, torch's dropout, views made one clip at a time, a copy of the queue
for every product with it, the key encoder moved parameter by parameter. The weights are those of the method it is built from.
"""

from __future__ import annotations

import copy
import time

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.augment import numpy_basic, numpy_extreme
from benchmarks.plain_stgcn import plain_forward
from benchmarks.steps import LAYOUTS, Case, Speed, build, generated, peak_gib
from encoders.stgcn import STGCN
from methods.aimclr import AimCLR
from methods.blocks import Embedder


class PlainAimCLR(nn.Module):
    """AimCLR before its second phase (no nearest neighbours yet)."""

    def __init__(self, method: AimCLR) -> None:
        super().__init__()
        moco, eadm, train = method.config.moco, method.config.eadm, method.config.train
        self.momentum, self.temperature, self.threshold = moco.momentum, moco.temperature, eadm.threshold
        self.bf16 = train.precision == "bf16"
        self.encoder_q, self.encoder_k = copy.deepcopy(method.online), copy.deepcopy(method.target.network)
        self.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        self.queue = method.queue.keys.T.clone()
        self.pointer = 0
        trainable = [p for p in self.parameters() if p.requires_grad]
        self.optimiser = torch.optim.SGD(trainable, train.lr, train.momentum, weight_decay=train.weight_decay)

    def maps(self, network: Embedder, clips: Tensor) -> Tensor:
        """Maps (N, M, D, T', V) of contiguous clips (N, C, T, V, M)."""
        assert isinstance(network.encoder, STGCN)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            maps = plain_forward(network.encoder, clips)
        return maps.float() if self.bf16 else maps

    def embed(self, network: Embedder, maps: Tensor) -> Tensor:
        """Unit vectors (N, d)."""
        return F.normalize(network.projector(maps.mean(dim=(3, 4)).mean(dim=1)), dim=1)

    def drop(self, maps: Tensor) -> Tensor:
        """Zero the joints and frames that draw the most attention, and scale up the others."""
        variance = (maps - maps.mean(dim=(3, 4), keepdim=True)).pow(2)
        mean = variance.sum(dim=(3, 4), keepdim=True) / (maps.shape[3] * maps.shape[4] - 1)
        attention = torch.sigmoid(variance / (4 * (mean + 1e-4)) + 0.5).detach()
        joints = (attention.mean(dim=(2, 3)) < self.threshold).float()
        frames = (attention.mean(dim=(2, 4)) < self.threshold).float()
        maps = maps * joints[:, :, None, None] * joints.numel() / joints.sum()
        return maps * frames[:, :, None, :, None] * frames.numel() / frames.sum()

    def logits(self, query: Tensor, key: Tensor) -> Tensor:
        """(N, 1 + K)."""
        own = torch.einsum("nc,nc->n", [query, key])[:, None]
        others = torch.einsum("nc,ck->nk", [query, self.queue.clone().detach()])
        return torch.cat([own, others], dim=1) / self.temperature

    def forward(self, extreme: Tensor, normal: Tensor, key_view: Tensor) -> tuple[Tensor, Tensor]:
        """The contrastive loss and D3M of contiguous views (N, C, T, V, M); the keys go into the queue later."""
        query = self.embed(self.encoder_q, self.maps(self.encoder_q, normal))
        maps = self.maps(self.encoder_q, extreme)
        students = self.embed(self.encoder_q, maps), self.embed(self.encoder_q, self.drop(maps))
        with torch.no_grad():
            for moving, fixed in zip(self.encoder_k.parameters(), self.encoder_q.parameters(), strict=True):
                moving.data = moving.data * self.momentum + fixed.data * (1 - self.momentum)
            self.keys = self.embed(self.encoder_k, self.maps(self.encoder_k, key_view))
        scores = self.logits(query, self.keys)
        contrast = F.cross_entropy(scores, torch.zeros(len(scores), dtype=torch.int64))
        wanted = torch.softmax(scores.clone().detach(), dim=1)
        logs = [torch.log_softmax(self.logits(student, self.keys), dim=1) for student in students]
        return contrast, -sum((wanted * log).sum(dim=1).mean() for log in logs) / 2  # type: ignore[return-value]

    def step(self, views: tuple[Tensor, ...]) -> tuple[float, float]:
        """Both losses of a batch, and one step of the optimiser."""
        contrast, divergence = self(*views)
        self.optimiser.zero_grad()
        (contrast + divergence).backward()
        self.optimiser.step()
        end = self.pointer + len(self.keys)
        self.queue[:, self.pointer : end] = self.keys.T
        self.pointer = end % self.queue.shape[1]
        return contrast.item(), divergence.item()


def plain_views(clips: Tensor, random: np.random.Generator) -> tuple[Tensor, ...]:
    """Extreme, normal and key view of clips (N, C, T, V, M), one clip at a time in numpy."""
    samples = [clip.numpy() for clip in clips]
    views = (
        [numpy_extreme(numpy_basic(clip, random), random) for clip in samples],
        [numpy_basic(clip, random) for clip in samples],
        [numpy_basic(clip, random) for clip in samples],
    )
    return tuple(torch.from_numpy(np.stack(view).astype(np.float32)) for view in views)


def direct_steps(case: Case) -> Speed:
    """Train the direct translation for some steps; call it in a process of its own."""
    torch.set_num_threads(case.threads)
    clips = generated(case.clips or case.batch * (case.steps + 1), LAYOUTS[case.joints], case.frames)
    method = build(case, clips)
    assert isinstance(method, AimCLR)
    plain, random, seconds = PlainAimCLR(method).train(), np.random.default_rng(0), []
    for index in torch.split(torch.randperm(len(clips)), case.batch)[: case.steps + 1]:
        start = time.perf_counter()
        plain.step(plain_views(clips.clips[index].contiguous(), random))
        seconds.append(time.perf_counter() - start)
    return Speed(case.batch / min(seconds[1:]), peak_gib())
