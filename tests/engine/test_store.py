from __future__ import annotations

import errno
import json
import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from filelock._identity import host_name

from engine.config import BenchError
from engine.files import UnwritableError, read_arrays, write_arrays, write_atomically, write_json
from engine.leases import Unsigned
from engine.records import Provenance, Record
from engine.store import LEASE_SECONDS, LeaseLostError, RunStore


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
    assert RunStore(world.results, retry_failed=True).state(stage) == ("retry", "no luck")
    store.forgive(stage)
    assert store.state(stage) == ("resume", "")
    commit(store, stage)
    assert store.state(stage) == world.store.state(stage) == ("done", "")
    left = {path.name for path in store.folder(stage).iterdir()}
    assert left == {"stage.json", "weights.safetensors", "record.json", "provenance.json", "checksums.json"}


def test_stage_json_says_what_a_folder_is(world, stage):
    world.store.announce(stage)
    content = json.loads((world.store.folder(stage) / "stage.json").read_text())
    assert content["kind"] == "pretrain"
    assert content["key"] == stage.key
    assert content["labels"]["method"] == "random"
    assert content["identity"] == stage.identity
    assert content["parents"] == []


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"kind": "pretrain"}', None])
@pytest.mark.parametrize("checked", [True, False], ids=["with checksums", "from before checksums"])
def test_a_damaged_record_counts_as_not_done(world, stage, damage, checked):
    commit(world.store, stage)
    path = world.store.folder(stage) / "record.json"
    if not checked:
        (path.parent / "checksums.json").unlink()
        assert world.store.state(stage) == ("done", "")
    path.write_bytes(path.read_bytes()[:-40] if damage is None else damage)
    assert world.store.state(stage) == ("to do", "")
    assert len(world.warnings) == 1
    assert "record.json is damaged" in world.warnings[0]


def test_one_changed_digit_and_a_cut_result_are_noticed(world, stage):
    commit(world.store, stage)
    path = world.store.folder(stage) / "record.json"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"top1": 50.0', b'"top1": 90.0'))
    assert world.store.record(stage) is None
    path.write_bytes(whole)
    world.store.result(stage).write_bytes(b"weight")
    assert world.store.record(stage) is None
    assert "its checksum is wrong" in world.warnings[0]
    assert "weights.safetensors has 6 bytes, 7 were written" in world.warnings[1]
    world.store.result(stage).write_bytes(b"weight?")
    assert world.store.record(stage)
    assert not world.store.is_whole(stage)
    names = ["record.json.damaged1", "weights.safetensors.damaged1", "checksums.json.damaged1"]
    assert world.store.set_aside(stage) == names
    assert world.store.state(stage) == ("to do", "")
    assert {path.name for path in world.store.folder(stage).iterdir()} == {"provenance.json", *names}
    assert world.store.set_aside(stage) == []


def test_a_record_of_another_stage_counts_as_not_done(world, stage):
    commit(world.store, stage)
    path = world.store.folder(stage) / "record.json"
    (path.parent / "checksums.json").unlink()
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
    def other() -> bool:
        with RunStore(world.results).lease(stage) as held:
            return held

    with ThreadPoolExecutor(1) as pool:
        with world.store.lease(stage) as held:
            assert held
            assert not pool.submit(other).result()
        assert pool.submit(other).result()
    assert not list(world.store.folder(stage).glob(".lease*"))


def marker(store: RunStore, stage, pid: int, host: str) -> Path:
    """The lease of another process, as it looks after a heartbeat."""
    with store.lease(stage):
        (path,) = store.folder(stage).glob(".lease")
        text = path.read_text()
    path.write_text(text.replace(f"{os.getpid()}\n", f"{pid}\n", 1).replace(host_name(), host, 1))
    return path


def test_the_lease_of_a_dead_process_is_taken_over_at_once(world, stage):
    process = subprocess.Popen(["true"])
    process.wait()
    marker(world.store, stage, process.pid, host_name())
    with world.store.lease(stage) as held:
        assert held


def test_the_lease_of_another_host_is_taken_over_when_it_is_not_renewed(world, stage, monkeypatch):
    """Whatever its clock says: only the time counts for which the file has not changed."""
    monkeypatch.setattr("engine.store.LEASE_SECONDS", 0.4)
    path, store = marker(world.store, stage, 1, "elsewhere"), world.store
    began = time.monotonic()
    for beat in range(8):
        with store.lease(stage) as held:
            assert not held
        os.utime(path, (beat, beat))
        time.sleep(0.1)
    held = False
    while not held:
        assert time.monotonic() - began < 20
        with store.lease(stage) as held:
            time.sleep(0.05)
    assert time.monotonic() - began > 0.8 + 0.3


def test_an_empty_lease_is_removed_when_nobody_touches_it(world, stage, monkeypatch):
    """A process that is killed between making its lease and signing it leaves one; filelock waits for its owner for ever."""
    store, clock = world.store, [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    lease = store.folder(stage) / ".lease"
    lease.parent.mkdir(parents=True)
    lease.touch()

    def held(after: float) -> bool:
        clock[0] += after
        with store.lease(stage) as mine:
            return mine

    assert [held(0), held(LEASE_SECONDS - 1)] == [False, False]
    os.utime(lease)  # its owner lives
    assert [held(2), held(LEASE_SECONDS - 1), held(2), held(0)] == [False, False, False, True]
    assert not list(lease.parent.glob(".lease*"))


def test_the_lease_of_a_new_owner_is_not_removed_as_empty(world, stage, monkeypatch):
    """Two processes watch the same empty lease; the slower one finds that it has become another's."""
    store, clock = world.store, [1000.0]
    lease = store.folder(stage) / ".lease"
    lease.parent.mkdir(parents=True)
    lease.touch()
    watcher = Unsigned(10)
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    watcher.clear(lease)
    clock[0] += 11
    found, stat = lease.stat(), Path.stat
    monkeypatch.setattr(Path, "stat", lambda path, **more: found if path == lease else stat(path, **more))
    aside = lease.with_name("kept")
    lease.rename(aside)  # so that the new file has another inode
    lease.write_text("of a new owner")
    watcher.clear(lease)
    assert lease.read_text() == "of a new owner"
    assert sorted(path.name for path in lease.parent.iterdir()) == [".lease", "kept"]


def test_a_run_whose_lease_was_taken_over_leaves_no_record(world, stage, monkeypatch):
    monkeypatch.setattr("engine.store.LEASE_SECONDS", 0.3)
    store = world.store
    with store.lease(stage):
        (path,) = store.folder(stage).glob(".lease")
        path.rename(path.with_name("aside"))  # another process breaks the lease and makes its own
        path.write_text(path.with_name("aside").read_text())
        time.sleep(0.6)
        with pytest.raises(LeaseLostError):
            commit(store, stage)
    assert store.record(stage) is None


def test_a_full_disk_is_one_message_and_leaves_what_was_there(tmp_path: Path, monkeypatch):
    path = tmp_path / "file.json"
    write_json(path, {"a": 1})

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UnwritableError, match=r"file\.json cannot be written: No space left.*make room"):
        write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]
