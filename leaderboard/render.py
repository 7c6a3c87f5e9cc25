"""Tables as terminal output, Markdown, LaTeX and a page; every name is escaped, whatever it holds."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import replace as changed
from pathlib import Path
from secrets import token_hex

import jinja2
from markupsafe import Markup, escape
from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table as Grid
from rich.text import Text

from leaderboard.tables import LEGEND, Entry, Row, Table

TEMPLATES = Path(__file__).parent / "templates"


def terminal(boards: Sequence[Table], legend: str = LEGEND) -> RenderableType:
    """A renderable for a rich console; narrow ones lose the least important columns, then split tables."""
    return Group(*(_Fitting(board) for board in boards), Text(legend, style="dim"))


class _Fitting:
    """A table that leaves out columns until it fits the console, and becomes several where it still does not."""

    def __init__(self, board: Table) -> None:
        self.board = board

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        def fits(grid: Grid) -> bool:
            return Measurement.get(console, options.update(width=10_000), grid).maximum <= options.max_width

        for facts, runs in ((4, True), (4, False), (3, False), (1, False), (0, False)):
            if fits(grid := self._grid(self.board, facts, runs)):
                yield grid
                return
        first, total = 0, len(self.board.columns)
        while first < total:
            last = next(
                (end for end in range(total, first + 1, -1) if fits(self._grid(self._part(first, end)))), first + 1
            )
            yield self._grid(self._part(first, last))
            first = last

    def _part(self, first: int, last: int) -> Table:
        """The table with some of its columns; the note stands below the last one."""
        board = self.board
        rows = tuple(changed(row, entries=row.entries[first:last]) for row in board.rows)
        note = board.note if last == len(board.columns) else ""
        title = f"{board.title} · columns {first + 1} to {last}" if last - first < len(board.columns) else board.title
        return changed(board, title=title, columns=board.columns[first:last], rows=rows, note=note)

    def _grid(self, board: Table, facts: int = 0, runs: bool = False) -> Grid:
        grid = Grid(title=Text(board.title, style="bold"), caption=Text(board.note), box=SIMPLE_HEAD, padding=(0, 1))
        grid.title_justify = grid.caption_justify = "left"
        grid.add_column(board.first, overflow="fold", max_width=30)
        for column in board.columns:
            grid.add_column(Text(column), max_width=24, overflow="fold")
        for fact in board.facts[:facts]:
            grid.add_column(fact, justify="left" if fact == board.facts[-1] else "right")
        if runs:
            grid.add_column("Runs", style="dim", overflow="fold", max_width=40)
        for row, last in zip(board.rows, _section_ends(board.rows), strict=True):
            cells = [_entry_text(entry) for entry in row.entries]
            keys = [Text("\n".join(row.keys))] if runs else []
            name = Text(row.name, style="italic" if row.reference else "")
            grid.add_row(name, *cells, *map(Text, row.facts[:facts]), *keys, end_section=last)
        return grid


def _section_ends(rows: Sequence[Row]) -> list[bool]:
    """Whether the next row is the first one that is no reference."""
    return [row.reference and i + 1 < len(rows) and not rows[i + 1].reference for i, row in enumerate(rows)]


def _entry_text(entry: Entry) -> Text:
    if entry.summary is None:
        return Text(entry.text, style="dim")
    more = "".join(f"\n{line}" for line in (entry.detail, entry.gap) if line)
    return Text.assemble((entry.text, "bold" if entry.mark == "best" else ""), entry.sign, (more, "dim"))


def markdown(boards: Sequence[Table], figure: str = "", title: str = "Leaderboard", legend: str = LEGEND) -> str:
    """A Markdown document; ``figure`` is the path of a picture relative to it."""
    parts = [f"# {_md(title)}\n"] + ([f"![Top-1 accuracy of all methods and protocols]({figure})\n"] if figure else [])
    for board in boards:
        heads = [board.first, *board.columns, *board.facts, "Runs"]
        align = ["---"] + ["---:"] * _numbers(board)
        align += ["---"] * (len(heads) - len(align))
        rows = [
            [
                f"*{_md(row.name)}*" if row.reference else _md(row.name),
                *map(_md_entry, row.entries),
                *map(_md, row.facts),
                "<br>".join(map(_md, row.keys)),
            ]
            for row in board.rows
        ]
        lines = [[_md(head) for head in heads], align, *rows]
        parts.append(f"## {_md(board.title)}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n")
        parts.append(f"{_md(board.note)}\n")
        parts += [f"[Predictions over time](figures/{board.timeline})\n"] if board.timeline else []
    return "\n".join([*parts, legend, ""])


def _md(text: str) -> str:
    return html.escape(re.sub(r"([\\`*_\[\]#|~$])", r"\\\1", text), quote=False)


def _md_entry(entry: Entry) -> str:
    text = f"**{_md(entry.text)}**" if entry.mark == "best" else _md(entry.text)
    return "<br>".join([text + entry.sign, *(_md(line) for line in (entry.detail, entry.gap) if line)])


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "±": r"$\pm$", "≈": r"$\approx$", "†": r"$\dagger$",
    "‡": r"$\ddagger$", "·": r"$\cdot$",
    "Δ": r"$\Delta$", "[": "{[}", "]": "{]}",
}  # fmt: skip
_LATEX_FIT = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
_LATEX_LINE = 24
"""Characters of a name or heading in one line."""


def latex(boards: Sequence[Table], legend: str = LEGEND) -> str:
    r"""LaTeX tables for ``\input``; they need booktabs and graphicx. Run keys stand in comments.

    A table that is wider than the text is scaled down to it. The legend stands under the first one.
    """
    parts = [_latex_table(board, "" if i else f" {_tex(legend)}") for i, board in enumerate(boards)]
    return "\n".join(["% Needs \\usepackage{booktabs,graphicx}", *parts])


def _latex_table(board: Table, legend: str) -> str:
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_tex(board.title)}. {_tex(board.note)}{legend}}}",
        _LATEX_FIT,
        rf"\begin{{tabular}}{{l{'r' * _numbers(board)}{'l' if board.facts else ''}}}",
        r"\toprule",
        " & ".join(map(_tex_wrapped, (board.first, *board.columns, *board.facts))) + r" \\",
        r"\midrule",
    ]
    for row, last in zip(board.rows, _section_ends(board.rows), strict=True):
        name = rf"\textit{{{_tex(row.name)}}}" if row.reference else _tex_wrapped(row.name)
        lines.append(" & ".join([name, *map(_tex_entry, row.entries), *map(_tex_wrapped, row.facts)]) + r" \\")
        lines += [r"\midrule"] if last else []
    lines += [r"\bottomrule", r"\end{tabular}", "}", r"\end{table}"]
    return "\n".join([*lines, *(f"% {row.name}: {', '.join(row.keys)}" for row in board.rows), ""])


def _numbers(board: Table) -> int:
    """Columns of a table, from the second, that are aligned as numbers: all but the last fact, a name."""
    return len(board.columns) + max(len(board.facts) - 1, 0)


def _tex(text: str) -> str:
    escaped = "".join(_LATEX.get(character, character) for character in text)
    return re.sub("-(?=-)", "-{}", escaped)  # an option's name, not a dash


def _tex_entry(entry: Entry) -> str:
    if entry.summary is None:
        return _tex_wrapped(entry.text)
    text = rf"\textbf{{{_tex(entry.text)}}}" if entry.mark == "best" else _tex(entry.text)
    text += _tex(entry.sign)
    more = [rf"\scriptsize {_tex(line)}" for line in (entry.detail, entry.gap) if line]
    return _tex_stacked([text, *more], "r")


def _tex_wrapped(text: str) -> str:
    """Long names in lines, cut where a reader would cut them."""
    lines = [""]
    for piece in re.split(r"(?<=[\[,=_/ ])(?=\S)|(?<=\.)(?![\d\s])", text):
        if lines[-1] and len(lines[-1] + piece) > _LATEX_LINE:
            lines.append("")
        lines[-1] += piece
    return _tex_stacked([_tex(line.strip()) for line in lines], "l")


def _tex_stacked(lines: Sequence[str], side: str) -> str:
    stacked = r" \\ ".join(lines)
    return rf"\begin{{tabular}}[t]{{@{{}}{side}@{{}}}}{stacked}\end{{tabular}}" if len(lines) > 1 else stacked


def template(name: str) -> jinja2.Template:
    """A template of ``leaderboard/templates``; what it is given is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = _breakable
    environment.filters["words"] = _words
    return environment.get_template(name)


def _breakable(text: str) -> Markup:
    """Escaped, and cut where a reader would cut a long name: behind a comma, bracket, dot, or equals sign."""
    return Markup(re.sub(r"([\[,.=_])(?=[^\W\d])", r"\1<wbr>", str(escape(text))))


def _words(board: Table) -> list[bool]:
    """Which facts are read from the left, since none of them is a number."""
    return [not any(row.facts[i][:1].isdigit() for row in board.rows if row.facts) for i in range(len(board.facts))]


def page(boards: Sequence[Table], figure: str = "", title: str = "Leaderboard", legend: str = LEGEND) -> str:
    """Tables as one self-contained file; ``figure`` is the source of a picture, e.g. a data URL."""
    return template("tables.html").render(boards=boards, title=title, legend=legend, figure=figure) + "\n"


def write(boards: Sequence[Table], csv: str, stem: Path, title: str, legend: str = LEGEND) -> tuple[Path, ...]:
    """Write tables as Markdown, CSV, LaTeX (booktabs) and a page.

    Args:
        boards: the tables.
        csv: the same numbers as CSV.
        stem: path of the files without their suffix.
        title: of the document.
        legend: what the numbers are.

    Returns:
        The files.
    """
    texts = {
        "md": markdown(boards, title=title, legend=legend),
        "csv": csv,
        "tex": latex(boards, legend=legend),
        "html": page(boards, title=title, legend=legend),
    }
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = []
    for suffix, text in texts.items():
        paths.append(stem.with_name(f"{stem.name}.{suffix}"))
        replace(paths[-1], text)
    return tuple(paths)


def replace(path: Path, text: str) -> None:
    """Write a file that a reader sees either as it was or whole; of several writers at once the last one wins."""
    draft = path.with_name(f".{path.name}.{token_hex(4)}")
    draft.write_text(text, encoding="utf-8", newline="\n")
    draft.replace(path)
