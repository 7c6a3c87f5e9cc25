"""The circumstances of a run: what differs between two runs of the same stage, and so is no part of its key."""

from __future__ import annotations

import ast
import hashlib
import platform
import subprocess
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path

import torch

from engine.memory import peak_bytes
from engine.records import Provenance
from engine.registry import KINDS, ROOT

_FIRST_PARTY = {*KINDS, "engine"}
_PACKAGES = ("torch", "numpy", "scikit-learn", "scipy", "pydantic", "safetensors")


def collect(
    *, seconds: float, device: torch.device, plugin: Path, work: float, unit: str, resumed: bool, ranks: int = 1
) -> Provenance:
    """Describe the run that has just ended.

    Args:
        seconds: wall time.
        device: what it ran on.
        plugin: the file of the plug-in that worked.
        work: amount of work, for later estimates.
        unit: of the work; see ``engine.estimate``.
        resumed: whether it continued a checkpoint, so that ``seconds`` is not all the time spent.
        ranks: processes that trained together.
    """
    on_gpu = device.type == "cuda"
    return Provenance(
        seconds=seconds,
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        device=torch.cuda.get_device_name(device) if on_gpu else f"cpu {platform.machine()}",
        threads=torch.get_num_threads(),
        peak_memory_mb=round(_peak_bytes(device) / 2**20, 1),
        commit=_commit(),
        source=fingerprint(plugin),
        versions={"python": platform.python_version()} | {name: version(name) for name in _PACKAGES},
        device_type=device.type,
        cpu=_cpu(),
        capability=torch.backends.cpu.get_cpu_capability(),
        # Without the build of the kernel, which names a machine and changes no number.
        platform="-".join(filter(None, (platform.system(), platform.machine(), "".join(platform.libc_ver())))),
        work=work,
        unit=unit,
        resumed=resumed,
        **({"ranks": ranks} if ranks > 1 else {}),
    )


def fingerprint(path: Path) -> str:
    """Hash of a plug-in's syntax tree and of the first-party modules it imports, directly or not; docstrings left out.

    Keys hold declared versions, not code, so that a comment does not void a week of training; this tells afterwards
    whether the code has changed all the same.
    """
    seen: dict[Path, str] = {}
    queue = [path.resolve()]
    while queue:
        file = queue.pop()
        if file in seen:
            continue
        tree = ast.parse(file.read_bytes())
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = (
                    [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
                )
                queue += [found for name in names if (found := _module_file(name))]
            body = getattr(node, "body", None)
            if isinstance(body, list) and body and _is_text(body[0]):
                del body[0]
        seen[file] = ast.dump(tree)
    return hashlib.sha256("\n".join(sorted(seen.values())).encode()).hexdigest()[:16]


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _module_file(name: str) -> Path | None:
    package, _, module = name.partition(".")
    file = (ROOT / package / module).with_suffix(".py")
    return file if package in _FIRST_PARTY and module and file.is_file() else None


def _peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return peak_bytes()


@cache
def _cpu() -> str:
    """The processor's model, and what the operating system lets a program use of it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        known = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        flags = hashlib.sha256(known.get("flags", "").encode()).hexdigest()[:8]
        return f"{known['model name']}, family {known['cpu family']}, model {known['model']}, flags {flags}"
    except (OSError, KeyError):
        return platform.processor() or platform.machine()


@cache
def _commit() -> str:
    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
