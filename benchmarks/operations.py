"""Operations and bytes of every encoder, and how near its training comes to what this machine can do.

Run by hand: ``python -m benchmarks.operations [--threads 2] [--batch 16] [--encoders stgcn]``. The roofs are measured in the
same process: arithmetic by ST-GCN's widest convolution (256 to 256 channels, 9 frames), forward and backward; memory by a copy.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.tables import Table, show_all, told
from benchmarks.timing import best_seconds
from datasets.clips import from_storage
from datasets.layout import NTU25
from encoders.base import Encoder
from engine.memory import keep_freed_memory
from engine.registry import find, names

FRAMES, PERSONS = 50, 2
ENCODERS = tuple(name for name in names("encoders") if name != "coordinates")


class Traffic(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of what operations read and write, each tensor once per operation; views cost nothing."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not (func.is_view or func in _FREE):
            tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, Tensor)]
            # What is expanded lies in memory once; what is changed in place is read and written.
            self.bytes += sum(min(x.numel() * x.element_size(), x.untyped_storage().nbytes()) for x in tensors)
        return out


_aten: Any = torch.ops.aten
_FREE = {_aten.empty.memory_format, _aten.empty_like.default, _aten.empty_strided.default, _aten._unsafe_view.default}


def roofs(precision: str) -> tuple[float, float]:
    """Operations per second of a convolution with its backward pass, and bytes per second of a copy."""
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    convolution = nn.Conv2d(256, 256, (9, 1), padding=(4, 0), bias=False, dtype=kind)
    convolution.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(64, 256, 13, 25).to(kind, memory_format=torch.channels_last).requires_grad_()
    slope = torch.randn(64, 256, 13, 25).to(kind, memory_format=torch.channels_last)
    operations = 3 * 2 * 9 * 256 * x.numel()
    wanted = x, convolution.weight
    seconds = best_seconds(lambda: torch.autograd.grad(convolution(x), wanted, slope), 10, 3)
    source, target = torch.ones(2**26), torch.empty(2**26)
    return operations / seconds, 2 * source.nbytes / best_seconds(lambda: target.copy_(source), 5, 1)


def step_of(encoder: Encoder, batch: int) -> float:
    """Bytes moved per clip by a forward and backward pass in training."""
    clips = from_storage(torch.randn(batch, PERSONS, FRAMES, len(NTU25), 3))
    with Traffic() as traffic:
        encoder(clips).sum().backward()
    return float(traffic.bytes) / batch


def table(threads: int = 1, batch: int = 16, precision: str = "float32", encoders: Iterable[str] = ENCODERS) -> Table:
    """One row per encoder at its published size."""
    torch.set_num_threads(threads)
    keep_freed_memory()  # as training does
    arithmetic, memory = roofs(precision)
    rows = []
    for name in encoders:
        cls = find("encoders", name)
        torch.manual_seed(0)
        encoder = cls(cls.Config(), NTU25, frames=FRAMES, persons=PERSONS).train()
        encoder.precision = precision
        operations, moved = 3 * encoder.flops(), step_of(encoder, batch)
        clips = from_storage(torch.randn(batch, PERSONS, FRAMES, len(NTU25), 3))
        rate = batch / best_seconds(lambda encoder=encoder, clips=clips: encoder(clips).sum().backward(), 3, 1)  # type: ignore[misc]
        limits = arithmetic / operations, memory / moved, 1 / (operations / arithmetic + moved / memory)
        rows.append(told(_row(name, operations, moved, rate, limits, arithmetic)))
    columns = (
        "encoder", "GFLOP forward", "GFLOP training", "MB moved", "clips/s", "GFLOP/s", "of the convolution's",
        "limit by operations", "by bytes", "by both in turn", "of that",
    )  # fmt: skip
    title = (
        f"Forward and backward, {precision}, batch {batch}, {threads} thread(s); roofs {arithmetic / 1e9:.0f} GFLOP/s "
        f"(convolution), {memory / 1e9:.1f} GB/s (copy)"
    )
    return Table(title, columns, rows)


def _row(
    name: str, operations: float, moved: float, rate: float, limits: tuple[float, float, float], roof: float
) -> Sequence[str]:
    return (
        name,
        f"{operations / 3e9:.2f}",
        f"{operations / 1e9:.2f}",
        f"{moved / 1e6:.0f}",
        f"{rate:.1f}",
        f"{rate * operations / 1e9:.0f}",
        f"{rate * operations / roof:.0%}",
        *(f"{limit:.0f}" for limit in limits),
        f"{rate / limits[2]:.0%}",
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--encoders", default=",".join(ENCODERS))
    parser.add_argument("--markdown", action="store_true")
    given = parser.parse_args()
    encoders = given.encoders.split(",")
    show_all((table(given.threads, given.batch, p, encoders) for p in ("float32", "bf16")), given.markdown)


if __name__ == "__main__":
    main()
