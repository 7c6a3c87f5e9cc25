"""How well ActCLR's actionlets fit the truth that the synthetic set knows.

Run after ActCLR was trained on the synthetic set: ``python -m benchmarks.actionlets [--results results --data data]``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import safetensors.torch
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from datasets.actionlets import score_actionlets
from datasets.clips import ClipSet
from datasets.synthetic import load_actionlets
from engine.bench import Bench, build_method
from engine.config import BenchError
from engine.plan import Request, build
from engine.progress import Reporter
from engine.store import RunStore
from methods.actclr import ActCLR


@torch.no_grad()
def masks(method: ActCLR, clips: ClipSet) -> Tensor:
    """Actionlets (N, M, T', V) of un-augmented clips, from the key network in eval mode and the dataset's anchor."""
    method.eval()
    batches = torch.split(clips.clips, 128)
    anchor = method.anchor(batches[0])
    method.eval()
    return torch.cat([method.actionlet(batch, anchor) for batch in batches])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    store = RunStore(arguments.results)
    plan = build(Request(("actclr",), ("knn",), seeds=(arguments.seed,), budget="quick"), arguments.data, store)
    job = next(job for job in plan.jobs if job.stage.kind == "pretrain" and job.stage.choice.plugin.name == "actclr")
    if job.state != "done":
        raise BenchError(
            f"ActCLR is not trained in {arguments.results}: run python run_bench.py --methods actclr first."
        )
    bench = Bench(store, plan.splits, torch.device("cpu"), Reporter(Console()))
    method = build_method(job.stage, bench)
    assert isinstance(method, ActCLR)
    method.load_state_dict(safetensors.torch.load_file(store.result(job.stage)))
    test = bench.split(job.stage).test
    truth = load_actionlets(arguments.data)[1]
    found = masks(method, test)
    table = Table("actionlet", "IoU %", "chance %", "motion energy %", "area %", "true area %")
    for name, threshold in (("mask above 0.5", 0.5), ("mask, as large as the truth", None)):
        score = score_actionlets(found, truth, test.clips, test.presence, threshold)
        columns = ("iou", "iou_chance", "iou_energy", "area", "area_truth")
        table.add_row(name, *(f"{score[column]:.1f}" for column in columns))
    Console().print(table)


if __name__ == "__main__":
    main()
