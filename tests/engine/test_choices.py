from __future__ import annotations

from pathlib import Path

import pytest

from engine.choices import Settings, assign, choose, parse_name, parse_sets
from engine.config import BenchError, Config, digest, identifying, knob
from engine.registry import locate, scan

PLUGINS = Path(__file__).parent / "plugins" / "tiny.py"
TINY = locate("methods", f"{PLUGINS}:TinyCLR")


def settings(recipe="paper", budget="full", tuned=(), **overrides):
    return Settings(recipe, budget, tuned, {"tinyclr": overrides})


def test_later_tables_win():
    assert choose(TINY, "", settings()).config.scale == 1
    assert choose(TINY, "", settings(recipe="released")).config.scale == 2
    assert choose(TINY, "wide", settings(recipe="released")).config.scale == 3
    assert choose(TINY, "wide", settings(recipe="released", scale="4")).config.scale == 4
    assert choose(TINY, "", settings(budget="quick")).config.train.epochs == 3
    assert choose(TINY, "", settings(budget="quick", tuned=("quick:tiny",))).config.mining.topk == 2
    assert choose(TINY, "", settings(tuned=("quick:other",))).config.mining.topk == 1


def test_a_recipe_that_a_method_does_not_have_leaves_its_defaults():
    random = locate("methods", "random")
    assert choose(random, "", settings(recipe="released")).config == choose(random, "", settings()).config


def test_nested_defaults_of_a_class_survive_a_change_beside_them():
    changed = choose(TINY, "", settings(**{"train.lr": "0.5"})).config
    assert (changed.train.lr, changed.train.epochs, changed.train.batch) == (0.5, 4, 8)


def test_labels_show_what_was_changed_and_only_that():
    def label(preset="", **overrides):
        return choose(TINY, preset, settings(**overrides)).label

    assert label() == "tinyclr"
    assert label("wide") == "tinyclr:wide"
    assert label(scale="1.0") == "tinyclr"  # no change
    assert label(scale="2") == label(scale="2.00") == "tinyclr[scale=2.0]"
    assert label(**{"scale": "2", "mining.topk": "3"}) == label(**{"mining.topk": "3", "scale": "2"})
    assert label("wide", **{"mining.topk": "3"}) == "tinyclr:wide[mining.topk=3]"
    assert label(**{"train.milestones": "[2, 3]"}) == "tinyclr[train.milestones=[2,3]]"
    assert label(**{"train.schedule": "cosine"}) == "tinyclr[train.schedule=cosine]"


def test_identity_holds_version_config_and_source():
    identity = choose(TINY, "wide", settings()).identity
    assert identity["plugin"] == "tinyclr"
    assert identity["preset"] == "wide"
    assert identity["config"]["scale"] == 3.0
    assert identity["source"] == TINY.source
    assert "source" not in choose(locate("methods", "random"), "", settings()).identity


@pytest.mark.parametrize(
    ("preset", "overrides", "message"),
    [
        ("wode", {}, r"tinyclr has no preset 'wode'\. Did you mean 'wide'\? Known: wide\."),
        ("", {"scael": "2"}, r"Unknown setting 'tinyclr\.scael'\. Did you mean 'scale'\?"),
        ("", {"mining.topk": "two"}, r"tinyclr\.mining\.topk = 'two'.*integer"),
        ("", {"scale": "-1"}, r"tinyclr\.scale = -1.*greater than 0"),
        ("", {"mining": "2"}, r"Unknown setting 'tinyclr\.mining'"),
    ],
)
def test_wrong_settings_are_named(preset, overrides, message):
    with pytest.raises(BenchError, match=message):
        choose(TINY, preset, settings(**overrides))


@pytest.mark.parametrize(
    ("text", "name", "preset"),
    [
        ("linear:aimclr", "linear", "aimclr"),
        ("lin", "linear", ""),
        (f"{PLUGINS}:Means", "means", ""),
        (f"{PLUGINS}:Means:long", "means", "long"),
        (str(PLUGINS), "means", ""),
        ("semi:1:linear", "semi", "1:linear"),
        (f"{PLUGINS}:Means:long:long", "means", "long:long"),
    ],
)
def test_names_with_presets(text, name, preset):
    plugin, found = parse_name("protocols", text)
    assert (plugin.name, found) == (name, preset)


def test_presets_add_up_and_an_unknown_one_says_what_there_is():
    semi = locate("protocols", "semi")
    both = choose(semi, "1:linear", settings())
    assert (both.config.percent, both.config.frozen, both.name) == (1, True, "semi:1:linear")
    known = r"semi has no preset '10'\. Known: 1, .*\. Without one it is: 10 % of the labels"
    with pytest.raises(BenchError, match=known):
        choose(semi, "10", settings())
    with pytest.raises(BenchError, match=r"no preset 'lineer'\. Did you mean 'linear'\?"):
        choose(semi, "1:lineer", settings())


def test_set_options_are_sorted_by_plugin():
    sets = parse_sets(["encoder=stgcn", "frames=64", "tiny.scale=2", "linear.lr=[0.1, 1]", "tiny.train.lr=1"])
    assert (sets.encoders, sets.frames) == (("stgcn",), 64)
    tables = assign(sets.triples, [TINY, locate("protocols", "linear")])
    assert tables == {"tinyclr": {"scale": "2", "train.lr": "1"}, "linear": {"lr": "[0.1, 1]"}}


@pytest.mark.parametrize("option", ["topk=2", "aimclr.topk", "aimclr.=2", "", "=", "Encoder=x"])
def test_malformed_set_options_show_the_form(option):
    with pytest.raises(BenchError, match=r"write PLUGIN\.KEY=VALUE"):
        parse_sets([option])


@pytest.mark.parametrize("frames", ["0", "²", "٣٣٣٣٣", "1" * 5000, "2001", "1", "-3", "many", "2.5", ""])
def test_frames_must_be_a_number(frames):
    with pytest.raises(BenchError, match="frames must be a whole number"):
        parse_sets([f"frames={frames}"])


def test_a_plugin_that_takes_no_part_is_refused():
    with pytest.raises(BenchError, match=r"--set linaer\.lr=1.*Did you mean 'linear'\? Known: linear, tinyclr"):
        assign([("linaer", "lr", "1")], [TINY, locate("protocols", "linear")])
    with pytest.raises(BenchError, match=r"--set aimclr\.d3m=false"):
        assign([("aimclr", "d3m", "false")], [TINY])
    for name, option in (
        ("semi", "--protocols"),
        ("ensemble", "--protocols"),
        ("aimclr", "--methods"),
        ("dsta", "encoder="),
    ):
        with pytest.raises(BenchError, match=rf"--set {name}\.x=1: {name} takes no part in this run; .*{option}"):
            assign([(name, "x", "1")], [TINY, locate("protocols", "fusion")][: 1 + (name != "ensemble")])


def test_none_is_a_word_where_a_setting_knows_it_and_nothing_elsewhere():
    def resolved(name, changes):
        return choose(locate("methods", name), "", Settings("paper", "full", (), {name: changes})).config

    assert resolved("hiclr", {"hierarchy.stop_gradient": "none"}).hierarchy.stop_gradient == "none"
    assert resolved("actclr", {"distill.topk": "none"}).distill.topk is None


def test_a_knob_that_came_later_leaves_the_keys_of_runs_without_it():
    class Before(Config):
        lr: float = knob(0.1, "rate")

    class Inner(Before):
        end: float = knob(0.0, "came later", late=True)

    class Outer(Config):
        inner: Inner = knob(Inner(end=0.5), "part")
        view: Inner = knob(Inner(), "another part, came later", late=True)

    assert identifying(Inner()) == identifying(Before()) == {"lr": 0.1}
    assert identifying(Inner(end=0.2)) == {"lr": 0.1, "end": 0.2}
    # What counts is the default of the knob itself, not that of the config around it.
    assert identifying(Outer()) == {"inner": {"lr": 0.1, "end": 0.5}}
    assert identifying(Outer(inner=Inner(), view=Inner(lr=1.0))) == {"inner": {"lr": 0.1}, "view": {"lr": 1.0}}


PUBLISHED = {
    "aimclr": "f2c4c79544f0b062", "actclr": "c8684847d997ed45", "hiclr": "3429badbb990c751", "knn": "040bab98fd3afc4e",
    "linear": "ff742ac98b550d95", "finetune": "849f6f63c3f209de", "semi": "3bbee8273049c478",
    "transfer": "a22116b5a2267503", "stgcn": "d9b3d427002fc72a",
}  # fmt: skip
"""Digests of identities; raising a version on purpose changes one, a knob that comes later must not."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_settings_keep_their_keys(name):
    """A change here voids every finished run with this plug-in."""
    kind = next(kind for kind in ("methods", "protocols", "encoders") if name in scan(kind))
    identity_of = choose(locate(kind, name), "", Settings("paper", "full", (), {})).identity
    assert digest(identity_of) == PUBLISHED[name]
