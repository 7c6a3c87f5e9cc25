"""Transfer is linear or finetune, on a target."""

from __future__ import annotations

import pytest
import torch

from engine.choices import Settings, choose
from engine.config import BenchError, as_dict
from engine.registry import locate
from protocols.finetune import Finetune
from protocols.linear import Linear
from protocols.transfer import Transfer


def chosen(preset, overrides=None, budget="full"):
    settings = Settings("paper", budget, (), {"transfer": overrides or {}})
    return choose(locate("protocols", "transfer"), preset, settings)


def test_both_variants_are_what_the_bare_name_means():
    assert Transfer.headlines == ("linear", "finetune")
    frozen, trained = (Transfer(chosen(name).config) for name in Transfer.headlines)
    assert (frozen.needs, frozen.keeps_validation) == ("features", True)
    assert (trained.needs, trained.keeps_validation) == ("encoder", False)
    assert trained.supports("raw", False, 10) == "raw coordinates have no weights to train"
    assert frozen.supports("raw", False, 10) is None


@pytest.mark.parametrize("variant", ["", "aimclr", "actclr"])
def test_the_frozen_variant_gives_the_scores_of_linear(make_context, clouds, variant):
    context = make_context(clouds(90), clouds(40, seed=1)[0], classes=4)
    config = choose(locate("protocols", "linear"), variant, Settings("paper", "full", (), {})).config
    own = Transfer(chosen(f"linear:{variant}" if variant else "linear").config).run(context)
    plain = Linear(config).run(context)
    assert torch.equal(own.scores, plain.scores)
    assert own.facts == plain.facts


@pytest.mark.parametrize("budget", ["quick", "full"])
def test_the_trained_variant_has_the_settings_of_finetune(budget):
    finetune = choose(locate("protocols", "finetune"), "aimclr", Settings("paper", budget, (), {})).config
    transfer = Transfer(chosen("finetune:aimclr", budget=budget).config)
    assert isinstance(transfer.part, Finetune)
    assert transfer.part.config == finetune


def test_settings_of_one_variant_leave_the_other_as_it_was():
    change = {"linear.epochs": "7"}
    before, after = chosen("finetune"), chosen("finetune", change)
    assert before.identity == after.identity
    assert after.label == "transfer:finetune"
    assert chosen("linear", change).label == "transfer:linear[linear.epochs=7]"
    assert as_dict(chosen("linear", change).config)["linear"]["epochs"] == 7
    with pytest.raises(BenchError, match=r"Unknown setting 'transfer\.linear\.epoch'"):
        chosen("linear", {"linear.epoch": 7})
    with pytest.raises(BenchError, match=r"transfer\.linear\.epochs = 0"):
        chosen("linear", {"linear.epochs": 0})


def test_a_new_version_of_one_variant_leaves_the_other_as_it_was(monkeypatch):
    before = {name: chosen(name).identity for name in Transfer.headlines}
    assert {name: identity["version"] for name, identity in before.items()} == {"linear": 1, "finetune": 1}
    monkeypatch.setattr(Linear, "version", 3)
    assert chosen("linear").identity == before["linear"] | {"version": 3}
    assert chosen("finetune").identity == before["finetune"]
