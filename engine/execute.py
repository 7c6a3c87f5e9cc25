"""Run a plan in this process: what fails is noted and skipped round, what is done stays done."""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from engine import provenance, work
from engine.bench import Bench
from engine.config import BenchError
from engine.estimate import work as amount_of_work
from engine.plan import Plan
from engine.progress import Reporter, duration
from engine.records import Record
from engine.stages import Stage
from engine.store import RunStore


@dataclass
class Summary:
    """What became of a plan: stages that ran, why others failed (by key), and whether the user stopped it."""

    ran: list[Stage] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    interrupted: bool = False


def execute(plan: Plan, store: RunStore, device: torch.device, reporter: Reporter) -> Summary:
    """Run what is not done, parents first; a failure stops its descendants only, Ctrl-C stops the rest."""
    summary = Summary()
    reporter.jobs = len(plan.todo)
    bench = Bench(store, plan.splits, device, reporter)
    for job in plan.jobs:
        store.announce(job.stage)
        if job.state == "unsupported":
            store.unsupported(job.stage, job.reason)
    try:
        for job in plan.todo:
            if broken := next((parent for parent in job.stage.parents if parent.key in summary.failed), None):
                _fail(job.stage, _because(broken, summary.failed), "", store, summary)
                reporter.number += 1
                reporter.say(f"{reporter.counter} {job.stage}: skipped", style="dim")
                continue
            with store.lease(
                job.stage, lambda: reporter.say("  another run is busy with the next stage; waiting for it")
            ):
                if store.record(job.stage) is None:
                    _run(job.stage, bench, summary)
    except KeyboardInterrupt:
        summary.interrupted = True
    return summary


def _run(stage: Stage, bench: Bench, summary: Summary) -> None:
    store, reporter = bench.store, bench.reporter
    resumed = store.resumable(stage)
    started = time.perf_counter()
    try:
        with reporter.stage(str(stage), stage.short):
            record = work.run(stage, bench)
        seconds = time.perf_counter() - started
        amount, unit = amount_of_work(stage, bench.splits)
        circumstances = provenance.collect(
            seconds=seconds,
            device=bench.device,
            plugin=stage.choice.plugin.path,
            work=amount,
            unit=unit,
            resumed=resumed,
        )
        store.commit(stage, record, circumstances)
    except Exception as error:
        reason = str(error) if isinstance(error, BenchError) else f"{type(error).__name__}: {error}"
        _fail(stage, reason, traceback.format_exc(), store, summary)
        reporter.say(f"{reporter.counter} {stage}: FAILED\n  {reason}", style="red")
    else:
        summary.ran.append(stage)
        reporter.say(f"{reporter.counter} {stage}: {_headline(record)}, {duration(seconds)}", style="green")


def _fail(stage: Stage, reason: str, detail: str, store: RunStore, summary: Summary) -> None:
    store.fail(stage, reason, detail)
    summary.failed[stage.key] = reason


def _because(broken: Stage, failed: Mapping[str, str]) -> str:
    reason = failed[broken.key]
    return reason if " failed: " in reason else f"{broken.kind} of {broken.choice.plugin.name} failed: {reason}"


def _headline(record: Record) -> str:
    for metric, name in (("top1", "top-1"), ("miou", "mIoU")):
        if metric in record.metrics:
            return f"{name} {record.metrics[metric]:.1f} %"
    if record.curve:
        return f"loss {record.curve[-1]['loss']:.3f} after {len(record.curve)} epochs"
    return f"{record.facts['feature_dim']} features" if "feature_dim" in record.facts else "nothing to train"
