"""Command line: the main job, and one file of ``engine/commands/`` for every other command."""

from __future__ import annotations

import os
import warnings
from typing import Any

import click
from click.core import ParameterSource

from engine.commands import (
    compare,
    data,
    diff,
    figures,
    generate,
    import_weights,
    report,
    reproduce,
    runs,
    show,
    submit,
    table,
    verify,
)
from engine.commands.ablate import ablate
from engine.commands.run import run
from engine.config import BenchError
from engine.options import Commands, complain, listed, running

# Skipping absent persons makes batches of many sizes; the default cache of CPU kernels is too small for them (10 % of time).
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16384")

_EXAMPLES = """
\b
Examples:
  python run_bench.py                                          the main job on the embedded data, in minutes
  python run_bench.py --methods actclr,hicl --protocols linear,knn
  python run_bench.py --datasets nw_ucla/xview --seeds 0-2 --streams joint,bone
  python run_bench.py --set aimclr.nnm.topk=2 --set linear.epochs=50 --plan
  python run_bench.py --ablate aimclr.components               a table of one method's variants
  python run_bench.py --methods ./my_method.py:MyCLR           a method of your own
  python run_bench.py --protocols transfer --targets synthetic_b          pre-train on one set, evaluate on another
  python run_bench.py data prepare nw_ucla --source nw_ucla.zip
  python run_bench.py describe aimclr

Exit status: 0 all done, 1 a stage failed, 2 wrong usage, 130 interrupted (the same command continues).
"""


@click.group(
    cls=Commands,
    invoke_without_command=True,
    epilog=_EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@listed("--methods", "aimclr,actclr,hiclr", "Methods, or 'all'; file.py:Class for your own, name:preset for a variant.")
@listed("--protocols", "knn,linear", "Evaluation protocols, or 'all'; name:preset for a paper's variant.")
@listed("--datasets", "synthetic", "Datasets: name, name/split, npz:FILE#RULE or form:PATH.")
@listed("--targets", None, "Data to evaluate on by transfer and segmentation.  [default: the dataset's own]")
@listed("--streams", "joint", "Streams: joint, bone, motion.")
@click.option(
    "--ablate",
    multiple=True,
    metavar="TABLE|GRID",
    help="Tables of one method's variants instead: actclr.t7, hiclr.mask.ratio=0.1,0.2 or list.",
)
@running
@click.pass_context
def main(ctx: click.Context, /, **options: Any) -> None:
    """Neutral benchmark of self-supervised skeleton action recognition: clips in, leaderboard out.

    Without a command, pre-trains METHODS on DATASETS, evaluates them by PROTOCOLS beside the reference rows, and writes
    the leaderboard. What is in RESULTS already is not computed again.
    """
    ctx.default_map = _places(ctx.command, options)
    if ctx.invoked_subcommand is None:
        ctx.exit(_start(ctx, options))


def _start(ctx: click.Context, options: dict[str, Any]) -> int:
    if not options["ablate"]:
        return run(**options)
    if ctx.get_parameter_source("methods") != ParameterSource.DEFAULT:
        raise BenchError("--ablate names its method itself: leave out --methods.")
    return ablate(**options)


def _places(command: click.Command, options: dict[str, Any]) -> dict[str, Any]:
    """Folders given before the name of a command are the defaults of its own options."""
    if isinstance(command, click.Group):
        return {name: _places(each, options) for name, each in command.commands.items()}
    return {one.name: options[one.name] for one in command.params if one.name in ("results", "data")}


for _command in (
    report.report,
    compare.compare,
    table.table,
    figures.figures,
    generate.generate,
    import_weights.import_weights,
    show.list_,
    show.describe,
    data.data,
    reproduce.reproduce,
    diff.diff,
    submit.submit,
    verify.verify,
    runs.runs,
):
    main.add_command(_command)


def _warn(message: Warning | str, *details: Any, **more: Any) -> None:
    complain(f"Warning: {message}", "yellow")


if __name__ == "__main__":
    warnings.showwarning = _warn
    main()
