"""What can be checked of the measurements themselves: counts, tables, and the way of the GPU script without a GPU."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import checkpoint, gpu, large
from benchmarks.operations import Traffic
from benchmarks.steps import ABSENT, Case, generated
from benchmarks.tables import Table
from datasets.clips import to_storage
from datasets.layout import NTU25

command = importlib.import_module("benchmarks.__main__")
TINY = Case(
    precision="bf16",
    frames=16,
    batch=8,
    steps=1,
    settings={"moco.queue": 16, "moco.dim": 8},
    encoder_settings={"width": 2, "dim": 8},
)


def test_generated_clips_lack_as_many_second_persons_as_ntu() -> None:
    clips = generated(5000, NTU25, frames=4)
    assert to_storage(clips.clips).is_contiguous()
    assert clips.presence[:, 0].all()
    assert clips.presence[:, 1].float().mean().item() == pytest.approx(1 - ABSENT, abs=0.02)
    assert torch.equal(clips.presence, (to_storage(clips.clips) != 0).flatten(2).any(2))


def test_bytes_of_a_linear_layer() -> None:
    """Forward: input, weight and bias read, output written; a ReLU in place reads and writes what it changes."""
    layer, x = nn.Linear(8, 4), torch.randn(16, 8)
    with torch.no_grad(), Traffic() as traffic:
        y = layer(x)
    assert traffic.bytes == 4 * (16 * 8 + 8 * 4 + 4 + 16 * 4)
    with torch.no_grad(), Traffic() as traffic:
        y.view(-1).relu_()
    assert traffic.bytes == 4 * 2 * 16 * 4


def test_tables_as_markdown() -> None:
    table = Table("Speed", ("", "clips/s"), [("ours", "20.0"), ("theirs", "10.0")])
    assert table.markdown() == "Speed:\n\n|  | clips/s |\n| --- | ---: |\n| ours | 20.0 |\n| theirs | 10.0 |"


def test_parts_are_chosen_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    command.main(["--only", "views", "--threads", "1", "--batch", "2", "--markdown"])
    assert re.search(r"\| batches on the device \| [\d,]+ \| [\d,]+ \| [\d.]+ \|", capsys.readouterr().out)
    with pytest.raises(SystemExit):
        command.main(["--only", "veiws"])
    assert "no part veiws; known: pretrain" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore")  # of the profiler, which finds no GPU
def test_the_gpu_script_runs_dry(capsys: pytest.CaptureFixture[str]) -> None:
    gpu.measure(TINY, "cpu", 64, (16,), markdown=True)
    printed = capsys.readouterr().out
    assert "| batch 16, eager |" in printed
    assert "| nowhere | 0 | no |" in printed
    assert "Self CPU" in printed
    if not torch.cuda.is_available():
        with pytest.raises(SystemExit, match="No GPU here"):
            gpu.main([])


def test_large_data_are_measured_both_ways(tmp_path: Path) -> None:
    large.write(tmp_path, 64)
    costs = [large.measure(tmp_path, mapped, TINY) for mapped in (False, True)]
    assert all(cost.rate > 0 and cost.read > 0 for cost in costs)


def test_checkpoints_are_measured(tmp_path: Path) -> None:
    (row,) = checkpoint.table(["skeletonclr"], tmp_path).rows
    assert float(row[1]) > 16  # the queue alone: 32,768 x 128 numbers
