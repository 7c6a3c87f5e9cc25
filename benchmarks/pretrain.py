"""Clips per second and peak memory of pre-training at the papers' settings, generated clips, each case in a process of its own.

Run by hand: ``python -m benchmarks.pretrain [--methods aimclr,mamp] [--precisions bf16] [--threads 1,2] [--batch 128]``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from benchmarks.plain_aimclr import direct_steps
from benchmarks.steps import Case, Speed, alone, steps_of
from benchmarks.tables import Table, show_all, told
from engine.registry import find

METHODS = ("skeletonclr", "aimclr", "actclr", "hiclr", "crossclr", "cmd", "igm", "mamp", "macdiff")
PRECISIONS = ("float32", "bf16")
SKIPPED: Mapping[str, Any] = {"encoder_settings": {"absent": "skip"}}
"""Leaves absent persons out, which the papers' code does not do: other features, other numbers."""
MINING: Mapping[str, Any] = {"settings": {"nnm.start_epoch": 0}}
"""As in epochs 151 to 300, with the paper's queue."""


def methods_table(
    batch: int = 128,
    threads: Sequence[int] = (1, 2),
    methods: Iterable[str] = METHODS,
    precisions: Sequence[str] = PRECISIONS,
) -> Table:
    """All methods, each with the encoder of its paper."""
    columns = [(precision, count) for precision in precisions for count in threads]
    rows = []
    for method in methods:
        measured = [alone(steps_of, Case(method, precision=p, threads=n, batch=batch)) for p, n in columns]
        rates = [f"{speed.rate:.1f}" for speed in measured]
        # With several threads memory differs little.
        peaks = [
            f"{max(s.peak for s, (of, _) in zip(measured, columns, strict=True) if of == p):.1f}" for p in precisions
        ]
        rows.append(told([method, find("methods", method).default_encoder, *rates, *peaks]))
    names = [f"{precision}, {count} thread(s)" for precision, count in columns]
    peaks = [f"peak GiB, {precision}" for precision in precisions]
    return Table(f"Pre-training, clips/s, batch {batch}", ("method", "encoder", *names, *peaks), rows)


def direct_table(batch: int = 128, threads: Sequence[int] = (1, 2), precisions: Sequence[str] = PRECISIONS) -> Table:
    """AimCLR against the direct translation, and what it loses without one of the optimisations."""
    rows = []
    for precision in precisions:
        for count in threads:
            case = Case(precision=precision, threads=count, batch=batch)
            direct = alone(direct_steps, case)
            kinds = {
                "direct translation": direct,
                "ours": alone(steps_of, case),
                "ours, torch's dropout": alone(steps_of, replace(case, without=("dropout",))),
                "ours, freed memory given back": alone(steps_of, replace(case, without=("memory",))),
                "ours, absent persons left out (not the same numbers)": alone(steps_of, replace(case, **SKIPPED)),
            }
            rows += [told([name, precision, str(count), *_cells(speed, direct)]) for name, speed in kinds.items()]
    return Table(f"An AimCLR step, batch {batch}", ("", "precision", "threads", "clips/s", "ratio", "peak GiB"), rows)


def _cells(speed: Speed, direct: Speed) -> tuple[str, str, str]:
    return f"{speed.rate:.1f}", f"{speed.rate / direct.rate:.2f}", f"{speed.peak:.1f}"


def growth_table(batch: int = 128, threads: int = 1, precision: str = "float32") -> Table:
    """How AimCLR grows with clips, frames, joints, queue length and mining; everything else at the paper's settings."""
    case = Case(precision=precision, threads=threads, batch=batch)
    changes: Mapping[str, Mapping[str, Any]] = {
        **{f"{frames} frames": {"frames": frames} for frames in (25, 50, 100, 200)},
        **{f"{joints} joints": {"joints": joints} for joints in (17, 20, 25)},
        **{f"queue {queue:,}": {"settings": {"moco.queue": queue}} for queue in (1024, 4096, 16384, 32768, 65536)},
        **{f"{clips:,} clips": {"clips": clips} for clips in (1000, 10_000, 40_091)},
        "mining neighbours": MINING,
    }
    rows = []
    for name, change in changes.items():
        speed = alone(steps_of, replace(case, **change))
        rows.append(told([name, f"{speed.rate:.1f}", f"{1000 / speed.rate:.0f}", f"{speed.peak:.1f}"]))
    title = f"Growth of AimCLR, {precision}, batch {batch}, {threads} thread(s)"
    return Table(title, ("", "clips/s", "ms per clip", "peak GiB"), rows)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--precisions", default=",".join(PRECISIONS))
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--only", choices=("methods", "direct", "growth"))
    parser.add_argument("--markdown", action="store_true")
    given = parser.parse_args()
    threads, precisions = [int(count) for count in given.threads.split(",")], given.precisions.split(",")
    parts: Mapping[str, Callable[[], Table]] = {
        "methods": lambda: methods_table(given.batch, threads, given.methods.split(","), precisions),
        "direct": lambda: direct_table(given.batch, threads, precisions),
        "growth": lambda: growth_table(given.batch, threads[-1], precisions[0]),
    }
    show_all((table() for name, table in parts.items() if given.only in (None, name)), given.markdown)


if __name__ == "__main__":
    main()
