"""Diffusion, generator, adapter and entropies against the specification's values, twins and limits (igm.md 1, 2)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from encoders.base import parameter_count
from engine.config import resolve
from methods.diffusion import Diffusion, DiffusionConfig, signal_shares
from methods.entropy import coding_length, coding_series, effective_rank
from methods.generator import Adapter, AdapterConfig, GeneratorConfig, ModulatedNorm, PatchGenerator, time_code

STEPS = (0, 1, 10, 50, 100, 250, 500, 750, 900, 950, 990)
SHARES = {
    "inverse_cosine": (0.99804, 0.99609, 0.97872, 0.90628, 0.82642, 0.65211, 0.50571, 0.35482, 0.17438, 0.09218, 0.0178),
    "cosine": (0.99996, 0.99991, 0.99928, 0.99172, 0.97158, 0.84589, 0.49229, 0.14318, 0.02362, 0.00582, 0.0002),
    "linear": (0.9999, 0.99978, 0.99781, 0.96995, 0.89514, 0.52142, 0.0778, 0.0033, 0.00027, 0.00011, 0.00005),
}  # fmt: skip


def diffusion(**changes: object) -> Diffusion:
    return Diffusion(resolve(DiffusionConfig, changes))


@pytest.mark.parametrize("schedule", SHARES)
def test_schedules_of_the_specification(schedule: str) -> None:
    shares = signal_shares(resolve(DiffusionConfig, {"schedule": schedule}))
    np.testing.assert_allclose(shares[list(STEPS)].numpy(), SHARES[schedule], atol=6e-6)
    assert (shares.diff() < 0).all()


def test_tau_of_minus_one_is_the_cosine_schedule() -> None:
    bent = signal_shares(DiffusionConfig(tau=-1.0))
    torch.testing.assert_close(bent, signal_shares(DiffusionConfig(schedule="cosine")))


def test_noise_is_amplified_as_the_specification_says() -> None:
    shares = signal_shares(DiffusionConfig())
    amplified = ((1 - shares) / shares).sqrt()[[500, 900, 950, 990]]
    np.testing.assert_allclose(amplified.numpy(), (0.99, 2.2, 3.1, 7.4), atol=0.05)
    assert float(((1 - shares[999]) / shares[999]).sqrt()) == pytest.approx(707.5, abs=0.6)
    assert int((shares >= 0.05).sum()) == 974


@pytest.mark.parametrize("target", ["noise", "clean", "velocity"])
def test_a_perfect_prediction_gives_the_clip_back(target: str) -> None:
    process = diffusion(target=target)
    clean, noise, t = torch.randn(5, 3, 2), torch.randn(5, 3, 2), torch.tensor([0, 10, 300, 700, 950])
    noisy = process.noised(clean, noise, t)
    torch.testing.assert_close(process.denoised(noisy, process.wanted(clean, noise, t), t), clean, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("target", ["noise", "clean", "velocity"])
def test_sampling_with_an_oracle_ends_at_the_clip(target: str) -> None:
    process, clean = diffusion(target=target), torch.rand(4, 3) * 4 - 2

    def oracle(x: Tensor, t: Tensor) -> Tensor:
        keep, spread = process.signal(t, x)
        return process.wanted(clean, (x - keep * clean) / spread, t)

    torch.testing.assert_close(process.sample(oracle, torch.randn(4, 3), steps=7), clean, rtol=1e-3, atol=1e-3)


def test_sampling_of_a_gaussian_keeps_its_deviation() -> None:
    """The best prediction for clips N(0, s^2) is known; DDIM must turn noise into N(0, s^2)."""
    process, s = diffusion(), 0.6

    def best(x: Tensor, t: Tensor) -> Tensor:
        keep, spread = process.signal(t, x)
        return spread * x / (keep**2 * s**2 + spread**2)

    made = process.sample(best, torch.randn(20000, 1), steps=200)
    assert float(made.std()) == pytest.approx(s, rel=0.03)


def test_generator_has_the_released_size() -> None:
    for depth, count in ((3, 3_379_468), (5, 5_618_444)):
        generator = PatchGenerator(GeneratorConfig(depth=depth), 30, 25, 12, 256)
        assert parameter_count(generator) == count
        assert parameter_count(generator.blocks[0]) == 1_119_488


def test_time_code_is_cosines_then_sines() -> None:
    code = time_code(torch.tensor([0, 7]))
    angles = 7 * 10000.0 ** (-np.arange(32) / 32)
    np.testing.assert_allclose(code[1], np.concatenate([np.cos(angles), np.sin(angles)]), atol=1e-5)
    assert code[0].tolist() == [1.0] * 32 + [0.0] * 32


def test_modulation_by_time_and_condition() -> None:
    norm, x, condition, time = ModulatedNorm(6, 4), torch.randn(2, 3, 6), torch.randn(2, 3, 4), torch.randn(2, 64)
    for parameter in norm.parameters():
        torch.nn.init.normal_(parameter)
    z_s, z_b = (condition @ norm.by_condition.weight.T + norm.by_condition.bias).split(6, dim=2)
    t_s, t_b = (time @ norm.by_time.weight.T + norm.by_time.bias)[:, None].split(6, dim=2)
    expected = z_s * (t_s * norm.norm(x) + t_b) + z_b
    torch.testing.assert_close(norm(x, condition, time), expected)


def test_generator_starts_without_modulation() -> None:
    generator = PatchGenerator(GeneratorConfig(dim=8, depth=2, heads=2), 3, 5, 12, 4)
    noisy, t = torch.randn(2, 3, 5, 12), torch.tensor([3, 900])
    plain = generator(noisy, torch.zeros(2, 15, 4), t)
    torch.testing.assert_close(generator(noisy, torch.randn(2, 15, 4), t.flip(0)), plain)
    assert plain.shape == noisy.shape
    assert plain.std() > 0.1


def test_adapter_equals_its_formula() -> None:
    tokens = torch.randn(2, 7, 5)
    z = tokens[1].numpy().astype(float)
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    for similarity, scores in (("cosine", unit @ unit.T / 0.2), ("scaled_dot", z @ z.T / 5**0.5), ("raw", z @ z.T)):
        weights = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        adapter = Adapter(resolve(AdapterConfig, {"similarity": similarity, "eta": 0.7}), 5)
        with torch.no_grad():
            np.testing.assert_allclose(adapter(tokens)[1], 1.7 * z - 0.7 * weights @ z, rtol=1e-4, atol=1e-5)


def test_adapter_without_effect() -> None:
    tokens, constant = torch.randn(2, 7, 5), torch.randn(2, 1, 5).expand(2, 7, 5)
    torch.testing.assert_close(Adapter(AdapterConfig(eta=0.0), 5)(tokens), tokens)
    for eta in (0.5, 2.0):
        torch.testing.assert_close(Adapter(AdapterConfig(eta=eta), 5)(constant), constant)


def test_raw_similarity_does_nothing_on_normalised_tokens_and_cosine_raises_the_rank() -> None:
    structured = torch.randn(75, 256) @ torch.diag(0.95 ** torch.arange(256)) @ torch.randn(256, 256) / 16
    tokens = F.layer_norm(structured, (256,))[None]
    with torch.no_grad():
        raw = Adapter(AdapterConfig(similarity="raw"), 256)(tokens)
        made = [Adapter(AdapterConfig(eta=eta), 256)(tokens)[0] for eta in (0.0, 0.5, 1.0, 2.0)]
    ranks = [float(effective_rank(each)) for each in made]
    torch.testing.assert_close(raw, tokens, rtol=1e-3, atol=1e-3)
    assert ranks == sorted(ranks)
    assert ranks[-1] > ranks[0] + 1


def test_coding_length_and_its_series() -> None:
    z = F.normalize(torch.randn(256, 64, dtype=torch.float64), dim=1)
    exact = coding_length(z, 64.0)
    assert float(exact) == pytest.approx(158.465, abs=0.02)
    assert float(coding_series(z, 64.0, 1)) == pytest.approx(160.0)
    assert float(coding_series(z, 64.0, 2)) == pytest.approx(158.442, abs=0.02)
    assert float(coding_series(z, 64.0, 12)) == pytest.approx(float(exact), rel=1e-12)
    gap = coding_series(z, 64.0, 2) - coding_series(z, 64.0, 1)
    assert float(gap) == pytest.approx(-(256 + 64) / 2 * (64 / (256 * 64)) ** 2 / 2 * float(((z @ z.T) ** 2).sum()))


def test_coding_length_of_fewer_clips_than_dimensions_is_that_of_the_full_determinant() -> None:
    z = torch.randn(5, 9, dtype=torch.float64)
    full = (5 + 9) / 2 * torch.logdet(torch.eye(9, dtype=torch.float64) + 9 / (5 * 0.5) * z.T @ z)
    torch.testing.assert_close(coding_length(z, 0.5), full)


def test_ranks_of_known_spectra() -> None:
    pairs = torch.cat([torch.eye(6), -torch.eye(6)])  # centred, six equal singular values
    assert float(effective_rank(pairs + 3.0)) == pytest.approx(6, rel=1e-4)
    line = torch.randn(20, 1) @ torch.randn(1, 6)
    assert float(effective_rank(line)) == pytest.approx(1, abs=1e-3)
    assert torch.isfinite(effective_rank(torch.ones(4, 3)))
