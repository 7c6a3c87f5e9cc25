"""Repeat a record in a fresh folder, and compare."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Collection, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from engine.config import BenchError
from engine.options import WIDTH, complain, repeating

if TYPE_CHECKING:
    from engine.records import Record
    from engine.repeat import Outcome


@click.command()
@click.argument("key")
@click.option("--keep-parents", is_flag=True, help="Repeat this stage only, on what those before it left in RESULTS.")
@repeating
@click.pass_context
def reproduce(ctx: click.Context, /, key: str, results: Path, keep_parents: bool, **options: Any) -> None:
    """Repeat the stage with KEY, and all before it, in a fresh folder, and compare the numbers.

    On the machine, threads and versions of the record all bytes have to be the same, elsewhere metrics within the tolerance.
    Exit status 1 where they are not.
    """
    from engine.lookup import circumstances, find, folders, lineage
    from engine.repeat import checksum, result_of

    folder = find(results, key)
    records, known = lineage(results, folder.name), folders(results)
    contents = {one: checksum(result_of(known[one])) for one in records}
    ran = {one: circumstances(known[one]) for one in records}
    kept = set(records) - {folder.name} if keep_parents else set()
    outcomes = rerun(records, contents, ran, results=results, kept=kept, **options)
    ctx.exit(0 if verdict(outcomes, options["tolerance"]) else 1)


def rerun(
    records: Mapping[str, Record],
    contents: Mapping[str, str],
    ran: Mapping[str, Mapping[str, Any]],
    *,
    results: Path,
    kept: Collection[str] = (),
    asked: tuple[str, ...],
    plugins: tuple[str, ...],
    into: Path | None,
    data: Path,
    device: str | None,
    threads: int | None,
    **unused: Any,
) -> list[Outcome]:
    """Run the stages of records again, parents first, and compare each; ``kept`` ones are taken over from ``results``.

    Raises:
        BenchError: they cannot be repeated here; the message says why.
    """
    from engine.commands.run import assert_own_datasets

    assert_own_datasets()
    import torch

    from engine.data import Splits
    from engine.lookup import folders
    from engine.progress import Reporter
    from engine.rebuild import outside_plugins, rebuild
    from engine.repeat import compare, repeat, take_over
    from engine.session import device_of
    from engine.store import RunStore

    stages = rebuild(records, data_names(asked), outside_plugins(plugins))
    last = ran[list(records)[-1]]
    torch.set_num_threads(threads or _threads(last))
    place = device_of(device or ("cpu" if last.get("device_type") == "cpu" else None))
    if into and into.exists() and any(into.iterdir()):
        raise BenchError(f"--into {into} is not empty; a record is repeated in a fresh folder.")
    frames = re.search(r"\[frames=(\d+)\]$", next(iter(records.values())).labels.dataset)
    with nullcontext(str(into)) if into else tempfile.TemporaryDirectory(prefix="reproduce-") as name:
        fresh = RunStore(Path(name), lambda text: complain(f"Warning: {text}", "yellow"))
        known = folders(results) if kept else {}
        for key in kept:
            take_over(results, known[key], fresh.results)
        if any(getattr(stage.choice.plugin.load(), "imports", False) for stage in stages.values()):
            _bring_imported(results, fresh.results)
        reporter = Reporter(Console(width=WIDTH))
        splits = Splits(data, int(frames[1]) if frames else None, reporter.say)
        repeat(stages, fresh, splits, place, reporter, kept)
        return [
            compare(stages[key], records[key], contents[key], ran[key], fresh) for key in records if key not in kept
        ]


def verdict(outcomes: list[Outcome], tolerance: float) -> bool:
    """Print what became of every stage; whether all are confirmed."""
    from engine.long_table import LongTable

    console = Console(width=WIDTH)
    table = LongTable("stage", "key", "before", "now", "difference", "", whole=("key",))
    confirmed = True
    for one in outcomes:
        good = one.accepted(tolerance)
        confirmed &= good
        name = str(one.before.facts.get("headline", "top1"))
        numbers = [
            f"{record.metrics[name]:.2f}" if name in record.metrics else "" for record in (one.before, one.after)
        ]
        what = "identical" if one.identical else f"{one.difference:.2f} points at most" if numbers[0] else "other bytes"
        why = (
            "" if good else "the same machine, threads and versions gave other bytes" if one.same_machine else "too far"
        )
        labels = one.before.labels
        stage = f"{labels.protocol or one.before.kind} of {labels.method}"
        table.add(stage, one.before.key, *numbers, what, why)
    table.print(console)
    if all(one.identical for one in outcomes):
        text = "Reproduced to the last bit."
    elif confirmed:
        text = f"Reproduced within {tolerance:g} points; not to the bit, since the machine, threads or versions are others."
    else:
        text = "Not reproduced. `python run_bench.py diff` tells what differs between two records."
    console.print(text, style="green" if confirmed else "red", markup=False, highlight=False)
    return confirmed


def _threads(ran: Mapping[str, Any]) -> int:
    import torch

    threads = ran.get("threads")
    return threads if isinstance(threads, int) and 0 < threads <= 1024 else torch.get_num_threads()


def data_names(asked: tuple[str, ...]) -> dict[str, str]:
    """``--read NAME=DATA`` options as a table.

    Raises:
        BenchError: one is not of this form.
    """
    found = {}
    for text in asked:
        # Both may hold a rule with "=", npz:clips/subject=1-5=npz:my/clips.npz#subject=1-5, and DATA begins like a dataset.
        parts = re.fullmatch(r"(.+?)=((?:npz|form):.+|[^=]+)", text)
        if not parts:
            raise BenchError(f"--read {text}: write NAME=DATA, e.g. npz:clips/auto=npz:my/clips.npz#auto.")
        found[parts[1]] = parts[2]
    return found


def _bring_imported(results: Path, fresh: Path) -> None:
    import shutil

    if (results / "imported").is_dir():
        shutil.copytree(results / "imported", fresh / "imported", dirs_exist_ok=True)
