"""A small world for the engine: tiny plug-ins, and a way to run requests on them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from rich.console import Console

from engine.execute import Summary, execute
from engine.plan import Plan, Request, build
from engine.progress import Reporter
from engine.store import RunStore

PLUGINS = Path(__file__).parent / "plugins" / "tiny.py"
ON_TARGETS = PLUGINS.with_name("on_targets.py")


@dataclass
class World:
    """One results folder."""

    results: Path
    warnings: list[str]
    lines: list[str]
    retry_failed: bool = False

    @property
    def store(self) -> RunStore:
        return RunStore(self.results, self.warnings.append, self.retry_failed)

    def plan(self, methods: str = "TinyCLR", protocols: str = "Means", **more: object) -> Plan:
        def outside(names: str) -> tuple[str, ...]:
            files = dict.fromkeys(("Elsewhere", "Frames"), ON_TARGETS)
            known = ((files.get(name.partition(":")[0], PLUGINS), name) for name in names.split(","))
            return tuple(f"{file}:{name}" if name[0].isupper() else name for file, name in known)

        sets = (f"encoder={PLUGINS}:TinyEncoder", *more.pop("sets", ()))
        request = Request(
            **{
                "methods": outside(methods),
                "protocols": outside(protocols),
                "datasets": (f"{PLUGINS}:Tiny",),
                "sets": sets,
                **more,
            }
        )
        return build(request, self.results / "data", self.store)

    def run(self, *names: str, **more: object) -> Summary:
        with (self.results.parent / "log").open("a") as log:
            plan = self.plan(*names, **more)
            return execute(plan, self.store, torch.device("cpu"), Reporter(Console(file=log, width=200)))

    @property
    def log(self) -> str:
        return (self.results.parent / "log").read_text()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "results", [], [])


@pytest.fixture
def other_world(tmp_path: Path) -> World:
    (tmp_path / "elsewhere").mkdir()
    return World(tmp_path / "elsewhere" / "results", [], [])
