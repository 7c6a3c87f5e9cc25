"""What a generative method makes of test clips: sampled by the engine, drawn by the leaderboard."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from engine.commands.run import assert_own_datasets
from engine.options import WIDTH, listed, running

if TYPE_CHECKING:
    from engine.plan import Plan
    from engine.stages import Stage
    from engine.store import RunStore


@click.command()
@click.argument("method")
@listed("--datasets", "synthetic", "Datasets: name, name/split, npz:FILE#RULE or form:PATH.")
@click.option(
    "--clips", type=click.IntRange(1), default=4, show_default=True, help="Test clips, each of a class of its own."
)
@click.option("--steps", type=click.IntRange(2), default=50, show_default=True, help="Predictions of DDIM sampling.")
@click.option(
    "--noise", type=click.IntRange(0), multiple=True, default=(300, 700), show_default=True, metavar="T",
    help="Noise level that one prediction undoes; several may be given.",
)  # fmt: skip
@running
@click.pass_context
def generate(ctx: click.Context, /, method: str, **options: Any) -> None:
    """Draw real clips beside those that METHOD generates on the condition of their features.

    Pre-trains METHOD where that is not done, then writes RESULTS/figures/generated/NAME.npz, .png and .gif.
    """
    ctx.exit(_generate(method, **options))


def _generate(
    method: str,
    *,
    data: Path,
    clips: int,
    steps: int,
    noise: tuple[int, ...],
    datasets: tuple[str, ...],
    **options: Any,
) -> int:
    assert_own_datasets()
    import torch

    from engine.bench import Bench
    from engine.plan import Request, build
    from engine.progress import Reporter
    from engine.samples import pretraining, sample
    from engine.session import carry_out
    from leaderboard import generated

    common = {name: options[name] for name in ("seeds", "budget", "recipe", "sets")}
    wanted = Request(methods=(method,), protocols=("knn",), datasets=datasets, **common)
    stages: list[Stage] = []
    bench: Bench

    def make(store: RunStore, gpu: bool, tell: Callable[[str], None]) -> Plan:
        nonlocal bench
        plan, found = pretraining(build(wanted, data, store, gpu=gpu, tell=tell), method)
        stages.extend(found)
        bench = Bench(store, plan.splits, torch.device("cpu"), Reporter(Console(width=WIDTH)))
        return plan

    def show(console: Console) -> None:
        for stage in stages:
            if not bench.store.record(stage):
                continue  # its failure has been told
            labels = stage.labels
            name = f"{labels.method} {labels.dataset} {labels.split} {labels.encoder} {labels.seed} {stage.key[:6]}"
            file = re.sub(r"[^\w.=-]+", "_", name)
            path = options["results"] / "figures" / "generated" / f"{file}.npz"
            sample(stage, bench, clips, noise, steps, path)
            pictures = generated.write(path)
            console.print(f"Written: {path}, {', '.join(picture.suffix for picture in pictures)}", style="dim")

    return carry_out(make, show, width=WIDTH, **options)
