"""Fake results folders: the files that the engine leaves, without running anything."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.config import digest
from engine.records import Labels, Record
from leaderboard.entries import Part, make


class FakeResults:
    """Writes stages under ``folder/runs`` as ``engine.store`` does."""

    def __init__(self, folder: Path, samples: int = 200) -> None:
        self.folder = folder
        self.samples = samples

    def evaluate(
        self,
        method: str = "aimclr",
        protocol: str = "knn",
        seed: int = 0,
        accuracy: float | np.ndarray | None = 0.8,
        *,
        failure: str = "",
        unsupported: str = "",
        pretrain_failure: str = "",
        lonely: bool = False,
        scores: bool = True,
        version: int = 1,
        data: str = "d0",
        target: str = "",
        metrics: dict[str, float] | None = None,
        facts: dict[str, Any] | None = None,
        **labels: str,
    ) -> Path:
        """One evaluation with its ancestors; ``accuracy`` a share, (n,) booleans, or ``None`` for a pending one.

        ``target`` is the digest of what is evaluated on, where that is not the ``data`` of the pre-training.
        """
        named = Labels(
            **{
                "dataset": "synthetic",
                "split": "xsub",
                "stream": "joint",
                "encoder": "stgcn",
                "recipe": "paper",
                "budget": "quick",
            }
            | labels,
            method=method,
            protocol=protocol,
            seed=seed,
        )
        shared = {"data": {"name": f"{named.dataset}/{named.split}", "digest": data}, "encoder": named.encoder}
        shared |= {"numerics": 1, "stream": named.stream, "seed": seed}
        shared |= {"recipe": named.recipe, "budget": named.budget}
        plugin = method.split("[")[0]
        before = named.model_copy(update={"protocol": ""})
        pretrain = self._stage("pretrain", plugin, before, {**shared, "config": method, "version": 1}, (), not lonely)
        if target:
            shared["data"] = {"name": f"{named.dataset}/{named.split}", "digest": target}
        features = self._stage("features", plugin, before, {**shared, "config": {}}, (pretrain.name,), not lonely)
        identity = {**shared, "plugin": protocol.split(":")[0], "config": protocol, "version": version}
        folder = self._stage("evaluate", protocol.split(":")[0], named, identity, (features.name,))
        if pretrain_failure:
            self._write(pretrain / "failure.json", {"reason": pretrain_failure})
        if failure:
            self._write(folder / "failure.json", {"reason": failure})
        if unsupported:
            self._write(folder / "unsupported.json", {"labels": named.model_dump(), "reason": unsupported})
        if accuracy is not None and not (failure or unsupported or pretrain_failure):
            self._finish(folder, named, accuracy, scores, metrics or {}, facts or {})
        return folder

    def leave(self, evaluation: Path, features: np.ndarray, losses: Sequence[float] = ()) -> None:
        """Finish the pre-training and the features (N, D) of the test part behind an evaluation; train has them reversed."""
        (folder,) = self.folder.glob(f"runs/features/*/{_stage(evaluation)['parents'][0]}")
        _record(folder, {"config": {"space": "encoder", "augment": False}}, ())
        np.savez(folder / "features.npz", train=features[::-1], test=features)
        (folder,) = self.folder.glob(f"runs/pretrain/*/{_stage(folder)['parents'][0]}")
        _record(folder, {}, [{"epoch": i, "loss": loss} for i, loss in enumerate(losses, 1)])

    def submit(self, evaluation: Path, file: Path, by: str = "", note: str = "") -> Path:
        """An entry of one evaluation and the stages behind it, each with a curve."""
        chain = [evaluation]
        for folder in chain:
            chain += [next(self.folder.glob(f"runs/*/*/{key}")) for key in _stage(folder)["parents"]]
        parts = []
        for folder in reversed(chain):
            path = folder / "record.json"
            content = json.loads(path.read_text()) if path.exists() else _stage(folder)
            if "top1" in content.get("metrics", {}):
                right = round(content["metrics"]["top1"] * self.samples / 100)
                made_of = {
                    "confusion": [[right, self.samples - right], [0, 0]],
                    "recall": [content["metrics"]["top1"], 0.0],
                }
                content["facts"] = made_of | content["facts"]
            record = Record.model_validate(
                content | {"curve": [{"epoch": 1.0, "loss": 0.5}, {"epoch": 2.0, "loss": 0.25}]}
            )
            parts.append(Part(record=record, provenance={"cpu": "theirs"}, content=""))
        self._write(file, make(parts, [evaluation.name], by, note).content())
        return file

    def _finish(
        self,
        folder: Path,
        labels: Labels,
        accuracy: float | np.ndarray,
        scores: bool,
        metrics: dict[str, float],
        facts: dict[str, Any],
    ) -> None:
        stage = json.loads((folder / "stage.json").read_text())
        label = np.arange(self.samples) % 4
        right = np.asarray(accuracy) if np.ndim(accuracy) else np.arange(self.samples) < accuracy * self.samples
        prediction = np.where(right, label, (label + 1) % 4)
        if scores:
            ids = np.array([f"clip{i:04}" for i in range(self.samples)])
            np.savez(folder / "scores.npz", scores=np.eye(4)[prediction], prediction=prediction, label=label, id=ids)
        record = Record(
            kind="evaluate",
            key=folder.name,
            labels=labels,
            identity=stage["identity"],
            parents=tuple(stage["parents"]),
            metrics={"top1": 100 * float(right.mean())}
            | ({} if scores else {"ci_low": 1.0, "ci_high": 99.0})
            | metrics,
            facts={"feature_dim": 256, "params": 821_380, "pretrain_epochs": 30} | facts,
        )
        self._write(folder / "record.json", record.model_dump(mode="json"))

    def _stage(
        self,
        kind: str,
        plugin: str,
        labels: Labels,
        identity: dict[str, Any],
        parents: tuple[str, ...],
        write: bool = True,
    ) -> Path:
        identity = {"kind": kind, **identity, "parents": list(parents)}
        key = digest(identity)
        folder = self.folder / "runs" / kind / plugin / key
        content = {"kind": kind, "key": key, "labels": labels.model_dump(), "identity": identity, "parents": parents}
        if write:
            self._write(folder / "stage.json", content)
        return folder

    def _write(self, path: Path, content: Any) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))


def _stage(folder: Path) -> Any:
    return json.loads((folder / "stage.json").read_text())


def _record(folder: Path, changes: dict[str, Any], curve: Sequence[dict[str, float]]) -> None:
    stage = _stage(folder)
    record = Record(
        kind=stage["kind"],
        key=folder.name,
        labels=stage["labels"],
        identity=stage["identity"] | changes,
        parents=tuple(stage["parents"]),
        curve=tuple(curve),
    )
    (folder / "record.json").write_text(json.dumps(record.model_dump(mode="json")))


@pytest.fixture
def fake(tmp_path: Path) -> FakeResults:
    return FakeResults(tmp_path)


FIT, FIT_END = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%", "}"


@pytest.fixture
def check_latex() -> Callable[[str], None]:
    return _check_latex


def _check_latex(text: str) -> None:
    """Braces balance, environments close, rows have the columns that their table declares, nothing special is bare."""
    columns = scaled = 0
    environments: list[str] = []
    for line in text.splitlines():
        code = re.sub(r"(?<!\\)%.*", "", line)
        plain = re.sub(r"\\[\\&%$#_{}~^]", "", code)
        if line == FIT or code == FIT_END:  # a brace around the table
            scaled += 1 if line == FIT else -1
            continue
        assert plain.count("{") == plain.count("}"), line
        assert plain.count("$") % 2 == 0, line
        for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", code):
            if kind == "begin":
                environments.append(name)
            else:
                assert environments.pop() == name
        if declared := re.search(r"\\begin\{tabular\}\{(\w+)\}", code):
            columns = len(declared[1])
        elif code.endswith(r"\\"):
            assert plain.count("&") == columns - 1, line
        else:
            assert "&" not in plain
        assert not re.search(r"[_#^<>|~]", re.sub(r"\$[^$]*\$", "", plain)), line
    assert environments == []
    assert scaled == 0
    if tex := shutil.which("pdflatex"):
        packages = r"\usepackage[T1]{fontenc}\usepackage[utf8]{inputenc}\usepackage{booktabs,graphicx,amssymb,textcomp}"
        document = r"\documentclass{article}" + f"{packages}\n\\begin{{document}}\n{text}\n\\end{{document}}\n"
        with tempfile.TemporaryDirectory() as scratch:
            (Path(scratch) / "table.tex").write_text(document)
            command = [tex, "-halt-on-error", "-interaction=nonstopmode", "-no-shell-escape", "table.tex"]
            ended = subprocess.run(command, cwd=scratch, capture_output=True, text=True, errors="replace", check=False)
            assert ended.returncode == 0, ended.stdout[-2000:]
            assert not re.search(r"Overfull \\hbox", ended.stdout), "wider than the page"
