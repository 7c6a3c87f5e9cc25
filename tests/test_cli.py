from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import run_bench
from engine import options
from engine.registry import ROOT

PLUGINS = Path(__file__).parent / "engine" / "plugins" / "tiny.py"
TINY = (
    "--methods", f"{PLUGINS}:TinyCLR", "--datasets", f"{PLUGINS}:Tiny", "--set", f"encoder={PLUGINS}:TinyEncoder",
    "--set", "linear.epochs=5",
)  # fmt: skip


def test_targets_are_a_list_and_transfer_means_both_of_its_columns(cli, tmp_path):
    short = "--set", "transfer.linear.epochs=5", "--set", "transfer.finetune.train.epochs=1"
    result = cli(*TINY[:-2], *short, "--protocols", "transfer", "--targets", f"{PLUGINS}:Turned")
    assert "turned/subject from tiny/subject" in result.output
    table = pd.read_csv(tmp_path / "results" / "leaderboard.csv")
    assert {name.split("[")[0] for name in table.protocol} == {"transfer:linear", "transfer:finetune"}
    assert set(table.source) == {"tiny/subject"}
    assert "--targets: no protocol of this run" in cli(*TINY, "--targets", f"{PLUGINS}:Turned", code=2).output


def test_a_run_ends_with_a_leaderboard(cli, tmp_path):
    result = cli(*TINY, "--seeds", "0-1")
    assert (
        "tiny/subject: budget quick (30 training clips, no GPU; --budget full: the published settings)" in result.output
    )
    assert re.search(r"24 stages to do, 0 done; .* \(nominal rates, a rough guess\)", result.output)
    assert re.search(
        r"\[24/24\] linear\[epochs=5\] of tinyclr on tiny/subject, joint, seed 1: top-1 [\d.]+ %, ", result.output
    )
    for name in ("random", "raw", "tinyclr"):
        assert name in result.output
    assert "Written: results/leaderboard." in result.output
    assert "Linear[epochs=5] top-1" in result.output  # changed, but asked for
    assert "--changed shows" not in result.output
    later = " ".join(cli("report").output.split())
    assert "Linear[epochs=5]" not in later
    assert "3 cells with changed settings" in later
    assert "Linear[epochs=5] top-1" in cli("report", "--changed").output
    assert {path.name for path in (tmp_path / "results").iterdir()} == {
        "runs", "logs", "figures", "page", "leaderboard.md", "leaderboard.csv", "leaderboard.tex", "leaderboard.html",
    }  # fmt: skip
    table = pd.read_csv(tmp_path / "results" / "leaderboard.csv")
    rows = table[(table.metric == "top1") & (table.protocol == "knn")].set_index("method")
    assert set(rows.index) == {"random", "raw", "tinyclr"}
    assert rows.n.tolist() == [2, 2, 2]
    assert rows.loc["tinyclr", ["dataset", "split", "stream", "recipe", "budget", "status"]].tolist() == [
        "tiny", "subject", "joint", "paper", "quick", "done",
    ]  # fmt: skip


def test_the_same_command_again_runs_nothing_and_writes_the_same_table(cli, tmp_path):
    cli(*TINY)
    table = (tmp_path / "results" / "leaderboard.csv").read_bytes()
    result = cli(*TINY)
    assert "0 stages to do, 12 done" in result.output
    assert "Nothing to do: every stage of this command is done." in result.output
    assert (tmp_path / "results" / "leaderboard.csv").read_bytes() == table
    assert "random" in cli("report").output
    assert "random" in cli("--results", "results", "report").output
    assert "No evaluations" in cli("report", "--results", "elsewhere").output


def test_plan_shows_everything_and_runs_nothing(cli, tmp_path):
    result = cli(*TINY, "--plan")
    assert not (tmp_path / "results").exists()
    lines = [line for line in result.output.splitlines() if "to do" in line and "tiny/subject" in line]
    assert len(lines) == 12
    assert all(re.search(r"[0-9a-f]{16}", line) for line in lines)
    cli(*TINY)
    result = cli(*TINY, "--set", "tinyclr.scale=2", "--plan")
    assert "4 stages to do, 8 done; " in result.output
    assert "(from earlier runs in this folder)" in result.output
    assert sum("tinyclr[scale=2.0]" in line for line in result.output.splitlines()) == 4


@pytest.mark.parametrize(
    "arguments",
    [
        ("--methods", "skeletonclr", "--protocols", "all", "--plan"),
        ("--methods", "skeletonclr", "--protocols", "knn", "--datasets", "npz:mine.npz#subject=1,2", "--plan"),
        ("generate", "macdiff", "--plan"),
        ("--ablate", "skeletonclr.train.epochs=1,2", "--plan"),
    ],
)
def test_a_plan_generates_and_writes_nothing(cli, tmp_path, monkeypatch, arguments):
    monkeypatch.setattr("datasets.synthetic.generate", lambda **given: pytest.fail("generated"))
    monkeypatch.setattr("datasets.synthetic_untrimmed.generate", lambda: pytest.fail("generated"))
    _skeletons(tmp_path / "mine.npz")
    before = sorted(tmp_path.rglob("*"))
    shown = " ".join(cli(*arguments).output.split())
    assert re.search(r"\b\d+ stages to do, 0 done", shown)
    assert ("synthetic is not generated in data/ yet" in shown) == ("npz:mine.npz#subject=1,2" not in arguments)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_failure_gives_exit_code_1_and_the_rest_of_the_table(cli, tmp_path):
    result = cli(*TINY, "--methods", f"{PLUGINS}:Breaking", code=1)
    assert "FAILED" in result.output
    assert "breaking is broken" in result.output
    assert "4 stages failed, or need one that did; --retry-failed runs them again." in result.output
    table = pd.read_csv(tmp_path / "results" / "leaderboard.csv")
    assert set(table[table.method == "breaking"].status) == {"failed"}
    assert set(table[table.method == "tinyclr"].status) == {"done"}
    again = cli(*TINY, "--methods", f"{PLUGINS}:Breaking", code=1).output
    assert "0 stages to do, 12 done, 4 failed before (--retry-failed repeats them)" in again
    assert "FAILED" not in again
    assert "FAILED" in cli(*TINY, "--methods", f"{PLUGINS}:Breaking", "--retry-failed", code=1).output


def test_an_interrupt_gives_exit_code_130_and_the_table_so_far(cli, tmp_path, monkeypatch):
    monkeypatch.setenv("TINY_STOP", "2")
    result = cli(*TINY, code=130)
    assert "Interrupted. The same command continues where it stopped." in result.output
    table = pd.read_csv(tmp_path / "results" / "leaderboard.csv")
    assert set(table[table.method == "tinyclr"].status) == {"pending"}
    monkeypatch.delenv("TINY_STOP")
    assert "1 of them resumed" in cli(*TINY).output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--methods", "aimcrl"), r"Error: Unknown method 'aimcrl'\. Did you mean 'aimclr'\?"),
        (("--protocols", "knm"), r"Error: Unknown protocol 'knm'\. Did you mean 'knn'\?"),
        (("--datasets", "nwucla"), r"Error: Unknown dataset 'nwucla'\. Did you mean 'nw_ucla'\?"),
        (("--streams", "joints"), r"Unknown stream 'joints'\. Did you mean 'joint'\?"),
        (("--recipe", "papr"), r"Unknown recipe 'papr'\. Did you mean 'paper'\?"),
        (("--budget", "ful"), r"Unknown budget 'ful'\. Did you mean 'full'\?"),
        (("--set", "encoder=sgcn"), r"Unknown encoder 'sgcn'\. Did you mean 'stgcn'\?"),
        ((*TINY, "--set", "tiny.scale=2"), r"ambiguous: tinyclr, tinyencoder"),
        ((*TINY, "--set", "tinyclr.scael=2"), r"Unknown setting 'tinyclr\.scael'\. Did you mean 'scale'\?"),
        ((*TINY, "--set", "semi.percent=5"), r"semi takes no part in this run; name it under --protocols"),
        (("--protocols", "linear,fusion:best"), r"fusion has no preset 'best'\. Known: paper, validation\."),
        (("--protocols", "ensemble:best"), r"fusion has no preset 'best'"),
        (("--protocols", "semi:10"), r"semi has no preset '10'\. Known: 1, 2, 5, 20, .* Without one it is: 10 % of"),
        ((*TINY, "--set", "tinyclr.scale"), r"write PLUGIN\.KEY=VALUE"),
        (("--seeds", "a"), r"Invalid value for '--seeds': 'a': write whole numbers and ranges"),
        (("--seeds", "3-1"), r"Invalid value for '--seeds': '3-1'"),
        (("--methods", ","), r"Invalid value for '--methods': name at least one"),
        (("--method", "aimclr"), r"No such option.*--method.*Did you mean.*--methods"),
        (("--device", "gpu"), r"--device gpu: "),
        (("--device", "meta"), r"--device meta: only cpu and cuda are supported"),
        (
            ("lsit",),
            r"Unknown command 'lsit'\. Did you mean 'list'\? Known: compare, data, describe, diff, figures, "
            "generate, import-weights, list, report, reproduce, runs, submit, table, verify",
        ),
        (("data", "chekc"), r"Unknown command 'chekc'\. Did you mean 'check'\?"),
        (("describe", "aimcrl"), r"Unknown plug-in 'aimcrl'\. Did you mean 'aimclr'\?"),
        (("data", "check", "nw_ucla"), r"data prepare nw_ucla --source PATH"),
        (("--datasets", "nw_ucla/xview"), r"data prepare nw_ucla --source PATH"),
        (("--datasets", "form:gone.npz"), r"form:gone\.npz: there is no such file or folder"),
        (("data", "export", "npz:gone.npz", "out.npz"), r"npz:gone\.npz: there is no such file"),
        (("import-weights", "gone.pt"), r"Missing option '--as'"),
        (("--datasets", "nw_ucla/xveiw"), r"nw_ucla has no split 'xveiw'\. Did you mean 'xview'\?"),
    ],
)
def test_wrong_usage_gives_one_message_and_exit_code_2(cli, tmp_path, arguments, message):
    result = cli(*arguments, code=2)
    assert re.search(message, result.stderr)
    assert "Traceback" not in result.output
    assert not (tmp_path / "results").exists()


def test_list_and_describe(cli):
    listed = cli("list").output
    for name in ("aimclr", "actclr", "hiclr", "random", "knn", "linear", "stgcn", "nw_ucla"):
        assert name in listed
    described = cli("describe", "aimclr").output
    assert "AimCLR (Guo et al., AAAI 2022)" in described
    assert re.search(r"nnm\.topk +1\b", described)
    assert "Ablation components" in described
    assert "released" in described
    assert "1-NN" in cli("describe", "retrieval").output
    assert "cameras 1 and 2 train" in cli("describe", "nw_ucla").output
    assert "starts from the run of tiny.py:TinyCLR" in cli("describe", f"{PLUGINS}:TinyNext").output


def test_the_seeds_lists_and_rules_are_read():
    def seeds(text: str) -> tuple[int, ...]:
        return options.seeds(None, None, (text,))

    assert seeds("0") == (0,)
    assert seeds("0-2, 7,1") == (0, 1, 2, 7)
    rule_first = "nw_ucla:kinect20#xview, synthetic,npz:z.npz#camera=1,2,nw_ucla/xsub"
    assert options.names(None, None, ("a, b,a", "npz:x,y.npz#subject=1,2", "c", rule_first)) == (
        "a", "b", "npz:x", "y.npz#subject=1,2", "c",
        "nw_ucla:kinect20#xview", "synthetic", "npz:z.npz#camera=1,2", "nw_ucla/xsub",
    )  # fmt: skip


def test_the_flags_are_frozen():
    """A new flag is a decision: most things belong into --set."""
    flags = {name for option in run_bench.main.params for name in option.opts}
    assert flags == {
        "--methods", "--protocols", "--datasets", "--targets", "--streams", "--seeds", "--budget", "--recipe", "--set",
        "--results", "--data", "--device", "--threads", "--jobs", "--companion", "--retry-failed", "--ablate",
        "--launcher", "--ray-address", "--gpus-per-stage",
        "--plan",
    }  # fmt: skip


def test_help_is_quick_and_shows_examples(tmp_path):
    started = time.perf_counter()
    run = [sys.executable, "-X", "importtime", str(ROOT / "run_bench.py"), "--help"]
    shown = subprocess.run(run, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert time.perf_counter() - started < 5
    assert "python run_bench.py --methods actclr,hicl --protocols linear,knn" in shown.stdout
    assert "torch" not in {line.rpartition("|")[2].strip() for line in shown.stderr.splitlines()}


def test_another_package_called_datasets_is_named(tmp_path):
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "__init__.py").write_text("")
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]; import run_bench; run_bench.main()"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert shown.returncode == 2
    assert f"'import datasets' finds {tmp_path / 'datasets' / '__init__.py'} instead of" in shown.stderr.replace(
        "\n", ""
    )


def _skeletons(path: Path) -> None:
    """An npz of 48 clips: three actions of a stick figure by four subjects."""
    draw = np.random.default_rng(0)
    joints = ("hip", "neck", "head", "left_shoulder", "left_hand", "right_shoulder", "right_hand")
    rest = np.array([[0, 0, 2], [0, 0.5, 2], [0, 0.7, 2], [-0.2, 0.5, 2], [-0.3, 0, 2], [0.2, 0.5, 2], [0.3, 0, 2]])
    clips, label, subject = [], [], []
    for number in range(48):
        frames = int(draw.integers(12, 30))
        clip = np.repeat(rest[None], frames, 0) + draw.normal(0, 0.01, (frames, 7, 3))
        swing = 0.4 * np.sin(np.linspace(0, 6, frames))
        for joint in ((4,), (6,), (4, 6))[number % 3]:
            clip[:, joint, 1] += 0.3 + swing
        clips.append(clip)
        label.append(number % 3)
        subject.append(number // 3 % 4 + 1)
    np.savez(
        path,
        xyz=np.concatenate(clips).astype(np.float32),
        offsets=np.cumsum([0, *map(len, clips)]),
        label=np.array(label),
        subject=np.array(subject),
        joint_names=np.array(joints),
        parents=np.array([-1, 0, 1, 1, 3, 1, 5]),
    )


def test_a_split_is_exported_and_read_back(cli, tmp_path):
    _skeletons(tmp_path / "mine.npz")
    shown = cli("data", "export", "npz:mine.npz#subject=1,2,3", "out.npz").output
    assert "36 training and 12 test clips of npz:mine/subject=1,2,3; read it as npz:out.npz#split" in shown
    checked = cli("data", "check", "npz:out.npz").output
    assert "subject=1,3" in cli("data", "check", "npz:mine.npz#subject=1,3").output
    assert "no column 'foo'" in cli("data", "check", "npz:mine.npz#foo", code=2).stderr
    assert "each part must hold clips" in cli("data", "check", "npz:mine.npz#subject=9", code=2).stderr
    assert re.search(r"all +24 +24 +36 +12", checked)
    assert "48 clips" in checked


@pytest.mark.slow
def test_the_real_parts_together(cli, tmp_path):
    """Own skeletons from an npz, real methods, encoder and protocols, in small; again, elsewhere, and differently."""
    _skeletons(tmp_path / "mine.npz")
    arguments = [
        "--methods", "actclr,hicl,skeletonclr", "--datasets", "npz:mine.npz#subject=1,2,3", "--budget", "quick",
        "--set", "frames=16", "--set", "stgcn.width=4", "--threads", "1",
    ]  # fmt: skip
    for name in ("aimclr", "actclr", "hiclr", "skeletonclr"):
        arguments += [f"--set={name}.train.epochs=2", f"--set={name}.train.batch=12"]
    assert "48" in cli("data", "check", "npz:mine.npz").output
    cli(*arguments, "--protocols", "linear,knn")
    table = pd.read_csv(tmp_path / "results" / "leaderboard.csv").query("metric == 'top1'")
    assert len(table) == 6 * 2  # with the AimCLR that ActCLR starts from
    assert set(table.status) == {"done"}
    assert set(table.dataset) == {"npz:mine[frames=16]"}
    assert table.pretrain_epochs.groupby(table.method.str.split("[").str[0]).first().to_dict() == {
        "actclr": 4, "aimclr": 2, "hiclr": 2, "random": 0, "raw": 0, "skeletonclr": 2,
    }  # fmt: skip
    assert "0 stages to do, 24 done" in cli(*arguments, "--protocols", "linear,knn").output

    cli(*arguments, "--protocols", "linear,knn", "--results", "again")
    for path in tmp_path.glob("results/runs/*/*/*/record.json"):
        assert path.read_bytes() == (tmp_path / "again" / path.relative_to(tmp_path / "results")).read_bytes()
    result = cli(*arguments, "--protocols", "linear:aimclr,knn:actclr")
    assert "no projector" in result.output
    assert "pretrain of" not in result.output


@pytest.mark.slow
def test_ctrl_c_of_a_real_process(tmp_path):
    import signal

    run = [sys.executable, str(ROOT / "run_bench.py"), *TINY]
    process = subprocess.Popen(
        run,
        cwd=tmp_path,
        env={**os.environ, "TINY_SLOW": "2"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a background shell ignores it
    )
    deadline = time.monotonic() + 240
    while not list(tmp_path.glob("results/runs/pretrain/tinyclr/*/checkpoint.pt")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    shown, errors = process.communicate(timeout=240)
    assert process.returncode == 130
    assert "The same command continues" in shown
    assert "Traceback" not in shown + errors
    assert (tmp_path / "results" / "leaderboard.md").exists()


def test_all_protocols_and_streams_leave_no_cell_without_a_number_or_a_reason(cli, tmp_path):
    quick = [f"--set={name}.train.{change}" for name in ("finetune", "semi") for change in ("epochs=2", "batch=8")]
    result = cli(*TINY, "--protocols", "all", "--streams", "joint,bone,motion", *quick, "--set=semi.percent=20")
    assert "joint+bone+motion stream" in result.output
    table = pd.read_csv(tmp_path / "results" / "leaderboard.csv").query("metric == 'top1'")
    assert set(table.stream) == {"joint", "bone", "motion", "joint+bone+motion"}
    elsewhere = table.protocol.str.match("transfer|segmentation")
    assert set(table[(table.status != "done") & ~elsewhere].method) == {"raw"}
    assert set(table[elsewhere].status) == {"unsupported"}
    page = (tmp_path / "results" / "leaderboard.md").read_text()
    assert "supervised from scratch" in page  # in a terminal so many columns fold the name
    assert "unsupported: raw coordinates have no weights to train" in page
    assert "unsupported: tiny has no default target of transfer; name one: --targets DATASET/SPLIT" in page
    assert "not asked for" not in page
