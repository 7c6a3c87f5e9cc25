"""Command line: parse, plan, execute, report."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from engine.config import BenchError
from engine.options import Commands, complain, folder, listed, seeds

# Skipping absent persons makes batches of many sizes; the default cache of CPU kernels is too small for them (10 % of time).
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16384")

if TYPE_CHECKING:
    from datasets.check import CheckReport
    from engine.plan import Plan
    from engine.store import RunStore
    from leaderboard.cells import Cell
    from leaderboard.paper import Suite
    from leaderboard.paper_tables import PaperTable

_WIDTH = None if sys.stdout.isatty() else 160
_EXAMPLES = """
\b
Examples:
  python run_bench.py                                          the main job on the embedded data, in minutes
  python run_bench.py --methods actclr,hicl --protocols linear,knn
  python run_bench.py --datasets nw_ucla/xview --seeds 0-2 --streams joint,bone
  python run_bench.py --set aimclr.nnm.topk=2 --set linear.epochs=50 --plan
  python run_bench.py --methods ./my_method.py:MyCLR           a method of your own
  python run_bench.py --protocols transfer --targets synthetic_b          pre-train on one set, evaluate on another
  python run_bench.py data prepare nw_ucla --source nw_ucla.zip
  python run_bench.py describe aimclr

Exit status: 0 all done, 1 a stage failed, 2 wrong usage, 130 interrupted (the same command continues).
"""


_results = folder("--results", "results", "Folder for everything that a run writes.")
_data = folder("--data", "data", "Folder of prepared data.")
_RUNNING = (
    listed("--seeds", "0", "Seeds, each a run of its own.", seeds),
    click.option("--budget", metavar="quick|full", help="Short or published settings.  [default: by size of the data]"),
    click.option(
        "--recipe", metavar="paper|released", default="paper", show_default=True, help="As published, or as coded."
    ),
    click.option(
        "--set", "sets", multiple=True, metavar="KEY=VALUE", help="PLUGIN.KEY=VALUE, encoder=NAME[,NAME] or frames=N."
    ),
    _results,
    _data,
    click.option("--device", help="cpu, cuda, cuda:1 …  [default: a GPU where there is one]"),
    click.option("--threads", type=click.IntRange(1), help="CPU threads.  [default: all cores]"),
    click.option("--plan", "only_plan", is_flag=True, help="Show what would run and how long, and run nothing."),
)
_frames = click.option("--frames", type=click.IntRange(2), help="Frames per clip.  [default: 50]")


def _running(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options of commands that run stages."""
    return reduce(lambda wrapped, option: option(wrapped), reversed(_RUNNING), command)


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
@_running
@click.pass_context
def main(ctx: click.Context, /, **options: Any) -> None:
    """Neutral benchmark of self-supervised skeleton action recognition: clips in, leaderboard out.

    Without a command, pre-trains METHODS on DATASETS, evaluates them by PROTOCOLS beside the reference rows, and writes
    the leaderboard. What is in RESULTS already is not computed again.
    """
    paths = {"results": options["results"], "data": options["data"]}
    ctx.default_map = {
        "report": paths,
        "compare": {"results": options["results"]},
        "table": paths,
        "import-weights": paths,
        "data": {"prepare": paths, "check": paths, "export": paths},
    }
    if ctx.invoked_subcommand is None:
        ctx.exit(_run(**options))


def _run(*, data: Path, methods: tuple[str, ...], protocols: tuple[str, ...], **options: Any) -> int:
    _assert_own_datasets()
    from engine import registry
    from engine.plan import Request, build
    from engine.session import carry_out

    request = {name: value for name, value in options.items() if name in Request.__dataclass_fields__}
    wanted = Request(
        methods=registry.names("methods") if methods == ("all",) else methods,
        protocols=registry.names("protocols") if protocols == ("all",) else protocols,
        **request,
    )
    return carry_out(
        lambda store, gpu, tell: build(wanted, data, store, gpu=gpu, tell=tell),
        lambda console: _render(options["results"], console),
        width=_WIDTH,
        **options,
    )


def _assert_own_datasets() -> None:
    import datasets

    ours = Path(__file__).resolve().parent / "datasets" / "__init__.py"
    found = Path(datasets.__file__ or "").resolve()
    if found != ours:
        raise BenchError(
            f"'import datasets' finds {found} instead of {ours}. Run `python run_bench.py` in the project's folder."
        )


def _render(results: Path, console: Console) -> None:
    from leaderboard.build import write

    console.print(write(results))


@main.command()
@_results
def report(results: Path) -> None:
    """Render the leaderboard from the records in RESULTS, running nothing."""
    _render(results, Console(width=_WIDTH))


@main.command()
@_results
def compare(results: Path) -> None:
    """Test differences, rank methods over data, and compare protocols, from the records in RESULTS."""
    from leaderboard.comparison_report import write

    Console(width=_WIDTH).print(write(results))


@main.command()
@click.argument("name")
@listed("--datasets", None, "Some of the paper's (NAME, NAME=DATA), or others to stand in.  [default: the paper's]")
@click.option("--render", "only_render", is_flag=True, help="Render what there is, and run nothing.")
@_running
@click.pass_context
def table(ctx: click.Context, /, name: str, **options: Any) -> None:
    """Fill in and render a paper's table NAME, such as actclr.t1; 'list' shows all of them.

    Runs what is missing of it, then writes RESULTS/tables/NAME.md, .csv, .tex and .html.
    """
    from leaderboard import paper

    ctx.exit(_table_list(**options) if name == "list" else _table(paper.find(name), **options))


def _table(table: PaperTable, *, only_render: bool, **options: Any) -> int:
    _assert_own_datasets()
    from engine.session import carry_out
    from leaderboard import paper, paper_board, render
    from leaderboard.published import load

    found, suite, plan = _plan_of(table, **options)
    keys: set[str] | None = None

    def make(store: RunStore, gpu: bool, tell: Callable[[str], None]) -> Plan:
        nonlocal keys
        made: Plan = plan(store, gpu, tell)
        keys = {job.stage.key for job in made.jobs}
        return made

    def show(console: Console) -> None:
        filled = paper.fill(found, _cells(options), load(), suite, options["recipe"], options["budget"] or "", keys)
        board, paths = paper_board.write(filled, options["results"] / "tables")
        console.print(render.terminal([board], paper_board.LEGEND))
        console.print(f"Written: {paths[0].with_suffix('')}.{{{','.join(p.suffix[1:] for p in paths)}}}", style="dim")

    if plan and not only_render:
        return carry_out(make, show, width=_WIDTH, **options)
    show(Console(width=_WIDTH))
    if not only_render:
        complain("Nothing of this table can be run here; the letters say why.", "red")
    return 0 if only_render else 1


def _table_list(**options: Any) -> int:
    from engine.store import RunStore
    from leaderboard import paper, paper_board
    from leaderboard.paper_tables import TABLES
    from leaderboard.published import load

    numbers, cells, rows = load(), _cells(options), []
    for each in TABLES.values():
        try:
            found, suite, make = _plan_of(each, **options)
            todo = (
                str(len(make(RunStore(options["results"]), False, str).todo)) if make else paper.obstacle(found, suite)
            )
        except BenchError as error:
            found, suite, todo = each, paper.NOTHING, str(error)
        filled = paper.fill(found, cells, numbers, suite, options["recipe"], options["budget"] or "")
        rows.append((filled, todo))
    Console(width=_WIDTH).print(paper_board.overview(rows))
    return 0


def _cells(options: dict[str, Any]) -> list[Cell]:
    from leaderboard.cells import aggregate
    from leaderboard.collect import collect

    return aggregate(collect(options["results"]))


def _plan_of(
    table: PaperTable, *, datasets: tuple[str, ...], data: Path, **options: Any
) -> tuple[PaperTable, Suite, Any]:
    """The table on the data asked for, what the suite has for it, and what plans it, if anything can be run."""
    from engine.plan import Request
    from engine.selection import lacks, lacks_data, place, select
    from leaderboard import paper

    if any(one.startswith("frames=") for one in options["sets"]):
        raise BenchError("--set frames: a paper's table is about the frames that its data have by default.")
    found, asked = paper.choose(table, datasets, lambda one: place(one, data))
    places = {where for column in found.columns for where in (column.place, column.source) if where}
    suite = paper.Suite(
        lambda name: lacks("methods", name),
        lambda name: lacks("protocols", name),
        {where: lacks_data(asked.get(where, where), data) for where in places},
    )
    common: dict[str, Any] = {name: options[name] for name in ("seeds", "budget", "recipe", "sets")}
    wanted = [Request(**(parts | common)) for parts in paper.requests(found, suite, asked)]

    def make(store: RunStore, gpu: bool, tell: Callable[[str], None]) -> Plan:
        return select(wanted, lambda labels: paper.belongs(found, labels), data, store, gpu, tell)

    return found, suite, make if wanted else None


@main.command("import-weights")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--as", "release", required=True, metavar="METHOD", help="aimclr, actclr, hiclr or skeletonclr.")
@click.option("--stream", default="joint", show_default=True, help="Stream that the weights were trained on.")
@click.option("--name", help="First part of its name in tables.  [default: METHOD]")
@_results
def import_weights(file: Path, release: str, stream: str, name: str | None, results: Path) -> None:
    """Take the encoder out of a checkpoint FILE that the authors of METHOD released, and make it a method."""
    from datasets.store import file_sha256
    from datasets.streams import STREAMS
    from encoders.released import RELEASES, read_released
    from engine import imports, registry

    release = registry.match(release, {known: known for known in RELEASES}, "release")
    stream = registry.match(stream, {known: known for known in STREAMS}, "stream")
    weights = read_released(file, release)
    for line in weights.lines():
        click.echo(line)
    about = {"release": release, "stream": stream, "source": file_sha256(file)}
    kept = imports.save(results, name or release, weights.state, about)
    click.echo(f"kept as imported:{kept}. Evaluate it on data of the {stream} stream, layout ntu25:")
    click.echo(f"  python run_bench.py --methods imported:{kept} --streams {stream} --datasets DATASET/SPLIT")


@main.command("list")
def list_() -> None:
    """List methods, protocols, encoders and datasets."""
    from engine.show import listing

    Console(width=_WIDTH).print(listing())


@main.command()
@click.argument("name")
def describe(name: str) -> None:
    """Show what a plug-in is, its settings with their sources, presets and ablations."""
    from engine.show import description

    Console(width=_WIDTH).print(description(name))


def _show_check(found: CheckReport) -> None:
    from datasets.check import render

    Console(width=_WIDTH).print(render(found))
    if not found.ok:
        raise SystemExit(1)


@main.group(cls=Commands)
def data() -> None:
    """Prepare, check and export datasets."""


@data.command()
@click.argument("name")
@click.option("--source", type=click.Path(path_type=Path), help="File or folder with the raw data.")
@click.option(
    "--on-bad-file",
    "--on-bad",
    "on_bad",
    type=click.Choice(["skip", "stop"]),
    help="Leave bad clips out, or stop at the first.  [default: leave them out, but exit with 1]",
)
@click.option("--processes", type=click.IntRange(1), help="Processes that read raw files.  [default: all cores]")
@_frames
@_data
def prepare(name: str, source: Path | None, on_bad: Any, processes: int | None, frames: int | None, data: Path) -> None:
    """Prepare dataset NAME from its raw files, once."""
    from engine.data import open_dataset

    dataset, _ = open_dataset(name, data, frames)
    dataset.processes = processes or 0
    found = dataset.prepare(source, click.echo, on_bad or "skip")
    _show_check(found)
    if found.skipped and not on_bad:
        complain(
            f"{len(found.skipped)} bad {found.unit} were left out, see above; --on-bad-file skip allows that.", "red"
        )
        raise SystemExit(1)


@data.command("emit-ntu")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--files", type=click.IntRange(1), default=2000, show_default=True, help="How many.")
@click.option(
    "--as", "release", type=click.Choice(["ntu60", "ntu120"]), default="ntu60", show_default=True, help="Names."
)
def emit_ntu(folder: Path, files: int, release: Any) -> None:
    """Write clips like those of the synthetic set as raw NTU .skeleton files into FOLDER."""
    from datasets.ntu_write import emit

    click.echo(f"{emit(folder, files, release)} files in {folder}")


@data.command("emit-pku")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--part", type=click.Choice(["1", "2"]), default="1", show_default=True, help="Part of PKU-MMD.")
@click.option("--recordings", type=click.IntRange(1), help="How many.  [default: all 72]")
def emit_pku(folder: Path, part: str, recordings: int | None) -> None:
    """Write the untrimmed synthetic set as raw PKU-MMD files into FOLDER."""
    from datasets.pku_write import emit

    click.echo(f"{emit(folder, 1 if part == '1' else 2, recordings)} recordings in {folder}")


@data.command()
@click.argument("name")
@_frames
@_data
def check(name: str, frames: int | None, data: Path) -> None:
    """Verify the checksums of dataset NAME and report counts and oddities."""
    from engine.data import open_dataset

    dataset, _ = open_dataset(name, data, frames)
    _show_check(dataset.check())


@data.command()
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path))
@_frames
@_data
def export(name: str, file: Path, frames: int | None, data: Path) -> None:
    """Write the prepared split NAME (dataset/split) to FILE.npz, for other code and for npz:FILE#split."""
    from datasets.export import export as write
    from engine.data import open_dataset

    dataset, split = open_dataset(name, data, frames)
    train, test = write(dataset, split, file)
    click.echo(f"{file}: {train} training and {test} test clips of {dataset.name}/{split}; read it as npz:{file}#split")


def _warn(message: Warning | str, *details: Any, **more: Any) -> None:
    complain(f"Warning: {message}", "yellow")


if __name__ == "__main__":
    warnings.showwarning = _warn
    main()
