from __future__ import annotations

import pytest

from engine.config import BenchError
from engine.rebuild import outside_plugins, rebuild
from protocols.linear import Linear
from tests.engine.conftest import PLUGINS

OUTSIDE = outside_plugins([f"{PLUGINS}:{name}" for name in ("TinyCLR", "Tiny", "TinyEncoder")])


def records(world, *protocols):
    return {job.stage.key: job.stage.record() for job in world.plan("TinyCLR", ",".join(protocols)).jobs}


@pytest.mark.parametrize("protocol", ["linear", "zero_shot"])
def test_a_record_under_a_new_version_of_a_protocol_that_others_run_is_rebuilt(world, monkeypatch, protocol):
    old = records(world, protocol)
    assert {key: stage.key for key, stage in rebuild(old, {}, OUTSIDE).items()} == {key: key for key in old}
    monkeypatch.setattr(Linear, "version", Linear.version + 1)
    new = records(world, protocol)
    assert set(rebuild(new, {}, OUTSIDE)) == set(new) != set(old)
    with pytest.raises(BenchError, match=rf"version of {protocol} is 1, expected 2"):
        rebuild(old, {}, OUTSIDE)
