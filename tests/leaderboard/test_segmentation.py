"""Tables and pictures of segmentation, from fake records."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from leaderboard.build import write
from leaderboard.cells import aggregate, frame
from leaderboard.collect import collect
from leaderboard.tables import Table, tables
from leaderboard.timelines import draw_timelines

FACTS = {"headline": "miou", "background": 40.0, "test_recordings": 20, "window": 100, "stride": 50, "pooling": "gap"}
CLASSES = ["background", *(f"action {i}" for i in range(51))]


def segmented(fake, method: str, influence: np.ndarray, classes: int = 4, **more) -> Path:
    """A finished evaluation of 20 recordings of 30 frames."""
    miou = 100 * float(influence.mean())
    metrics = {"miou": miou, "acc": 90.0, "majority_miou": 3.0, "majority_acc": 40.0}
    facts = {**FACTS, "subsample": 1, "classes": CLASSES[:classes], **more.pop("facts", {})}
    folder = fake.evaluate(method, "segmentation", metrics=metrics, facts=facts, **more)
    label = np.arange(600) // 10 % classes
    arrays = {"prediction": np.roll(label, 3), "label": label, "offsets": np.arange(0, 601, 30)}
    ids = np.array([f"r{i:02}" for i in range(20)])
    np.savez(folder / "scores.npz", **arrays, id=ids, influence=influence)
    return folder


def board(fake) -> Table:
    (found,) = tables(aggregate(collect(fake.folder)))
    return found


def test_methods_are_ranked_by_miou_over_recordings(fake) -> None:
    noise = np.random.default_rng(0).normal(0, 0.05, 20)
    noise -= noise.mean()
    segmented(fake, "aimclr", 0.5 + noise)
    segmented(fake, "actclr", 0.51 - noise)  # the better one, by less than recordings differ
    segmented(fake, "hiclr", 0.3 + noise)
    segmented(fake, "random", 0.7 + noise)
    found = board(fake)
    assert [row.name for row in found.rows] == ["majority class", "random encoder", "actclr", "aimclr", "hiclr"]
    assert [row.entries[0].mark for row in found.rows] == ["", "", "best", "tied", "single"]
    assert [row.entries[0].text for row in found.rows] == ["3.0", "70.0", "51.0", "50.0", "30.0"]
    assert found.rows[0].entries[2].text == "-"
    assert found.rows[2].entries[2].text == "-"
    low, high = found.rows[2].entries[0].summary.low, found.rows[2].entries[0].summary.high
    assert 51 - low == pytest.approx(100 * 1.96 * noise.std() / 20**0.5, rel=0.2)
    assert high - 51 == pytest.approx(100 * 1.96 * noise.std() / 20**0.5, rel=0.2)


def test_windows_and_the_majority_class_are_in_the_csv(fake) -> None:
    for method in ("aimclr", "random"):
        segmented(fake, method, np.full(20, 0.5))
    fake.evaluate("aimclr", "knn")
    table = frame(aggregate(collect(fake.folder)))
    assert not table.metric.str.startswith("majority").any()
    constant = table[table.method == "majority"].set_index("metric")["mean"]
    assert constant.to_dict() == {"acc": 40.0, "miou": 3.0}
    settings = (
        table[table.method != "majority"].groupby("protocol")[["window", "stride", "subsample", "pooling"]].first()
    )
    assert settings.loc["segmentation"].tolist() == [100, 50, 1, "gap"]
    assert settings.loc["knn"].isna().all()


def test_settings_stand_below_the_table(fake) -> None:
    segmented(fake, "aimclr", np.full(20, 0.5), facts={"fps": 15.0, "subsample": 2})
    assert board(fake).note == (
        "Actions: without the frames whose true class is background. 40.0 % of the frames of the 20 test recordings are "
        "background. Windows of 100 frames, stride 50, pooling gap, 15 frames per second, every 2. frame. Sorted by mIoU."
    )


def test_what_failed_stands_in_the_table_too(fake) -> None:
    fake.evaluate("aimclr", "segmentation", failure="out of memory")
    fake.evaluate("random", "segmentation", unsupported="random has no actionlets to pool by")
    found = board(fake)
    assert [row.name for row in found.rows] == ["random encoder", "aimclr"]
    assert [entry.text for entry in found.rows[1].entries] == ["failed: out of memory"] + ["-"] * 11
    assert found.columns[0] == "mIoU"
    write(fake.folder)
    assert not list((fake.folder / "figures").glob("timelines*"))


def test_protocols_with_other_measures_keep_their_own_table(fake) -> None:
    segmented(fake, "aimclr", np.full(20, 0.5))
    fake.evaluate("aimclr", "linear")
    titles = [(found.title, found.columns[0]) for found in tables(aggregate(collect(fake.folder)))]
    assert [column for _, column in titles] == ["Linear top-1", "mIoU"]
    assert titles[1][0].endswith("segmentation")


@pytest.mark.parametrize("classes", [2, 20, 52])
def test_timelines_are_drawn_whatever_the_classes(fake, classes: int) -> None:
    segmented(fake, "aimclr", np.full(20, 0.5), classes)
    segmented(fake, "my$method_", np.full(20, 0.4), classes)
    fake.evaluate("aimclr", "linear")
    (path,) = draw_timelines(aggregate(collect(fake.folder)), fake.folder / "figures")
    assert path.name == "timelines-synthetic-xsub-joint-quick-paper-segmentation.png"
    assert path.read_bytes()[:4] == b"\x89PNG"


def test_every_encoder_of_a_method_has_a_timeline(fake) -> None:
    def height() -> int:
        (path,) = draw_timelines(aggregate(collect(fake.folder)), fake.folder / "figures")
        return len(imread(path))

    segmented(fake, "aimclr", np.full(20, 0.5), encoder="stgcn")
    one = height()
    segmented(fake, "aimclr", np.full(20, 0.4), encoder="dsta")
    two = height()
    segmented(fake, "hiclr", np.full(20, 0.3), encoder="dsta")
    assert height() - two == two - one > 0
