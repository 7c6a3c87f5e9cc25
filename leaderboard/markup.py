"""Tables out of HTML files that lie in a results folder: their text and structure, and nothing that could act."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from markupsafe import Markup, escape

_KEPT = frozenset(
    [
        "section",
        "h2",
        "h3",
        "h4",
        "p",
        "ul",
        "ol",
        "li",
        "table",
        "caption",
        "thead",
        "tbody",
        "tfoot",
        "tr",
        "th",
        "td",
        "b",
        "strong",
        "i",
        "em",
        "small",
        "sub",
        "sup",
        "code",
        "span",
        "br",
        "wbr",
    ]
)
_START = ("section", "h2", "table")
_DROPPED = frozenset(
    [
        "script",
        "style",
        "head",
        "title",
        "details",
        "template",
        "svg",
        "math",
        "iframe",
        "object",
        "noscript",
        "textarea",
        "select",
    ]
)
"""Left out with all that is in them; of other unknown elements the text is kept."""
_ATTRIBUTES = {
    "class": re.compile(r"(?:board|reference|missing|soft|left|fact)(?: (?:left|missing|fact))*"),
    "data-key": re.compile(r"[0-9a-f]{16}"),
    "data-value": re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?"),
    "scope": re.compile(r"col|row|colgroup|rowgroup"),
    "colspan": re.compile(r"\d{1,3}"),
    "rowspan": re.compile(r"\d{1,3}"),
}


def tables_of(document: str) -> Markup:
    """The tables of an HTML document with their headings and notes, safe to stand in another page.

    Only elements and attributes of a short list are kept, text is escaped anew, and everything is closed. What stands
    before the first table and its heading is left out.
    """
    reader = _Reader()
    reader.feed(document)
    reader.close()
    return reader.result()


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[Markup] = []
        self.open: list[str] = []
        self.dropped: list[str] = []
        self.started = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _DROPPED:
            self.dropped.append(tag)
        if self.dropped or tag not in _KEPT or not (self.started or tag in _START):
            return
        self.started = True
        kept = {name: value for name, value in attrs if value and name in _ATTRIBUTES}
        kept = {name: value for name, value in kept.items() if _ATTRIBUTES[name].fullmatch(value)}
        if tag == "table":  # wide ones scroll
            self.parts.append(Markup('<div class="wide" tabindex="0">'))
            kept["class"] = "sortable"
        self.parts.append(Markup("<" + tag + "".join(f' {name}="{value}"' for name, value in kept.items()) + ">"))
        if tag not in ("br", "wbr"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.dropped:
            if tag == self.dropped[-1]:
                self.dropped.pop()
        elif tag in self.open:
            while self.open:
                if self._end() == tag:
                    break

    def handle_data(self, data: str) -> None:
        if self.started and not self.dropped:
            self.parts.append(escape(data))

    def result(self) -> Markup:
        while self.open:
            self._end()
        return Markup("").join(self.parts)

    def _end(self) -> str:
        tag = self.open.pop()
        self.parts.append(Markup(f"</{tag}></div>" if tag == "table" else f"</{tag}>"))
        return tag
