"""Released checkpoints: every form of them, and everything that is refused."""

from __future__ import annotations

import io
import os
import re
from collections import OrderedDict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from datasets.layout import NTU25
from encoders.graph import spatial_adjacency
from encoders.released import RELEASES, read_released
from encoders.stgcn import STGCN, STGCNConfig
from engine.config import BenchError

CHANNELS = ((3, 16), (16, 16), (16, 16), (16, 16), (16, 32), (32, 32), (32, 32), (32, 64), (64, 64), (64, 256))
NORM = ("weight", "bias", "running_mean", "running_var")


def encoder_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes as the specification lists them (aimclr.md 2.4)."""
    shapes: dict[str, tuple[int, ...]] = {"A": (3, 25, 25)}
    norms = {"data_bn": 75}
    for i, (before, after) in enumerate(CHANNELS):
        block = f"st_gcn_networks.{i}"
        shapes[f"edge_importance.{i}"] = (3, 25, 25)
        shapes |= {f"{block}.gcn.conv.weight": (3 * after, before, 1, 1), f"{block}.gcn.conv.bias": (3 * after,)}
        shapes |= {f"{block}.tcn.2.weight": (after, after, 9, 1), f"{block}.tcn.2.bias": (after,)}
        norms |= {f"{block}.tcn.0": after, f"{block}.tcn.3": after}
        if i in (4, 7, 9):
            shapes |= {f"{block}.residual.0.weight": (after, before, 1, 1), f"{block}.residual.0.bias": (after,)}
            norms[f"{block}.residual.1"] = after
    for name, width in norms.items():
        shapes |= {f"{name}.{part}": (width,) for part in NORM} | {f"{name}.num_batches_tracked": ()}
    return shapes


@cache
def encoder_state() -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(0)
    state = {
        name: torch.tensor(7) if name.endswith("tracked") else torch.randn(shape, generator=draw)
        for name, shape in encoder_shapes().items()
    }
    return state | {"A": spatial_adjacency(NTU25)}


HEADS = {
    "linear": {"fc.weight": (60, 256), "fc.bias": (60,)},
    "conv": {"fc.weight": (60, 256, 1, 1), "fc.bias": (60,)},
    "projector": {"fc.0.weight": (256, 256), "fc.0.bias": (256,), "fc.2.weight": (128, 256), "fc.2.bias": (128,)},
    "conv projector": {
        "fc.0.weight": (256, 256, 1, 1), "fc.0.bias": (256,), "fc.2.weight": (128, 256, 1, 1), "fc.2.bias": (128,),
    },
    "none": {},
}  # fmt: skip


def checkpoint(head: str = "linear", edges: str = "edge_importance.{}", **more: Tensor) -> dict[str, Tensor]:
    """Content of a released file; ``more`` replaces or adds entries."""
    names = {f"edge_importance.{i}": edges.format(i if "." in edges else i + 1) for i in range(10)}
    state = {names.get(name, name): value for name, value in encoder_state().items()}
    state |= {name: torch.zeros(shape) for name, shape in HEADS[head].items()}
    whole = {f"encoder_q.{name}": value for name, value in state.items()}
    if "projector" in head:
        whole |= {f"encoder_k.{name}": value + 1 for name, value in state.items()}
        whole |= {"queue": torch.zeros(128, 16), "queue_ptr": torch.zeros(1, dtype=torch.int64)}
    return whole | more


def save(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "weights.pt"
    torch.save(content, path)
    return path


def test_the_specified_counts() -> None:
    assert len(checkpoint()) == 179
    assert sum(value.numel() for value in checkpoint().values()) == 841_729
    assert len(checkpoint("projector")) == 364


@pytest.mark.parametrize(
    ("release", "head", "module"),
    [
        *((release, "projector", "") for release in RELEASES),
        *(("aimclr", head, "module.") for head in HEADS),
        ("actclr", "conv", ""),
        ("hiclr", "linear", "module."),
    ],
)
def test_every_form_gives_the_same_encoder(tmp_path: Path, release: str, head: str, module: str) -> None:
    hiclr = release == "hiclr"
    content = checkpoint(head, "edge_importance{}" if hiclr else "edge_importance.{}")
    content |= {"mask_param": torch.zeros(1)} if hiclr and "projector" in head else {}
    read = read_released(save(tmp_path, OrderedDict((module + k, v) for k, v in content.items())), release)
    assert set(read.matched) | set(read.dropped) == set(content)
    assert not set(read.matched) & set(read.dropped)
    assert all(key.startswith("encoder_q.") and ".fc." not in key for key in read.matched)
    encoder = STGCN(STGCNConfig(), NTU25, 50, 2)
    encoder.load_state_dict(dict(read.state))  # strict
    state = encoder_state()
    assert torch.equal(encoder.blocks[3].graph.importance, state["edge_importance.3"])
    assert torch.equal(encoder.blocks[9].graph.conv.weight, state["st_gcn_networks.9.gcn.conv.weight"][..., 0, 0])
    assert torch.equal(encoder.blocks[7].shortcut[1].running_var, state["st_gcn_networks.7.residual.1.running_var"])
    assert torch.equal(encoder.data_norm.running_mean, state["data_bn.running_mean"])
    report = "\n".join(read.lines())
    assert "matched 176 tensors" in report
    assert ("momentum encoder" in report) == ("projector" in head)


def test_hiclr_takes_the_older_names_as_well(tmp_path: Path) -> None:
    assert len(read_released(save(tmp_path, checkpoint()), "hiclr").matched) == 176


def test_half_precision_becomes_single(tmp_path: Path) -> None:
    content = {k: v.half() if v.is_floating_point() and k != "encoder_q.A" else v for k, v in checkpoint().items()}
    state = read_released(save(tmp_path, content), "aimclr").state
    assert {value.dtype for value in state.values()} == {torch.float32, torch.int64}


def without(*keys: str) -> dict[str, Tensor]:
    return {key: value for key, value in checkpoint().items() if key not in keys}


WIDE = torch.zeros(16, 16, 9, 2)
BAD = checkpoint()["encoder_q.data_bn.weight"].clone()
BAD[3] = float("nan")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (without("encoder_q.data_bn.bias"), r"no tensor for data_norm\.bias \(normalisation of the input\)\."),
        (without("encoder_q.edge_importance.9"), r"no tensor for blocks\.9\.graph\.importance"),
        (checkpoint(extra=torch.zeros(2)), r"extra \(2,\) is unknown"),
        (checkpoint(**{"encoder_q.fc.4.weight": torch.zeros(2)}), r"encoder_q\.fc\.4\.weight \(2,\) is unknown"),
        (checkpoint(**{"encoder_q.st_gcn_networks.x": torch.zeros(2)}), r"st_gcn_networks\.x \(2,\) is unknown"),
        (checkpoint(**{"encoder_q.st_gcn_networks.1.tcn.2.weight": WIDE}), r"9, 2\), expected .* \(16, 16, 9, 1\)"),
        (checkpoint(**{"encoder_q.data_bn.bias": torch.zeros(75, dtype=torch.int64)}), r"bias \(.* input\) is torch.int64"),
        (checkpoint(**{"encoder_q.data_bn.weight": BAD}), r"data_bn\.weight holds NaN"),
        (checkpoint(**{"encoder_q.A": torch.zeros(3, 25, 25)}), r"adjacency of another graph"),
        (checkpoint(**{"encoder_q.A": torch.zeros(3, 18, 18)}), r"adjacency of another graph"),
        (checkpoint(mask_param=torch.zeros(1)), r"mask_param \(1,\) is unknown"),
        (checkpoint(edges="edge_importance{}"), r"edge_importance1 .* is unknown.*--as hiclr\?"),
        ({"encoder_q.graph_layers.0.alphas": torch.zeros(1)}, r"transformer \(DSTA\)"),
        ({"weight": torch.zeros(1)}, r"no encoder_q\.\* tensors.*it holds weight"),
        (checkpoint() | {"module.encoder_q.A": torch.zeros(1)}, r"encoder_q\.A is there with and without 'module\.'"),
        ({"state_dict": checkpoint(), "epoch": 3}, r"entry 'state_dict' is a dict; .*save their state_dict alone"),
        ([torch.zeros(1)], r"holds a list; expected tensors by name"),
        ({}, r"holds a dict; expected tensors by name"),
        ({1: torch.zeros(1)}, r"entry '1' is a Tensor"),
    ],
    ids=lambda value: value[:28] if isinstance(value, str) else "",
)  # fmt: skip
def test_what_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(BenchError, match=message) as error:
        read_released(save(tmp_path, content), "actclr")
    assert "weights.pt" in str(error.value)


def test_both_names_of_one_tensor(tmp_path: Path) -> None:
    content = checkpoint() | {"encoder_q.edge_importance1": torch.zeros(3, 25, 25)}
    with pytest.raises(
        BenchError, match=r"edge_importance1 stands for the same tensor as encoder_q\.edge_importance\.0"
    ):
        read_released(save(tmp_path, content), "hiclr")


class Malicious:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("new_format", [True, False])
def test_nothing_in_a_file_is_run(tmp_path: Path, new_format: bool) -> None:
    path = tmp_path / "weights.pt"
    torch.save(checkpoint() | {"extra": Malicious(tmp_path / "run")}, path, _use_new_zipfile_serialization=new_format)
    with pytest.raises(BenchError, match=r"refused as a checkpoint of plain tensors \(it asks for posix\.mkdir\)"):
        read_released(path, "aimclr")
    assert not (tmp_path / "run").exists()


def test_no_file_no_tensors(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="there is no such file"):
        read_released(tmp_path / "weights.pt", "aimclr")
    (tmp_path / "weights.pt").write_bytes(b"")
    with pytest.raises(BenchError, match=r"is refused as a checkpoint .*torch\.save did not write it: it is empty"):
        read_released(tmp_path / "weights.pt", "aimclr")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda whole: whole[: len(whole) // 2], r"it is cut short: [\d,]+ bytes, and the end of a zip is missing"),
        (lambda whole: b"<html>404</html>", r"torch\.save did not write it: it begins with b'<htm'"),
        (lambda whole: whole[:9000] + b"damaged!" + whole[9008:], r"it is damaged: the checksum of .* is wrong"),
        (lambda whole: small()[:-200], r"it is damaged, or holds more than tensors"),
    ],
    ids=["cut", "no file of torch", "changed", "cut, the older form"],
)
def test_damage_is_told_in_plain_words(tmp_path: Path, damage: Any, message: str) -> None:
    path = save(tmp_path, checkpoint())
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(BenchError, match=message) as error:
        read_released(path, "aimclr")
    assert not re.search("PytorchStreamReader|central directory|weights_only|Unpickl", str(error.value))


def test_another_zip_and_too_large_a_one_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "clips.npz", xyz=np.zeros(3))
    with pytest.raises(BenchError, match=r"it is a zip without tensors of torch: xyz\.npy"):
        read_released(tmp_path / "clips.npz", "aimclr")
    monkeypatch.setattr("encoders.released._MOST_BYTES", 1000)
    with pytest.raises(BenchError, match=r"weights\.pt is refused: it unpacks to [\d,]+ bytes, and at most 1,000"):
        read_released(save(tmp_path, checkpoint()), "aimclr")


def small() -> bytes:
    buffer = io.BytesIO()
    torch.save({"encoder_q.a": torch.arange(3.0), "b": torch.zeros(2, 2)}, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60) | st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=6))
@pytest.mark.filterwarnings("ignore")
def test_no_damage_gives_anything_but_a_message(tmp_path: Path, damage: Any) -> None:
    content = bytearray(small())
    if isinstance(damage, bytes):
        content = bytearray(damage)
    else:
        for place, value in damage:
            content[place % len(content)] = value
    (tmp_path / "weights.pt").write_bytes(content)
    with pytest.raises(BenchError):
        read_released(tmp_path / "weights.pt", "skeletonclr")


def test_the_official_weights_give_the_published_features(shared: Path, tmp_path: Path) -> None:
    with np.load(shared / "fixtures/actclr_ntu60_xview_joint_official.npz") as file:
        path = save(tmp_path, OrderedDict((name, torch.tensor(file[name])) for name in file.files))
    read = read_released(path, "actclr")
    assert (len(read.matched), len(read.dropped)) == (176, 3)
    encoder = STGCN(STGCNConfig(), NTU25, 50, 2).eval()
    encoder.load_state_dict(dict(read.state))
    with np.load(shared / "fixtures/actclr_parity.npz") as parity, torch.no_grad():
        features = encoder.pool(encoder(torch.tensor(parity["input"])))
        assert np.abs(features.numpy() - parity["features"]).max() < 1e-5
