"""The page: a static folder with the leaderboard, every record behind it, tables, figures, players; no network."""

from __future__ import annotations

import errno
import json
import math
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from leaderboard import ablation_board, paper_board, render
from leaderboard.cells import Cell
from leaderboard.collect import Stage, Submission, ancestors
from leaderboard.command import command
from leaderboard.comparison_report import NOTE
from leaderboard.entries import APART, Submitted
from leaderboard.markup import tables_of
from leaderboard.page_statistics import TITLES, Grid, grids
from leaderboard.tables import LEGEND, MEASURES, Table, method_title, one_line, timeline_name

METRICS = MEASURES | {
    "top1": "top-1",
    "ci_low": "95 % interval, lower end",
    "ci_high": "95 % interval, upper end",
    "top5": "top-5",
    "mean_class": "mean of classes",
    "ece": "calibration error",
    "best_on_test": "best epoch on test",
    "top1_draws_sd": "sd over draws of labels",
}
"""What metrics are called, in the order of a record; others follow by the names in it."""
FACETS = ("dataset", "split", "source", "stream", "protocol", "recipe", "budget", "encoder")
"""What the leaderboard is filtered by."""
_SCRIPTS = ("dom.js", "sort.js", "plots.js", "record.js", "filter.js", "player.js", "page.js")
_COPIED = ("theme.js", "tables.css", "page.css", *_SCRIPTS)
_KEY = re.compile(r"[0-9a-f]{16}")
_PICTURES = (".png", ".svg")
_FILES = (*_PICTURES, ".pdf", ".csv", ".tex", ".md")


@dataclass(frozen=True)
class Piece:
    """A figure, a table or a player: its name, files to download, and what it shows: a picture, safe markup, or grids."""

    name: str
    files: tuple[str, ...]
    picture: str = ""
    body: str = ""
    grids: tuple[Grid, ...] = ()


def write(
    results: Path,
    boards: Sequence[Table],
    cells: Iterable[Cell],
    stages: Mapping[str, Stage],
    others: Submitted,
    legend: str = LEGEND,
) -> Path:
    """Write ``results/page`` anew, a folder that opens from a disk or any web server.

    Args:
        results: where tables, ablations, statistics and figures lie that are to be shown; absent ones are left out.
        boards: the leaderboard's tables, those of others behind.
        cells: what was measured here, also what only other tables show.
        stages: all stages by key.
        others: what entries measured.
        legend: what the numbers of the leaderboard are.

    Returns:
        The page's ``index.html``.
    """
    with tempfile.TemporaryDirectory(prefix=".page.", dir=results, ignore_cleanup_errors=True) as aside:
        draft = Path(aside) / "page"
        draft.mkdir()
        for name in _COPIED:
            shutil.copyfile(render.TEMPLATES / name, draft / name)
        timelines = {board.timeline for board in boards} - {""}
        (draft / "records").mkdir()
        _write_records(draft / "records", cells, stages, timelines)
        _write_records(draft / "records", others.cells, others.stages, set())
        files = [f"leaderboard.{suffix}" for suffix in ("csv", "md", "tex", "html") if _copy(results, draft, suffix)]
        text = render.template("page.html").render(
            boards=[(board, _facets(board)) for board in boards],
            choices=_choices(boards),
            legend=legend,
            metrics=METRICS,
            files=files,
            ablations=_tables(results / "ablations", draft / "ablations"),
            papers=_tables(results / "tables", draft / "tables"),
            statistics=_statistics(results / "statistics", draft / "statistics"),
            notes={"ablations": ablation_board.LEGEND, "papers": paper_board.LEGEND, "statistics": NOTE},
            figures=_figures(results / "figures", draft / "figures"),
            players=_players(results / "figures", draft / "players"),
            scripts=_SCRIPTS,
        )
        (draft / "index.html").write_text(text + "\n", encoding="utf-8", newline="\n")
        _swap(draft, results / "page")
    return results / "page" / "index.html"


def _swap(draft: Path, folder: Path) -> None:
    """Put a new folder in the place of an older one, which moves beside the draft.

    Several processes may do so at once, say those that share a results folder and have just finished: one of them is the last,
    and that it is another one is no error.
    """
    with suppress(FileNotFoundError):
        folder.rename(draft.with_name("old"))
    try:
        draft.rename(folder)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


def _copy(results: Path, draft: Path, suffix: str) -> bool:
    source = results / f"leaderboard.{suffix}"
    if source.is_file():
        shutil.copyfile(source, draft / source.name)
    return source.is_file()


def _facets(board: Table) -> dict[str, str]:
    """Attributes of a table that it is filtered by; those of its columns and rows are in the template."""
    return {name: one_line(value) for name, value in asdict(board.bench).items()} if board.bench else {}


def _choices(boards: Sequence[Table]) -> dict[str, list[str]]:
    """Values of every facet that has several."""
    found: dict[str, set[str]] = {name: set() for name in FACETS}
    for board in boards:
        for name, value in _facets(board).items():
            found[name].add(value)
        found["protocol"].update(board.protocols)
        found["encoder"].update(row.facts[-1] for row in board.rows if row.facts)
    found["encoder"].discard("-")
    return {name: sorted(values) for name, values in found.items() if len(values) > 1}


def _write_records(folder: Path, cells: Iterable[Cell], stages: Mapping[str, Stage], timelines: set[str]) -> None:
    """One file per stage behind the leaderboard, read when it is opened: 2,000 of them would not fit into one."""
    written: set[str] = set()
    for cell in cells:
        timeline = timeline_name(cell.bench, cell.protocol)
        about = _about(cell, stages) | {"timeline": f"figures/{timeline}" if timeline in timelines else ""}
        for run in cell.runs:
            chain = [run.stage, *ancestors(run.stage, stages)]
            for stage in chain:
                if stage.key not in written and _KEY.fullmatch(stage.key):
                    written.add(stage.key)
                    content = _record(stage) | ({"cell": about} if stage is run.stage else {})
                    _write_script(folder / f"{content['name']}.js", "keepRecord", content["name"], content)


def _about(cell: Cell, stages: Mapping[str, Stage]) -> dict[str, Any]:
    """What a cell's records share."""
    summary = cell.metrics.get(cell.headline)
    return {
        "method": method_title(cell.method),
        "protocol": cell.protocol,
        "headline": cell.headline,
        "summary": asdict(summary) if summary else None,
        "metrics": {name: asdict(one) for name, one in cell.metrics.items()},
        "gap": cell.gap,
        "runs": [{"seed": r.stage.labels.seed, "name": _name(r.stage), "status": r.stage.status} for r in cell.runs],
        "command": command([run.stage for run in cell.runs], stages),
    }


def _name(stage: Stage, key: str = "") -> str:
    """What the record of a stage, or of one before it, is called."""
    return (APART if stage.submission else "") + (key or stage.key)


def _record(stage: Stage) -> dict[str, Any]:
    identity, entry = dict(stage.identity), stage.submission
    return {
        "name": _name(stage),
        "key": stage.key,
        "kind": stage.kind,
        "status": stage.status,
        "reason": stage.reason,
        "labels": stage.labels.model_dump(),
        "metrics": {name: stage.metrics[name] for name in sorted(stage.metrics, key=_metric_order)},
        "facts": dict(stage.facts),
        "curve": [dict(point) for point in stage.curve],
        "config": identity.pop("config", {}),
        "identity": identity,
        "parents": [_name(stage, parent) for parent in stage.parents],
        "provenance": entry.provenance if entry else _read_json(stage.folder / "provenance.json"),
        "submission": _submission(entry) if entry else None,
    }


def _metric_order(name: str) -> tuple[int, str]:
    known = list(METRICS)
    return (known.index(name) if name in known else len(known), name)


def _submission(entry: Submission) -> dict[str, Any]:
    said = {name: value for name, value in asdict(entry).items() if name != "provenance"}
    return said | {"command": shlex.join(["python", "run_bench.py", "verify", f"PATH/{entry.file}"])}


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}


def _write_script(path: Path, function: str, name: str, content: Any) -> None:
    """A file that hands data to the page: scripts are read from a disk where other files may not be."""
    encode = partial(json.dumps, ensure_ascii=True, allow_nan=False, separators=(",", ":"), default=str)
    try:
        text = encode(content)
    except ValueError:  # rare, and looking for it everywhere takes longer than all the rest
        text = encode(_finite(content))
    text = text.replace("<", "\\u003c")  # nothing in it closes or opens an element, wherever it is put
    path.write_text(f"{function}({json.dumps(name)},{text});\n", encoding="utf-8", newline="\n")


def _finite(value: Any) -> Any:
    """Without NaN and infinity, which JSON has no words for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return value


def _tables(source: Path, target: Path) -> list[Piece]:
    """Tables that other commands have written, each an HTML file with its siblings to download."""
    pieces = []
    for name, files in _by_name(source, (".html", *_FILES)):
        if html := next((path for path in files if path.suffix == ".html"), None):
            body = tables_of(html.read_text(encoding="utf-8", errors="replace"))
            copied = _copied([path for path in files if path != html], source, target)
            pieces.append(Piece(name, copied, _picture(copied), body))
    return pieces


def _statistics(source: Path, target: Path) -> list[Piece]:
    """What ``compare`` has left, the known files first."""
    pieces = []
    for name, files in _by_name(source, _FILES):
        found = tuple(grid for path in files if path.suffix == ".csv" for grid in grids(path))
        copied = _copied(files, source, target)
        pieces.append((name, Piece(TITLES.get(name, one_line(name)), copied, _picture(copied), grids=found)))
    order = list(TITLES)
    pieces.sort(key=lambda one: order.index(one[0]) if one[0] in order else len(order))
    return [piece for _, piece in pieces]


def _figures(source: Path, target: Path) -> list[Piece]:
    found = ((name, _copied(files, source, target)) for name, files in _by_name(source, (*_PICTURES, ".pdf")))
    return [Piece(name, copied, picture) for name, copied in found if (picture := _picture(copied))]


def _players(source: Path, target: Path) -> list[Piece]:
    """Animations of skeletons: JSON files with ``bones`` and ``clips``."""
    pieces: list[Piece] = []
    for name, (path,) in _by_name(source, (".json",)):
        content = _read_json(path)
        if isinstance(content, dict) and content.get("clips") and "bones" in content:
            target.mkdir(exist_ok=True)
            own = f"player{len(pieces):03}"
            _write_script(target / f"{own}.js", "keepPlayer", own, content)
            pieces.append(Piece(one_line(name), (f"{target.name}/{own}.js",)))
    return pieces


def _by_name(folder: Path, suffixes: Sequence[str]) -> list[tuple[str, list[Path]]]:
    """Plain files of a folder and of those in it, by name without the suffix."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix in suffixes and path.is_file() and not path.is_symlink():
            found.setdefault(path.relative_to(folder).with_suffix("").as_posix(), []).append(path)
    return sorted(found.items())


def _copied(files: Sequence[Path], source: Path, target: Path) -> tuple[str, ...]:
    """Copy files, and return their places relative to the page."""
    places = [path.relative_to(source) for path in files]
    for path, place in zip(files, places, strict=True):
        (target / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target / place)
    return tuple((Path(target.name) / place).as_posix() for place in places)


def _picture(files: Sequence[str]) -> str:
    """The one to show: pixels draw at once, whatever was plotted."""
    shown = [name for suffix in _PICTURES for name in files if name.endswith(suffix)]
    return shown[0] if shown else ""
