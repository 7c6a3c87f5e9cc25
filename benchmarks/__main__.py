"""All measurements of speed and memory, short: ``python -m benchmarks [--only pretrain,views] [--batch 16] [--markdown]``.

Every part is a module of its own with more to choose from; docs/performance.md says which. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence

from benchmarks import (
    augment,
    checkpoint,
    encoder,
    labelled,
    large,
    ntu_reader,
    operations,
    pku_reader,
    pretrain,
    protocols,
    readme,
)
from benchmarks.steps import Case
from benchmarks.tables import Table, show_all

Part = Callable[[int, Sequence[int]], Iterator[Table]]
"""Tables, from clips per step and numbers of threads."""

PARTS: Mapping[str, Part] = {
    "pretrain": lambda batch, threads: iter([pretrain.methods_table(batch, threads)]),
    "direct": lambda batch, threads: iter([pretrain.direct_table(batch, threads)]),
    "growth": lambda batch, threads: iter([pretrain.growth_table(batch, threads[-1])]),
    "encoder": lambda batch, threads: (encoder.table(count, batch) for count in threads),
    "operations": lambda batch, threads: (
        operations.table(threads[-1], batch, precision) for precision in pretrain.PRECISIONS
    ),
    "views": lambda batch, threads: (augment.table(count, batch) for count in threads),
    "preparation": lambda batch, threads: (part.table() for part in (ntu_reader, pku_reader)),
    "protocols": lambda batch, threads: (protocols.table(count) for count in threads),
    "labelled": lambda batch, threads: (labelled.table(count, batch) for count in threads),
    "large": lambda batch, threads: iter([large.table(case=Case(batch=batch, threads=threads[-1]))]),
    "checkpoint": lambda batch, threads: iter([checkpoint.table()]),
    "readme": lambda batch, threads: iter([readme.table()]),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables of the chosen parts."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas; all: %(default)s")
    parser.add_argument("--batch", type=int, default=16, help="clips per step; the papers' is 128")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--markdown", action="store_true", help="print as in the documentation")
    given = parser.parse_args(arguments)
    chosen, threads = given.only.split(","), [int(count) for count in given.threads.split(",")]
    if unknown := set(chosen) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; known: {', '.join(PARTS)}")
    for name in chosen:
        show_all(PARTS[name](given.batch, threads), given.markdown)


if __name__ == "__main__":
    main()
