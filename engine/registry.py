"""Plug-ins by name: one file per method, protocol, encoder or dataset, inside the tree or outside it.

Names are listed by reading the files' syntax trees, so ``list`` and did-you-mean import nothing; a plug-in is imported
when it is used.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args

from engine.config import BenchError, suggestion

Kind = Literal["methods", "protocols", "encoders", "datasets"]
KINDS: tuple[Kind, ...] = get_args(Kind)
ROOT = Path(__file__).resolve().parents[1]
_BASES: dict[Kind, str] = {"methods": "Method", "protocols": "Protocol", "encoders": "Encoder", "datasets": "Dataset"}


@dataclass(frozen=True)
class Plugin:
    """Where a plug-in is, and what can be read off its file without importing it.

    Attributes:
        kind: ``methods``, ``protocols``, ``encoders`` or ``datasets``.
        name: what tables, folders and ``--set`` call it: the file's name, outside the tree the class's in lower case.
        path: its file.
        class_name: its class.
        title: the class's one-line title.
        aliases: other names it answers to.
        source: sha256 of a file outside the tree; it stands in for a version there, so it is part of every key.
    """

    kind: Kind
    name: str
    path: Path
    class_name: str
    title: str = ""
    aliases: tuple[str, ...] = ()
    source: str = ""
    loaded: type[Any] | None = field(default=None, compare=False, repr=False)

    def load(self) -> Any:
        """The plug-in's class; imports its file on first use.

        Raises:
            BenchError: the file cannot be imported, or holds no such class; the message names the file and the line.
        """
        if self.loaded is not None:
            return self.loaded
        module = _guarded_import(self.path, lambda: importlib.import_module(f"{self.kind}.{self.path.stem}"))
        return getattr(module, self.class_name)


def scan(kind: Kind) -> Mapping[str, Plugin]:
    """All plug-ins of a kind inside the tree, by name, without importing them."""
    return _scan(kind, ROOT)


def names(kind: Kind) -> tuple[str, ...]:
    """Names of all plug-ins of a kind inside the tree, sorted."""
    return tuple(scan(kind))


def find(kind: Kind, name: str) -> Any:
    """The class of a plug-in: exact name, alias, unique prefix, or ``path/to/file.py:Class``.

    Raises:
        BenchError: see :func:`locate` and :meth:`Plugin.load`.
    """
    return locate(kind, name).load()


def locate(kind: Kind, name: str) -> Plugin:
    """Like :func:`find`, but the plug-in's place instead of its class.

    Raises:
        BenchError: no plug-in, or several, answer to the name; the message suggests one.
    """
    if ".py" in name:
        path, _, class_name = name.partition(".py")
        return _outside(kind, Path(path + ".py"), class_name.removeprefix(":"))
    known = scan(kind)
    answers = {alias: plugin.name for plugin in known.values() for alias in (plugin.name, *plugin.aliases)}
    return known[match(name, answers, kind[:-1])]


def match(name: str, answers: Mapping[str, str], what: str) -> str:
    """Resolve a name: exact or alias, then unique prefix.

    Args:
        name: as typed.
        answers: every name and alias, and what it stands for.
        what: noun for messages.

    Raises:
        BenchError: unknown (did-you-mean and all names in the message) or ambiguous.
    """
    if name in answers:
        return answers[name]
    starting = {target for alias, target in answers.items() if name and alias.startswith(name)}
    if len(starting) == 1:
        return starting.pop()
    if starting:
        raise BenchError(f"{what} {name!r} is ambiguous: {', '.join(sorted(starting))}.")
    known = ", ".join(sorted(set(answers.values())))
    raise BenchError(f"Unknown {what} {name!r}.{suggestion(name, answers)} Known: {known}.")


@cache
def _scan(kind: Kind, root: Path) -> Mapping[str, Plugin]:
    found: dict[str, Plugin] = {}
    classes: list[tuple[Path, ast.ClassDef]] = []
    for path in sorted((root / kind).glob("*.py")):
        if path.stem != "base" and not path.stem.startswith("_"):
            try:
                tree = ast.parse(path.read_bytes())
            except SyntaxError:  # listed, so that asking for it tells what is wrong with it
                found[path.stem] = Plugin(kind, path.stem, path, "", "(this file cannot be read)")
                continue
            classes += [(path, node) for node in tree.body if isinstance(node, ast.ClassDef)]
    by_name = {node.name: node for _, node in classes}
    for path, node in classes:
        if not node.name.startswith("_") and _descends(node, _BASES[kind], by_name):
            if path.stem in found:
                raise BenchError(f"{path}: a plug-in file holds one {_BASES[kind]}; start the others' names with '_'.")
            first_line = (ast.get_docstring(node) or "").partition("\n")[0].rstrip(".")
            title, aliases = _literal(node, "title", first_line), _literal(node, "aliases", ())
            found[path.stem] = Plugin(kind, path.stem, path, node.name, title, aliases)
    return dict(sorted(found.items()))


def _descends(node: ast.ClassDef, base: str, by_name: Mapping[str, ast.ClassDef]) -> bool:
    bases = [b.value if isinstance(b, ast.Subscript) else b for b in node.bases]  # Protocol[EvalContext]
    parents = {b.attr if isinstance(b, ast.Attribute) else getattr(b, "id", "") for b in bases} - {node.name}
    return any(p == base or (p in by_name and _descends(by_name[p], base, by_name)) for p in parents)


def _literal(node: ast.ClassDef, name: str, default: Any) -> Any:
    for statement in node.body:
        if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            if [getattr(target, "id", "") for target in targets] == [name]:
                try:
                    return ast.literal_eval(statement.value)
                except ValueError:  # computed, e.g. an f-string: nothing is imported just to list names
                    return default
    return default


def _outside(kind: Kind, path: Path, class_name: str) -> Plugin:
    if not path.is_file():
        raise BenchError(f"Plug-in file {path} does not exist (from {Path.cwd()}).")
    source = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    module = _guarded_import(path, lambda: _import_file(path.resolve(), source))
    base = getattr(importlib.import_module(f"{kind}.base"), _BASES[kind])
    plugins = {
        name: value
        for name, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, base) and value.__module__ == module.__name__
    }
    if not class_name and len(plugins) == 1:
        class_name = next(iter(plugins))
    if class_name not in plugins:
        asked = f"no {_BASES[kind]} {class_name!r}" if class_name else f"not exactly one {_BASES[kind]}"
        close = suggestion(class_name, plugins)
        raise BenchError(f"{path} holds {asked}.{close} It holds: {', '.join(plugins) or 'none'}. Write {path}:CLASS.")
    name = class_name.lower()
    if name in scan(kind):
        raise BenchError(
            f"{path}:{class_name} would be called {name!r}, as {scan(kind)[name].path} is. Rename the class."
        )
    cls = plugins[class_name]
    return Plugin(kind, name, path, class_name, getattr(cls, "title", ""), (), source, cls)


def _import_file(path: Path, source: str) -> ModuleType:
    name = f"outside_{hashlib.sha256(f'{path}{source}'.encode()).hexdigest()[:8]}.{path.stem}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # before it runs: pydantic looks annotations up there
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


def _guarded_import(path: Path, load: Callable[[], ModuleType]) -> ModuleType:
    try:
        return load()
    except BenchError:
        raise
    except Exception as error:
        lines = [
            frame.lineno
            for frame in traceback.extract_tb(error.__traceback__)
            if Path(frame.filename) == path.resolve()
        ]
        line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
        where = f"{path}, line {line}" if line else str(path)
        raise BenchError(f"Plug-in {where} cannot be imported: {type(error).__name__}: {error}") from error
