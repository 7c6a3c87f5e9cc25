"""Plan METHODS x PROTOCOLS x DATASETS, run what is missing, and render the leaderboard."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.commands.report import render
from engine.config import BenchError
from engine.options import WIDTH

if TYPE_CHECKING:
    from engine.plan import Plan
    from engine.store import RunStore


def run(*, data: Path, methods: tuple[str, ...], protocols: tuple[str, ...], **options: Any) -> int:
    """Plan, execute and render; the options are those of the command line, the result is the exit status."""
    assert_own_datasets()
    from engine import registry
    from engine.plan import Request, build
    from engine.session import carry_out

    request = {name: value for name, value in options.items() if name in Request.__dataclass_fields__}
    wanted = Request(
        methods=registry.names("methods") if methods == ("all",) else methods,
        protocols=registry.names("protocols") if protocols == ("all",) else protocols,
        **request,
    )
    asked: set[str] = set()

    def make(store: RunStore, gpu: bool, tell: Callable[[str], None]) -> Plan:
        plan = build(wanted, data, store, gpu=gpu, tell=tell)
        asked.update(job.stage.key for job in plan.jobs)
        return plan

    return carry_out(
        make,
        lambda console: render(options["results"], console, asked=asked),
        width=WIDTH,
        **options,
    )


def assert_own_datasets() -> None:
    """Stop before another package named ``datasets`` is taken for this project's.

    Raises:
        BenchError: another one comes first on the path.
    """
    import datasets

    ours = Path(__file__).resolve().parents[2] / "datasets" / "__init__.py"
    found = Path(datasets.__file__ or "").resolve()
    if found != ours:
        raise BenchError(
            f"'import datasets' finds {found} instead of {ours}. Run `python run_bench.py` in the project's folder."
        )
