from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest

from engine.config import BenchError
from engine.records import Provenance, Record
from engine.store import RunStore, read_arrays, write_arrays, write_atomically, write_json


@pytest.fixture
def stage(world):
    return world.plan().jobs[0].stage


def commit(store: RunStore, stage) -> None:
    with write_atomically(store.result(stage)) as file:
        file.write(b"weights")
    circumstances = Provenance(
        seconds=1, finished="", device="", threads=1, peak_memory_mb=1, commit="", source="", versions={}
    )
    store.commit(stage, stage.record(metrics={"top1": 50.0}), circumstances)


def test_a_folder_is_named_by_kind_plugin_and_key(world, stage):
    assert world.store.folder(stage) == world.results / "runs" / "pretrain" / "random" / stage.key


def test_states(world, stage):
    store = world.store
    assert store.state(stage) == ("to do", "")
    store.announce(stage)
    assert store.state(stage) == ("to do", "")
    store.checkpoint(stage).touch()
    assert store.state(stage) == ("resume", "")
    store.fail(stage, "no luck")
    assert store.state(stage) == ("failed", "no luck")
    commit(store, stage)
    assert store.state(stage) == world.store.state(stage) == ("done", "")
    left = {path.name for path in store.folder(stage).iterdir()}
    assert left == {"stage.json", "weights.safetensors", "record.json", "provenance.json"}


def test_stage_json_says_what_a_folder_is(world, stage):
    world.store.announce(stage)
    content = json.loads((world.store.folder(stage) / "stage.json").read_text())
    assert content["kind"] == "pretrain"
    assert content["key"] == stage.key
    assert content["labels"]["method"] == "random"
    assert content["identity"] == stage.identity
    assert content["parents"] == []


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"kind": "pretrain"}', None])
def test_a_damaged_record_counts_as_not_done(world, stage, damage):
    commit(world.store, stage)
    path = world.store.folder(stage) / "record.json"
    path.write_bytes(path.read_bytes()[:-40] if damage is None else damage)
    assert world.store.state(stage) == ("to do", "")
    assert len(world.warnings) == 1
    assert "record.json is damaged" in world.warnings[0]


def test_a_record_of_another_stage_counts_as_not_done(world, stage):
    commit(world.store, stage)
    path = world.store.folder(stage) / "record.json"
    write_json(path, Record.model_validate_json(path.read_bytes()).model_copy(update={"key": "0" * 16}).model_dump())
    assert world.store.record(stage) is None
    assert "it belongs to 0000" in world.warnings[0]


def test_a_record_whose_result_is_gone_counts_as_not_done(world, stage):
    commit(world.store, stage)
    world.store.result(stage).unlink()
    assert world.store.record(stage) is None
    assert world.warnings == []


def test_writing_is_all_or_nothing(tmp_path: Path):
    path = tmp_path / "deep" / "file.json"
    write_json(path, {"a": 1})
    with pytest.raises(RuntimeError), write_atomically(path) as file:  # noqa: PT012
        file.write(b"half of")
        raise RuntimeError
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(path.parent.iterdir()) == [path]


def test_json_is_the_same_for_the_same_content_and_keeps_numbers_on_one_line(tmp_path: Path):
    content = {"b": [[1, 2], [3, 4]], "a": ["x [\n 1\n]", "y"], "c": [0.1, None, True], "d": {"e": [{"f": 1}]}, "g": []}
    write_json(tmp_path / "one.json", content)
    write_json(tmp_path / "two.json", dict(reversed(content.items())))
    text = (tmp_path / "one.json").read_text()
    assert text == (tmp_path / "two.json").read_text()
    assert json.loads(text) == content
    assert "[1, 2]" in text
    assert "[0.1, null, true]" in text


def test_arrays_come_back(tmp_path: Path):
    write_arrays(tmp_path / "a.npz", {"scores": np.eye(3, dtype=np.float32), "id": np.array(["x", "yy"])})
    found = read_arrays(tmp_path / "a.npz")
    assert found["scores"].dtype == np.float32
    assert found["id"].tolist() == ["x", "yy"]
    (tmp_path / "a.npz").write_bytes(b"PK")
    with pytest.raises(BenchError, match=r"a\.npz cannot be read .*Delete"):
        read_arrays(tmp_path / "a.npz")


def test_a_stage_is_worked_on_by_one_run_at_a_time(world, stage):
    order: list[str] = []

    def other() -> None:
        with RunStore(world.results).lease(stage, lambda: (order.append("waiting"), waiting.set())):
            order.append("second")

    waiting = threading.Event()
    with world.store.lease(stage, lambda: order.append("never")):
        thread = threading.Thread(target=other)
        thread.start()
        assert waiting.wait(5)
        order.append("first")
    thread.join(5)
    assert order == ["waiting", "first", "second"]
