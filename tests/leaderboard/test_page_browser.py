"""The static page in a real browser, as its reader uses it: pointer, keyboard, phone, dark; skipped where there is none."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from leaderboard.build import write
from leaderboard.entries import parse, submitted
from tests.leaderboard.conftest import FakeResults

api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no chromium on this machine (Debian: apt-get install chromium)"),
]
NASTY = "</script><script>window.hurt=1</script><img src=x onerror=window.hurt=2>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two datasets, three methods and references under two protocols, one failure, names that attack, a clip, a table."""
    fake = FakeResults(tmp_path_factory.mktemp("results"))
    facts = {"recall": [90.0, 40.0], "confusion": [[9, 1], [6, 4]], "classes": [NASTY, "throw"]}
    for dataset, (method, share), protocol in product(
        ("synthetic", "nw_ucla"), {"random": 0.3, "aimclr": 0.8, "hiclr": 0.6, "actclr": 0.7}.items(), ("knn", "linear")
    ):
        folder = fake.evaluate(method, protocol, 0, share - 0.1 * (protocol == "knn"), dataset=dataset, facts=facts)
        record = json.loads((folder / "record.json").read_text())
        record["curve"] = [{"epoch": float(epoch), "loss": 1 / epoch, "test_top1": 10.0 * epoch} for epoch in (1, 2, 3)]
        (folder / "record.json").write_text(json.dumps(record))
    fake.evaluate("aimclr", "linear", 1, 0.79, facts=facts)
    fake.evaluate(NASTY.replace("/", "|"), "linear", encoder="dsta", failure=NASTY)
    (fake.folder / "figures").mkdir()
    pose = [[[0.0, 0.0, 0.0], [0.1, 0.5, 0.0]]]
    clips = [{"title": NASTY, "group": name, "frames": [pose] * 20} for name in ("clip", "view")]
    (fake.folder / "figures" / "player.json").write_text(
        json.dumps({"bones": [[1, 0]], "sides": ["", "left"], "rate": 10, "clips": clips})
    )
    (fake.folder / "ablations").mkdir()
    (fake.folder / "ablations" / "noise.html").write_text(
        f"<h2>Noise</h2><table><thead><tr><th>row<th>top-1</tr></thead><tbody><tr><td>a<td>2<tr><td>b<td>10</tbody></table>{NASTY}"
    )
    (fake.folder / "figures" / "wide.svg").write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" width="2000" height="20"><script>alert(1)</script></svg>'
    )
    write(fake.folder, figures=False)
    return fake.folder


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def address() -> Iterator[Callable[[Path, str], str]]:
    """Where the page of a results folder lies: on the disk, or on a web server, at its root or below a folder."""
    servers: list[ThreadingHTTPServer] = []

    def served(folder: Path) -> str:
        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)))
        Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/"

    def of(results: Path, place: str) -> str:
        if place == "disk":
            return f"{(results / 'page').as_uri()}/"
        return served(results / "page") if place == "server" else f"{served(results.parent)}{results.name}/page/"

    yield of
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def visit(browser: Any, address: Callable[[Path, str], str]) -> Iterator[Any]:
    """Opens a page; afterwards nothing may have been complained about, loaded from elsewhere, or executed."""
    pages: list[Any] = []
    complaints: list[str] = []

    def opened(results: Path, fragment: str = "", place: str = "disk", **context: Any) -> Any:
        page, folder = browser.new_context(**context).new_page(), address(results, place)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("requestfailed", lambda request: complaints.append(request.url))
        page.on("request", lambda request: request.url.startswith((folder, "data:")) or complaints.append(request.url))
        page.goto(f"{folder}{'index.html' if place == 'disk' else ''}{fragment}")
        pages.append(page)
        return page

    yield opened
    for page in pages:
        assert page.evaluate("window.hurt") is None
        page.context.close()
    assert complaints == []


def names(page: Any, board: str) -> list[str]:
    """Methods of a table that can be seen, from the top."""
    rows = page.locator(".board", has=page.get_by_role("heading", name=board)).locator("tbody tr:visible th")
    found: list[str] = rows.all_inner_texts()
    return found


def test_sorting_keeps_references_on_top_and_is_in_the_address(visit, results: Path) -> None:
    page = visit(results)
    assert names(page, "nw_ucla/xsub") == ["random encoder", "aimclr", "actclr", "hiclr"]
    button = page.get_by_role("button", name="KNN top-1").first
    button.click()
    button.click()
    assert button.locator("..").get_attribute("aria-sort") == "ascending"
    assert names(page, "nw_ucla/xsub") == ["random encoder", "hiclr", "actclr", "aimclr"]
    assert names(page, "synthetic/xsub")[0] == "random encoder"
    again = visit(results, page.evaluate("location.hash"))
    assert names(again, "nw_ucla/xsub") == ["random encoder", "hiclr", "actclr", "aimclr"]
    again.get_by_role("button", name="Reset").click()
    assert names(again, "nw_ucla/xsub") == ["random encoder", "aimclr", "actclr", "hiclr"]
    assert again.locator("[aria-sort]").count() == 0


def test_filters_hide_tables_columns_and_rows(visit, results: Path) -> None:
    page = visit(results)
    assert page.locator("output").first.inner_text() == "9 rows in 2 tables"
    page.get_by_label("Dataset").select_option("nw_ucla")
    assert page.locator(".board:visible").count() == 1
    page.get_by_label("Protocol").select_option("knn")
    assert page.locator("th[data-protocol]:visible").all_inner_texts() == ["KNN top-1"]
    page.get_by_label("Search").fill("CLR act")
    assert names(page, "nw_ucla") == ["actclr"]
    assert "q=CLR+act" in page.url
    assert "dataset=nw_ucla" in page.url
    page.get_by_label("Search").fill("no such thing")
    assert page.get_by_text("Nothing matches").is_visible()
    page.get_by_role("button", name="Reset").click()
    page.get_by_label("Encoder").select_option("dsta")
    assert page.locator("output").first.inner_text() == "1 row in 1 table"


@pytest.mark.parametrize("place", ["disk", "server", "server, below a folder"])
def test_a_record_opens_shows_all_and_closes(visit, results: Path, place: str) -> None:
    page = visit(results, place=place)
    page.locator(".board", has=page.get_by_role("heading", name="synthetic")).locator("tr", has_text="aimclr").locator(
        "a.cell", has_text="79.5"
    ).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("79.5 ± 0.7").wait_for()
    assert dialog.locator("h2").inner_text() == "linear of aimclr on synthetic/xsub"
    assert "--seeds 0,1" in dialog.locator("pre").inner_text()
    assert dialog.locator("svg.curve").count() == 2
    assert dialog.locator("table.recalls tr").count() == 3
    assert NASTY in dialog.locator("table.recalls").inner_text()
    dialog.locator("canvas").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert dialog.locator("output").inner_text() == f"{NASTY} taken for throw: 1 of 10 (10.0 %)"
    dialog.get_by_role("link", name="seed 1").click()
    api.expect(dialog.locator(".seeds a[aria-current]")).to_have_text("seed 1")
    stage = dialog.locator("details.stage").first
    stage.locator("summary").first.click()
    stage.locator("details.stage", has_text="Pre-training of aimclr").first.wait_for()
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    api.expect(page).not_to_have_url(re.compile("record="))  # the event of closing comes a little later
    page.go_back()  # to the seed that was open first
    dialog.wait_for()


def test_a_submitted_number_says_whose_it_is(visit, tmp_path: Path) -> None:
    fake = FakeResults(tmp_path / "theirs")
    file = fake.submit(fake.evaluate("aimclr", "linear", accuracy=0.9), tmp_path / "entry.json", by=NASTY)
    results = tmp_path / "results"
    results.mkdir()
    write(results, figures=False, others=submitted({file: parse(file)}, results))
    page = visit(results)
    page.locator("a.cell", has_text="90.0").click()
    dialog = page.get_by_role("dialog")
    dialog.locator(".headline b", has_text="90.0").wait_for()
    assert dialog.locator("h2").inner_text() == "linear of aimclr (submitted) on synthetic/xsub"
    assert f"Submitted by {NASTY} in entry.json, not repeated here." in dialog.locator(".warning").inner_text()
    commands = dialog.locator("pre").all_inner_texts()
    assert commands[0] == "python run_bench.py verify PATH/entry.json"
    assert commands[1].startswith("python run_bench.py --methods aimclr --protocols linear")
    assert dialog.locator("svg.curve").count() == 1
    stage = dialog.locator("details.stage").first
    stage.locator("summary", has_text="Features of aimclr").click()
    stage.locator("details.stage", has_text="Pre-training of aimclr").first.wait_for()


def test_what_failed_says_why_and_what_is_not_there_too(visit, results: Path) -> None:
    page = visit(results)
    page.locator("a.cell", has_text="failed").click()
    assert page.get_by_role("dialog").locator(".warning").inner_text() == f"failed: {NASTY}"
    for bad in ("../../evil", "A" * 16):
        other = visit(results, f"#record={bad}")
        assert other.get_by_role("dialog").locator("p").inner_text() == f"{bad}: this is not the key of a record."


def test_all_of_it_by_keyboard(visit, results: Path) -> None:
    page = visit(results)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    first = page.locator("tbody:not(.reference) a.cell").first
    first.focus()
    for key in ("ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp"):
        page.keyboard.press(key)
    assert first.evaluate("one => one === document.activeElement")
    page.keyboard.press("Enter")
    page.get_by_role("dialog").locator("pre").wait_for()
    assert page.evaluate("document.activeElement.id") == "record-title"
    page.keyboard.press("Escape")
    assert first.evaluate("one => one === document.activeElement")


def test_phone_and_dark(visit, results: Path) -> None:
    page = visit(results, viewport={"width": 360, "height": 740}, color_scheme="dark")
    key = page.locator("a.cell").last.get_attribute("data-record")
    background = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(background) == "rgb(23, 25, 29)"
    for view in ("leaderboard", "ablations", "figures", "player", f"leaderboard&record={key}"):
        page.evaluate("view => { location.hash = `view=${view}`; }", view)
        page.wait_for_timeout(100)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), view
        assert page.evaluate("document.getElementById('record').scrollWidth <= innerWidth"), view
    page.keyboard.press("Escape")
    button = page.get_by_role("button", name="Colours")
    button.click()
    assert page.evaluate(background) == "rgb(255, 255, 255)"
    button.click()
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


@pytest.mark.parametrize("place", ["disk", "server, below a folder"])
def test_tables_of_other_commands_sort_and_skeletons_move(visit, results: Path, place: str) -> None:
    page = visit(results, "#view=ablations", place)
    page.get_by_role("button", name="top-1").last.click()
    assert page.locator("#ablations tbody td:nth-child(2)").all_inner_texts() == ["10", "2"]
    page.get_by_role("link", name="Skeletons").click()
    page.locator("#stage canvas").wait_for()
    reading = page.locator("#stage .controls span")
    seen = reading.inner_text()
    api.expect(reading).not_to_have_text(seen)
    page.locator("#stage canvas").press(" ")
    assert page.get_by_role("button", name="Play").is_visible()
    page.get_by_label("Group").select_option("view")
    assert page.locator("#stage figcaption").all_inner_texts() == [NASTY]


def test_two_thousand_records(visit, tmp_path: Path) -> None:
    fake = FakeResults(tmp_path)
    for number, (dataset, method, protocol) in enumerate(product(range(20), range(20), range(5))):
        fake.evaluate(f"m{method}", f"p{protocol}", 0, number / 2000, dataset=f"d{dataset}", scores=False)
    write(tmp_path, figures=False)
    page = visit(tmp_path)
    assert page.locator("td[data-key]").count() == 2000
    page.get_by_label("Search").fill("m7 ")
    assert page.locator("output").first.inner_text() == "20 rows in 20 tables"
    page.get_by_label("Dataset").select_option("d19")
    page.locator("a.cell:visible").last.click()
    page.get_by_role("dialog").get_by_text("p4 of m7 on d19/xsub").wait_for()


def test_tables_sort_numbers_as_numbers_and_names_as_names(results: Path, visit: Any) -> None:
    page = visit(results)
    texts = ["3s-CMD", "81.0 ± 0.3", "1,018", "-19.8 † n=1", "84.9?", "3s-AimCLR", "5.1%", ""]
    cell = "Object.assign(document.createElement('td'), {textContent: text})"
    found = page.evaluate(f"texts => texts.map(text => sortValue({cell}))", texts)
    assert found == ["3s-CMD", 81.0, 1018, -19.8, 84.9, "3s-AimCLR", 5.1, ""]


def test_what_is_missing_comes_last_in_both_directions(results: Path, visit: Any) -> None:
    page = visit(results)
    cells = "".join(f'<tr><td data-value="{value}">{value}</td></tr>' for value in ("-3", "", "0.5", "", "-0.5"))
    for direction, expected in (("descending", ["0.5", "-0.5", "-3"]), ("ascending", ["-3", "-0.5", "0.5"])):
        found = page.evaluate(
            """([cells, direction]) => {
                const table = document.createElement("table");
                table.innerHTML = `<thead><tr><th>gap</th></tr></thead><tbody>${cells}</tbody>`;
                sortTable(table, "gap", direction);
                return [...table.tBodies[0].rows].map(row => row.textContent);
            }""",
            [cells, direction],
        )
        assert found == [*expected, "", ""]
