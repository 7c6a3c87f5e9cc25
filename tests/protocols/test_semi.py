from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.config import BenchError, resolve
from protocols.semi import Semi, SemiConfig

LABELS = np.repeat(np.arange(5), [40, 7, 93, 1, 250])


def semi(**changes: object) -> Semi:
    return Semi(resolve(SemiConfig, changes, owner="semi"))


def test_ten_percent_of_every_class_rounded_half_to_even_but_at_least_one() -> None:
    drawn = semi().draws(LABELS, "digest")
    assert list(drawn) == [f"stratified-10-{number}" for number in range(1, 6)]
    for index in drawn.values():
        assert np.bincount(LABELS[index]).tolist() == [4, 1, 9, 1, 25]
        assert index.tolist() == sorted(set(index.tolist()))
    assert semi().label_count(LABELS) == 40
    assert semi(percent=1).label_count(LABELS) == 0 + 1 + 1 + 1 + 1 + 2  # 2.5 is rounded to 2


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=200), st.sampled_from([1, 2, 5, 10, 20, 100]), st.booleans())
def test_draws_keep_their_definition(labels, percent, stratified) -> None:
    values = np.array(labels)
    protocol = semi(percent=percent, stratified=stratified, draws=2)
    for index in protocol.draws(values, "d").values():
        assert len(np.unique(index)) == len(index) == protocol.label_count(values)
        if stratified:
            assert set(values[index]) == set(labels)
        else:
            assert len(index) == max(1, round(len(labels) * percent / 100))


def test_draws_are_fixed_by_the_split_and_nested() -> None:
    one, same, other = (semi().draws(LABELS, digest) for digest in ("a", "a", "b"))
    assert all(np.array_equal(one[name], same[name]) for name in one)
    assert all(not np.array_equal(one[name], other[name]) for name in one)
    assert len({index.tobytes() for index in one.values()}) == 5
    for small, large in ((1, 2), (2, 5), (5, 10), (10, 20)):
        few, many = (list(semi(percent=percent).draws(LABELS, "a").values()) for percent in (small, large))
        assert all(set(a) <= set(b) for a, b in zip(few, many, strict=True))
    # The first draw is part of the definition: another generator would be another protocol.
    assert semi(percent=1).draws(LABELS, "a")["stratified-1-1"].tolist() == [39, 44, 74, 140, 172, 304]


def test_presets_are_the_variants_of_the_definition() -> None:
    configs = {name: resolve(SemiConfig, table) for name, table in Semi.presets.items()}
    assert {name: c.percent for name, c in configs.items()} == {
        "1": 1, "2": 2, "5": 5, "20": 20, "linear": 10, "random": 10, "mamp": 10,
    }  # fmt: skip
    assert (configs["linear"].frozen, configs["random"].stratified) == (True, False)
    assert (configs["mamp"].head, configs["mamp"].stratified, configs["mamp"].epoch) == ("joints", False, "labelled")
    frozen = {
        space: Semi(resolve(SemiConfig, {"frozen": True, "linear.features.space": space}))
        for space in ("encoder", "joints")
    }
    assert [protocol.features().space for protocol in frozen.values()] == ["encoder", "joints"]
    assert [protocol.keeps_joints() for protocol in frozen.values()] == [False, True]
    full = SemiConfig().train.model_dump()
    expected = {"epochs": 80, "batch": 128, "lr": 0.1, "nesterov": True, "weight_decay": 1e-4}
    assert full.items() >= {**expected, "milestones": (9, 29, 49)}.items()


def test_a_frozen_encoder_needs_features_only() -> None:
    assert (Semi(SemiConfig()).needs, Semi(SemiConfig(frozen=True)).needs) == ("encoder", "features")
    assert Semi(SemiConfig()).supports("raw", False, 9) == "raw coordinates have no weights to train"
    assert Semi(SemiConfig(frozen=True)).supports("raw", False, 9) is None


def test_a_frozen_encoder_gets_a_linear_classifier(clouds, make_context) -> None:
    train_set, (test, truth) = clouds(40, 0, 0.1), clouds(100, 1, 0.1)
    outcome = semi(frozen=True).run(make_context(train_set, test, 4))
    assert (outcome.scores.argmax(1) == truth).all()
    assert outcome.facts["n_trials"] == 1


def test_a_choice_among_few_labels_is_refused() -> None:
    with pytest.raises(BenchError, match=r"semi\.linear.*few labels are too few to choose by"):
        semi(**{"linear.lr": [0.1, 0.3]})
