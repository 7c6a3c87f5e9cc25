"""The project as a whole: imports, files, and what the documentation claims."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import datasets
import run_bench
from datasets.layout import NTU25
from encoders.base import parameter_count
from engine.config import as_dict, known_keys, resolve
from engine.registry import KINDS, ROOT, find, scan
from leaderboard.cells import COLUMNS

PLUGINS = ROOT / "tests" / "engine" / "plugins" / "tiny.py"
PACKAGES = (*KINDS, "engine", "leaderboard", "benchmarks")


def files() -> list[Path]:
    """Files of the project: tracked ones and new ones that git does not ignore."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [path for name in listed.splitlines() if (path := ROOT / name).is_file()]


def test_every_module_can_be_the_first_one_imported() -> None:
    modules = [
        f"{path.parent.name}.{path.stem}" for package in PACKAGES for path in sorted((ROOT / package).glob("*.py"))
    ]
    code = f"""
import importlib, sys
for name in {modules}:
    for loaded in [m for m in sys.modules if m.partition(".")[0] in {PACKAGES}]:
        del sys.modules[loaded]
    try:
        importlib.import_module(name.removesuffix(".__init__"))
    except Exception as error:
        sys.exit(f"{{name}} cannot be imported first: {{error!r}}")
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_datasets_is_ours_and_says_so() -> None:
    assert Path(datasets.__file__ or "") == ROOT / "datasets" / "__init__.py"
    with pytest.raises(ImportError, match="Hugging Face package of the same name is shadowed"):
        datasets.load_dataset  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        datasets.nonsense  # noqa: B018


def content(path: Path) -> bytes:
    """A file's bytes, or those of the records in an archive of them."""
    if not path.name.endswith(".tar.xz"):
        return path.read_bytes()
    with tarfile.open(path) as archive:
        members = [archive.extractfile(member) for member in archive if member.name.endswith(".json")]
        return b"\n".join(member.read() for member in members if member)


def test_no_file_names_a_place_of_one_machine() -> None:
    place = re.compile(rb"(?<![\w.])/(work|root|home|tmp|opt|Users|mnt|data)/\w|\b[A-Z]:\\\\?\w")
    found = []
    for path in files():
        for number, line in enumerate(content(path).splitlines(), 1):
            if b"\0" not in line and place.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.decode(errors='replace').strip()}")
    assert not found


def test_python_files_are_short() -> None:
    long = {
        str(path.relative_to(ROOT)): count for path in files() if path.suffix == ".py" and (count := lines(path)) >= 400
    }
    assert not long


def lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def test_private_names_stay_in_their_file() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {alias.name}"
        for path in files()
        if path.suffix == ".py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name.startswith("_")
    ]
    assert not found


def test_links_between_documents_lead_somewhere() -> None:
    documents = [path for path in files() if path.suffix == ".md"]
    assert len(documents) >= 7
    for path in documents:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_ci_runs_the_commands_of_the_readme() -> None:
    commands = re.findall(r"```bash\n(python3 -m venv .*)\n```", (ROOT / "README.md").read_text())
    assert len(commands) == 2
    script = (ROOT / ".ci" / "run").read_text()
    for part in {part for command in commands for part in command.split(" && ")[2:]}:
        assert part in script


def table_rows(document: str) -> Iterator[tuple[str, list[str]]]:
    """Heading and cells of every row of the document's tables whose first cell is one word of code."""
    heading = ""
    for line in (ROOT / "docs" / document).read_text().splitlines():
        if line.startswith("## "):
            heading = line.removeprefix("## ").strip("`")
        elif line.startswith("| `"):
            yield heading, [cell.strip() for cell in line.strip("|").split(" | ")]


def value(config: Any, key: str) -> Any:
    return reduce(lambda node, part: node[part], key.split("."), as_dict(config))


SWITCHES = [("methods", heading, cells) for heading, cells in table_rows("methods.md")]
SETTINGS = [("protocols", heading, cells) for heading, cells in table_rows("protocols.md")]
SETTINGS += [
    ("encoders", heading, cells) for heading, cells in table_rows("encoders.md") if heading in scan("encoders")
]


@pytest.mark.parametrize(
    ("kind", "name", "cells"), SWITCHES + SETTINGS, ids=lambda part: part if isinstance(part, str) else part[0]
)
def test_documented_settings_are_those_of_the_code(kind: str, name: str, cells: list[str]) -> None:
    cls: Any = find("encoders" if name == "stgcn" else kind, name)  # type: ignore[arg-type]
    key, *values = (cell.strip("`") for cell in cells[:3] if cell.startswith("`"))
    assert key in known_keys(cls.Config)
    tables = [{}, getattr(cls, "recipes", {}).get("released", {})]
    for shown, table in zip(values, tables, strict=False):
        documented = resolve(cls.Config, {key: shown})
        assert value(documented, key) == value(resolve(cls.Config, table), key)
    assert len(values) == (2 if kind == "methods" else 1)


@pytest.mark.parametrize("name", [name for name in scan("encoders") if name not in ("coordinates", "stgcn")])
def test_every_setting_of_an_encoder_is_documented(name: str) -> None:
    documented = {cells[0].strip("`") for _, heading, cells in SETTINGS if heading == name}
    assert documented == set(known_keys(find("encoders", name).Config))


def test_documented_encoders_have_the_documented_sizes() -> None:
    rows = {
        cells[0].strip("`"): cells for heading, cells in table_rows("encoders.md") if heading == "" and len(cells) == 7
    }
    assert set(rows) == set(scan("encoders")) - {"coordinates"}
    for name, (_, _, parameters, cost, features, *_) in rows.items():
        cls = find("encoders", name)
        encoder = cls(resolve(cls.Config), NTU25, frames=50, persons=2)
        assert f"{parameter_count(encoder):,}" == parameters
        assert f"{encoder.flops() / 1e9:.2f}" == cost
        assert f"{encoder.dim:,}" == features


@pytest.mark.parametrize("name", ["skeletonclr", "aimclr", "actclr", "hiclr"])
def test_every_difference_between_recipes_is_documented(name: str) -> None:
    cls = find("methods", name)
    documented = {cells[0].strip("`") for _, heading, cells in SWITCHES if heading == name}
    paper, released = (resolve(cls.Config, cls.recipes.get(recipe, {})) for recipe in ("paper", "released"))
    different = {key for key in known_keys(cls.Config) if value(paper, key) != value(released, key)}
    assert different
    assert different <= documented


def test_documented_columns_are_those_of_the_csv() -> None:
    documented = [
        cells[0].strip("`") for _, cells in table_rows("reproducing.md") if cells[0].strip("`").isidentifier()
    ]
    assert documented == list(COLUMNS)


def test_the_example_method_appears_in_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    example = ROOT / "docs" / "examples" / "my_method.py"
    options = [
        "--methods", f"{example}:MyCLR", "--datasets", f"{PLUGINS}:Tiny", "--set", f"encoder={PLUGINS}:TinyEncoder",
        "--set", "myclr.train.epochs=2", "--set", "myclr.train.batch=8", "--set", "linear.epochs=5",
    ]  # fmt: skip
    result = CliRunner().invoke(run_bench.main, options)
    assert result.exit_code == 0, result.output
    table = (tmp_path / "results" / "leaderboard.csv").read_text()
    assert re.search(r"^tiny,subject,,joint,.*myclr.*,linear.*,top1,", table, re.MULTILINE), table
