"""Work in parts: what an interruption leaves, and who may go on with it."""

from __future__ import annotations

import os

import numpy as np
import pytest

from datasets.parts import make_parts, workshop
from engine.config import BenchError


def test_unfinished_work_is_kept_for_the_same_key_only(tmp_path):
    def parts(key, value):
        with workshop(tmp_path / "store", key) as work:
            for part in make_parts(work, [value], lambda task: {"x": np.array(task)}):
                if value < 4:
                    raise KeyboardInterrupt(int(part["x"]))
                return int(part["x"])

    for key, value, found in (("a", 1, 1), ("a", 2, 1), ("b", 3, 3)):
        with pytest.raises(KeyboardInterrupt, match=f"^{found}$"):
            parts(key, value)
    assert parts("b", 4) == 3
    assert list(tmp_path.iterdir()) == []


def test_one_preparation_at_a_time(tmp_path):
    with workshop(tmp_path / "store", "a"), pytest.raises(BenchError, match="Another process is preparing"):
        workshop(tmp_path / "store", "b").__enter__()


def test_a_killed_process_is_a_clear_error(tmp_path):
    """The work of a part is to end the process, as the system does when memory runs out."""
    parts = make_parts(tmp_path, [1, 2], os._exit, processes=2)
    with pytest.raises(BenchError, match=r"A process that reads files was killed \(out of memory\?\).*--processes N"):
        next(parts)
