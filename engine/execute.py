"""Run a plan in this process: failures are noted and skipped round, what is done stays done, what others do is theirs."""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass, field

import torch

from engine import provenance, work
from engine.bench import Bench
from engine.config import BenchError
from engine.estimate import work as amount_of_work
from engine.files import UnwritableError
from engine.plan import Plan
from engine.progress import Reporter, duration
from engine.ranks import ALONE, Ranks
from engine.records import Record
from engine.stages import Stage
from engine.store import LeaseLostError, RunStore

_WAIT = 0.5
"""Seconds between two looks at stages that other processes are busy with."""


@dataclass
class Summary:
    """What became of a plan: stages that ran, why others failed (by key), and whether the user stopped it."""

    ran: list[Stage] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    interrupted: bool = False


def announce(plan: Plan, store: RunStore) -> None:
    """Write down what a plan is about to do: its stages, what cannot be run and why; failures to be repeated are forgotten."""
    for job in plan.jobs:
        store.announce(job.stage)
        if job.state == "unsupported":
            store.unsupported(job.stage, job.reason)
        elif job.state == "retry":
            store.forgive(job.stage)


def execute(plan: Plan, store: RunStore, device: torch.device, reporter: Reporter, ranks: Ranks = ALONE) -> Summary:
    """Run what is not done, parents first; a failure stops its descendants only, Ctrl-C stops the rest.

    Stages that another process is busy with are left to it; what does not need them runs meanwhile.

    Raises:
        UnwritableError: the disk is full; nothing is noted as failed, and the same command continues.
    """
    summary = Summary()
    todo = [job.stage for job in plan.todo]
    reporter.jobs = len(todo)
    bench = Bench(store, plan.splits, device, reporter, ranks)
    announce(plan, store)
    waiting = False
    try:
        while todo:
            for stage in [*todo]:
                if _settle(stage, todo, bench, summary):
                    todo.remove(stage)
                    waiting = False
                    break
            else:
                if not waiting and not reporter.shared:
                    reporter.say("  other runs are busy with what is left; waiting for them")
                waiting = True
                time.sleep(_WAIT)
    except KeyboardInterrupt:
        summary.interrupted = True
    return summary


def _settle(stage: Stage, todo: list[Stage], bench: Bench, summary: Summary) -> bool:
    """Run a stage, unless it is done, cannot be run, or has to wait (false)."""
    store, reporter = bench.store, bench.reporter
    for parent in stage.parents:
        if reason := summary.failed.get(parent.key) or store.failure(parent):
            summary.failed[stage.key] = parent.blamed(reason)
            reporter.number += 1
            reporter.say(f"{reporter.counter} {stage}: skipped", style="dim")
            return True
    if missing := [parent for parent in stage.parents if not _is_there(parent, bench)]:
        planned = {other.key for other in todo}
        if new := [parent for parent in missing if parent.key not in planned]:
            todo[:0] = new
            reporter.jobs += len(new)
        return False
    with store.lease(stage) as held:
        if not held:
            return False
        if store.record(stage) is not None:
            reporter.number += 1
            if not reporter.shared:
                reporter.say(f"{reporter.counter} {stage}: done by another run meanwhile", style="dim")
            return True
        if reason := store.failure(stage):
            summary.failed[stage.key] = reason
            reporter.number += 1
            reporter.say(f"{reporter.counter} {stage}: FAILED in another run\n  {reason}", style="red")
            return True
        if names := store.set_aside(stage):
            reporter.say(f"  {stage} is damaged; set aside in {store.folder(stage)}: {', '.join(names)}", "yellow")
        return _run(stage, bench, summary)


def _is_there(parent: Stage, bench: Bench) -> bool:
    """Whether a parent is done and its result is what was written; a damaged one is set aside, to be made again."""
    if bench.store.record(parent) is None:
        return False
    if not bench.store.is_whole(parent):
        with bench.store.lease(parent) as held:
            names = bench.store.set_aside(parent) if held else []
        if names:
            text = f"  the result of {parent} is damaged; set aside in {bench.store.folder(parent)}: {', '.join(names)}"
            bench.reporter.say(text, "yellow")
        return False
    return True


def _run(stage: Stage, bench: Bench, summary: Summary) -> bool:
    """Do the work of a stage; false if another process has taken it over meanwhile."""
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
            ranks=bench.ranks.size if stage.kind == "pretrain" else 1,
        )
        store.commit(stage, record, circumstances)
    except UnwritableError:
        raise
    except LeaseLostError:
        reporter.say(
            f"{reporter.counter} {stage}: taken over by another run, since this one stood still", style="yellow"
        )
        return False
    except Exception as error:
        reason = str(error) if isinstance(error, BenchError) else f"{type(error).__name__}: {error}"
        store.fail(stage, reason, traceback.format_exc())
        summary.failed[stage.key] = reason
        reporter.say(f"{reporter.counter} {stage}: FAILED\n  {reason}", style="red")
    else:
        summary.ran.append(stage)
        reporter.say(f"{reporter.counter} {stage}: {_headline(record)}, {duration(seconds)}", style="green")
    return True


def _headline(record: Record) -> str:
    for metric, name in (("top1", "top-1"), ("miou", "mIoU")):
        if metric in record.metrics:
            return f"{name} {record.metrics[metric]:.1f} %"
    if record.curve:
        return f"loss {record.curve[-1]['loss']:.3f} after {len(record.curve)} epochs"
    return f"{record.facts['feature_dim']} features" if "feature_dim" in record.facts else "nothing to train"
