"""Names of any length: everything that a drawing writes lies inside of its picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from datasets.layout import NTU25
from leaderboard import figures, generated, ranks_figure, style
from leaderboard.cells import Cell, aggregate
from leaderboard.collect import collect
from leaderboard.comparison import rankings
from leaderboard.drawings import (
    actionlets,
    confusion,
    curves,
    gain,
    knn_linear,
    labels,
    motion,
    player,
    rank,
    robustness,
    tsne,
)
from leaderboard.experiments import Experiment, experiments
from leaderboard.skeletons import Skeleton
from leaderboard.tables import tables
from leaderboard.timelines import draw_timelines
from tests.leaderboard.conftest import FakeResults
from tests.leaderboard.test_segmentation import segmented

LONG = 'hiclr[branches=[["BA"],["BA","NA"]],hierarchy.weights=[1.0],view.noise_sd=0.0125]'
OTHER = "my_own_method_with_a_name_without_any_bracket_that_goes_on_and_on_until_here_000"
METHODS = ("aimclr", LONG, OTHER, "random")
ENCODERS = ("stgcn", "bigru", "dsta", "ctrgcn[channels=[64,128,256],adaptive=false]", "skeleton_transformer")
PLACE = {"dataset": "npz:data/of_somebody/with/very/long_paths/and more/clips-of-patients.npz", "split": "subject=1-5"}
CLASSES = tuple(
    f"{word} something up from the $floor with_both/hands, and put it down again, slowly" for word in "abcd"
)
SKELETON = Skeleton(NTU25.bones, NTU25.sides)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every method on every encoder with all that runs leave, and by KNN on other data, too."""
    fake = FakeResults(tmp_path_factory.mktemp("long"), samples=40)
    rng = np.random.default_rng(0)
    for method, encoder in product(METHODS, ENCODERS):
        for protocol in ("knn", "linear", "semi:1", "finetune"):
            facts = {"confusion": rng.integers(0, 9, (4, 4)).tolist()}
            share = 0.2 + 0.7 * rng.random()
            folder = fake.evaluate(method, protocol, 0, share, facts=facts, encoder=encoder, **PLACE)
            if protocol == "knn":
                fake.leave(folder, rng.normal(size=(40, 8)).astype(np.float32), [3.0, 2.0] * (method != "random"))
        fake.evaluate(method, "knn", 0, share, encoder=encoder)
    return fake.folder


@pytest.fixture(scope="module")
def cells(results: Path) -> list[Cell]:
    return aggregate(collect(results))


@pytest.fixture(scope="module")
def long(cells: list[Cell], results: Path) -> list[Experiment]:
    """What is drawn of the bench with a long name."""
    return next(found for bench, found in experiments(cells, results).items() if bench.dataset == PLACE["dataset"])


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever is drawn meanwhile lies inside, and some is."""
    draw, seen, outside = Text.draw, [], []

    def checked(self: Text, renderer: object) -> None:
        draw(self, renderer)
        if self.get_visible() and self.get_text().strip():
            box, room = self.get_window_extent(renderer), self.get_figure(root=True).bbox
            seen.append(self.get_text())
            if box.x0 < -1 or box.y0 < -1 or box.x1 > room.x1 + 1 or box.y1 > room.y1 + 1:
                outside.append((self.get_text(), box.extents.round().tolist(), room.extents.round().tolist()))

    monkeypatch.setattr(Text, "draw", checked)
    with style.canvas():
        yield
    assert seen
    assert not outside, outside


def _config(found: list[Experiment]) -> list[Experiment]:
    """The records with what semi and finetune have in their identity."""
    for one in found:
        for cell in one.cells.values():
            for run in cell.done:
                run.stage.identity["config"] = {"percent": 1.0, "stratified": True, "frozen": False}
    return found


RECORDS: dict[str, Callable[[list[Experiment]], Figure]] = {
    "curves": curves.draw,
    "knn_linear": knn_linear.draw,
    "labels": lambda found: labels.draw(_config(found)),
    "confusion": lambda found: confusion.draw(found, CLASSES),
    "gain": lambda found: gain.draw(found, CLASSES),
    "tsne": lambda found: tsne.draw(found, CLASSES),
    "rank": rank.draw,
    "robustness": lambda found: robustness.draw(
        [(one, [{"noise": [60, 50]}]) for one in found],
        {"noise": robustness.Corrupted("Gaussian noise", "m", (0.0, 0.1))},
        "knn",
    ),
}


@pytest.mark.parametrize("name", RECORDS)
def test_figures_of_records(name: str, long: list[Experiment], written: None, tmp_path: Path) -> None:
    style.save(RECORDS[name](long), tmp_path / name, f"{PLACE['dataset']}/{PLACE['split']} · joint stream")


@pytest.mark.parametrize("persons", [1, 2])
def test_figures_of_skeletons(written: None, tmp_path: Path, persons: int) -> None:
    clip = np.random.default_rng(0).normal(scale=0.3, size=(10, 2, 25, 3)).astype(np.float32)
    clip[:, persons:] = 0
    masks = {f"{name}, {ENCODERS[3]}": np.ones((2, 10, 25)) for name in METHODS[:2]}
    scores = dict.fromkeys(
        masks, "51 % of the joints that move, chance 20 %, fastest joints 48 %, 600 test clips of 20 classes"
    )
    shown = [actionlets.Masked(CLASSES[0], clip, masks, masks[f"aimclr, {ENCODERS[3]}"] > 0, dict.fromkeys(masks, 5.0))]
    style.save(motion.draw(clip, clip, SKELETON, CLASSES[0]), tmp_path / "motion", PLACE["dataset"])
    style.save(actionlets.draw(shown, SKELETON, scores), tmp_path / "actionlets", PLACE["dataset"])
    clips = [player.Moving(CLASSES[0], clip), None, player.Moving(f"{LONG}, view 1", clip)]
    player.save(clips, SKELETON, tmp_path / "clips", PLACE["dataset"], columns=2)


def test_real_beside_generated_clips(written: None, tmp_path: Path) -> None:
    clips = np.random.default_rng(0).normal(scale=0.3, size=(2, 2, 1, 6, 25, 3)).astype(np.float32)
    parts = {"parents": NTU25.bones, "sides": NTU25.sides}
    np.savez(tmp_path / "a.npz", clips=clips, versions=[LONG, "real"], classes=CLASSES[:2], **parts)
    generated.write(tmp_path / "a.npz")


def test_leaderboard_and_ranks(cells: Sequence[Cell], written: None, tmp_path: Path) -> None:
    figures.draw(tables(cells)[:2], tmp_path)
    found = rankings(cells, lambda _: ENCODERS[0])
    assert LONG in found[0].methods
    ranks_figure.draw(found, tmp_path)


def test_timelines(fake: FakeResults, written: None) -> None:
    for method, encoder in product(METHODS, ENCODERS[2:]):
        facts = {"classes": ["background", *CLASSES]}
        segmented(fake, method, np.full(20, 0.5), 5, encoder=encoder, facts=facts, **PLACE)
    draw_timelines(aggregate(collect(fake.folder)), fake.folder / "figures")


def test_names_are_broken_where_one_would() -> None:
    with style.canvas():
        assert style.wrapped("aimclr", 1, 8) == "aimclr"
        assert style.wrapped("hiclr[view.noise_sd=0.01,a=$b]", 1, 8) == "hiclr[view.noise_\nsd=0.01,a=\\$b]"
        short = style.wrapped(LONG * 3, 2, 8)
        assert len(short.split("\n")) == 3
        assert short.startswith("hiclr[branches")
        assert short.count("…") == 1
        assert short.endswith("sd=0.0125]")
        assert style.text_width(short, 8) <= 2
        assert "\n" not in style.wrapped(LONG, 1, 8, lines=1)
