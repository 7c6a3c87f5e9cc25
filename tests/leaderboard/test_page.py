"""The static page as files: what is in it, and that nothing in a results folder can act there."""

from __future__ import annotations

import json
import re
import shlex
from html.parser import HTMLParser
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from leaderboard.build import write
from leaderboard.collect import read_stages
from leaderboard.command import command, split_label
from leaderboard.comparison_report import write as compare
from leaderboard.entries import parse, receipt, submitted
from leaderboard.markup import tables_of
from tests.leaderboard.conftest import FakeResults

NASTY = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'`&\u2028"


class Document(HTMLParser):
    """Tags with their attributes, and text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img", "br", "wbr", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def record(path: Path) -> Any:
    """What a file in records/ hands to the page."""
    found = re.fullmatch(r'keepRecord\("([-\w]+)",(.*)\);\n', path.read_text(encoding="ascii"), re.DOTALL)
    assert found
    assert found[1] == path.stem
    return json.loads(found[2])


def index(folder: Path) -> Document:
    return Document((folder / "page" / "index.html").read_text(encoding="utf-8"))


def test_every_number_leads_to_a_record_and_to_the_stages_before_it(fake) -> None:
    run = fake.evaluate("aimclr", seed=0, facts={"recall": [50.0, float("nan")], "confusion": [[1, 1], [0, 0]]})
    fake.evaluate("aimclr", seed=1, accuracy=0.7)
    fake.evaluate("hiclr", failure="out of memory")
    (run / "provenance.json").write_text('{"seconds": 1.5, "peak": Infinity}')
    write(fake.folder, figures=False)
    page = index(fake.folder)
    keys = [attributes["data-key"] for _, attributes in page.tags if "data-key" in attributes]
    assert len(keys) == 2
    assert run.name in keys
    files = {path.stem: record(path) for path in (fake.folder / "page" / "records").glob("*.js")}
    assert set(keys) <= set(files)
    assert {found["kind"] for found in files.values()} == {"pretrain", "features", "evaluate"}
    assert all(parent in files for found in files.values() for parent in found["parents"])
    own = files[run.name]
    assert own["facts"]["recall"] == [50.0, None]
    assert own["provenance"] == {"seconds": 1.5, "peak": None}
    assert [one["seed"] for one in own["cell"]["runs"]] == [0, 1]
    assert own["cell"]["summary"]["mean"] == pytest.approx(75.0)
    failed = next(found for found in files.values() if found["status"] == "failed")
    assert failed["reason"] == "out of memory"


def test_submitted_numbers_have_records_of_their_own_also_of_a_key_that_was_run_here(fake, tmp_path: Path) -> None:
    theirs = FakeResults(tmp_path / "theirs")
    run = theirs.evaluate("aimclr", accuracy=0.9)
    assert fake.evaluate("aimclr", accuracy=0.6).name == run.name
    file = theirs.submit(run, tmp_path / "their file.json", by=NASTY.replace("\u2028", ""), note="a note")

    def records() -> dict[str, Any]:
        write(fake.folder, figures=False, others=submitted({file: parse(file)}, fake.folder))
        return {path.stem: record(path) for path in (fake.folder / "page" / "records").iterdir()}

    files = records()
    keys = [attributes["data-key"] for _, attributes in index(fake.folder).tags if "data-key" in attributes]
    assert keys == [run.name, f"submitted-{run.name}"]
    assert files[run.name]["metrics"]["top1"] == 60
    assert files[run.name]["submission"] is None
    own = files[keys[1]]
    assert own["metrics"]["top1"] == 90
    assert own["curve"][-1] == {"epoch": 2.0, "loss": 0.25}
    assert own["provenance"] == {"cpu": "theirs"}
    assert own["cell"]["command"] == files[run.name]["cell"]["command"]
    said = {"file": file.name, "note": "a note", "verified": False, "checksum": parse(file).checksum}
    assert own["submission"].items() >= said.items()
    assert own["submission"]["command"] == "python run_bench.py verify 'PATH/their file.json'"
    assert len(own["parents"]) == 1
    assert all(parent in files and parent.startswith("submitted-") for parent in own["parents"])
    noted = receipt(fake.folder, parse(file))
    noted.parent.mkdir()
    noted.write_text(json.dumps({"checksum": parse(file).checksum, "confirmed": True}))
    assert records()[keys[1]]["submission"]["verified"] is True


def test_statistics_are_shown_where_compare_has_left_them(fake) -> None:
    shares = {"aimclr": 0.8, "hiclr": 0.6, "actclr": 0.7}
    for dataset, (method, share) in product(("synthetic", "nw_ucla"), shares.items()):
        for protocol in ("knn", "linear"):
            fake.evaluate(method, protocol, 0, share, dataset=dataset)
    write(fake.folder, figures=False)
    assert "Statistics" not in index(fake.folder).text
    compare(fake.folder)
    (fake.folder / "statistics" / "other.csv").write_text(f"a,b\n{NASTY},1.5\nx,\n")
    (fake.folder / "statistics" / "broken.csv").write_text("")
    write(fake.folder, figures=False)
    page = index(fake.folder)
    text = " ".join(page.text.split())
    assert "statistics/ranks.png" in [attributes.get("src") for _, attributes in page.tags]
    place = "recipe paper · budget quick · over nw_ucla/xsub joint, synthetic/xsub joint · tables 2"
    assert f"protocol knn · {place} · p 0.135 · critical difference 2.34" in text
    assert "aimclr 1.00" in text
    assert "nw_ucla/xsub · joint stream · recipe paper · budget quick · KNN" in text
    assert "aimclr 80.00 +0.0" in text
    assert "nw_ucla 1.00 0.333 3" in text
    assert "alert(1)" in page.text
    assert "brokencsv Too little has been measured." in text
    assert page.open == []
    assert not [attributes for _, attributes in page.tags if "onerror" in attributes]


def test_it_is_written_anew_and_the_same_results_give_the_same_bytes(fake) -> None:
    def content() -> dict[str, bytes]:
        folder = fake.folder / "page"
        return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}

    fake.evaluate()
    write(fake.folder, figures=False)
    first = content()
    (fake.folder / "page" / "records" / "0123456789abcdef.js").write_text("left by an earlier run")
    write(fake.folder, figures=False)
    assert content() == first
    assert not list(fake.folder.glob(".page*"))


def test_nothing_is_fetched_from_elsewhere(fake) -> None:
    fake.evaluate()
    write(fake.folder)
    folder = fake.folder / "page"
    page = index(fake.folder)
    named = [
        a[k] for _, a in page.tags for k in ("src", "href") if a.get(k) and not str(a[k]).startswith(("#", "data:"))
    ]
    assert all((folder / str(name)).is_file() for name in named)
    for path in [*folder.glob("*.js"), *folder.glob("*.css"), folder / "index.html"]:
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?:|//\w+\.\w|fetch\(|XMLHttpRequest|innerHTML|insertAdjacentHTML|eval\(", text), (
            path
        )


@pytest.mark.parametrize("where", ["method", "protocol", "encoder", "dataset", "split", "stream", "failure", "facts"])
def test_names_are_text_wherever_they_stand(fake, where: str) -> None:
    fake.evaluate("random")
    name = NASTY.replace("/", "|")
    more: dict[str, Any] = {"facts": {"classes": [NASTY], "recall": [1.0]}} if where == "facts" else {where: name}
    fake.evaluate(**({"method": "hiclr"} | more))
    write(fake.folder, figures=False, changed=True)
    page = index(fake.folder)
    assert page.open == []
    scripts = [attributes for tag, attributes in page.tags if tag == "script"]
    assert all(set(one) <= {"src", "defer"} for one in scripts)
    assert "img" not in {tag for tag, _ in page.tags}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    files = list((fake.folder / "page" / "records").glob("*.js"))
    assert len(files) == 6
    assert all("<" not in path.read_text() and record(path) for path in files)
    assert any("alert(1)" in path.read_text() for path in files)


def test_a_folder_that_is_no_key_gets_no_file(fake) -> None:
    run = fake.evaluate()
    run.rename(run.with_name('"><script>'))
    write(fake.folder, figures=False)
    assert all(re.fullmatch(r"[0-9a-f]{16}", path.stem) for path in (fake.folder / "page" / "records").iterdir())
    assert index(fake.folder).open == []


def test_tables_figures_and_players_are_taken_in(fake) -> None:
    fake.evaluate()
    for folder in ("tables", "ablations", "figures/more"):
        (fake.folder / folder).mkdir(parents=True)
    (fake.folder / "tables" / "actclr.t1.html").write_text(
        "<h1>x</h1><h2>Table one</h2><table><tr><td>81</td></tr></table>"
    )
    (fake.folder / "tables" / "actclr.t1.csv").write_text("a,b\n")
    (fake.folder / "ablations" / "noise.html").write_text("<table><tr><td onclick=alert(1)>1<script>alert(1)</script>")
    (fake.folder / "figures" / "more" / "tsne #1.svg").write_text("<svg/>")
    (fake.folder / "figures" / "clips.json").write_text(json.dumps({"bones": [[1, 0]], "clips": [{"title": NASTY}]}))
    (fake.folder / "figures" / "other.json").write_text("[1]")
    write(fake.folder, figures=False)
    page, folder = index(fake.folder), fake.folder / "page"
    views = [a.get("id") for tag, a in page.tags if tag == "section" and a.get("class", "").startswith("view")]  # type: ignore[union-attr]
    assert views == ["leaderboard", "ablations", "papers", "figures", "player"]
    assert "Table one" in page.text
    assert (folder / "tables" / "actclr.t1.csv").is_file()
    assert (folder / "figures" / "more" / "tsne #1.svg").is_file()
    assert "figures/more/tsne%20%231.svg" in [attributes.get("src") for _, attributes in page.tags]
    opened = [attributes["href"] for tag, attributes in page.tags if tag == "a" and "download" not in attributes]
    assert not [href for href in opened if href.endswith(".svg")]  # by itself, it may run scripts
    assert [path.name for path in (folder / "players").iterdir()] == ["player000.js"]
    assert "<" not in (folder / "players" / "player000.js").read_text()
    assert page.open == []


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ("<p>before</p><table><tr><td>1",
         '<div class="wide" tabindex="0"><table class="sortable"><tr><td>1</td></tr></table></div>'),
        ("<h2>a &lt;b&gt;</h2>", "<h2>a &lt;b&gt;</h2>"),
        ("<h2>a</h2></div></section></h2><p>b", "<h2>a</h2><p>b</p>"),
        ("<h2>a<script>alert(1)</script><svg><td>x</td></svg></h2>", "<h2>a</h2>"),
        ("<h2 onclick=x style=y class='evil' data-value='1&quot;>'>a</h2>", "<h2>a</h2>"),
        ("<table><tr><td data-key=0123456789abcdef data-value=-1.5 class='missing'>a<br><a href=javascript:x>b</a>",
         '<div class="wide" tabindex="0"><table class="sortable"><tr>'
         '<td data-key="0123456789abcdef" data-value="-1.5" class="missing">a<br>b</td></tr></table></div>'),
        ("nothing", ""),
        ("<h2>a<script>never closed <b>", "<h2>a</h2>"),
    ],
)  # fmt: skip
def test_only_tables_and_text_come_out_of_a_file(document: str, expected: str) -> None:
    assert tables_of(document) == expected


def test_changes_in_labels_are_told_apart() -> None:
    assert split_label("linear") == ("linear", [])
    assert split_label("linear:aimclr[epochs=50,lr=[0.1,0.3],x.y=a]") == (
        "linear:aimclr",
        ["epochs=50", "lr=[0.1,0.3]", "x.y=a"],
    )


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({}, "--methods aimclr --protocols knn --datasets synthetic/xsub --streams joint --seeds 0,1"),
        ({"method": "supervised", "protocol": "finetune"}, "--methods random --protocols finetune"),
        ({"method": "aimclr[nnm.topk=2]", "protocol": "linear:aimclr[epochs=5]"},
         "--methods aimclr --protocols linear:aimclr | --set aimclr.nnm.topk=2 --set linear.epochs=5"),
        ({"encoder": "dsta[width=8]"}, "--set encoder=dsta --set dsta.width=8"),
        ({"dataset": "synthetic[frames=24]"}, "--datasets synthetic/xsub | --set frames=24"),
        ({"dataset": "npz:clips", "split": "subject=1-5"}, "--datasets 'npz:PATH/clips.npz#subject=1-5'"),
        ({"dataset": "nw_ucla:trajectory", "split": "xview"}, "--datasets 'nw_ucla:trajectory#xview'"),
        ({"source": "ntu60/xsub", "dataset": "pku_mmd1", "protocol": "transfer:linear"},
         "--datasets ntu60/xsub --targets pku_mmd1/xsub"),
        ({"stream": "joint+bone", "protocol": "linear fusion:actclr"},
         "--protocols linear,fusion:actclr | --streams joint,bone"),
        ({"method": "aim'clr; rm -rf"}, """--methods 'aim'"'"'clr; rm -rf'"""),
    ],
)  # fmt: skip
def test_the_command_names_what_was_run(fake, labels: dict[str, str], expected: str) -> None:
    keys = [fake.evaluate(seed=seed, **labels).name for seed in (0, 1)]
    stages = read_stages(fake.folder)
    line = command([stages[key] for key in keys], stages)
    assert all(part in line for part in expected.split(" | "))
    assert shlex.split(line)[:2] == ["python", "run_bench.py"]
