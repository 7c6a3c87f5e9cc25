"""PKU-MMD text: skeleton and label files against float() and int(), faults by line, and whatever bytes there are."""

from __future__ import annotations

from contextlib import suppress
from itertools import cycle, islice

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from datasets.pku_raw import Action, parse_labels, parse_skeleton
from datasets.pku_write import skeleton_text
from datasets.prepare import BadClipError


def rows(frames=3, seed=0):
    values = np.random.default_rng(seed).normal([0, 0, 3], 0.4, (frames, 2, 25, 3)).round(4)
    values[: frames // 2, 1] = 0
    return values


def text(frames=3, seed=0):
    return skeleton_text(rows(frames, seed))


numbers = st.one_of(
    st.floats(-1e5, 1e5).map(repr),
    st.floats(-1e5, 1e5).map("{:.6e}".format),
    st.integers(-(10**20), 10**20).map(str),
    st.sampled_from(["+1.5", ".5", "-.5", "5.", "-0", "0.0", "1e-05", "1E5", "007.50", "0.30000000000000004"]),
)


@given(st.lists(numbers, min_size=1, max_size=20), st.sampled_from(["\n", "\r\n", " \n"]))
def test_every_number_is_that_of_float(some, end):
    words = list(islice(cycle(some), 300))
    content = end.join([" ".join(words[:150]), "\t ".join(words[150:]), ""])
    read = parse_skeleton(content.encode())
    assert read.shape == (2, 2, 25, 3)
    assert read.tobytes() == np.array([float(word) for word in words]).tobytes()  # the sign of zero included


def test_what_is_written_comes_back():
    np.testing.assert_array_equal(parse_skeleton(text(5)), rows(5))


GOOD = text().decode()
LINES = GOOD.split("\r\n")


def changed(line, place, word):
    words = LINES[line - 1].split()
    words[place] = word
    return "\n".join([*LINES[: line - 1], " ".join(words), *LINES[line:]])


FAULTS = {
    "empty": ("", "the file is empty"),
    "blank": (" \r\n\n", "the file is empty"),
    "not text": ("\0\1PNG", r"line 1: expected 150 numbers separated by spaces .*found 1: '\\x00\\x01PNG'"),
    "commas": (GOOD.replace(" ", ","), "line 1: expected 150 numbers separated by spaces .*, found 1"),
    "semicolons": (GOOD.replace(" ", ";"), "line 1: expected 150 numbers separated by spaces"),
    "one person": ("\n".join(" ".join(line.split()[:75]) for line in LINES), "line 1: .* found 75: "),
    "20 joints": ("\n".join(" ".join(line.split()[:120]) for line in LINES), r"line 1: expected 150 .* found 120: "),
    "cut in a line": (
        GOOD[:-400],
        r"line 3: expected 150 .* found \d+: .*the last line: was the file copied completely",
    ),
    "blank line": (GOOD.replace("\r\n", "\r\n\r\n", 1), "line 2: expected 150 .* found 0: ''"),
    "NaN": (changed(2, 4, "NaN"), "line 2: expected coordinate y of joint spine_mid of body 1, found 'NaN'"),
    "infinity": (changed(3, 76, "-inf"), "line 3: expected coordinate y of joint spine_base of body 2, found '-inf'"),
    "overflow": (
        changed(1, 149, "1e999"),
        "line 1: expected coordinate z of joint right_thumb of body 2, found '1e999'",
    ),
    "decimal comma": (changed(1, 0, "0,5"), "line 1: expected coordinate x of joint spine_base of body 1, found '0,5'"),
    "underscore": (changed(1, 0, "1_0"), "found '1_0'"),
    "two points": (changed(1, 0, "0.1.2"), "line 1: .* found '0.1.2'"),
    "glued, and one bad": (changed(1, 0, "0.1-0.2").rstrip()[:-1] + "x", "line 1: .* found '0.1-0.2'"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_named_with_their_line(name):
    content, message = FAULTS[name]
    with pytest.raises(BadClipError, match=message):
        parse_skeleton(content.encode())


def test_labels():
    assert parse_labels(b"7,1,30,2\r\n51, 31 ,60,1\n") == [Action(1, 7, 1, 30), Action(2, 51, 31, 60)]
    assert parse_labels(b"1,5,5") == [Action(1, 1, 5, 5)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "label line 1: expected class, start frame, end frame and confidence.*found ''"),
        (b"1,2,3,2\n1;5;6;2\n", "label line 2: .* separated by commas, found '1;5;6;2'"),
        (b"1 2 3 2", "label line 1: .* separated by commas, found '1 2 3 2'"),
        (b"1,2\n", "label line 1: .* found '1,2'"),
        (b"1,2,3,4,5\n", "label line 1"),
        (b"1,2,3.5,2\n", "label line 1"),
        (b"1,-2,3,2\n", "label line 1"),
        (b"0,2,3,2\n", "label line 1: expected a class from 1 to 51, found 0"),
        (b"3,2,3,2\n52,9,12,2\n", "label line 2: expected a class from 1 to 51, found 52"),
        (b"3,9,8,2\n", "label line 1: expected an end that is not before the start 9, found 8"),
        (b"9999999999,1,2,1", "label line 1"),
        (b"\xff\xfe1,2,3", r"label line 1: .* found '.*xff.*xfe1,2,3'"),
    ],
)
def test_faults_of_labels(content, message):
    with pytest.raises(BadClipError, match=message):
        parse_labels(content)


def read_anything(content):
    with suppress(BadClipError):
        assert parse_skeleton(content).shape[1:] == (2, 25, 3)
    with suppress(BadClipError):
        assert all(1 <= action.label <= 51 and action.start <= action.end for action in parse_labels(content))


@given(st.binary(max_size=300) | st.text("0123456789 .-,\n", max_size=300).map(str.encode))
def test_no_bytes_crash_the_readers(content):
    read_anything(content)


@example(0, 0, b"\x00")
@given(
    st.integers(0, len(GOOD)),
    st.integers(0, 40),
    st.binary(max_size=6) | st.text("019 .-e\n", max_size=6).map(str.encode),
)
def test_no_change_of_a_file_crashes_the_reader(start, length, inserted):
    content = GOOD.encode()[:start] + inserted + GOOD.encode()[start + length :]
    try:
        read = parse_skeleton(content)
    except BadClipError:
        return
    expected = [[float(word) for word in line.split()] for line in content.rstrip().split(b"\n")]
    assert read.reshape(len(expected), 150).tolist() == expected


@given(st.text("0123456789,\r\n -", max_size=60).map(str.encode))
def test_no_labels_crash_the_reader(content):
    read_anything(content)
