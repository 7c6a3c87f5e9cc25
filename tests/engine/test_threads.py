"""What docs/reproducing.md says of threads: the same number, the same bits; another number, the same draws and rounding."""

from __future__ import annotations

import pytest
import torch

from datasets.layout import NTU25
from tests.engine import killing
from tests.engine.killing import SEED, Trained, train_method
from tests.methods.test_contract import build, clips


@pytest.fixture(autouse=True)
def two_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(killing, "EPOCHS", 2)


def trained(threads: int, seed: int = SEED) -> Trained:
    torch.set_num_threads(threads)  # tests/conftest.py sets it back
    return train_method("aimclr", None, seed=seed)


def test_the_same_number_gives_the_same_bits_and_another_the_same_draws() -> None:
    """Two epochs are a few steps: what differs after them is rounding, while other draws show at once."""
    one, two, again = trained(1), trained(2), trained(2)
    assert two[1] == again[1]
    assert all(torch.equal(value, again[0][name]) for name, value in two[0].items())
    for step, other in zip(one[1], two[1], strict=True):
        assert other == pytest.approx(step, rel=1e-3)
    drawn = trained(1, seed=SEED + 1)[1]
    assert drawn[0] != pytest.approx(one[1][0], rel=1e-2)


def test_features_of_an_untrained_encoder_differ_by_rounding_at_most() -> None:
    method = build("random", {}).eval()
    points = clips(NTU25, 2)
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        with torch.inference_mode():
            found.append(method.encoder.pool(method.encoder(points)))
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-6)
