"""PKU-MMD: names of recordings, official split files, and numbers that are known."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datasets import pku, pku_mmd1, pku_mmd2
from datasets.entries import of_file
from datasets.pku_files import place_of, read_split
from datasets.pku_mmd1 import PKUMMD1
from datasets.pku_mmd2 import PKUMMD2
from datasets.pku_write import split_text
from engine.config import BenchError


def read(folder, content, part=1):
    path = folder / "cross_subject.txt"
    path.write_bytes(content.encode())
    return read_split(of_file(path), part, "PKU-MMD I")


def test_names():
    assert place_of("0031-M", 1) == {"video": 31, "camera": 2}
    assert place_of("A26N13-R", 2) == {"video": 26, "subject": 13, "camera": 3}
    for stem, part in (("0031-M", 2), ("A26N13-R", 1), ("31-M", 1), ("0031-X", 1), ("0031-M ", 1), ("A1N1-L", 2)):
        assert place_of(stem, part) == {}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_split_files(tmp_path, end):
    text = end.join(["Training videos:", "0002-L, 0002-M.txt,0003-R, ", "Validation videos:", "0291-L", ""])
    assert read(tmp_path, text) == (["0002-L", "0002-M", "0003-R"], ["0291-L"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "cross_subject.txt, line 2: expected names such as 0002-L, separated by commas, found none"),
        ("Training\n0002-L\n", "line 4: expected names"),
        (split_text(["0002-L"], ["0291-L", "x"]), "line 4: expected names of PKU-MMD I such as 0002-L, found 'x'"),
        (
            split_text(["A01N01-L"], ["A01N02-L"]),
            r"line 2: .*, found 'A01N01-L': the split file of the other part, see pku_mmd2",
        ),
        (split_text(["0002-L", "0291-L"], ["0291-L"]), "0291-L is in both parts"),
    ],
)
def test_wrong_split_files(tmp_path, content, message):
    with pytest.raises(BenchError, match=message):
        read(tmp_path, content)


def test_known_recordings_and_rules_agree_with_the_spec(shared):
    spec = (shared / "spec" / "aimclr.md").read_text()
    assert "1076 videos, 21,545 actions" in spec
    assert "18,841 train / 2,704 test" in spec
    assert len(pku_mmd1.RELEASE.recordings) == 1076
    assert len(pku_mmd2.RELEASE.recordings) == 1009
    assert PKUMMD1.expected["xsub"] == (18841, 2704)
    assert not PKUMMD2.expected  # the number that is quoted was never confirmed
    for release, cls in ((pku_mmd1.RELEASE, PKUMMD1), (pku_mmd2.RELEASE, PKUMMD2)):
        for split, trains in release.trains.items():
            count = sum(map(trains, release.recordings))
            assert cls.expected_recordings[split] == (count, len(release.recordings) - count)
    assert PKUMMD1.expected_recordings["xsub"] == (944, 132)
    assert PKUMMD2.expected_recordings == {"xsub": (775, 234), "xview": (671, 338)}
    assert len(set(pku.CLASSES)) == 51


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text("0291-LMRAN,. \n", max_size=60), st.integers(1, 2))
def test_no_split_file_crashes_the_reader(tmp_path, content, part):
    with suppress(BenchError):
        train, test = read(tmp_path, content, part)
        assert train
        assert test
