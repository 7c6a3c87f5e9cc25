"""Pickles: everything plain comes back the same, nothing else is touched, nothing runs."""

from __future__ import annotations

import collections
import os
import pickle
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from datasets.pickles import read_pickle
from engine.config import BenchError

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
fixture_once = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
dtypes = st.sampled_from(["f2", "<f4", ">f8", "i1", "<i8", "u2", "?", "<U3", "S4"])
arrays = dtypes.flatmap(lambda code: hnp.arrays(code, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3)))
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
plain = st.recursive(
    scalars | arrays,
    lambda inner: (
        st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner)
        | st.dictionaries(st.text(), inner).map(collections.OrderedDict)
    ),
    max_leaves=12,
)  # fmt: skip


def assert_same(found: Any, expected: Any) -> None:
    if isinstance(expected, np.ndarray):
        assert found.dtype.newbyteorder("=") == expected.dtype.newbyteorder("=")
        np.testing.assert_array_equal(np.asarray(found), expected)
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        for key in expected:
            assert_same(found[key], expected[key])
    elif isinstance(expected, list | tuple):
        assert type(found) is type(expected)
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    else:
        assert (type(found), found) == (type(expected), expected)


@settings(fixture_once, max_examples=60)
@given(plain, st.sampled_from(PROTOCOLS))
def test_plain_content_comes_back(tmp_path: Path, content: Any, protocol: int) -> None:
    path = tmp_path / "plain.pkl"
    path.write_bytes(pickle.dumps(content, protocol))
    assert_same(read_pickle(path), content)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_arrays_by_columns_and_numpy_scalars(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "plain.pkl"
    content = [np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.int64(3), np.float32(0.5), np.arange(8)[::2]]
    path.write_bytes(pickle.dumps(content, protocol))
    found = read_pickle(path)
    np.testing.assert_array_equal(found[0], content[0])
    assert (found[1], found[2]) == (3, 0.5)
    assert type(found[1]) is int
    np.testing.assert_array_equal(found[3], [0, 2, 4, 6])


def test_a_pickle_of_python_2(tmp_path: Path) -> None:
    path = tmp_path / "old.pkl"
    path.write_bytes(
        b"\x80\x02]q\x01(U\x03S01q\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02i2K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U"
        b"\x04\x01\x00\xff\x00tbe."
    )
    name, values = read_pickle(path)
    assert name == "S01"
    assert values.tolist() == [1, 255]


class Runs:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


class State:
    """Runs something when its state is set."""

    def __setstate__(self, state: Any) -> None:
        raise AssertionError("this must not run")

    def __getstate__(self) -> dict[str, int]:
        return {"a": 1}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nothing_runs(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "evil.pkl"
    evil = Runs(tmp_path / "run")
    for content in (evil, [1, {"a": (evil,)}], np.array([evil], object)):
        path.write_bytes(pickle.dumps(content, protocol))
        with pytest.raises(BenchError, match=r"evil\.pkl is refused: .*(mkdir|dtype O8)"):
            read_pickle(path)
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("content", "name"),
    [
        (State(), "State|_reconstructor|__newobj__|129"),
        (collections.Counter("ab"), "Counter"),
        (np.ma.array([1]), "_mareconstruct"),
        (np.zeros(2, [("a", "i4")]), "dtype V4"),
        (np.array(["2020"], "M8[D]"), "dtype M8"),
        (Path("a"), "Path"),
        (print, "print"),
        (np.random.default_rng(0), "generator|Generator"),
        ({(1, 2): 3}, "key of a dictionary is of type tuple"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_refused_is_named(tmp_path: Path, content: Any, name: str, protocol: int) -> None:
    path = tmp_path / "other.pkl"
    path.write_bytes(pickle.dumps(content, protocol))
    with pytest.raises(BenchError, match=rf"other\.pkl is refused: .*({name})"):
        read_pickle(path)


HANDMADE = {
    "calls the array class": b"cnumpy\nndarray\n(I1000000000\ntR.",
    "changes a function": b"cnumpy.core.multiarray\nscalar\n}(U\x01aK\x01ub.",
    "changes a list": b"](K\x01K\x02eN(K\x01tb.",
    "sub-attribute": b"\x80\x04\x8c\x05numpy\x8c\x15ndarray.__init_subcla\x93.",
    "array larger than its content": pickle.dumps(np.zeros(4, "i1"), 2).replace(b"K\x04\x85", b"K\x7f\x85"),
    "another array class": pickle.dumps(np.zeros(4), 2).replace(b"cnumpy\nndarray", b"cnumpy\nmatrix"),
    "huge memo": b"\x80\x02]r\xff\xff\xff\x7f.",
    "huge text": b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7f.",
    "huge bytes": b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x7f.",
    "huge frame": b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.",
    "persistent": b"Pname\n.",
    "extension": b"\x80\x02\x82\x01.",
    "instance": b"(ios\nsystem\n.",
    "set": b"\x80\x04\x8f.",
    "key that takes for ever": b"(" + b"K\x01" + b"2\x86" * 60 + b"K\x01d.",
    "only a mark": b"(.",
    "nothing": b"",
    "text": b"hello world",
}


@pytest.mark.parametrize("name", [name for name in HANDMADE if name != "huge memo"])
def test_hostile_and_damaged_pickles_give_a_message(tmp_path: Path, name: str) -> None:
    path = tmp_path / "bad.pkl"
    path.write_bytes(HANDMADE[name])
    with pytest.raises(BenchError, match=r"bad\.pkl is (refused|no whole pickle)"):
        read_pickle(path)


def test_a_huge_memo_costs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "memo.pkl"
    path.write_bytes(HANDMADE["huge memo"])
    assert read_pickle(path) == []


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"none\.pkl cannot be read"):
        read_pickle(tmp_path / "none.pkl")


WHOLE = pickle.dumps((["a", "b"], [0, 1], {"x": np.arange(6.0).reshape(2, 3)}), 4)


@settings(fixture_once, max_examples=200)
@given(
    st.binary(max_size=80)
    | st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=5)
    | st.integers(0, len(WHOLE) - 1)
    | st.sampled_from(list(HANDMADE.values())).flatmap(
        lambda raw: st.binary(max_size=8).map(lambda more: raw[:-1] + more)
    )
)
def test_any_bytes_give_content_or_a_message(tmp_path: Path, damage: Any) -> None:
    if isinstance(damage, bytes):
        content = damage
    elif isinstance(damage, int):
        content = WHOLE[:damage]
    else:
        changed = bytearray(WHOLE)
        for place, value in damage:
            changed[place] = value
        content = bytes(changed)
    path = tmp_path / "fuzz.pkl"
    path.write_bytes(content)
    with suppress(BenchError):
        read_pickle(path)
