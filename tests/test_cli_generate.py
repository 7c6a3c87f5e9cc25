"""The command that draws real beside generated clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import run_bench
from engine.config import BenchError
from leaderboard import generated

PLUGINS = Path(__file__).parent / "engine" / "plugins" / "tiny.py"
OPTIONS = (
    "generate", "igm", "--datasets", f"{PLUGINS}:Tiny", "--set", "encoder=skeleton_transformer",
    "--set", "skeleton_transformer.dim=8", "--set", "skeleton_transformer.blocks=1", "--set", "igm.generator.dim=8",
    "--set", "igm.generator.depth=1", "--set", "igm.train.epochs=1", "--set", "igm.train.batch=8",
    "--clips", "2", "--steps", "3", "--noise", "400",
)  # fmt: skip


def test_pictures_of_a_run_are_made_once_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = CliRunner().invoke(run_bench.main, OPTIONS)
    assert first.exit_code == 0, first.output
    assert "pretrain of igm" in first.output
    assert "knn" not in first.output
    (samples,) = (tmp_path / "results" / "figures" / "generated").glob("*.npz")
    with np.load(samples, allow_pickle=False) as stored:
        clips, versions = stored["clips"], stored["versions"].tolist()
        assert versions == ["real", "one step from t = 400", "DDIM, 3 steps"]
        assert len(stored["classes"]) == clips.shape[1] == 2
        assert clips.shape[4] == len(stored["parents"]) == len(stored["sides"])
    assert clips.dtype == np.float32
    present = clips[0].any(axis=(2, 3, 4))
    assert np.array_equal(clips.any(axis=(3, 4, 5)), np.broadcast_to(present, clips.shape[:3]))
    for suffix in (".png", ".gif"):
        with Image.open(samples.with_suffix(suffix)) as image:
            assert getattr(image, "n_frames", 1) == (clips.shape[3] if suffix == ".gif" else 1)
    again = CliRunner().invoke(run_bench.main, OPTIONS)
    assert "Nothing to do" in again.output
    with np.load(samples, allow_pickle=False) as stored:
        assert np.array_equal(stored["clips"], clips)


def test_methods_that_generate_nothing_say_so_before_they_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(run_bench.main, ["generate", "aimclr", "--datasets", f"{PLUGINS}:Tiny"])
    assert result.exit_code == 2
    assert "aimclr generates no clips. Methods that do: igm, macdiff." in result.output


def test_damaged_samples_are_named(tmp_path: Path) -> None:
    path = tmp_path / "samples.npz"
    path.write_bytes(b"no archive")
    with pytest.raises(BenchError, match=r"samples\.npz holds no samples"):
        generated.write(path)
