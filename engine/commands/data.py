"""Prepare, check, export and write data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from engine.options import WIDTH, Commands, complain, data_option

if TYPE_CHECKING:
    from datasets.check import CheckReport

_frames = click.option("--frames", type=click.IntRange(2), help="Frames per clip.  [default: 50]")


def _show_check(found: CheckReport) -> None:
    from datasets.check import render

    Console(width=WIDTH).print(render(found))
    if not found.ok:
        raise SystemExit(1)


@click.group(cls=Commands)
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
@data_option
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
@data_option
def check(name: str, frames: int | None, data: Path) -> None:
    """Verify the checksums of dataset NAME and report counts and oddities."""
    from engine.data import open_dataset

    dataset, split = open_dataset(name, data, frames)
    _show_check(dataset.check("" if split == next(iter(dataset.splits)) else split))


@data.command()
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path))
@_frames
@data_option
def export(name: str, file: Path, frames: int | None, data: Path) -> None:
    """Write the prepared split NAME (dataset/split) to FILE.npz, for other code and for npz:FILE#split."""
    from datasets.export import export as write
    from engine.data import open_dataset

    dataset, split = open_dataset(name, data, frames)
    train, test = write(dataset, split, file)
    click.echo(f"{file}: {train} training and {test} test clips of {dataset.name}/{split}; read it as npz:{file}#split")
