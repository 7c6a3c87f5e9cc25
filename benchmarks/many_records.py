"""CPU time of commands on a results folder with ten thousand records: ``python -m benchmarks.many_records [RECORDS]``.

The records are made up: methods under many seeds and settings, each pre-trained, its features extracted, and evaluated twice.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from engine.config import digest
from engine.records import Labels, Record

_METHODS = ("random", "raw", "aimclr", "actclr", "hiclr", "skeletonclr")
_PROTOCOLS = ("knn", "linear")
_SEEDS = 5
_CLASSES, _SAMPLES = 10, 200


def fill(results: Path, records: int) -> int:
    """Write about ``records`` finished stages into a results folder; returns how many."""
    written = 0
    for labels in _experiments():
        if written >= records:
            break
        shared = {"numerics": 1, "stream": labels.stream, "seed": labels.seed, "recipe": "paper", "budget": "quick"}
        shared |= {"data": {"name": f"{labels.dataset}/{labels.split}", "digest": labels.dataset}}
        plugin = labels.method.partition("[")[0]
        pretrain = _stage(results, "pretrain", plugin, labels, shared | {"config": labels.method}, ())
        features = _stage(results, "features", plugin, labels, shared | {"config": {}}, (pretrain,))
        for protocol in _PROTOCOLS:
            named = labels.model_copy(update={"protocol": protocol})
            _stage(results, "evaluate", protocol, named, shared | {"config": protocol}, (features,))
        written += 2 + len(_PROTOCOLS)
    return written


def _experiments() -> Iterator[Labels]:
    """The seeds of every method, of more and more settings on more and more data."""
    for number in range(1_000_000):
        for method in _METHODS:
            for seed in range(_SEEDS):
                yield Labels(
                    dataset=f"set{number % 10}",
                    split="xsub",
                    stream="joint",
                    method=method if number < 10 else f"{method}[train.epochs={number // 10}]",
                    encoder="stgcn",
                    recipe="paper",
                    budget="quick",
                    seed=seed,
                )


def _stage(
    results: Path, kind: str, plugin: str, labels: Labels, shared: dict[str, Any], parents: tuple[str, ...]
) -> str:
    identity = {"kind": kind, **shared, "plugin": plugin, "version": 1, "parents": list(parents)}
    key = digest(identity)
    folder = results / "runs" / kind / plugin / key
    folder.mkdir(parents=True, exist_ok=True)
    stage = {"kind": kind, "key": key, "labels": labels.model_dump(), "identity": identity, "parents": parents}
    (folder / "stage.json").write_text(json.dumps(stage))
    metrics: dict[str, float] = {}
    facts: dict[str, Any] = {"feature_dim": 256, "params": 821_380, "pretrain_epochs": 30}
    if kind == "evaluate":
        draw = np.random.default_rng(int(key, 16))
        label = np.arange(_SAMPLES) % _CLASSES
        prediction = np.where(draw.random(_SAMPLES) < draw.uniform(0.4, 0.9), label, (label + 1) % _CLASSES)
        ids = np.array([f"clip{i:04}" for i in range(_SAMPLES)])
        scores = np.eye(_CLASSES, dtype=np.float32)[prediction]
        np.savez(folder / "scores.npz", scores=scores, prediction=prediction, label=label, id=ids)
        confusion = np.zeros((_CLASSES, _CLASSES), np.int64)
        np.add.at(confusion, (label, prediction), 1)
        metrics = {"top1": 100 * float((prediction == label).mean()), "top5": 99.0}
        facts |= {"confusion": confusion.tolist()}
    else:
        (folder / ("weights.safetensors" if kind == "pretrain" else "features.npz")).write_bytes(b"")
    record = Record(
        kind=kind, key=key, labels=labels, identity=identity, parents=parents, metrics=metrics, facts=facts,
        curve=tuple({"epoch": float(epoch), "loss": 1.0} for epoch in range(20)),
    )  # fmt: skip
    (folder / "record.json").write_text(json.dumps(record.model_dump(mode="json"), indent=1))
    return key


def measure(name: str, *arguments: str) -> None:
    """Print the CPU time of a command line, imports included, and the time it took."""
    before, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "run_bench.py", *arguments], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{name:30} {cpu:7.2f} s CPU {time.perf_counter() - wall:7.2f} s", flush=True)


def main(records: int) -> None:
    """Fill a folder and measure every command that reads all of it."""
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results"
        print(f"{fill(results, records):,} records")
        place = ("--results", str(results))
        data = ("--data", str(Path(folder) / "data"))
        seeds = ("--seeds", f"0-{max(records // 12 - 1, 0)}")
        measure("--help", "--help")
        measure("data (once)", "data", "check", "synthetic", *data)
        measure(f"--plan, {records:,} stages", "--plan", *data, *place, *seeds, "--methods", "aimclr")
        measure("runs list", "runs", "list", *place)
        measure("runs gc", "runs", "gc", *place)
        measure("table list", "table", "list", *data, *place)
        measure("report", "report", *place)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
