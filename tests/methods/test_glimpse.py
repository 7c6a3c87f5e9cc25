"""What encoders see under IGM and MacDiff, and features of the parts behind them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from datasets.clips import to_storage
from encoders.skeleton_transformer import patchify, unpatchify
from engine.config import BenchError
from engine.extract import extract
from methods.glimpse import MaskConfig, glimpse
from methods.macdiff import MacDiff
from protocols.base import FeatureConfig
from tests.methods.diffusing import SIZES, build, clips


@pytest.mark.parametrize("encoder", SIZES)
def test_glimpses_see_what_they_keep(encoder: str) -> None:
    network = build("macdiff", encoder).encoder
    bodies, generator = to_storage(clips())[:, 0], torch.Generator().manual_seed(3)
    seen = glimpse(network, bodies, MaskConfig(ratio=0.8), generator)
    assert seen.tokens.shape == (6, 25, network.dim)
    assert seen.places == 125
    assert all(len(set(row.tolist())) == 25 for row in seen.kept)
    spread = seen.spread(seen.tokens, local=True)
    assert torch.equal(spread.gather(1, seen.kept[..., None].expand_as(seen.tokens)), seen.tokens)
    hidden = seen.hidden()
    assert hidden.sum(dim=1).tolist() == [100] * 6
    mean = seen.tokens.mean(dim=1, keepdim=True).expand_as(spread)
    torch.testing.assert_close(spread[hidden], mean[hidden])
    torch.testing.assert_close(seen.spread(seen.tokens, local=False), mean)


@pytest.mark.parametrize(("kind", "axis"), [("tube", 0), ("temporal", 1)])
@pytest.mark.parametrize("encoder", SIZES)
def test_joints_or_moments_are_hidden_as_a_whole(encoder: str, kind: str, axis: int) -> None:
    bodies = to_storage(clips())[:, 0]
    seen = glimpse(build("macdiff", encoder).encoder, bodies, MaskConfig(ratio=0.8, kind=kind), torch.Generator())
    hidden = seen.hidden().view(6, 5, 25)
    whole = hidden.all(dim=1 + axis)
    assert torch.equal(whole, hidden.any(dim=1 + axis))
    assert whole.sum(dim=1).tolist() == [20 if kind == "tube" else 4] * 6
    assert len({tuple(row) for row in whole.tolist()}) > 1


def test_what_moves_is_hidden_before_what_rests() -> None:
    bodies = torch.zeros(64, 16, 25, 3)
    bodies[:, :, :5] = torch.randn(64, 16, 5, 3, generator=torch.Generator().manual_seed(0))
    for kind, low, high in (("motion", 0.75, 1.0), ("random", 0.45, 0.55)):
        config = MaskConfig(ratio=0.5, kind=kind, tau=0.2)
        hidden = glimpse(build("macdiff").encoder, bodies, config, torch.Generator().manual_seed(1)).hidden()
        assert low < hidden.view(64, 4, 25)[:, :, :5].float().mean() < high, kind


def parts_of(method: MacDiff, x: Tensor) -> dict[str, Tensor]:
    """Features of all spaces behind the encoder."""
    configs = {part: FeatureConfig(space=part) for part in ("adapter", "generator", "fused")}  # type: ignore[arg-type]
    return {part: torch.cat(list(extract(method, x, config, torch.Generator()))) for part, config in configs.items()}


@torch.no_grad()
@pytest.mark.parametrize("encoder", SIZES)
def test_features_behind_the_encoder_are_their_formulas(encoder: str) -> None:
    method = build("igm", encoder).eval()
    for name, parameter in method.generator.named_parameters():
        if "by_" in name:  # modulation starts as none at all
            torch.nn.init.normal_(parameter)
    x = clips()
    found, maps = parts_of(method, x), method.encoder(x)
    tokens = maps.flatten(3).transpose(2, 3)
    tokens = tokens if encoder == "skeleton_transformer" else F.layer_norm(tokens, tokens.shape[3:])
    unit = F.normalize(tokens, dim=3)
    adapted = 1.5 * tokens - 0.5 * (unit @ unit.transpose(2, 3) / 0.2).softmax(dim=3) @ tokens  # (N, M, L, D)
    torch.testing.assert_close(found["adapter"], adapted.mean(dim=(1, 2)), rtol=1e-4, atol=1e-5)
    noises = torch.randn(4, 5, 25, 12, generator=torch.Generator().manual_seed(0))
    bodies = patchify(method.standardise(to_storage(x).flatten(0, 1)), 4)
    share = method.diffusion.shares[100]
    made = [
        method.generator.tokens(
            share**0.5 * bodies + (1 - share) ** 0.5 * noise, adapted.flatten(0, 1), torch.full((12,), 100)
        )
        for noise in noises
    ]
    generated = torch.stack(made).mean(dim=(0, 2)).view(6, 2, -1).mean(dim=1)
    torch.testing.assert_close(found["generator"], generated, rtol=1e-4, atol=1e-5)
    both = [F.normalize(each, dim=1) for each in (method.encoder.pool(maps), generated)]
    torch.testing.assert_close(found["fused"], torch.cat(both, dim=1), rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("encoder", SIZES)
def test_features_behind_the_encoder_know_absent_persons_and_no_batch(encoder: str) -> None:
    method, x = build("igm", encoder).eval(), clips()
    method.encoder.skip_absent = True
    torch.nn.init.normal_(method.adapter.project.bias)  # type: ignore[union-attr, arg-type]
    alone, together = parts_of(method, x[::2]), parts_of(method, x)
    without_slot = parts_of(method, x[::2, ..., :1])
    for part, features in alone.items():
        torch.testing.assert_close(features, together[part][::2], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(features, without_slot[part], rtol=1e-4, atol=1e-5)


def test_a_noise_level_that_the_diffusion_lacks_is_refused() -> None:
    method = build("igm", diffusion__steps=50).eval()
    for found in (
        extract(method, clips(), FeatureConfig(space="generator"), torch.Generator()),
        extract(method, clips(), FeatureConfig(), torch.Generator(), 50),
    ):
        with pytest.raises(BenchError, match="of a diffusion of 50 steps"):
            list(found)


@pytest.mark.parametrize("kind", ["random", "motion", "tube", "temporal"])
def test_cells_at_zero_have_no_influence(kind: str) -> None:
    """On an encoder that cannot leave tokens out; what is hidden of joints or moments is hidden as a whole."""
    network, seen = build("macdiff", "stgcn").encoder, []
    handle = network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    bodies = to_storage(clips())[:, 0] + 1
    glimpse(network, bodies, MaskConfig(kind=kind), torch.Generator().manual_seed(3))
    handle.remove()
    zero = (to_storage(seen[0])[:, 0] == 0).all(dim=3)  # (B, T, V)
    assert torch.equal(to_storage(seen[0])[:, 0][~zero], bodies[~zero])
    assert torch.equal(zero[:, :16].view(6, 4, 4, 25).any(dim=2), zero[:, :16].view(6, 4, 4, 25).all(dim=2))
    assert 0.3 < zero.float().mean() < 0.7
    if kind == "tube":
        assert torch.equal(zero.any(dim=1), zero.all(dim=1))
    if kind == "temporal":
        assert torch.equal(zero.any(dim=2), zero.all(dim=2))


def test_hidden_tokens_have_no_influence() -> None:
    network = build("macdiff").encoder
    bodies = to_storage(clips())[:, 0, :16]
    before = glimpse(network, bodies, MaskConfig(), torch.Generator().manual_seed(3))
    patches = patchify(bodies, 4).flatten(1, 2)
    patches[before.hidden()] += 9.0
    changed = unpatchify(patches.view(6, 4, 25, 12), 16)
    after = glimpse(network, changed, MaskConfig(), torch.Generator().manual_seed(3))
    torch.testing.assert_close(after.pooled, before.pooled)


def test_nothing_hidden_is_what_protocols_see() -> None:
    for encoder in SIZES:
        network = build("macdiff", encoder).encoder.eval()
        x = clips()[..., :1]
        seen = glimpse(network, to_storage(x)[:, 0], MaskConfig(on=False), torch.Generator())
        torch.testing.assert_close(seen.pooled, network.pool(network(x)), rtol=1e-4, atol=1e-5)
