"""Data of the size of NTU RGB+D 120: does pre-training fit into 16 GiB, and what do clips cost that lie in a mapped file?

Run by hand: ``python -m benchmarks.large [--clips 114480] [--batch 128] [--threads 2] [--folder DIR]``; it writes 30 kB a clip
into the folder, and as much again while the file is mapped. Clips are generated; as many as in x-sub are for training.
"""

from __future__ import annotations

import argparse
import ctypes
import re
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from benchmarks.steps import Case, alone, build, generated, peak_gib, train_steps
from benchmarks.tables import Table
from datasets import mapped as mapped_clips
from datasets import store
from datasets.clips import ClipSet, to_storage
from datasets.layout import NTU25

CLIPS, TRAINING = 114_480, 63_026
_PART = 8192
_ROUNDS = 3
_PAGE_OUT = 21  # MADV_PAGEOUT


@dataclass(frozen=True)
class Cost:
    """What a way to hold the clips costs: seconds to load, to read a batch (at once, and from the disk), clips/s, GiB."""

    load: float
    read: float
    read_cold: float
    rate: float
    anonymous: float
    peak: float


def write(folder: Path, count: int) -> None:
    """A store of that many clips."""
    with store.ClipFile(folder / "clips.part", (2, 50, len(NTU25), 3)) as file:
        part = to_storage(generated(min(_PART, count), NTU25).clips).numpy()
        for start in range(0, count, _PART):
            file.append(part[: count - start])
    samples = pd.DataFrame({"id": [f"{i:06}" for i in range(count)], "label": 0, "length": 50})
    store.write_store(folder / "store", file, samples, NTU25, ("any",), {"version": 1})


def measure(folder: Path, mapped: bool, case: Case) -> Cost:
    """Load both parts and train on one of them; call it in a process of its own."""
    torch.set_num_threads(case.threads)
    mapped_clips.IN_MEMORY = 0.0 if mapped else 1.0
    start = time.perf_counter()
    prepared = store.open_store(folder / "store")
    training = np.arange(len(prepared.clips)) < len(prepared.clips) * TRAINING // CLIPS
    clips, test = prepared.select(training), prepared.select(~training)
    load = time.perf_counter() - start
    read = read_seconds(clips, case.batch)
    cold = read_seconds(clips, case.batch) if mapped and page_out(clips) else float("nan")
    method = build(case, clips)
    rate = case.batch / min(train_steps(method, clips, case.steps))
    assert len(test)  # is there until here, as in a run
    return Cost(load, read, cold, rate, anonymous_gib(), peak_gib())


def read_seconds(clips: ClipSet, batch: int) -> float:
    """Average seconds to take a random batch, over an epoch's beginning."""
    order = torch.randperm(len(clips), generator=torch.Generator().manual_seed(0))
    batches = torch.split(order, batch)[:50]
    stored = to_storage(clips.clips)
    start = time.perf_counter()
    for index in batches:
        stored.index_select(0, index)
    return (time.perf_counter() - start) / len(batches)


def page_out(clips: ClipSet) -> bool:
    """Send clips of a mapped file back to the disk; whether this system can."""
    madvise = getattr(ctypes.CDLL(None), "madvise", None)
    stored = to_storage(clips.clips)
    place, size = ctypes.c_void_p(stored.data_ptr()), ctypes.c_size_t(4 * stored.numel())
    return madvise is not None and madvise(place, size, _PAGE_OUT) == 0


def anonymous_gib() -> float:
    """Memory of this process that the system cannot read again from a file."""
    status = Path("/proc/self/status")
    found = re.search(r"RssAnon:\s*(\d+)", status.read_text()) if status.exists() else None
    return int(found[1]) / 2**20 if found else float("nan")


def table(clips: int = CLIPS, case: Case | None = None, folder: Path | None = None) -> Table:
    """Clips in memory and in a mapped file, each as in the round with its best step."""
    case = case or Case(threads=2)
    rows = []
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        write(Path(scratch), clips)
        # By turns: the speed of machines drifts by more than what is to be seen.
        costs = [[alone(measure, Path(scratch), mapped, case) for mapped in (False, True)] for _ in range(_ROUNDS)]
        for name, found in zip(("in memory", "mapped file"), zip(*costs, strict=True), strict=True):
            cost = max(found, key=lambda each: each.rate)
            reads = (f"{1000 * seconds:.1f}" for seconds in (cost.read, cost.read_cold))
            rows.append(
                [name, f"{cost.load:.0f}", *reads, f"{1000 * case.batch / cost.rate:.0f}", f"{cost.rate:.1f}",
                 f"{cost.anonymous:.1f}", f"{cost.peak:.1f}"]
            )  # fmt: skip
    size = f"{clips:,} clips, {clips * 30_000 / 1e9:.1f} GB"
    title = f"AimCLR on {size}, {case.precision}, batch {case.batch}, {case.threads} thread(s)"
    columns = (
        "clips", "load s", "read a batch, ms", "from the disk, ms", "step, ms", "clips/s", "GiB after", "peak GiB, files too"
    )  # fmt: skip
    return Table(title, columns, rows)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=CLIPS)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--markdown", action="store_true")
    given = parser.parse_args()
    table(given.clips, Case(batch=given.batch, threads=given.threads), given.folder).show(given.markdown)


if __name__ == "__main__":
    main()
