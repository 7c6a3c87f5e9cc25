"""A method that trains all streams in one stage."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from rich.console import Console

from datasets.streams import STREAMS, to_stream
from engine.bench import Bench
from engine.files import read_arrays
from engine.progress import Reporter

SETS = tuple(f"crossclr.{one}" for one in ("train.epochs=2", "train.batch=8", "moco.queue=16", "cross.start_epoch=1"))


def test_one_training_serves_every_stream(world) -> None:
    asked = {"sets": SETS, "streams": STREAMS}
    assert not world.run("crossclr", "Means", **asked).failed
    jobs = [job.stage for job in world.plan("crossclr", "Means", **asked).jobs]
    (pretrain,) = (s for s in jobs if s.kind == "pretrain" and s.choice.plugin.name == "crossclr")
    assert len([s for s in jobs if s.kind == "pretrain" and s.choice.plugin.name == "random"]) == 3
    features = {s.labels.stream: s for s in jobs if s.kind == "features" and s.parents[0].key == pretrain.key}
    assert set(features) == set(STREAMS)
    bench = Bench(
        world.store, world.plan("crossclr", "Means", **asked).splits, torch.device("cpu"), Reporter(Console(quiet=True))
    )
    split, encoders = bench.split(pretrain), bench.method(pretrain).eval().encoders()
    for stream, stage in features.items():
        clips = to_stream(split.test.clips, stream, split.layout)
        with torch.no_grad():
            expected = encoders[stream].pool(encoders[stream](clips)).numpy()
        np.testing.assert_allclose(read_arrays(world.store.result(stage))["test"], expected, atol=1e-6)
        assert bench.record(stage).facts["params"] == bench.record(pretrain).facts["params"]
    curve = bench.record(pretrain).curve
    assert {"nce_joint", "nce_bone", "nce_motion"} <= set(curve[0])
    assert {"cross_joint", "cross_bone", "cross_motion"} <= set(curve[1])


def test_the_key_is_the_same_whatever_stream_is_asked_for(world) -> None:
    def trained(method, stream):
        jobs = world.plan(method, "Means", streams=(stream,), sets=SETS[:1] if method == "crossclr" else ()).jobs
        name = method.lower()
        return {j.stage.key for j in jobs if j.stage.kind == "pretrain" and j.stage.choice.plugin.name == name}

    assert trained("crossclr", "bone") == trained("crossclr", "joint")
    assert trained("TinyCLR", "bone") != trained("TinyCLR", "joint")


@pytest.mark.parametrize("stream", STREAMS)
def test_an_encoder_is_recalibrated_on_its_own_stream(stream) -> None:
    from tests.methods.test_contract import build

    method = build("crossclr", {}, stream=stream)
    assert method.encoder is method.encoders()[stream]
    assert len({id(encoder) for encoder in method.encoders().values()}) == 3
