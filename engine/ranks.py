"""Several processes at one pre-training (torchrun): encoders divide the batch, everything else is done by all of them.

Every rank makes the views of the whole batch from the same generator. A training encoder passes the rank's share of the
clips through its network and gathers the maps of all ranks, so that losses, queues and mixtures of clips see the whole
batch on every rank, exactly as in one process: any method runs, and the global batch and learning rate stay. Gradients are
averaged before each step; torch's DistributedDataParallel expects losses that are means over shares, which these are not.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from encoders.base import Encoder
from engine.config import BenchError

_PATIENCE = timedelta(days=30)
"""How long the other ranks wait for the first one, which does all that is no pre-training alone."""


@dataclass(frozen=True)
class Ranks:
    """The processes of one pre-training; by default there is only this one.

    Attributes:
        rank: number of this process.
        size: how many there are.
        control: group for messages, whose members may wait for long.
    """

    rank: int = 0
    size: int = 1
    control: dist.ProcessGroup | None = None

    @property
    def first(self) -> bool:
        """Whether this process writes and speaks."""
        return self.rank == 0

    def tell(self, message: bytes = b"") -> bytes:
        """What the first rank says, on every rank; the others wait for it."""
        if self.size == 1:
            return message
        length = torch.tensor([len(message)])
        dist.broadcast(length, 0, group=self.control)
        content = torch.frombuffer(bytearray(message.ljust(int(length), b"\0") or b"\0"), dtype=torch.uint8)
        dist.broadcast(content, 0, group=self.control)
        return content.numpy().tobytes()[: int(length)]

    def same(self, state: Mapping[str, Any] | None) -> dict[str, Any] | None:
        """The first rank's state of a training (tensors and plain values) on every rank, in main memory."""
        if self.size == 1:
            return None if state is None else dict(state)
        content = io.BytesIO()
        if self.first:
            torch.save(state, content)
        told: dict[str, Any] | None = torch.load(
            io.BytesIO(self.tell(content.getvalue())), map_location="cpu", weights_only=True
        )
        return told

    def divide(self, method: nn.Module, batch_norm: str) -> None:
        """Let the encoders of a method divide batches among the ranks.

        Args:
            method: changed in place; the same on all ranks afterwards.
            batch_norm: ``sync``: over the whole batch; otherwise over each rank's share.
        """
        if self.size == 1:
            return
        method.load_state_dict(self.same(method.state_dict()) or {})
        share = _Share(self)
        for module in method.modules():
            if isinstance(module, Encoder):
                module.divide = share
            elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.forward = _Norm(module, share, batch_norm == "sync")  # type: ignore[method-assign, assignment]

    @torch.no_grad()
    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Give all ranks the average of their gradients; which parameters have any is the same everywhere."""
        if self.size > 1:
            self._average([p.grad for p in parameters if p.grad is not None])

    @torch.no_grad()
    def average_statistics(self, network: nn.Module) -> None:
        """Give all ranks the average of their running statistics, which differ where each normalises its own share."""
        if self.size > 1:
            norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
            self._average([x for norm in norms for x in (norm.running_mean, norm.running_var) if x is not None])

    def _average(self, tensors: list[Tensor]) -> None:
        if not tensors:
            return
        flat = torch.cat([x.flatten() for x in tensors])
        dist.all_reduce(flat)
        for x, mean in zip(tensors, torch.split(flat / self.size, [x.numel() for x in tensors]), strict=True):
            x.copy_(mean.view(x.shape))


ALONE = Ranks()


class _Share:
    """Passes a rank's share of a batch through a network, and returns the output for the whole batch."""

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks
        self.active = False
        """Whether what runs now sees a share; other passes are the same on all ranks."""

    def __call__(self, network: Callable[..., Tensor], clips: Tensor, *arguments: Any, **more: Any) -> Tensor:
        rank, size = self.ranks.rank, self.ranks.size
        self.active = True
        try:
            maps = network(clips.tensor_split(size)[rank], *arguments, **more)
        finally:
            self.active = False
        return _Gather.apply(maps, len(clips), rank, size)  # type: ignore[no-any-return, no-untyped-call]


class _Gather(torch.autograd.Function):
    """The rows of all ranks. Every rank goes on with the same loss, so each takes its rows' gradient from its own.

    It is multiplied by the number of ranks, since the gradients of all parameters are averaged over them afterwards: those
    of the encoder, each a share's, are summed this way, and those of all else, equal on every rank, stay.
    """

    @staticmethod
    def forward(ctx: Any, own: Tensor, count: int, rank: int, size: int) -> Tensor:
        ctx.place, ctx.size = (count, rank), size
        lengths = [len(part) for part in torch.empty(count, 0).tensor_split(size)]
        padded = own.new_zeros(lengths[0], *own.shape[1:])  # the first shares are the longest
        padded[: len(own)] = own
        parts = [torch.empty_like(padded) for _ in lengths]
        dist.all_gather(parts, padded)
        return torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        _, rank = ctx.place
        return gradients[0].tensor_split(ctx.size)[rank] * ctx.size, None, None, None


class _Sum(torch.autograd.Function):
    """The sum over ranks; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


class _Norm:
    """The forward pass of a BatchNorm where a batch is divided; ``torch.nn.SyncBatchNorm`` knows GPUs only."""

    def __init__(self, norm: nn.BatchNorm1d | nn.BatchNorm2d, share: _Share, sync: bool) -> None:
        self.norm, self.share, self.sync = norm, share, sync
        self.whole = norm.forward

    def __call__(self, x: Tensor) -> Tensor:
        norm = self.norm
        if not (self.share.active and norm.training):
            return self.whole(x)
        if not self.sync:
            return self.whole(x) if len(x) else x * norm.weight.sum() + norm.bias.sum()  # zero gradients, not none
        dims = [0, *range(2, x.ndim)]
        shape = [1, -1, *[1] * (x.ndim - 2)]
        values = x.to(norm.weight.dtype)
        rows = values.new_full((1,), x.numel() // x.shape[1])
        sums = _Sum.apply(torch.cat([values.sum(dims), rows]))  # type: ignore[no-untyped-call]
        count = sums[-1].detach()
        mean = sums[:-1] / count
        centred = values - mean.view(shape)
        variance = _Sum.apply((centred * centred).sum(dims)) / count  # type: ignore[no-untyped-call]
        with torch.no_grad():
            assert norm.running_mean is not None
            assert norm.running_var is not None
            assert norm.num_batches_tracked is not None
            norm.num_batches_tracked += 1
            momentum = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
            norm.running_mean.lerp_(mean, momentum)
            norm.running_var.lerp_(variance * (count / (count - 1)), momentum)
        scale = norm.weight * (variance + norm.eps).rsqrt()
        normalised: Tensor = centred * scale.view(shape) + norm.bias.view(shape)
        return normalised.to(x.dtype)


@contextmanager
def joined(place: torch.device) -> Iterator[Ranks]:
    """The group of processes that torchrun has started, while the block runs; :data:`ALONE` if it has not.

    Where the block of the first rank ends, or stops with a message for the user, the others hear that it is over.

    Args:
        place: what this process trains on.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or "RANK" not in os.environ:
        yield ALONE
        return
    if place.type == "cuda":
        torch.cuda.set_device(place)
    dist.init_process_group("nccl" if place.type == "cuda" else "gloo")
    ranks = Ranks(dist.get_rank(), size, dist.new_group(backend="gloo", timeout=_PATIENCE))
    try:
        try:
            yield ranks
        except BenchError:
            if ranks.first:
                ranks.tell()
            raise
        if ranks.first:
            ranks.tell()
    finally:
        dist.destroy_process_group()
