"""IGM and MacDiff: masking, idempotency, gradients that must vanish, and training that stays finite."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import BaseModel
from torch.nn import functional as F

from datasets.clips import ClipSet, to_storage
from datasets.resized import ResizedConfig, resize_matrix, resized
from encoders.skeleton_transformer import patchify, unpatchify
from engine import train
from engine.config import resolve
from engine.extract import extract
from engine.registry import find
from engine.show import fields_of
from methods.base import Step
from methods.diffusion import Standardise
from methods.idempotency import (
    IdempotencyConfig,
    distribution_idempotency,
    feature_idempotency,
    ramp,
    spectral_repulsion,
    unit_features,
)
from protocols.base import FeatureConfig
from tests.methods.diffusing import SIZES, build, clips, gradients, losses_of, step


def test_patches_and_back() -> None:
    bodies = torch.randn(2, 10, 5, 3)
    assert torch.equal(unpatchify(patchify(bodies, 4), 10), bodies)


def test_stretches_are_resized_between_frame_centres() -> None:
    x, start, length = torch.randn(3, 20), torch.tensor([0, 4, 9]), torch.tensor([20, 13, 10])
    made = (resize_matrix(start, length, 20) @ x[..., None])[..., 0]
    for row in range(3):
        part = x[row, start[row] : start[row] + length[row]]
        torch.testing.assert_close(made[row], F.interpolate(part[None, None], 20, mode="linear")[0, 0])


def test_views_keep_lengths_and_absent_persons() -> None:
    x = clips()
    view = resized(x, ResizedConfig(), torch.Generator().manual_seed(0))
    assert not to_storage(view)[::2, 1].any()
    assert torch.equal(view, resized(x, ResizedConfig(), torch.Generator().manual_seed(0)))
    turned = resized(x, ResizedConfig(crop=1.0), torch.Generator().manual_seed(0))
    torch.testing.assert_close(to_storage(turned).norm(dim=4), to_storage(x).norm(dim=4))
    still = resized(x, ResizedConfig(crop=1.0, angle=0.0), torch.Generator().manual_seed(0))
    torch.testing.assert_close(still, x)


def test_standardise_gathers_moments_and_travels_with_the_weights() -> None:
    scale, x = Standardise(), torch.randn(40, 5, 7, 3) * torch.tensor([0.1, 2.0, 0.5]) + torch.tensor([0.0, -1.0, 3.0])
    for part in x.split(10):
        scale.observe(part)
    made = scale(x).flatten(0, 2)
    torch.testing.assert_close(made.mean(dim=0), torch.zeros(3), rtol=0, atol=1e-4)
    torch.testing.assert_close(made.std(dim=0), torch.ones(3), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(scale.back(scale(x)), x)
    other = Standardise()
    other.load_state_dict(scale.state_dict())
    assert torch.equal(other(x), scale(x))


def test_idempotency_losses_equal_slow_twins() -> None:
    a, b = (F.normalize(torch.randn(5, 4, dtype=torch.float64), dim=1) for _ in range(2))
    rows = torch.tensor([0, 2, 3])
    x, y = a.numpy(), b.numpy()
    feature, distance, squared, repulsion = 0.0, 0.0, 0.0, 0.0
    for i in range(5):
        others = [j for j in range(5) if j != i]
        repulsion += sum((x[i] @ x[j]) ** 2 for j in others) * 4 / 20
        if i not in rows:
            continue
        p = np.exp([x[i] @ x[j] / 0.05 for j in others])
        q = np.exp([y[i] @ x[j] / 0.1 for j in others])
        feature -= x[i] @ y[i] / 3
        distance -= (p / p.sum() * np.log(q / q.sum())).sum() / 3
        squared += sum((x[i] @ x[j] - y[i] @ x[j]) ** 2 for j in others) / 4 / 3
    assert float(feature_idempotency(a[rows], b[rows])) == pytest.approx(feature)
    assert float(distribution_idempotency(a, b[rows], rows, IdempotencyConfig())) == pytest.approx(distance)
    config = IdempotencyConfig(distance="squared")
    assert float(distribution_idempotency(a, b[rows], rows, config)) == pytest.approx(squared)
    assert float(spectral_repulsion(a)) == pytest.approx(repulsion)


def test_repulsion_of_isotropic_features_is_one_and_of_equal_ones_their_width() -> None:
    unit = unit_features(torch.randn(2000, 16), "batch")
    assert float(spectral_repulsion(unit)) == pytest.approx(1, abs=0.03)
    assert float(spectral_repulsion(F.normalize(torch.ones(9, 16), dim=1))) == pytest.approx(16, rel=1e-5)


def test_pull_and_repulsion_are_the_spectral_contrastive_loss() -> None:
    """igm.md 2.5: with A the adjacency of generation, ||A - F F^T||^2 is pull, squared similarities and a constant."""
    count, dim = 6, 3
    unit = F.normalize(torch.randn(count, dim, dtype=torch.float64), dim=1)
    partner = torch.roll(torch.arange(count), 1)
    adjacency = torch.zeros(count, count, dtype=torch.float64)
    adjacency[torch.arange(count), partner] = count
    left = ((adjacency - unit @ unit.T) ** 2).sum() / count**2
    pull = 2 * feature_idempotency(unit, unit[partner])
    squares = spectral_repulsion(unit) * (count - 1) / count / dim + 1 / count  # own similarities are 1
    torch.testing.assert_close(left, pull + squares + (adjacency**2).sum() / count**2)


def test_weights_grow_over_the_first_epochs() -> None:
    assert [ramp(step(index), 5) for index in (0, 10, 25, 50, 99)] == pytest.approx([0.02, 0.22, 0.52, 1, 1])
    assert ramp(step(0), 0) == 1


@pytest.mark.parametrize("name", ["feature", "distribution"])
def test_the_generator_gets_no_gradient_from_idempotency(name: str) -> None:
    for detach in (True, False):
        method = build("igm", idempotency__detach=detach, idempotency__ramp_epochs=0)
        grads = gradients(method, losses_of(method, step())[name])
        moved = sum(float(g.abs().sum()) for key, g in grads.items() if key.startswith(("generator.", "adapter.")))
        assert (moved == 0) == detach
        assert sum(float(g.abs().sum()) for key, g in grads.items() if key.startswith("network.")) > 0


def test_generation_teaches_the_encoder_once_the_modulation_has_moved() -> None:
    method = build("macdiff", uniformity=0.0)
    for name, parameter in method.generator.named_parameters():
        if "by_condition" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    grads = gradients(method, losses_of(method, step())["generation"])
    assert sum(float(g.abs().sum()) for key, g in grads.items() if key.startswith("network.")) > 0


def test_clips_are_trusted_with_a_condition_and_enough_signal() -> None:
    method = build("igm", idempotency__below_step=980)
    source, target = method.bodies(method.views(clips(40), step()))
    made = method.generation(source, target, torch.Generator().manual_seed(0))
    trusted = method.trusted(made)  # type: ignore[operator]
    assert trusted.tolist() == [i for i in range(40) if made.conditioned[i] and made.t[i] < 974]
    assert 1 < len(trusted) < 40


def test_clips_that_are_not_trusted_are_not_encoded_again() -> None:
    """BatchNorm's statistics of the second pass are those of the clips that count."""
    method = build("igm", "stgcn", idempotency__below_step=500)
    made = method.generation(*method.bodies(method.views(clips(40), step())), torch.Generator().manual_seed(0))
    trusted = method.trusted(made)  # type: ignore[operator]
    again = method.encoded_again(made, trusted, step())  # type: ignore[operator]
    noisy = made.clean.clone()
    noisy[[i for i in range(40) if i not in trusted]] += 3
    same = method.encoded_again(replace(made, clean=noisy), trusted, step())  # type: ignore[operator]
    assert again.shape == (len(trusted), method.encoder.dim)
    torch.testing.assert_close(same, again)


def test_features_of_what_is_generated_from_clips() -> None:
    """igm.md 3.2, row b; zero_shot averages them with those of the clips."""
    method, x = build("igm").eval(), clips()
    losses_of(method, step())  # gathers the moments
    (found,) = extract(method, x, FeatureConfig(), torch.Generator().manual_seed(3), 500)
    made = method.generate(x, (500,), 0, torch.Generator().manual_seed(3))
    assert list(made) == ["one step from t = 500"]
    with torch.no_grad():
        torch.testing.assert_close(found, method.encoder.pool(method.encoder(made["one step from t = 500"])))
    (plain,) = extract(method, x, FeatureConfig(), torch.Generator())
    assert not torch.allclose(found, plain)


def test_all_persons_means_the_present_ones() -> None:
    method = build("macdiff", persons="all", noise=0.0, target="same")
    source, target = method.bodies(method.views(clips(), step()))
    assert source.shape == (9, 18, 25, 3)
    assert torch.equal(source, target)
    assert target.flatten(1).any(dim=1).all()


def test_ablation_rows_have_the_terms_of_the_paper() -> None:
    rows = find("methods", "igm").ablations["idempotency"]
    terms = {name: set(losses_of(build("igm", **_keywords(changes)), step())) for name, changes in rows.items()}
    assert terms == {
        "w/o L_ide": {"generation", "spectral"},
        "L_ide_feat": {"generation", "spectral", "feature"},
        "L_ide_dist": {"generation", "spectral", "distribution"},
        "full": {"generation", "spectral", "feature", "distribution"},
    }
    rows = find("methods", "igm").ablations["repulsion"]
    without = {name: set(losses_of(build("igm", **_keywords(changes)), step())) for name, changes in rows.items()}
    assert without == {f"{name}, no repulsion": losses - {"spectral"} for name, losses in terms.items()}


def _keywords(changes: Mapping[str, Any]) -> dict[str, Any]:
    return {key.replace(".", "__"): value for key, value in changes.items()}


def test_settings_of_the_training_loop() -> None:
    """igm.md 4: 400 epochs of 128, AdamW (.9, .95), 20 epochs of warm-up, 1e-3 to 1e-5, bf16; IGM's gradients are clipped."""
    for name, clip in (("macdiff", None), ("igm", 1.0)):
        loop = resolve(find("methods", name).Config).train
        assert (loop.epochs, loop.batch, loop.optimiser, loop.precision, loop.clip_norm) == (
            400,
            128,
            "adamw",
            "bf16",
            clip,
        )
        assert (loop.lr, loop.lr_end, loop.beta2, loop.weight_decay, loop.decay_vectors) == (
            1e-3,
            1e-5,
            0.95,
            0.05,
            False,
        )
        assert loop.warmup_share * loop.epochs == pytest.approx(20)
        assert loop.recalibrate  # BatchNorm of other encoders sees bodies with gaps in training
        assert find("methods", name).tuned["full:stgcn"] == {"train.weight_decay": 1e-4}


def test_every_setting_says_where_it_is_from() -> None:
    """What the paper's poster does not say is marked as our choice, by itself or by its group."""
    marked = {""}
    unmarked = []
    for path, value, text in fields_of(resolve(find("methods", "igm").Config)):
        group = path.removesuffix(".*")
        if "our choice" in text or "IGM poster" in text or group.rpartition(".")[0] in marked - {""}:
            marked.add(group)
        elif not isinstance(value, BaseModel):
            unmarked.append(path)
    assert not unmarked


@pytest.mark.parametrize("name", ["macdiff", "igm"])
def test_some_error_counts(name: str) -> None:
    method = find("methods", name)
    for changes in ({"mask.on": False}, {"mask.ratio": 0.0}):
        config = resolve(method.Config, changes, {"error_on": "hidden", "condition": "global"})
        assert "error_on=all" in method.supports(config, find("encoders", "stgcn"))
        config = resolve(method.Config, changes, {"error_on": "all", "condition": "global"})
        assert method.supports(config, find("encoders", "stgcn")) is None


def test_nothing_hidden_goes_with_a_global_condition_only() -> None:
    igm, encoder = find("methods", "igm"), find("encoders", "skeleton_transformer")
    for changes in ({"mask.on": False}, {"mask.ratio": 0.0}):
        assert "igm.condition=global" in (igm.supports(resolve(igm.Config, changes), encoder) or "")
        assert igm.supports(resolve(igm.Config, changes, {"condition": "global"}), encoder) is None
    assert igm.supports(resolve(igm.Config, igm.presets["literal"]), encoder) is None


@pytest.mark.parametrize("name", ["igm", "macdiff"])
def test_uniformity_is_the_mean_squared_cosine_of_a_bodys_tokens(name: str) -> None:
    losses = []
    for weight in (0.0, 2.0):
        method, step = build(name, uniformity=weight), Step(1, 6, 0, 6, torch.Generator().manual_seed(3))
        losses.append(method(method.views(clips(), step), step))
    without, with_it = losses
    assert "uniformity" not in without
    assert torch.equal(without["generation"], with_it["generation"])
    method, step = build(name), Step(1, 6, 0, 6, torch.Generator().manual_seed(3))
    source, target = method.bodies(method.views(clips(), step))
    method.standardise.observe(target)
    tokens = method.generation(source, target, step.generator).seen.tokens
    count, places, _ = tokens.shape
    cosines = [
        F.cosine_similarity(tokens[body, i], tokens[body, j], dim=0) ** 2
        for body in range(count) for i in range(places) for j in range(places)
    ]  # fmt: skip
    assert with_it["uniformity"].item() == pytest.approx(2 * torch.stack(cosines).mean().item(), rel=1e-4)


@pytest.mark.parametrize("encoder", SIZES)
def test_the_noisy_feature_reaches_the_second_pass_only(encoder: str) -> None:
    cls = find("methods", "igm")
    method = build("igm", encoder, **_keywords(cls.presets["literal"]), idempotency__ramp_epochs=0)
    losses = losses_of(method, step())
    assert set(losses) == {"generation", "feature", "distribution"}
    grads = gradients(method, losses["feature"])
    assert sum(float(g.abs().sum()) for key, g in grads.items() if key.startswith("beside.")) > 0
    grads = gradients(method, losses_of(method, step())["generation"])
    assert not any(key.startswith("beside.") for key in grads)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize(
    ("name", "preset", "encoder"),
    [
        ("igm", "", "skeleton_transformer"),
        ("igm", "", "stgcn"),
        ("macdiff", "", "stgcn"),
        pytest.param("igm", "", "dsta", marks=pytest.mark.slow),
        pytest.param("igm", "", "ctrgcn", marks=pytest.mark.slow),
        pytest.param("igm", "literal", "skeleton_transformer", marks=pytest.mark.slow),
        pytest.param("igm", "literal", "stgcn", marks=pytest.mark.slow),
    ],
)
def test_training_is_finite_and_learns_to_denoise(name: str, preset: str, encoder: str, precision: str) -> None:
    method = build(
        name,
        encoder,
        **_keywords(find("methods", name).presets.get(preset, {})),
        train__precision=precision,
        train__epochs=6,
        train__batch=8,
        train__warmup_steps=0,
        train__lr=5e-3,
    )
    x = clips(24)
    everything = ClipSet(
        x, torch.zeros(24, dtype=torch.int64), torch.ones(24, 2, dtype=torch.bool), tuple(map(str, range(24))), {},
        torch.full((24,), 18),
    )  # fmt: skip
    curve = train.pretrain(method, everything, seed=0)
    values = np.array([list(row.values()) for row in curve])
    assert np.isfinite(values).all()
    generation = np.array([row["generation"] for row in curve])
    assert generation[-1] < 0.9 * generation[0]
    assert (generation[1:] < 1.3 * np.minimum.accumulate(generation)[:-1]).all()  # no spikes
    assert curve[-1]["effective_rank"] > 1
