from __future__ import annotations

import numpy as np
import pytest
import torch
from rich.console import Console

from datasets.clips import to_storage
from datasets.corruptions import corrupt
from engine import probes
from engine.bench import Bench
from engine.config import BenchError
from engine.progress import Reporter


@pytest.fixture
def ran(world):
    """A bench on which two protocols have run, and their stages by name."""
    assert not world.run("TinyCLR", "knn,linear", sets=("linear.epochs=3",)).failed
    plan = world.plan("TinyCLR", "knn,linear", sets=("linear.epochs=3",))
    bench = Bench(world.store, plan.splits, torch.device("cpu"), Reporter(Console(quiet=True)))
    return bench, {(job.stage.kind, job.stage.labels.method, job.stage.labels.protocol): job.stage for job in plan.jobs}


@pytest.mark.parametrize("protocol", ["knn", "linear[epochs=3]"])
@pytest.mark.parametrize("method", ["tinyclr", "raw"])
def test_without_corruption_robustness_is_the_stored_accuracy(ran, method, protocol, monkeypatch) -> None:
    bench, stages = ran
    stage = stages["evaluate", method, protocol]
    found = probes.robustness(stage, bench)
    assert {name: len(values) for name, values in found.items()} == {
        n: len(k.strengths) for n, k in probes.KINDS.items()
    }
    for values in found.values():
        assert values[0] == bench.record(stage).metrics["top1"]
    assert min(min(values) for values in found.values()) < bench.record(stage).metrics["top1"]
    # Kept: nothing is computed for a second call, and no file of the run has changed.
    monkeypatch.setattr(probes, "_corrupted_features", None)
    assert probes.robustness(stage, bench) == found
    assert bench.store.state(stage) == ("done", "")


def test_one_point_of_robustness_against_a_slow_twin(ran) -> None:
    bench, stages = ran
    stage = stages["evaluate", "tinyclr", "knn"]
    split, method = bench.split(stage), bench.method(stage.parents[0].parents[0])
    method.eval()
    clips = corrupt(split.test.clips, "noise", probes.KINDS["noise"].strengths[-1], split.layout)
    with torch.no_grad():
        gallery, queries = (method.encoder.pool(method.encoder(c)).numpy() for c in (split.train.clips, clips))
    right = 0
    for query, label in zip(queries, split.test.labels, strict=True):
        cosine = [query @ g / np.linalg.norm(query) / np.linalg.norm(g) for g in gallery]
        right += int(split.train.labels[int(np.argmax(cosine))] == label)
    assert probes.robustness(stage, bench)["noise"][-1] == pytest.approx(100 * right / len(queries))


def test_weights_that_were_not_kept_are_not_called_damaged(ran) -> None:
    bench, stages = ran
    stage = stages["pretrain", "tinyclr", ""]
    bench.store.result(stage).unlink()
    with pytest.raises(BenchError, match=r"is not there: the record was kept without weights\. To train again, delete"):
        bench.method(stage)


def test_robustness_refuses_what_does_not_read_features(ran) -> None:
    bench, stages = ran
    with pytest.raises(BenchError, match="does not work on features"):
        probes.robustness(stages["pretrain", "tinyclr", ""], bench)


def test_examples_are_clips_of_their_classes_and_arrays_have_their_axes(ran) -> None:
    bench, stages = ran
    split = bench.split(stages["pretrain", "tinyclr", ""])
    shown = probes.examples(split, 2)
    assert [one.label for one in shown] == [0, 2]
    for one in shown:
        assert split.test.labels[one.index] == one.label
        np.testing.assert_array_equal(one.poses[3, 0, 2], split.test.clips[one.index, :, 3, 2, 0])
    average = probes.average_motion(split)
    expected = to_storage(split.train.clips).numpy().mean(axis=0)  # (M, T, V, 3)
    np.testing.assert_allclose(average, expected.swapaxes(0, 1), atol=1e-6)


def test_views_are_those_of_the_method_and_always_the_same(ran) -> None:
    bench, stages = ran
    stage = stages["pretrain", "tinyclr", ""]
    method, split = bench.method(stage), bench.split(stage)
    first, second = probes.views(method, split.test.clips[:1]), probes.views(method, split.test.clips[:1])
    np.testing.assert_array_equal(first[0], probes.poses(split.test.clips[:1]))
    np.testing.assert_array_equal(first[1], second[1])
    assert not np.array_equal(first[0], first[1])


def test_attention_is_stretched_to_the_frames_of_the_clips(ran) -> None:
    bench, stages = ran
    stage = stages["pretrain", "tinyclr", ""]
    method, clips = bench.method(stage), bench.split(stage).test.clips
    assert not probes.attends(method)
    with pytest.raises(BenchError, match="TinyCLR attends to nothing"):
        probes.attention(method, clips)

    class Attending(type(method)):
        def attention(self, maps):
            return maps.sum(dim=2)[:, :, ::5]

    method.__class__ = Attending
    assert probes.attends(method)
    with torch.no_grad():
        maps = method.encoder(clips).sum(dim=2).numpy()
    found = probes.attention(method, clips)
    assert found.shape == (len(clips), 1, clips.shape[2], 4)
    for t in range(clips.shape[2]):
        np.testing.assert_allclose(found[:, :, t], maps[:, :, t // 5 * 5], atol=1e-5)
