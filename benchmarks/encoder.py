"""Forward + backward of ST-GCN: the zoo's channels-last version against the straightforward layout.

Run by hand: ``python -m benchmarks.encoder [--threads 2]``.
"""

from __future__ import annotations

import argparse

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.plain_stgcn import plain_forward
from benchmarks.timing import best_seconds
from datasets.clips import from_storage
from datasets.layout import NTU25
from encoders.stgcn import STGCN, STGCNConfig

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


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--batch", type=int, default=32)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    table = Table(
        "encoder",
        "precision",
        "channels-last, clips/s",
        "plain, clips/s",
        "ratio",
        title=f"{arguments.threads} threads",
    )
    for name, config in SETTINGS.items():
        for precision in ("float32", "bf16"):
            fast, plain = measure(config, arguments.batch, precision)
            table.add_row(name, precision, f"{fast:.1f}", f"{plain:.1f}", f"{fast / plain:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
