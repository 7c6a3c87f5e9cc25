"""The reader of .skeleton text: against float() and a plain reader, faults by line, and whatever bytes there are."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.plain_ntu import read_plain
from datasets.ntu_bodies import first_two
from datasets.ntu_raw import MOST_FRAMES, Sightings, parse
from datasets.ntu_write import skeleton_text
from datasets.prepare import BadClipError

ID = 72057594037931101  # needs 57 bits: a float would round it
STATE = "0 1 1 1 1 0 0.02 0.05 2"


def pose(seed=0):
    return np.random.default_rng(seed).normal([0, 0, 3], 0.4, (25, 3))


def text_of(*coordinates, end="\n"):
    """One frame with one body; the given words are the coordinates of its first joints."""
    words = [*coordinates, *["0.5"] * (75 - len(coordinates))]
    joints = [" ".join([*words[3 * j : 3 * j + 3], "1 2 3 4 5 6 7 8 2"]) for j in range(25)]
    return end.join(["1", "1", f"{ID} {STATE}", "25", *joints, ""]).encode()


recordings = st.lists(
    st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 50).map(pose)), max_size=4), max_size=6
)


@given(recordings)
def test_equals_the_plain_reader(frames):
    text = skeleton_text(frames)
    seen = parse(text)
    assert seen.frames == len(frames)
    assert seen.frame.tolist() == [index for index, bodies in enumerate(frames) for _ in bodies]
    assert seen.body.tolist() == [body for bodies in frames for body, _ in bodies]
    assert (first_two(seen) == read_plain(text).astype(np.float32)).all()


numbers = st.floats(-1e5, 1e5)
words = st.one_of(
    numbers.map(repr),
    numbers.map("{:.7g}".format),
    numbers.map("{:.12f}".format),
    numbers.map("{:.3E}".format),
    st.integers(-(10**20), 10**20).map(str),
    st.sampled_from(["+1.5", ".5", "-.5", "5.", "-0", "0.0", "-0.00", "1e-05", "1E5", "007.50", "0.30000000000000004"]),
)


@given(st.lists(words, min_size=75, max_size=75))
def test_every_number_is_that_of_float(coordinates):
    read = parse(text_of(*coordinates)).joints.ravel()
    expected = np.array([float(word) for word in coordinates])
    assert read.tobytes() == expected.tobytes()  # the sign of zero included


@pytest.mark.parametrize("end", ["\n", "\r\n", " \n", "\t\r\n"])
def test_line_ends_and_spaces(end):
    expected = parse(text_of("1", "2", "3"))
    seen = parse(text_of("1", "2", "3", end=end) + b"\n\n")
    assert (seen.joints == expected.joints).all()
    assert seen.body.tolist() == [ID]


def test_frames_without_bodies():
    for text, frames in ((b"0\n", 0), (b"3\r\n0\r\n0\r\n0\r\n", 3)):
        seen = parse(text)
        assert (seen.frames, len(seen.frame), seen.joints.shape) == (frames, 0, (0, 25, 3))


GOOD = text_of().decode()
FAULTS = {
    "empty": ("", "the file is empty"),
    "not text": ("\0\1\2PNG", r"line 1: expected the number of frames, found '\\x00\\x01\\x02PNG'"),
    "not a count": ("ten\n", "line 1: expected the number of frames, found 'ten'"),
    "negative": ("-1\n", "line 1: expected the number of frames, found '-1'"),
    "too long": (f"{MOST_FRAMES + 1}\n", f"line 1: {MOST_FRAMES + 1} frames; expected at most {MOST_FRAMES}"),
    "huge": ("9" * 5000, "line 1: expected the number of frames"),
    "no frames": ("5\n", "line 1: the file ends here; expected the number of bodies in frame 1 of 5"),
    "cut between joints": (GOOD[: GOOD.index("0.5") + 400], r"line \d+: the file ends here; expected the joints"),
    "cut in a line": (GOOD[:-8], "line 29: expected 12 numbers of joint right_thumb .* found 8"),
    "one frame too few": (GOOD.replace("1\n1\n", "2\n1\n", 1), "line 29: the file ends here; .* frame 2 of 2"),
    "more than announced": (GOOD + "1\n", "line 30: expected the end of the file after 1 frames, found '1'"),
    "joints": (GOOD.replace("\n25\n", "\n20\n"), "line 4: expected 25 joints, found 20"),
    "commas": (GOOD.replace(" ", ","), "line 3: expected 10 numbers of a body.* separated by spaces, found 1"),
    "semicolons": (GOOD.replace("0.5 0.5 0.5", "0.5;0.5;0.5", 1), "line 5: expected 12 numbers of joint spine_base"),
    "decimal comma": (GOOD.replace("0.5", "0,5", 1), "line 5: expected coordinate x of joint spine_base, found '0,5'"),
    "NaN": (text_of("1", "2", "3", "4", "NaN").decode(), "line 6: .* coordinate y of joint spine_mid, found 'NaN'"),
    "infinity": (text_of("1", "2", "-Infinity").decode(), "line 5: .* coordinate z .* found '-Infinity'"),
    "underscore": (text_of("1_0").decode(), "line 5: .* found '1_0'"),
    "body": (GOOD.replace(str(ID), "a"), "line 3: expected the 64-bit id of a body"),
    "large id": (GOOD.replace(str(ID), str(2**64)), "line 3: expected the 64-bit id of a body"),
    "blank line": (GOOD.replace("\n25\n", "\n\n25\n"), "line 4: expected the number of joints, found ''"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_named_with_their_line(name):
    text, message = FAULTS[name]
    with pytest.raises(BadClipError, match=message):
        parse(text.encode())


def read_anything(text):
    with suppress(BadClipError):
        assert isinstance(parse(text), Sightings)


@given(st.binary(max_size=300) | st.text("0123456789 .-\n", max_size=300).map(str.encode))
def test_no_bytes_crash_the_reader(text):
    read_anything(text)


@given(
    st.integers(0, len(GOOD)),
    st.integers(0, 40),
    st.binary(max_size=6) | st.text("019 .-e\n", max_size=6).map(str.encode),
)
def test_no_change_of_a_file_crashes_the_reader(start, length, inserted):
    read_anything(GOOD.encode()[:start] + inserted + GOOD.encode()[start + length :])
