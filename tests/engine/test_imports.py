"""Imported weights from the file to the board."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner

import run_bench
from datasets.layout import NTU25
from encoders.stgcn import STGCN, STGCNConfig, convert_released
from engine import imports
from engine.config import BenchError
from engine.data import Splits

NAMES = {
    "norm_in": "tcn.0",
    "temporal": "tcn.2",
    "norm_out": "tcn.3",
    "shortcut": "residual",
    "graph.conv": "gcn.conv",
}


def checkpoint(path: Path, seed: int) -> STGCN:
    """A checkpoint under released names, and its encoder."""
    torch.manual_seed(seed)
    encoder = STGCN(STGCNConfig(init="torch"), NTU25, 50, 2)
    state = {"module.encoder_q.A": encoder.adjacency, "module.encoder_q.fc.weight": torch.zeros(5, 256)}
    for name, value in encoder.state_dict().items():
        released = name.replace("data_norm", "data_bn").replace("blocks", "st_gcn_networks")
        for ours, theirs in NAMES.items():
            released = released.replace(f".{ours}.", f".{theirs}.")
        if name.endswith("importance"):
            released = f"edge_importance.{name.split('.')[1]}"
        state[f"module.encoder_q.{released}"] = value[..., None, None] if "gcn.conv.weight" in released else value
    torch.save(state, path)
    converted = convert_released(state)
    assert converted.keys() == encoder.state_dict().keys()
    return encoder.eval()


def clips(path: Path) -> None:
    """Twelve clips of two classes, two subjects and two persons, the second one mostly absent."""
    draw = np.random.default_rng(0)
    xyz = draw.normal(size=(12 * 9, 2, 25, 3)).astype(np.float32)
    xyz[: 9 * 8, 1] = 0
    parents = [-1 if v == NTU25.centre else parent for v, parent in enumerate(NTU25.bones)]
    np.savez(
        path, xyz=xyz, offsets=np.arange(13) * 9, label=np.arange(12) % 2, subject=np.arange(12) // 2 % 2 + 1,
        joint_names=np.array(NTU25.joints), parents=np.array(parents),
    )  # fmt: skip


def cli(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(run_bench.main, arguments)
    assert result.exit_code == code, (result.output, result.exception)
    return result.output + result.stderr


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    clips(tmp_path / "clips.npz")
    return tmp_path


def imported(release: str = "aimclr", *more: str) -> str:
    shown = cli("import-weights", "weights.pt", "--as", release, *more)
    assert "missing none" in shown
    return shown.split("--methods imported:")[1].split()[0]


RUN = ("--datasets", "npz:clips.npz", "--protocols", "knn,linear", "--set", "linear.epochs=2", "--set", "frames=16")


def test_from_the_file_to_the_board(folder: Path) -> None:
    encoder = checkpoint(folder / "weights.pt", 1)
    name = imported()
    cli(*RUN, "--methods", f"imported:{name}", "--budget", "quick", "--set", "stgcn.width=4")
    board = pd.read_csv(folder / "results" / "leaderboard.csv")
    row = board[(board.method == f"imported:{name}") & (board.metric == "top1")]
    assert set(row.status) == {"done"}
    assert {protocol.split("[")[0] for protocol in row.protocol} == {"knn", "linear"}
    assert set(row.encoder) == {"stgcn"}  # as published: neither the budget nor --set change it
    assert set(row.feature_dim) == {256}
    assert row.pretrain_epochs.isna().all()
    assert f"*imported:{name}*" in (folder / "results" / "leaderboard.md").read_text().replace("\\", "")

    (record,) = (folder / "results" / "runs" / "pretrain" / "imported").glob("*/record.json")
    config = json.loads(record.read_text())["identity"]["config"]
    assert len(config["weights"]) == 64
    assert config["weights"].startswith(name.rpartition("-")[2])
    split = Splits(folder / "data", 16)("npz:clips.npz")
    (features,) = (folder / "results" / "runs" / "features" / "imported").glob("*/features.npz")
    with np.load(features) as found, torch.no_grad():
        expected = encoder.pool(encoder(split.test.clips))
        np.testing.assert_allclose(found["test"], expected.numpy(), rtol=1e-4, atol=1e-5)


def test_other_weights_are_other_stages_and_the_same_are_the_same(folder: Path) -> None:
    checkpoint(folder / "weights.pt", 1)
    first = imported()
    assert imported() == first
    assert imported("skeletonclr").partition("-")[0] == "skeletonclr"
    checkpoint(folder / "weights.pt", 2)
    second = imported("aimclr", "--name", "mine")
    assert second.startswith("mine-")
    shown = cli(*RUN, "--methods", "imported", "--plan")
    lines = [line for line in shown.splitlines() if "pretrain" in line and "imported" in line]
    keys = {re.search(r"\b[0-9a-f]{16}\b", line)[0] for line in lines}
    assert (len(lines), len(keys)) == (3, 3)  # all that is there, each with a key of its own
    assert len(list((folder / "results" / "imported").glob("*.safetensors"))) == 3


def test_nothing_imported_yet(folder: Path) -> None:
    shown = cli(*RUN, "--methods", "imported", "--plan")
    assert "nothing is imported in results/ yet: see import-weights" in shown
    assert "imported:" not in shown


def test_a_wrong_stream_and_a_changed_file_fail_with_a_reason(folder: Path) -> None:
    checkpoint(folder / "weights.pt", 1)
    name = imported("hiclr", "--stream", "bone")
    shown = cli(*RUN, "--methods", f"imported:{name}", code=1)
    assert "trained on the bone stream, and the joint stream is evaluated" in shown.replace("\n", " ")
    path = folder / "results" / "imported" / f"{name}.safetensors"
    whole = path.read_bytes()
    keys = {each["weights"] for each in imports.found(folder / "results").values()}
    path.write_bytes(whole[:-4] + b"\0\0\1\0")  # a changed file is another one
    assert {each["weights"] for each in imports.found(folder / "results").values()} != keys
    with pytest.raises(BenchError, match="import the weights again"):
        imports.load(folder / "results", next(iter(keys)), "cpu")
    path.write_bytes(whole[:100])
    with pytest.raises(BenchError, match=r"hiclr-\w+\.safetensors is damaged .* import the weights again"):
        imports.found(folder / "results")


def test_another_layout_fails_with_a_reason(folder: Path) -> None:
    checkpoint(folder / "weights.pt", 1)
    name = imported()
    with np.load("clips.npz") as file:
        content = dict(file)
    content |= {"xyz": content["xyz"][:, :, :3], "joint_names": np.array(["hip", "neck", "head"])}
    np.savez("three.npz", **content | {"parents": np.array([-1, 0, 1])})
    shown = cli("--methods", f"imported:{name}", "--datasets", "npz:three.npz", "--protocols", "knn", code=1)
    assert "for the 25 joints of ntu25; the data has layout three with 3 joints" in shown.replace("\n", " ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("import-weights", "weights.pt", "--as", "igm"), r"Unknown release 'igm'.*Known: actclr, aimclr"),
        (("import-weights", "weights.pt", "--as", "aimclr", "--stream", "bones"), "Unknown stream 'bones'.*'bone'"),
        (("import-weights", "weights.pt", "--as", "aimclr", "--name", "../x"), "--name '../x': letters"),
        (("import-weights", "nothing.pt", "--as", "aimclr"), "nothing.pt: there is no such file"),
        (("import-weights", "clips.npz", "--as", "aimclr"), "clips.npz is refused as a checkpoint"),
        ((*RUN, "--methods", "imported:nothing"), "imported has no preset 'nothing'"),
    ],
)
def test_wrong_usage(folder: Path, arguments: tuple[str, ...], message: str) -> None:
    checkpoint(folder / "weights.pt", 1)
    assert re.search(message, cli(*arguments, code=2), re.DOTALL)
    assert not list((folder).glob("results/imported/*"))
