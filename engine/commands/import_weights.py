"""Released checkpoints become methods."""

from __future__ import annotations

from pathlib import Path

import click

from engine.options import results_option


@click.command("import-weights")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--as", "release", required=True, metavar="METHOD", help="aimclr, actclr, hiclr or skeletonclr.")
@click.option("--stream", default="joint", show_default=True, help="Stream that the weights were trained on.")
@click.option("--name", help="First part of its name in tables.  [default: METHOD]")
@results_option
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
