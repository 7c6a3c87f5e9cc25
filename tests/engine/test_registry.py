from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from engine import registry
from engine.config import BenchError
from engine.registry import KINDS, find, locate, names, scan
from methods.base import Method

PLUGINS = Path(__file__).parent / "plugins" / "tiny.py"


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A source tree of its own, with methods only."""
    for kind in KINDS:
        (tmp_path / kind).mkdir()
    (tmp_path / "methods" / "base.py").write_text("class Method: pass\n")
    monkeypatch.setattr(registry, "ROOT", tmp_path)
    return tmp_path / "methods"


def test_the_projects_own_plugins_are_found():
    assert {"random", "raw", "skeletonclr", "aimclr"} <= set(names("methods"))
    assert {"knn", "linear"} <= set(names("protocols"))
    assert {"stgcn", "coordinates"} <= set(names("encoders"))
    assert "base" not in names("methods")
    assert "blocks" not in names("methods")
    assert issubclass(find("methods", "random"), Method)


def test_every_plugin_of_the_tree_loads_and_has_a_title():
    for kind in KINDS:
        for plugin in scan(kind).values():
            assert plugin.load().__name__ == plugin.class_name
            assert plugin.title, plugin


def test_listing_imports_no_plugin():
    code = (
        "import sys; from engine.registry import *; print([names(k) for k in KINDS]); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=registry.ROOT, check=True, capture_output=True)


def test_a_file_with_a_descendant_of_the_base_is_a_plugin(tree: Path):
    (tree / "one.py").write_text(
        "from methods import base\nclass One(base.Method):\n    title = 'first'\n    aliases = ('uno', 'eins')\n"
    )
    (tree / "two.py").write_text("from .one import One\nclass Two(One):\n    'Second one.\\n\\nMore.'\n")
    (tree / "_hidden.py").write_text("class Hidden(Method): pass\n")
    (tree / "helpers.py").write_text("class _Shared(Method): pass\nclass Other: pass\n")
    (tree / "three.py").write_text("from .helpers import _Shared\nclass Three(_Shared): title: str = 'third'\n")
    assert {p.name: (p.title, p.aliases) for p in scan("methods").values()} == {
        "one": ("first", ("uno", "eins")),
        "two": ("Second one", ()),
        "three": ("third", ()),
    }
    assert locate("methods", "eins").name == "one"


def test_two_plugins_in_one_file_are_refused(tree: Path):
    (tree / "both.py").write_text("class A(Method): pass\nclass B(Method): pass\n")
    with pytest.raises(BenchError, match=r"both\.py.*one Method"):
        names("methods")


def test_a_file_with_a_syntax_error_is_listed_and_fails_when_used(tree: Path):
    (tree / "fine.py").write_text("class Fine(Method): pass\n")
    (tree / "broken.py").write_text("x = 1\ndef broken(:\n")
    assert names("methods") == ("broken", "fine")


def test_names_resolve_by_alias_and_unique_prefix():
    assert locate("methods", "aim").name == "aimclr"
    assert locate("methods", "aimclr").name == "aimclr"
    assert locate("protocols", "lin").name == "linear"


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("methods", "aimcrl", r"Unknown method 'aimcrl'\. Did you mean 'aimclr'\? Known: .*aimclr"),
        ("protocols", "linaer", r"Unknown protocol 'linaer'\. Did you mean 'linear'\? Known: .*knn, linear"),
        ("encoders", "st-gcn", r"Unknown encoder 'st-gcn'\. Did you mean 'stgcn'\?"),
        ("methods", "zzz", r"Unknown method 'zzz'\. Known: "),
        ("methods", "ra", r"method 'ra' is ambiguous: random, raw"),
        ("methods", "", r"Unknown method ''"),
    ],
)
def test_wrong_names_get_a_suggestion(kind, name, message):
    with pytest.raises(BenchError, match=message):
        locate(kind, name)


def test_a_class_outside_the_tree_is_found_by_file():
    plugin = locate("methods", f"{PLUGINS}:TinyCLR")
    assert (plugin.name, plugin.class_name) == ("tinyclr", "TinyCLR")
    assert len(plugin.source) == 16
    assert find("methods", f"{PLUGINS}:TinyCLR") is plugin.load()
    assert locate("protocols", str(PLUGINS)).name == "means"  # the only protocol in the file


def test_the_source_of_an_outside_plugin_follows_its_content(tmp_path: Path):
    text = "from methods.random import Random\nclass Mine(Random):\n    title = {!r}\n"
    sources = []
    for title in ("one", "other", "one"):
        (tmp_path / "mine.py").write_text(text.format(title))
        plugin = locate("methods", f"{tmp_path}/mine.py:Mine")
        assert plugin.load().title == title
        sources.append(plugin.source)
    assert sources[0] == sources[2] != sources[1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "import nothing_of_that_name",
            r"mine\.py, line 1 cannot be imported: ModuleNotFoundError: .*nothing_of_that_name",
        ),
        ("x = 1\n1 / 0", r"mine\.py, line 2 cannot be imported: ZeroDivisionError"),
        ("def f(:", r"mine\.py, line 1 cannot be imported: SyntaxError"),
        ("x = 1", r"mine\.py holds no Method 'Mine'.*It holds: none"),
        (
            "from methods.random import Random\nclass Mime(Random): pass",
            r"holds no Method 'Mine'\. Did you mean 'Mime'\? It holds: Mime",
        ),
        ("class Mine: pass", r"holds no Method 'Mine'"),
    ],
)
def test_a_broken_outside_plugin_is_named(tmp_path: Path, text: str, message: str):
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(BenchError, match=message):
        locate("methods", f"{tmp_path}/mine.py:Mine")


def test_an_outside_plugin_must_be_there_be_unique_and_not_take_a_name(tmp_path: Path):
    with pytest.raises(BenchError, match=r"absent\.py does not exist"):
        locate("methods", "absent.py:Mine")
    with pytest.raises(BenchError, match=r"not exactly one Method.*TinyCLR, TinyNext"):
        locate("methods", str(PLUGINS))
    (tmp_path / "mine.py").write_text("from methods.random import Random\nclass AimCLR(Random): pass\n")
    with pytest.raises(BenchError, match=r"would be called 'aimclr'.*Rename"):
        locate("methods", f"{tmp_path}/mine.py:AimCLR")
