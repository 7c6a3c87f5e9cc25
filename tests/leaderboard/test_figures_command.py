from __future__ import annotations

import re

import numpy as np
import pytest
from click.testing import CliRunner, Result

import run_bench
from engine.commands import figures as commands
from engine.config import BenchError
from tests.datasets.test_npz import save


def figures(fake, *names: str, code: int = 0) -> Result:
    arguments = ["figures", *names, "--results", str(fake.folder), "--data", str(fake.folder / "data")]
    result = CliRunner().invoke(run_bench.main, arguments)
    assert result.exit_code == code, (result.output, result.exception)
    return result


def files(fake) -> set[str]:
    return {path.name for path in (fake.folder / "figures").iterdir()}


def test_what_can_be_shown_is_drawn_and_the_rest_says_why(fake) -> None:
    counts = np.eye(4, dtype=int).tolist()
    for protocol in ("knn", "linear"):
        fake.evaluate("aimclr", protocol, facts={"confusion": counts}, dataset="nowhere")
    output = figures(fake, "confusion", "gain", "labels", "clips").output
    assert files(fake) == {"confusion.svg", "confusion.png"}
    assert re.search(r"confusion: \S+/confusion\.\{svg,png\}", output)
    assert "gain: skipped, no method but aimclr is evaluated by linear" in output
    assert "labels: skipped, no method is evaluated by semi" in output
    assert re.search(r"clips: skipped, Unknown dataset 'nowhere'", output)


def test_data_in_a_file_are_found_where_one_says(fake, tmp_path) -> None:
    fake.evaluate("aimclr", "knn", dataset="npz:my_clips", split="subject")
    assert re.search(r"clips: skipped, npz:my_clips: there is no such file", figures(fake, "clips").output)
    figures(fake, "clips", "--read", f"npz:my_clips/subject=npz:{save(tmp_path)}#subject")
    assert "clips.json" in files(fake)


def test_rules_and_numbers_of_frames_do_not_keep_data_from_being_found(fake, tmp_path) -> None:
    fake.evaluate("aimclr", "knn", dataset="npz:my_clips[frames=8]", split="subject=1-2", facts={"frames": 8})
    figures(fake, "clips", "--read", f"npz:my_clips/subject=1-2=npz:{save(tmp_path)}#subject=1-2")
    assert "clips.json" in files(fake)


def test_records_without_weights_are_said_to_be_so(fake, tmp_path) -> None:
    fake.leave(fake.evaluate("aimclr", "knn", dataset="npz:my_clips", split="subject"), np.eye(4), (2.0, 1.0))
    output = figures(fake, "views", "--read", f"npz:my_clips/subject=npz:{save(tmp_path)}#subject").output
    assert "without aimclr: " in output
    assert "views: skipped, no weights of a trained method can be read" in output


def test_several_benches_get_a_picture_each_and_old_ones_go(fake) -> None:
    for protocol in ("knn", "linear"):
        fake.evaluate("aimclr", protocol)
    figures(fake, "knn_linear")
    (fake.folder / "figures" / "leaderboard.png").write_text("not mine")
    for protocol in ("knn", "linear"):
        fake.evaluate("aimclr", protocol, stream="bone")
    figures(fake, "knn_linear")
    assert files(fake) == {
        "leaderboard.png",
        *(f"knn_linear-{stream}.{kind}" for stream in ("bone", "joint") for kind in ("svg", "png")),
    }


def test_only_pictures_of_runs_that_are_gone_are_deleted(fake) -> None:
    for method, stream in (("aimclr", "joint"), ("aimclr", "bone"), ("hiclr", "joint")):
        for protocol in ("knn", "linear"):
            fake.evaluate(method, protocol, stream=stream)
    figures(fake, "knn_linear")
    kept = files(fake) | {"labels.png", "gain-joint.png", "knn_linear-notes.txt", "knn_linear-folder.png"}
    for name in ("labels.png", "gain-joint.png", "knn_linear-notes.txt", "knn_linear-motion.svg", "knn_linear.png"):
        (fake.folder / "figures" / name).write_text("older")
    (fake.folder / "figures" / "knn_linear-folder.png").mkdir()
    # Neither gain nor labels can be drawn here, and hiclr did not run on bones.
    figures(fake, "--methods", "hiclr", "knn_linear", "gain", "labels")
    assert files(fake) == kept


def test_methods_are_chosen_and_changed_settings_left_out(fake, monkeypatch) -> None:
    drawn: list[list[str]] = []

    def note(scene, path):
        drawn.append([one.method for one in scene.experiments])
        raise BenchError("nothing")

    monkeypatch.setitem(commands.FIGURES, "gain", note)
    for method in ("random", "aimclr", "hiclr", "aimclr[d3m=false]"):
        fake.evaluate(method, "linear")
    assert "1 cell with changed settings" in figures(fake, "gain").output
    assert "changed settings" not in figures(fake, "gain", "--changed", "--methods", "aim").output
    assert [sorted(names) for names in drawn] == [
        ["aimclr", "hiclr", "random"],
        ["aimclr", "aimclr[d3m=false]", "random"],
    ]
    assert "Did you mean 'aimclr'" in figures(fake, "gain", "--methods", "aimcrl", code=2).output


@pytest.mark.parametrize(
    ("name", "message"), [("confusoin", "Did you mean 'confusion'"), ("gain", "No evaluations in")]
)
def test_mistakes_are_named(fake, name, message) -> None:
    assert message in figures(fake, name, code=2).output
