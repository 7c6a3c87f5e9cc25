"""The cheap dropout against what torch's does."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from encoders.dropout import Dropout, DropPath


@pytest.mark.parametrize("p", [0.1, 0.25, 0.5, 0.9])
def test_rate_and_scale(p: float) -> None:
    x = torch.ones(400, 500)
    y = Dropout(p)(x)
    dropped = round(256 * p) / 256
    assert abs(dropped - p) <= 1 / 512
    assert y.unique().tolist() == pytest.approx([0.0, 1 / (1 - dropped)])
    # 200,000 draws: five standard deviations
    assert float((y == 0).float().mean()) == pytest.approx(
        dropped, abs=5 * (dropped * (1 - dropped) / x.numel()) ** 0.5
    )


def test_neighbours_are_independent() -> None:
    kept = (Dropout(0.5)(torch.ones(2**18)) > 0).float() - 0.5
    for lag in range(1, 17):  # bytes of one drawn word lie up to 7 apart
        assert abs(float((kept[lag:] * kept[:-lag]).mean())) < 5 * 0.25 / 2**9


@given(st.lists(st.integers(1, 7), min_size=1, max_size=4), st.sampled_from([torch.float32, torch.bfloat16]))
def test_any_shape_and_type(shape: list[int], dtype: torch.dtype) -> None:
    x = torch.ones(shape, dtype=dtype)
    y = Dropout(0.5)(x)
    assert y.shape == x.shape
    assert y.dtype == dtype
    assert set(y.flatten().tolist()) <= {0.0, 2.0}


def test_keeps_channels_last_and_passes_the_gradient_where_kept() -> None:
    x = torch.randn(2, 4, 5, 6).contiguous(memory_format=torch.channels_last).requires_grad_()
    y = Dropout(0.5)(x)
    y.sum().backward()
    assert y.stride() == x.stride()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.where(y == 0, 0.0, 2.0))


def test_follows_the_global_seed() -> None:
    def draw(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return Dropout(0.5)(torch.ones(1000))

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))


@pytest.mark.parametrize("module", [Dropout(0.5).eval(), Dropout(0.0)])
def test_does_nothing_when_evaluated_or_off(module: Dropout) -> None:
    x = torch.randn(10)
    assert torch.equal(module(x), x)


def test_a_branch_is_left_out_for_whole_samples() -> None:
    layer = DropPath(0.25).train()
    out = layer(torch.ones(4000, 3, 2))
    kept = out[:, 0, 0] > 0
    assert torch.equal(out, kept[:, None, None] * torch.full((4000, 3, 2), 1 / 0.75))
    assert abs(kept.float().mean() - 0.75) < 0.03
    assert torch.equal(layer.eval()(out), out)
    assert torch.equal(DropPath(0.0).train()(out), out)
