"""AimCLR on a GPU: clips/s on data of NTU RGB+D 60's size, what the step waits for, and where its time goes.

Run by hand: ``python -m benchmarks.gpu [--batch 128,512]``. Clips are generated and lie on the device; bf16, with and without
``train.compile``. ``--device cpu --clips 64 --batch 16`` goes the same way without a GPU; its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.pretrain import MINING
from benchmarks.steps import Case, build, generated
from benchmarks.tables import Table, told
from datasets.clips import ClipSet
from datasets.layout import NTU25
from engine.train import Progress, pretrain
from methods.base import Method

CLIPS = 40_091
GOAL = 10_000
"""Clips per second: 300 epochs of NTU RGB+D 60 in 20 minutes."""
_LOOKED_AT = 40
"""Steps whose waiting and time are looked at."""


def method_of(case: Case, clips: ClipSet, **changes: Any) -> Method:
    """The method of a case, on the clips' device."""
    changed = replace(case, settings={**case.settings, **{f"train.{name}": value for name, value in changes.items()}})
    return build(changed, clips).to(clips.clips.device)


def rate(case: Case, clips: ClipSet, compiled: bool) -> float:
    """Clips per second in the second of two epochs; the first one compiles and warms up."""
    ends: dict[int, tuple[float, int]] = {}

    def report(at: Progress) -> None:  # the device was waited for just before
        ends[at.epoch] = time.perf_counter(), at.step

    pretrain(method_of(case, clips, epochs=2, compile=compiled), clips, seed=0, report=report)
    (before, first), (after, last) = ends[1], ends[2]
    return (last - first) * case.batch / (after - before)


def waits(case: Case, clips: ClipSet) -> Counter[str]:
    """Lines of code at which the device was waited for in an epoch, and how often."""
    method = method_of(case, clips, epochs=1)
    on_gpu = clips.clips.is_cuda
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if on_gpu:
            torch.cuda.set_sync_debug_mode("warn")
        try:
            pretrain(method, clips, seed=0)
        finally:
            if on_gpu:
                torch.cuda.set_sync_debug_mode("default")
    found = [entry for entry in caught if "called a synchronizing CUDA operation" in str(entry.message)]
    return Counter(f"{'/'.join(Path(entry.filename).parts[-2:])}:{entry.lineno}" for entry in found)


def profiled(case: Case, clips: ClipSet, compiled: bool, rows: int = 15) -> str:
    """The operations that take most of the second of two epochs on the device, and how much of it the device was busy."""
    on_gpu = clips.clips.is_cuda
    profiler = profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])])
    ends: dict[int, float] = {}

    def report(at: Progress) -> None:  # the device was waited for just before
        if at.epoch == 1 and at.step * at.epochs == at.steps:
            profiler.start()
        ends[at.epoch] = time.perf_counter()

    try:
        pretrain(method_of(case, clips, epochs=2, compile=compiled), clips, seed=0, report=report)
    finally:
        profiler.stop()
    seen, order = profiler.key_averages(), "self_device_time_total" if on_gpu else "self_cpu_time_total"
    busy = sum(getattr(event, order) for event in seen) / 1e6 / (ends[2] - ends[1])
    table = seen.table(sort_by=order.replace("device", "cuda"), row_limit=rows, max_name_column_width=60)
    return f"{_kind(case.batch, compiled)}: busy for {busy:.0%} of the second epoch\n{table}"


def _kind(batch: int, compiled: bool) -> str:
    return f"batch {batch}, {'compiled' if compiled else 'eager'}"


def measure(base: Case, device: str, count: int, batches: Sequence[int], markdown: bool = False) -> None:
    """Print everything; what fails is a line, and the rest is measured all the same."""
    clips = generated(count, NTU25, base.frames, device=device)
    on_gpu = clips.clips.is_cuda
    name = torch.cuda.get_device_name() if on_gpu else "CPU, a dry run"
    kinds = [
        (replace(base, batch=batch, settings={**base.settings, **mining}), compiled, label)
        for batch in batches
        for compiled in ((False, True) if on_gpu else (False,))
        for label, mining in (("", {}), (", mining", dict(MINING["settings"])))
    ]
    rows = []
    for case, compiled, label in kinds:
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        kind = _kind(case.batch, compiled) + label
        try:
            reached = rate(case, clips, compiled)
        except RuntimeError as error:  # of a compiler, or for want of memory
            rows.append([kind, f"failed: {str(error).splitlines()[0]}", "", "", ""])
        else:
            peak = f"{torch.cuda.max_memory_allocated() / 2**30:.1f}" if on_gpu else ""
            rows.append([kind, f"{reached:,.0f}", f"{reached / GOAL:.2f}", f"{1000 * case.batch / reached:.1f}", peak])
        told(rows[-1])
    columns = ("", "clips/s", f"of {GOAL:,}", "ms per step", "peak GiB")
    Table(f"AimCLR, bf16, {count:,} clips on the device ({name})", columns, rows).show(markdown)

    case = replace(base, batch=batches[0])
    few = generated(min(count, _LOOKED_AT * case.batch), NTU25, base.frames, device=device)
    steps = len(few) // case.batch
    places = [[place, str(times), "yes" if times >= steps else "no"] for place, times in waits(case, few).most_common()]
    title = f"Where the device was waited for in an epoch of {steps} steps (the loop looks at the losses every 20)"
    Table(title, ("line", "times", "in every step"), places or [["nowhere", "0", "no"]]).show(markdown)
    for compiled in (False, True) if on_gpu else (False,):
        try:
            print(profiled(case, few, compiled), flush=True)
        except RuntimeError as error:
            print(f"{_kind(case.batch, compiled)}: failed, {error}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, or say that there is no GPU."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--clips", type=int, default=CLIPS)
    parser.add_argument("--batch", default="128,512")
    parser.add_argument("--markdown", action="store_true")
    given = parser.parse_args(arguments)
    if given.device == "cuda" and not torch.cuda.is_available():
        sys.exit("No GPU here that this build of torch can use: nothing was measured. --device cpu makes a dry run.")
    batches = [int(count) for count in given.batch.split(",")]
    measure(Case(precision="bf16"), given.device, given.clips, batches, given.markdown)


if __name__ == "__main__":
    main()
