"""What lies in a results folder, and clearing it up."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import click
from rich.console import Console

from engine.options import WIDTH, Commands, results_option


@click.group(cls=Commands)
def runs() -> None:
    """List the stages in a results folder, and remove what nothing needs."""


@runs.command("list")
@click.option("--kind", help="Only pretrain, features, evaluate or fuse.")
@click.option("--state", help="Only done, failed, unsupported or pending.")
@results_option
def list_(kind: str | None, state: str | None, results: Path) -> None:
    """List stages with state and size."""
    from engine.long_table import LongTable
    from engine.waste import size
    from leaderboard.collect import read_stages

    table = LongTable("kind", "method", "protocol", "data", "stream", "seed", "key", "state", "size")
    counts: Counter[str] = Counter()
    total = 0
    for stage in read_stages(results).values():
        if (kind and stage.kind != kind) or (state and stage.status != state):
            continue
        labels, bytes_ = stage.labels, size(stage.folder)
        place = f"{labels.dataset}/{labels.split}" + (f" from {labels.source}" if labels.source else "")
        status = f"{stage.status}: {stage.reason}" if stage.reason else stage.status
        names = stage.kind, labels.method, labels.protocol, place, labels.stream, str(labels.seed)
        table.add(*names, stage.key, status, _shown(bytes_))
        counts[stage.status] += 1
        total += bytes_
    console = Console(width=WIDTH)
    table.print(console)
    states = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    console.print(f"{sum(counts.values()):,} stages ({states or 'none'}), {_shown(total)}", highlight=False)


@runs.command()
@click.option("--yes", is_flag=True, help="Remove it; without this it is only shown.")
@results_option
def gc(yes: bool, results: Path) -> None:
    """Show, or remove, what nothing needs: never a record, nor anything that a finished evaluation or training left.

    Checkpoints of finished stages, files that killed processes left or that were set aside as damaged, features that no
    evaluation refers to, leases that nobody holds, and logs of a month ago.
    """
    from engine.waste import find, remove

    found = find(results)
    console = Console(width=WIDTH)
    groups: dict[str, list[int]] = defaultdict(list)
    for waste in found:
        groups[waste.reason].append(waste.size)
        if waste.size and not yes:
            console.print(f"{_shown(waste.size):>10}  {waste.path}  ({waste.reason})", soft_wrap=True, markup=False)
    for reason, sizes in groups.items():
        console.print(f"{_shown(sum(sizes)):>10}  {len(sizes):,} x {reason}", highlight=False, markup=False)
    if not found:
        console.print("Nothing to remove.", style="green")
    elif yes:
        console.print(f"Removed {len(found):,} files, {_shown(remove(found))}.", style="green", highlight=False)
    else:
        console.print("Nothing was removed; --yes removes these.", style="dim")


def _shown(count: int) -> str:
    """Bytes in the unit that fits."""
    size = float(count)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
