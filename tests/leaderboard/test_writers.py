"""Several writers of one results folder at once: processes that share it and finish together."""

from __future__ import annotations

import errno
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from leaderboard import page, render
from leaderboard.build import write


def test_a_file_is_always_whole_and_no_writer_fails(tmp_path: Path) -> None:
    texts = ["a" * 100_000, "b" * 200_000]

    def work(text: str) -> None:
        for _ in range(50):
            render.replace(tmp_path / "leaderboard.csv", text)
            assert (tmp_path / "leaderboard.csv").read_text() in texts

    with ThreadPoolExecutor() as pool:
        list(pool.map(work, texts * 2))
    assert [path.name for path in tmp_path.iterdir()] == ["leaderboard.csv"]


def test_reports_at_once_leave_one_whole_page(fake) -> None:
    fake.evaluate()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: write(fake.folder, figures=False), range(8)))
    assert "aimclr" in (fake.folder / "page" / "index.html").read_text()
    assert len(list((fake.folder / "page" / "records").iterdir())) == 3
    assert [path.name for path in fake.folder.iterdir() if path.name.startswith(".")] == []


def test_whoever_was_faster_is_no_error(fake, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.evaluate()
    index = fake.folder / "page" / "index.html"
    rename = Path.rename

    def overtaken(self: Path, target: Path) -> Path:
        if self.name == "page" and target == index.parent:
            target.mkdir()
            index.write_text("theirs")
        return rename(self, target)

    write(fake.folder, figures=False)
    monkeypatch.setattr(Path, "rename", overtaken)
    write(fake.folder, figures=False)
    assert index.read_text() == "theirs"


def test_what_is_no_race_is_an_error_and_leaves_no_draft(fake, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.evaluate()

    def full(draft: Path, folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(page, "_swap", full)
    with pytest.raises(OSError, match="No space left"):
        write(fake.folder, figures=False)
    assert [path.name for path in fake.folder.iterdir() if path.name.startswith(".")] == []
