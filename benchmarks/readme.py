"""End-to-end time of the README's command, stage by stage: ``python -m benchmarks.readme``."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.tables import Table
from engine.registry import ROOT

COMMAND = ("--methods", "actclr,hicl", "--protocols", "linear,knn")


def table(*more: str) -> Table:
    """Wall time of every stage and of the whole, from nothing; ``more`` is added to the command."""
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        results = Path(scratch) / "results"
        places = ("--data", str(Path(scratch) / "data"), "--results", str(results))
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, str(ROOT / "run_bench.py"), *COMMAND, *places, *more],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        whole = time.perf_counter() - start
        for path in sorted(results.glob("runs/*/*/*/provenance.json")):
            ran = json.loads(path.read_text())
            kind, plugin, key = path.parts[-4:-1]
            rows.append([f"{kind} {plugin} {key[:6]}", f"{ran['seconds']:.1f}", str(ran["threads"])])
    rows.append(["everything, data generation and table included", f"{whole:.1f}", ""])
    return Table("The README's command; stages run side by side", ("stage", "wall s", "threads"), rows)


if __name__ == "__main__":
    table(*sys.argv[1:]).show()
