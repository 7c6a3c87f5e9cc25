from __future__ import annotations

import pytest
import torch
from torch import nn

from engine.choices import Settings, choose
from engine.config import BenchError, resolve
from engine.registry import locate
from protocols.base import FeatureConfig
from protocols.linear import Linear, LinearConfig, Scale, train


def slow_twin(features, labels, test, classes, lr, decay, config, seed):
    """``torch.optim.SGD`` on ``nn.Linear`` with autograd, the same initial weights and batches."""
    generator = torch.Generator().manual_seed(seed)
    initial = torch.randn(features.shape[1] + 1, 1, classes, generator=generator) * config.init_std
    layer = nn.Linear(features.shape[1], classes)
    with torch.no_grad():
        layer.weight.copy_(initial[:-1, 0].T)
        layer.bias.zero_()
    optimiser = torch.optim.SGD(layer.parameters(), lr=lr, momentum=config.momentum, weight_decay=decay)
    cosine = config.schedule == "cosine"
    milestones = torch.optim.lr_scheduler.MultiStepLR(optimiser, list(config.milestones), gamma=0.1)
    steps = config.epochs * (
        len(features) // config.batch + (len(features) % config.batch > 0 and not config.drop_last)
    )
    half_wave = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(config.epochs):
        order = torch.randperm(len(features), generator=generator)
        for rows in torch.split(order, config.batch):
            if config.drop_last and len(rows) < config.batch:
                continue
            optimiser.zero_grad()
            nn.functional.cross_entropy(layer(features[rows]), labels[rows]).backward()
            optimiser.step()
            if cosine:
                half_wave.step()
        if not cosine:
            milestones.step()
    return layer(test).detach()


@pytest.mark.parametrize("schedule", ["step", "cosine"])
@pytest.mark.parametrize("drop_last", [False, True])
def test_every_trial_equals_torch_sgd_with_autograd(clouds, drop_last: bool, schedule: str) -> None:
    (features, labels), (test, _) = clouds(300, 0, 2.0), clouds(50, 1)
    config = LinearConfig(
        epochs=12, milestones=(8, 10), batch=64, drop_last=drop_last, schedule=schedule, init_std=0.01
    )
    trials = [(0.3, 0.0), (0.03, 1e-2), (3.0, 1e-3)]
    ones = torch.ones(300, 1)
    weights = train(torch.cat([features, ones], 1), labels, 4, trials, config, seed=5)
    for i, (lr, decay) in enumerate(trials):
        expected = slow_twin(features, labels, test, 4, lr, decay, config, 5)
        actual = torch.cat([test, torch.ones(50, 1)], 1) @ weights[:, i]
        torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-3)


def test_one_step_is_the_gradient_of_autograd() -> None:
    features, labels = torch.randn(40, 6, dtype=torch.float64).float(), torch.randint(0, 3, (40,))
    config = LinearConfig(epochs=1, batch=40)
    before = train(features, labels, 3, [(0.0, 0.0)], config, 0)[:, 0].clone().requires_grad_()
    loss = nn.functional.cross_entropy(features @ before, labels)
    (gradient,) = torch.autograd.grad(loss, before)
    reported: list[float] = []
    after = train(features, labels, 3, [(1.0, 0.0)], config, 0, lambda _, loss, __: reported.append(loss))[:, 0]
    torch.testing.assert_close(before - after, gradient, rtol=1e-4, atol=1e-6)
    assert reported == pytest.approx([loss.item()], rel=1e-5)


def test_choice_is_made_on_the_held_out_part_and_reported(clouds, make_context) -> None:
    points: list = []
    train_set, (test, truth) = clouds(400), clouds(200, 1)
    config = resolve(LinearConfig, {"lr": "[1e-6,0.1]", "weight_decay": 0.0, "epochs": 12})
    outcome = Linear(config).run(make_context(train_set, test, 4, points=points))
    assert outcome.facts["lr"] == 0.1
    assert outcome.facts["n_trials"] == 2
    assert outcome.facts["validation_top1"] > 80
    assert [epoch for epoch, _, _ in points] == [5, 10, 12]
    assert points[0][1] > points[-1][1] > 0
    assert torch.equal(points[-1][2], outcome.scores)  # the last epoch is the headline
    assert (outcome.scores.argmax(1) == truth).float().mean() > 0.8


def test_equal_accuracy_is_decided_by_the_loss(clouds, make_context) -> None:
    train_set, (test, _) = clouds(200, 0, 0.01), clouds(5, 1)
    config = LinearConfig(lr=(0.001, 0.3), weight_decay=(0.0,), epochs=5)
    outcome = Linear(config).run(make_context(train_set, test, 4))
    assert outcome.facts["validation_top1"] == 100
    assert outcome.facts["lr"] == 0.3


def test_test_features_cannot_change_what_is_learned(clouds, make_context) -> None:
    train_set, (test, _) = clouds(200), clouds(60, 1)
    config = LinearConfig(epochs=5)
    whole = Linear(config).run(make_context(train_set, test, 4))
    part = Linear(config).run(make_context(train_set, test[[7, 3]] * 1.0, 4))
    torch.testing.assert_close(part.scores, whole.scores[[7, 3]])
    assert part.facts == whole.facts
    again = Linear(config).run(make_context(train_set, test, 4))
    assert torch.equal(again.scores, whole.scores)


@pytest.mark.parametrize("preset", ["", "aimclr", "actclr", "mamp"])
def test_perfect_features_and_shuffled_labels(clouds, make_context, preset: str) -> None:
    config = resolve(LinearConfig, Linear.presets.get(preset, {}), {"epochs": 30})
    train_set, (test, truth) = clouds(1500, 0, 0.1), clouds(800, 1, 0.1)
    outcome = Linear(config).run(make_context(train_set, test, 4))
    assert (outcome.scores.argmax(1) == truth).all()
    # Overlapping clouds and several draws: whole clouds are right or wrong together, by luck.
    (features, labels), (test, truth) = clouds(500, 0, 4.0), clouds(800, 1, 4.0)
    accuracy = []
    for _ in range(10):
        outcome = Linear(config).run(make_context((features, labels[torch.randperm(500)]), test, 4))
        accuracy.append((outcome.scores.argmax(1) == truth).float().mean())
    assert abs(sum(accuracy) / len(accuracy) - 0.25) < 0.1


def test_headline_ignores_the_scale_of_features(clouds, make_context) -> None:
    train_set, (test, _) = clouds(200), clouds(50, 1)
    config = LinearConfig(epochs=10)
    large = Linear(config).run(make_context(train_set, test, 4))
    small = Linear(config).run(make_context((1e-4 * train_set[0] + 3e-3, train_set[1]), 1e-4 * test + 3e-3, 4))
    torch.testing.assert_close(small.scores, large.scores, rtol=0.02, atol=0.02)


def test_constant_features_become_zero() -> None:
    features = torch.tensor([[0.3, 1.0, 0.0], [0.3, 3.0, 0.0]])
    scale = Scale.of(features, standardise=True)
    expected = torch.tensor([[0.0, -1.0, 0.0, 1.0], [0.0, 1.0, 0.0, 1.0]])
    torch.testing.assert_close(scale(features), expected)
    assert scale(torch.tensor([[0.9, 2.0, 5.0]])).tolist() == [[0.0, 0.0, 0.0, 1.0]]
    raw = Scale.of(features, standardise=False)
    torch.testing.assert_close(raw(features)[:, :3], features)


def test_a_batch_larger_than_the_data_is_used_in_spite_of_drop_last(clouds, make_context) -> None:
    train_set, (test, truth) = clouds(100, 0, 0.1), clouds(50, 1, 0.1)
    config = resolve(LinearConfig, Linear.presets["aimclr"], {"batch": 1000, "epochs": 20})
    outcome = Linear(config).run(make_context(train_set, test, 4))
    assert (outcome.scores.argmax(1) == truth).all()


def test_published_recipes() -> None:
    aimclr, actclr = (resolve(LinearConfig, Linear.presets[name]) for name in ("aimclr", "actclr"))
    shared = {"epochs": 100, "milestones": (80,), "momentum": 0.9, "weight_decay": (0.0,), "standardise": False}
    for config in (aimclr, actclr):
        assert config.model_dump().items() >= shared.items()
    assert (aimclr.lr, aimclr.batch, aimclr.drop_last) == ((3.0,), 128, True)
    assert (actclr.lr, actclr.batch, actclr.drop_last) == ((24.0,), 1024, False)
    mamp = resolve(LinearConfig, Linear.presets["mamp"])  # igm.md 4
    assert (mamp.lr, mamp.weight_decay, mamp.batch, mamp.epochs) == ((0.1,), (0.0,), 256, 100)
    assert (mamp.momentum, mamp.schedule, mamp.init_std, mamp.standardise) == (0.9, "cosine", 0.01, True)
    assert LinearConfig().init_std == aimclr.init_std == actclr.init_std == 0.02


def test_an_empty_grid_is_refused() -> None:
    with pytest.raises(BenchError, match="lr"):
        resolve(LinearConfig, {"lr": []}, owner="linear")


def test_the_two_heads_are_columns_of_their_own() -> None:
    """igm.md 3: 256 pooled features or 6,400 of all joints are never compared."""
    protocol = locate("protocols", "linear")
    labels = {}
    for preset, head in (("", "encoder"), ("joints", "joints"), ("mamp", "encoder"), ("macdiff", "joints")):
        choice = choose(protocol, preset, Settings("paper", "full", (), {}))
        linear = Linear(choice.config)
        assert linear.features().space == head
        assert linear.keeps_joints() == (head == "joints")
        labels[choice.label] = choice.config
    changed = choose(protocol, "", Settings("paper", "full", (), {"linear": {"features.space": "joints"}}))
    labels[changed.label] = changed.config
    assert list(labels) == ["linear", "linear:joints", "linear:mamp", "linear:macdiff", "linear[features.space=joints]"]
    assert labels["linear:macdiff"] == labels["linear:mamp"].model_copy(
        update={"features": FeatureConfig(space="joints")}
    )
    assert labels["linear:joints"] == labels["linear"].model_copy(update={"features": FeatureConfig(space="joints")})
