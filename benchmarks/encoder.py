"""Forward + backward of ST-GCN: the zoo's channels-last version against the straightforward layout.

Run by hand: ``python -m benchmarks.encoder [--threads 2]``.
"""

from __future__ import annotations

import argparse

import torch

from benchmarks.plain_stgcn import plain_forward
from benchmarks.tables import Table
from benchmarks.timing import best_seconds
from datasets.clips import from_storage
from datasets.layout import NTU25
from encoders.stgcn import STGCN, STGCNConfig
from engine.memory import keep_freed_memory

SETTINGS = {
    "paper width": STGCNConfig(),
    "paper width, no dropout": STGCNConfig(dropout=0.0),
    "narrow (8, 128-d), no dropout": STGCNConfig(width=8, dim=128, dropout=0.0),
}


def measure(config: STGCNConfig, batch: int, precision: str) -> tuple[float, float]:
    """Clips per second of the zoo's and of the plain version; two persons, 50 frames, 25 joints."""
    clips = from_storage(torch.randn(batch, 2, 50, 25, 3))
    fast = STGCN(config, NTU25, 50, 2).train()
    fast.precision = precision
    plain = STGCN(config, NTU25, 50, 2).train()
    plain.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    contiguous = clips.contiguous()

    def plain_step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            maps = plain_forward(plain, contiguous)
        maps.float().sum().backward()  # type: ignore[no-untyped-call]

    seconds = best_seconds(lambda: fast(clips).sum().backward()), best_seconds(plain_step)
    return batch / seconds[0], batch / seconds[1]


def table(threads: int, batch: int = 32) -> Table:
    """Clips per second of both versions."""
    torch.set_num_threads(threads)
    keep_freed_memory()  # both gain
    rows = []
    for name, config in SETTINGS.items():
        for precision in ("float32", "bf16"):
            fast, plain = measure(config, batch, precision)
            rows.append((name, precision, f"{fast:.1f}", f"{plain:.1f}", f"{fast / plain:.2f}"))
    columns = ("encoder", "precision", "channels-last, clips/s", "plain, clips/s", "ratio")
    return Table(f"ST-GCN forward and backward, batch {batch}, {threads} thread(s)", columns, rows)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--batch", type=int, default=32)
    table(**vars(parser.parse_args())).show()


if __name__ == "__main__":
    main()
