from __future__ import annotations

import json

import pytest

from engine.config import BenchError
from engine.records import Record
from engine.revive import revive
from engine.store import write_json


def finished(world, *names: str, **more: object) -> list[str]:
    """Keys of a plan whose records lie in the store, without any having run."""
    keys = []
    for job in world.plan(*names, **more).jobs:
        record: Record = job.stage.record()
        write_json(world.store.folder(job.stage) / "record.json", record.model_dump(mode="json"))
        keys.append(job.stage.key)
    return keys


def test_every_stage_comes_back_from_its_record(world) -> None:
    names = "actclr,hiclr:dae", "knn,linear:aimclr,semi:linear"
    keys = finished(world, *names, sets=("encoder=stgcn", "aimclr.augment.shear=0.3"), streams=("joint", "bone"))
    assert len(keys) > 30
    for key in keys:
        stage = revive(world.results, key)
        assert stage.key == key
        assert stage.kind in ("pretrain", "features", "evaluate", "fuse")


def test_what_cannot_come_back_says_why(world) -> None:
    outside = finished(world)
    with pytest.raises(BenchError, match="is a file outside of the project"):
        revive(world.results, outside[-1])
    keys = finished(world, "aimclr", "knn", sets=("encoder=stgcn",))
    with pytest.raises(BenchError, match="run 0123 is not in"):
        revive(world.results, "0123")
    (path,) = world.results.glob(f"runs/*/*/{keys[-1]}/record.json")
    content = json.loads(path.read_text())
    content["identity"]["version"] += 1
    path.write_text(json.dumps(content))
    with pytest.raises(BenchError, match="was made by another version of knn; run it again"):
        revive(world.results, keys[-1])
    content["identity"]["config"]["gone"] = 1
    path.write_text(json.dumps(content))
    with pytest.raises(BenchError, match="knn has other settings now"):
        revive(world.results, keys[-1])
    path.write_text("{")
    with pytest.raises(BenchError, match="is damaged"):
        revive(world.results, keys[-1])
