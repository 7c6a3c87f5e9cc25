"""Shared fixtures."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

# Tensors here are tiny: one thread is faster, and one full run with two threads was aborted inside torch.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference material beside the checkout; tests that need it skip where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("reference material (../shared) is absent")
    return folder


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
