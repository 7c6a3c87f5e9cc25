"""PKU-MMD prepared in several ways: shared recordings, what is segmented; and folders of any content."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datasets.pku_mmd1 import PKUMMD1
from datasets.pku_write import FOLDERS, split_text
from datasets.targets import refuse_shared
from engine.config import BenchError
from engine.data import Splits
from engine.registry import locate
from engine.targets import home, places
from tests.datasets.test_pku import GOOD, LABELS, prepare, write


@pytest.fixture
def source(tmp_path):
    """Two videos (0002 trains, 0291 tests) in three views."""
    return write(tmp_path / "raw", [f"{video}-{view}" for video in ("0002", "0291") for view in "LMR"])


@pytest.mark.parametrize("argument", ["", "zero-based", "released"])
def test_every_preparation_is_searched_for_shared_recordings(tmp_path, source, argument):
    target, _ = prepare(tmp_path, source)
    (source / "cross-subject.txt").write_text(split_text(["0291-L", "0291-M"], ["0002-L"]))  # words of their own
    seen, _ = prepare(tmp_path, source, argument)
    with pytest.raises(BenchError, match=r"1 of 2 test recordings of pku_mmd1/xview .*the first: 0291-L\)"):
        refuse_shared(target.load_untrimmed("xview"), seen.load("xsub"))
    if argument:
        with pytest.raises(BenchError, match=r"2 of 4 test clips of pku_mmd1/xview .*the first: F291V001C007L001\)"):
            refuse_shared(target.load("xview"), seen.load("xsub"))


@pytest.mark.parametrize("argument", ["", "zero-based"])
def test_recordings_are_segmented_as_the_clips_were_prepared(tmp_path, source, argument):
    dataset, _ = prepare(tmp_path, source, argument)
    splits = Splits(tmp_path / "data", frames=8)
    at = home(f"pku_mmd1:{argument}#xview" if argument else "pku_mmd1/xview", splits)
    (place,) = places(locate("protocols", "segmentation"), at, (), splits)
    assert (place.data.name, place.reason) == (f"{dataset.name}/xview", "")


names = st.one_of(st.sampled_from(["0002-L", "0291-M", "A01N01-L", "cross-subject"]), st.text("0A2N-LMR.", max_size=8))
contents = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([GOOD, GOOD[:500], LABELS.encode(), b"52,1,2,1", split_text(["0002-L"], ["0291-M"]).encode()]),
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=st.dictionaries(st.tuples(st.sampled_from([*FOLDERS[1], "x"]), names), contents, max_size=6))
def test_no_folder_crashes_the_preparation(tmp_path_factory, files):
    folder = tmp_path_factory.mktemp("fuzz")
    for (place, name), content in files.items():
        (folder / "raw" / place).mkdir(parents=True, exist_ok=True)
        (folder / "raw" / place / f"{name}.txt").write_bytes(content)
    try:
        dataset, report = prepare(folder, folder / "raw")
    except BenchError:
        assert not PKUMMD1(folder / "data", frames=8).folder.exists()
        return
    assert report.ok
    assert len(dataset.prepared().samples) >= 1
