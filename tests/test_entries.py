"""Entries, reproduction and differences, on a small world that was really run."""

from __future__ import annotations

import copy
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import run_bench
from engine.config import BenchError, canonical, digest
from engine.rebuild import outside_plugins, rebuild
from leaderboard import entries
from leaderboard.cells import frame
from leaderboard.entries import Entry, parse
from leaderboard.entry_checks import Facts
from leaderboard.tables import tables

PLUGINS = Path(__file__).parent / "engine" / "plugins" / "tiny.py"
NAMED = [f"--plugin={PLUGINS}:{name}" for name in ("Tiny", "TinyEncoder", "TinyCLR")]
RUN = (
    "--methods", f"{PLUGINS}:TinyCLR", "--datasets", f"{PLUGINS}:Tiny", "--set", f"encoder={PLUGINS}:TinyEncoder",
    "--set", "linear.epochs=5", "--threads", "1",
)  # fmt: skip
KEEP_TYPE = object()


def call(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(run_bench.main, [str(one) for one in arguments])
    assert result.exit_code == code, (result.output, result.exception)
    return result.output


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    threads = torch.get_num_threads()
    folder = tmp_path_factory.mktemp("world") / "results"
    call(*RUN, "--results", folder)
    yield folder
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def file(results: Path) -> Path:
    folder = results.parent / "entries"
    call("submit", "--method", "tinyclr", "--by", "a lab", "--results", results, "--entries", folder)
    (path,) = folder.iterdir()
    return path


def key_of(results: Path, kind: str, method: str, protocol: str = "") -> str:
    for path in results.glob(f"runs/{kind}/*/*/record.json"):
        labels = json.loads(path.read_bytes())["labels"]
        if labels["method"].startswith(method) and labels["protocol"].startswith(protocol):
            return path.parent.name
    raise LookupError


def check(path: Path) -> None:
    """What ``verify`` checks."""
    rebuild(parse(path).records, {}, outside_plugins([name.removeprefix("--plugin=") for name in NAMED]))


def leaves(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = False
    for name, one in inner:
        found = True
        yield from leaves(one, (*at, name))
    if not found:
        yield at


def changed(content: dict[str, Any], at: tuple[Any, ...], new: Any = KEEP_TYPE) -> dict[str, Any]:
    """With another value in a place: ``new``, or a near one of the same type."""
    content = copy.deepcopy(content)
    node: Any = content
    for step in at[:-1]:
        node = node[step]
    old = node[at[-1]]
    if new is not KEEP_TYPE:
        node[at[-1]] = new
        return content
    other = {bool: lambda v: not v, int: lambda v: v + 1, float: lambda v: v + 1.5, str: lambda v: v + "x"}
    node[at[-1]] = other.get(type(old), lambda v: "x")(old)
    return content


def write(path: Path, content: dict[str, Any], sign: bool) -> Path:
    if sign:
        rest = {name: value for name, value in content.items() if name != "checksum"}
        content = content | {"checksum": entries.hashlib.sha256(canonical(rest).encode()).hexdigest()}
    path.write_text(json.dumps(content))
    return path


def test_an_entry_is_small_canonical_and_whole(results: Path, file: Path, tmp_path: Path) -> None:
    call("submit", "--method", "tinyclr", "--by", "a lab", "--results", results, "--entries", tmp_path)
    (again,) = tmp_path.iterdir()
    assert again.name == file.name
    assert again.read_bytes() == file.read_bytes()
    assert re.fullmatch(r"tiny-subject-joint-tinyclr-tinyencoder-[0-9a-f]{8}\.json", file.name)
    entry = parse(file)
    assert [part.record.kind for part in entry.parts] == ["pretrain", "features", "evaluate", "evaluate"]
    assert all(len(part.content) == 64 for part in entry.parts)
    assert all({"versions", "cpu", "threads", "source"} <= set(part.provenance) for part in entry.parts)
    assert Entry.model_validate_json(file.read_bytes()) == entry


def test_the_file_alone_is_checked_on_request_and_what_was_not_repeated_is_said(file: Path, tmp_path: Path) -> None:
    output = call("verify", file, "--no-rerun", *NAMED, "--results", tmp_path)
    assert "numbers), 2 evaluations, 4 records" in output
    assert "Nothing was repeated (--no-rerun)" in output
    assert list(tmp_path.iterdir()) == []


def test_a_tampered_entry_is_refused_before_anything_runs(file: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("engine.commands.verify.rerun", lambda *args, **options: pytest.fail("it ran"))
    content = json.loads(file.read_bytes())
    tampered = write(tmp_path / "e.json", changed(content, ("parts", 2, "record", "metrics", "top1")), sign=False)
    assert "it was changed" in call("verify", tampered, *NAMED, "--results", tmp_path, code=2)


def test_invented_numbers_of_a_consistent_file_are_not_confirmed(results: Path, file: Path, tmp_path: Path) -> None:
    """The last digits of what no other number tells: found by repeating it only, which is the default."""
    content = json.loads(file.read_bytes())
    metrics = content["parts"][-1]["record"]["metrics"]
    metrics["ece"] = (metrics["ece"] + 20) % 100
    invented = write(tmp_path / "e.json", content, sign=True)
    assert "whole and consistent" in call("verify", invented, "--no-rerun", *NAMED)
    output = call("verify", invented, *NAMED, "--results", tmp_path, code=1)
    assert "repeating all 4 stages in a fresh folder (1 pretrain, 1 features, 2 evaluate; " in output
    assert "e.json: NOT confirmed, noted in" in output
    assert not entries.is_verified(tmp_path, parse(invented))


def test_missing_data_are_named_with_the_command_that_prepares_them(file: Path, monkeypatch: Any) -> None:
    def missing(self: Any, *given: Any, **more: Any) -> Any:
        raise BenchError("tiny is not prepared in data. Prepare it once:\n  python run_bench.py data prepare tiny")

    monkeypatch.setattr("engine.data.Splits.__call__", missing)
    output = call("verify", file, *NAMED, code=2)
    assert "is consistent, but was not repeated. The data tiny/subject cannot be loaded" in output
    assert "run_bench.py data prepare tiny" in output


def test_a_plugin_of_somebody_else_runs_only_when_named(file: Path) -> None:
    assert "name it by --plugin" in call("verify", file, "--no-rerun", code=2)


def test_repeated_on_the_same_machine_it_is_the_same_to_the_bit_and_verified(
    results: Path, file: Path, tmp_path: Path
) -> None:
    own = tmp_path / "results"
    shutil.copytree(results, own)
    shown = call("report", "--results", own, "--entries", file.parent)
    assert "(submitted)" in shown
    before = pd.read_csv(own / "leaderboard.csv")
    assert set(before.status) == {"done", "submitted"}
    output = call("verify", file, *NAMED, "--results", own)
    assert "Reproduced to the last bit." in output
    shown = call("report", "--results", own, "--entries", file.parent)
    assert "(verified)" in shown
    assert "(submitted)" not in shown
    after = pd.read_csv(own / "leaderboard.csv")
    assert set(after.status) == {"done", "verified"}
    call("report", "--results", own, "--entries", tmp_path / "none")
    alone = pd.read_csv(own / "leaderboard.csv")
    for table in (before, after):
        pd.testing.assert_frame_equal(alone, table[table.status == "done"].reset_index(drop=True))


def test_broken_entries_are_left_out_and_named(results: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{")
    assert "entry left out: bad.json is no entry" in call("report", "--results", results, "--entries", tmp_path)


@settings(max_examples=60)
@given(data=st.data())
def test_any_change_is_noticed(file: Path, data: st.DataObject) -> None:
    content = json.loads(file.read_bytes())
    at = data.draw(st.sampled_from(sorted(leaves(content), key=str)))
    with pytest.raises(BenchError):
        parse(write(file.parent.parent / "tampered.json", changed(content, at), sign=False))


@settings(max_examples=60)
@given(data=st.data())
def test_what_a_key_holds_cannot_be_changed_even_with_a_new_checksum(file: Path, data: st.DataObject) -> None:
    content = json.loads(file.read_bytes())
    in_key = {"identity", "labels", "key", "kind", "parents"}
    held = [at for at in leaves(content) if "confusion" in at or (in_key & set(at) and "facts" not in at)]
    at = data.draw(st.sampled_from(sorted(held, key=str)))
    with pytest.raises(BenchError):
        check(write(file.parent.parent / "forged.json", changed(content, at), sign=True))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def nodes(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Places of everything inside, leaves or not."""
    for name, one in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*at, name)
        yield from nodes(one, (*at, name))


FACTS = st.sampled_from([*Facts.model_fields, "anything"])
FACT = JSON | st.sampled_from(["miou", "top1", "gap", 10**15, 10**30, 1e300, -1, [[1]], ["a"], [1e300, 1e300]])


@settings(max_examples=300)
@given(data=st.data())
def test_anything_in_any_place_is_accepted_and_shown_or_one_message(file: Path, data: st.DataObject) -> None:
    """Values of other types, signed by their author, with a key that belongs to them where they are in what is hashed."""
    content = json.loads(file.read_bytes())
    if data.draw(st.booleans()):
        record = content["parts"][-1]["record"]
        record["facts"] |= data.draw(st.dictionaries(FACTS, FACT, min_size=1, max_size=4))
        record["metrics"] |= data.draw(st.sampled_from([{}, {"miou": 50.0}]))
        record["labels"]["protocol"] = data.draw(st.sampled_from([record["labels"]["protocol"], "segmentation"]))
    else:
        at = data.draw(st.sampled_from(sorted(nodes(content), key=str)))
        content = changed(content, at, data.draw(JSON))
        with suppress(LookupError, TypeError, AttributeError):  # no longer an entry that has one
            content = rekeyed(content)
    path = write(file.parent.parent / "noise.json", content, sign=True)
    with suppress(BenchError):
        entry = parse(path)
        cells = entries.submitted({path: entry}, path.parent).cells
        tables(cells)
        frame(cells)
        check(path)


def test_a_better_number_contradicts_the_confusion_matrix(file: Path, tmp_path: Path) -> None:
    content = json.loads(file.read_bytes())
    content["parts"][2]["record"]["metrics"]["top1"] = 99.0
    with pytest.raises(BenchError, match=r"top1 is 99.0, expected \d"):
        parse(write(tmp_path / "e.json", content, sign=True))


def rekeyed(content: dict[str, Any], **identity: Any) -> dict[str, Any]:
    """A forger's entry whose last evaluation has another identity, with the key that belongs to it."""
    content = copy.deepcopy(content)
    record = content["parts"][-1]["record"]
    old = record["key"]
    record["identity"] |= identity
    record["key"] = digest(record["identity"])
    content["evaluations"] = [record["key"] if key == old else key for key in content["evaluations"]]
    return content


@pytest.mark.parametrize(
    ("identity", "message"),
    [
        ({"version": 99}, "version of linear is 99, expected 1"),
        ({"numerics": 0}, "numerics is 0, expected"),
        ({"plugin": "../../evil"}, "the suite has no protocol '../../evil'"),
        ({"plugin": "evil.py:Evil"}, "the suite has no protocol 'evil.py:Evil'"),
        ({"plugin": "liner"}, "Did you mean 'linear'"),
        ({"plugin": 3}, "names no plug-in"),
        ({"preset": "nonsense"}, "has no preset 'nonsense'"),
        ({"config": {}}, "settings are not whole"),
        ({"config": {"epochs": -1}}, "setting epochs is -1"),
        ({"config": {"evil": 1}}, "setting evil is 1"),
        ({"seed": "0"}, "seed in the identity should be of type int"),
        ({"seed": 1}, "label seed is 0, expected 1"),
        ({"data": {"name": "tiny/subject", "digest": "d", "path": "x"}}, "should be a name and a digest"),
        ({"data": {"name": "../tiny/subject", "digest": "d"}}, "label dataset/split is 'tiny/subject'"),
        ({"extra": 1}, "extra is 1, expected None"),
    ],
)
def test_a_forged_identity_is_told_what_was_expected(file: Path, tmp_path: Path, identity: Any, message: str) -> None:
    content = rekeyed(json.loads(file.read_bytes()), **identity)
    if content["parts"][-1]["record"]["labels"]["protocol"].startswith("knn"):
        content = json.loads(file.read_bytes())
        content["parts"][-2:] = content["parts"][:-3:-1]
        content = rekeyed(content, **identity)
    with pytest.raises(BenchError, match=re.escape(message)):
        check(write(tmp_path / "e.json", content, sign=True))


def test_names_of_files_are_plain(file: Path) -> None:
    entry = parse(file)
    part = entry.parts[-1]
    labels = part.record.labels.model_copy(update={"method": "../../etc/passwd\n", "dataset": "<script>"})
    record = part.record.model_copy(update={"labels": labels})
    named = entry.model_copy(
        update={"parts": (part.model_copy(update={"record": record}),), "evaluations": (record.key,)}
    )
    assert re.fullmatch(r"script-subject-joint-etc-passwd-tinyencoder-[0-9a-f]{8}\.json", named.file_name)


def test_a_record_is_reproduced(results: Path, tmp_path: Path) -> None:
    key = key_of(results, "evaluate", "tinyclr", "linear")
    output = call("reproduce", key[:10], "--results", results, "--into", tmp_path / "fresh", *NAMED)
    assert "Reproduced to the last bit." in output
    assert output.count("identical") == 3
    for path in (tmp_path / "fresh").glob("runs/*/*/*/record.json"):
        assert path.read_bytes() == (results / path.relative_to(tmp_path / "fresh")).read_bytes()
    assert "is not empty" in call("reproduce", key, "--results", results, "--into", tmp_path / "fresh", *NAMED, code=2)
    output = call("reproduce", key, "--keep-parents", "--results", results, *NAMED)
    assert output.count("identical") == 1


def test_a_record_that_was_changed_is_not_reproduced(results: Path, tmp_path: Path) -> None:
    own = tmp_path / "results"
    shutil.copytree(results, own)
    key = key_of(own, "evaluate", "random", "knn")
    (path,) = own.glob(f"runs/*/*/{key}/record.json")
    content = json.loads(path.read_bytes())
    content["metrics"]["top1"] += 1
    path.write_text(json.dumps(content))
    output = call("reproduce", key, "--results", own, *NAMED, code=1)
    assert "the same machine, threads and versions gave other bytes" in " ".join(output.split())
    assert "Not reproduced" in output


def test_data_that_changed_are_named(results: Path, tmp_path: Path) -> None:
    key = key_of(results, "evaluate", "random", "knn")
    output = call("reproduce", key, "--results", results, *NAMED, "--read", f"tiny/subject={PLUGINS}:Turned", code=2)
    assert "holds other data here: checksum turned-" in output
    assert "--read x: write NAME=DATA" in call("reproduce", key, "--results", results, *NAMED, "--read", "x", code=2)


def test_unknown_and_ambiguous_keys_name_near_ones(results: Path) -> None:
    key = key_of(results, "evaluate", "tinyclr", "linear")
    other = key[:7] + ("0" if key[7] != "0" else "1")
    output = call("reproduce", other, "--results", results, code=2)
    assert f"begins with {other}" in output
    assert f"({key})" in output
    keys = [path.name for path in results.glob("runs/*/*/*/")]
    first = max("0123456789abcdef", key=lambda digit: sum(one.startswith(digit) for one in keys))
    assert "is ambiguous; write more digits" in call("diff", first, first, "--results", results, code=2)
    assert "is no key" in call("reproduce", "../x", "--results", results, code=2)


def test_diff_tells_a_setting_a_seed_and_the_numbers(results: Path, tmp_path: Path) -> None:
    own = tmp_path / "results"
    shutil.copytree(results, own)
    call(*RUN, "--set", "tinyclr.scale=2", "--results", own)
    first = key_of(results, "evaluate", "tinyclr", "knn")
    second = key_of(own, "evaluate", "tinyclr[", "knn")
    lines = call("diff", first, second, "--results", own).splitlines()
    (line,) = (line for line in lines if "config.scale" in line)
    assert line.split() == ["knn", ">", "features", ">", "pretrain", "settings", "config.scale", "1.0", "2.0"]
    assert any("checksum of weights" in line for line in lines)
    assert "Nothing differs." in call("diff", first, first, "--results", own)
    assert "Nothing differs." in call("diff", first, first, "--results", results, "--against", own)


def test_submitting_says_what_it_needs(results: Path, tmp_path: Path) -> None:
    place = ("--results", results, "--entries", tmp_path)
    assert "Did you mean 'tinyclr'" in call("submit", "--method", "tinyclrr", *place, code=2)
    assert "Name what to submit" in call("submit", *place, code=2)
    assert "submit the evaluations" in call("submit", key_of(results, "pretrain", "tinyclr"), *place, code=2)
    assert "--by" in call("submit", key_of(results, "evaluate", "tinyclr"), "--by", "a\nb", *place, code=2)
    assert list(tmp_path.iterdir()) == []
