from __future__ import annotations

import pytest
import torch

from engine.config import BenchError, resolve
from protocols.base import ScoresContext
from protocols.finetune import Finetune, FinetuneConfig
from protocols.fusion import Fusion, FusionConfig, weight_grid
from protocols.linear import Linear, LinearConfig

STREAMS = ("joint", "bone", "motion")


def fusion(preset: str = "", **changes: object) -> Fusion:
    return Fusion(resolve(FusionConfig, Fusion.presets.get(preset, {}), changes, owner="fusion"))


def context(shape: tuple[int, ...] = (6, 4), validation: bool = False) -> ScoresContext:
    """Streams that know the truth, the opposite, and nothing."""
    labels = torch.arange(20) % 4
    truth = torch.eye(4)[labels]
    known = dict(zip(STREAMS, (truth, -3 * truth, torch.zeros(20, 4)), strict=True)) if validation else {}
    return ScoresContext({stream: torch.randn(shape) for stream in STREAMS}, known, labels)


@pytest.mark.parametrize("shape", [(6, 4), (5, 6, 4)])
def test_weighted_sums(shape) -> None:
    given = context(shape)
    joint, bone, motion = given.scores.values()
    torch.testing.assert_close(fusion().run(given).scores, joint + bone + motion)
    torch.testing.assert_close(fusion("paper").run(given).scores, 0.6 * joint + 0.6 * bone + 0.4 * motion)
    facts = fusion("paper").run(given).facts
    assert facts == {"weight_joint": 0.6, "weight_bone": 0.6, "weight_motion": 0.4, "n_trials": 1}


def test_streams_that_are_not_there_have_no_weight() -> None:
    given = context()
    two = ScoresContext({name: given.scores[name] for name in ("joint", "motion")}, {}, given.labels)
    torch.testing.assert_close(fusion().run(two).scores, given.scores["joint"] + given.scores["motion"])


def test_weights_are_chosen_on_validation_scores() -> None:
    given = context(validation=True)
    outcome = fusion("validation").run(given)
    assert outcome.facts["validation_top1"] == 100
    # bone may weigh nothing here; among equally right weights the most even ones win: motion, which knows nothing, gets 1
    assert [outcome.facts[f"weight_{stream}"] for stream in STREAMS] == [1, 0.2, 1]
    torch.testing.assert_close(
        outcome.scores, given.scores["joint"] + 0.2 * given.scores["bone"] + given.scores["motion"]
    )
    assert outcome.facts["n_trials"] == len(weight_grid(3)) == 6**3 - 5**3


def test_no_ratio_of_weights_comes_twice() -> None:
    grid = weight_grid(3)
    ratios = {tuple(round(value / sum(weights), 9) for value in weights) for weights in grid}
    assert len(ratios) == len(grid)
    assert (1.0, 1.0, 1.0) in grid


def test_what_keeps_no_validation_scores_cannot_be_weighed() -> None:
    reason = "it keeps no scores of a validation part to choose weights by"
    assert fusion("validation").combines(Finetune(FinetuneConfig())) == reason
    assert fusion("validation").combines(Linear(LinearConfig(lr=(3.0,), weight_decay=(0.0,)))) == reason
    assert fusion("validation").combines(Linear(LinearConfig())) is None
    assert fusion().combines(Finetune(FinetuneConfig())) is None
    with pytest.raises(BenchError, match="No validation scores of the joint, bone, motion stream are stored"):
        fusion("validation").run(context())


def test_all_weights_zero_are_refused() -> None:
    with pytest.raises(BenchError, match="give at least one stream a weight"):
        fusion(joint=0, bone=0, motion=0)
