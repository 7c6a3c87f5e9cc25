"""Nothing is lost: killed at any moment, on a full disk, with damaged checkpoints, trainings end as if nothing had been."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from functools import cache
from pathlib import Path

import pytest
import torch

from engine import checkpoints
from engine.files import UnwritableError
from tests.engine.killing import (
    Trained,
    forks,
    start,
    train_line,
    train_line_and_die,
    train_line_on_a_full_disk,
    train_method,
    train_method_slowly,
)
from tests.methods.test_contract import TRAINED

KILLS = 3


def assert_same(one: Trained, other: Trained) -> None:
    assert one[1] == other[1]
    assert one[0].keys() == other[0].keys()
    for name, value in one[0].items():
        assert torch.equal(value, other[0][name]), name


@cache
def straight() -> Trained:
    return train_line(None)


@pytest.mark.parametrize("name", TRAINED)
def test_every_method_killed_at_random_moments_ends_bit_for_bit_the_same(name: str, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint.pt"
    begun = time.perf_counter()
    expected = train_method(name, None)
    once = time.perf_counter() - begun
    draw = random.Random(name)
    epochs = []
    for _ in range(KILLS):
        process = start(train_method_slowly, name, checkpoint, 0.02)
        deadline = time.monotonic() + 60
        before = len(epochs)
        while not checkpoint.exists() and before == 0:  # at least one epoch is done before the first kill
            assert process.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.005)
        time.sleep(draw.uniform(0, once / 2))
        process.kill()
        process.join()
        found = checkpoints.load(checkpoint)
        assert found is not None
        epochs.append(len(found[1]["curve"]))
    assert epochs == sorted(epochs)
    assert epochs[0] >= 1
    assert_same(train_method(name, checkpoint), expected)


@pytest.mark.slow
def test_a_kill_at_every_step_of_writing_a_checkpoint(tmp_path: Path) -> None:
    """Made, half written, synced, renamed: four checkpoints, and always one of them is whole."""
    point, killed = 0, True
    while killed:
        point += 1
        checkpoint = tmp_path / str(point) / "checkpoint.pt"
        process = start(train_line_and_die, checkpoint, point)
        process.join()
        killed = process.exitcode == -signal.SIGKILL
        assert killed or process.exitcode == 0
        assert point <= 7 or checkpoints.load(checkpoint) is not None
        told: list[str] = []
        assert_same(train_line(checkpoint, told.append), straight())
        assert told == []
    assert point > 4 * 6


def test_a_file_size_limit_stops_with_one_message_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    first = tmp_path / "first.pt"
    train_line(first)
    size = checkpoints.previous(first).stat().st_size
    checkpoint, answer = tmp_path / "checkpoint.pt", forks.SimpleQueue()
    start(train_line_on_a_full_disk, checkpoint, size, answer).join()
    assert answer.get().startswith(f"UnwritableError: {checkpoint} cannot be written: File too large. Nothing that was")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(("checkpoint", "."))) == [
        "checkpoint.previous.pt",
        "checkpoint.pt",
    ]
    assert_same(train_line(checkpoint), straight())


@pytest.fixture
def small_disk(tmp_path: Path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True, check=False
    )
    if mount.returncode:
        pytest.skip("mounting a tmpfs needs root")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_keeps_the_last_checkpoint_and_room_lets_it_go_on(small_disk: Path) -> None:
    ballast, checkpoint = small_disk / "ballast", small_disk / "run" / "checkpoint.pt"
    ballast.write_bytes(bytes(56 << 10))  # room for two checkpoints of one block each, and not for a third
    with pytest.raises(UnwritableError, match=r"checkpoint\.pt cannot be written: No space left on device"):
        train_line(checkpoint)
    left = [path.name for path in checkpoint.parent.iterdir()]
    assert set(left) <= {"checkpoint.pt", "checkpoint.previous.pt"}
    found = checkpoints.load(checkpoint)
    assert found is not None
    ballast.unlink()
    assert_same(train_line(checkpoint), straight())


def flip(content: bytes, place: float) -> bytes:
    at = int(len(content) * place)
    return content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:-1],
        lambda whole: bytes(len(whole)),
        lambda whole: whole.replace(whole[300:310], bytes(10)),
    ],
    ids=["empty", "half", "one byte short", "zeros", "hole"],
)
def test_a_damaged_checkpoint_is_set_aside_and_the_previous_one_used(damage, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint.pt"
    train_line(checkpoint)
    damaged = damage(checkpoint.read_bytes())
    checkpoint.write_bytes(damaged)
    told: list[str] = []
    found = checkpoints.load(checkpoint, told.append)
    assert found is not None
    assert (found[0], len(found[1]["curve"])) == (checkpoints.previous(checkpoint), 3)
    (line,) = told
    assert line.startswith(f"{checkpoint} is damaged (")
    assert line.endswith("It is kept as checkpoint.pt.damaged1; the previous checkpoint is used.")
    assert checkpoint.with_name("checkpoint.pt.damaged1").read_bytes() == damaged
    assert_same(train_line(checkpoint), straight())


def test_with_both_damaged_it_starts_anew_and_says_so(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint.pt"
    train_line(checkpoint)
    for path in (checkpoint, checkpoints.previous(checkpoint)):
        path.write_bytes(path.read_bytes()[:100])
    told: list[str] = []
    assert_same(train_line(checkpoint, told.append), straight())
    assert [line.rpartition("; ")[2] for line in told] == [
        "the previous checkpoint is used.",
        "the training starts anew.",
    ]


def test_any_changed_byte_of_the_numbers_is_noticed(tmp_path: Path) -> None:
    """A checkpoint either is found damaged, or gives the very same numbers: torch itself does not look."""
    checkpoint = tmp_path / "checkpoint.pt"
    train_line(checkpoint)
    whole = checkpoint.read_bytes()
    found = checkpoints.load(checkpoint)
    assert found is not None
    noticed = 0
    for place in torch.linspace(0, 0.999, 120).tolist():
        checkpoint.write_bytes(flip(whole, place))
        now = checkpoints.load(checkpoint)
        assert now is not None
        if now[0] != checkpoint:
            noticed += 1
        else:
            assert now[1]["curve"] == found[1]["curve"]
            assert torch.equal(now[1]["network"]["weight"], found[1]["network"]["weight"])
    assert noticed > 40


def test_nothing_in_a_checkpoint_is_run(tmp_path: Path) -> None:
    class Malicious:
        def __reduce__(self):
            return Path.touch, (tmp_path / "run",)

    checkpoint = tmp_path / "checkpoint.pt"
    torch.save({"network": {}, "optimiser": Malicious(), "curve": []}, checkpoint)
    told: list[str] = []
    assert checkpoints.load(checkpoint, told.append) is None
    assert "damaged (UnpicklingError" in told[0]
    assert not (tmp_path / "run").exists()
