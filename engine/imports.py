"""Imported weights: ``<results>/imported/NAME.safetensors``, where the name ends with the content's checksum."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from engine.config import BenchError, Overrides
from engine.files import write_atomically

_DIGITS = 8


def save(results: Path, name: str, weights: Mapping[str, Tensor], about: Mapping[str, str]) -> str:
    """Keep weights in the results folder; the same weights give the same bytes.

    Args:
        results: the results folder.
        name: first part of the name.
        weights: an encoder's state.
        about: ``release``, ``stream``, and ``source``, the sha256 of the file they come from.

    Returns:
        The name, which is what follows ``imported:``.

    Raises:
        BenchError: a name that is no file name.
    """
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise BenchError(f"--name {name!r}: letters, digits, '.', '-' and '_' make a name.")
    # One entry: the order of several is not the same in every run.
    content = safetensors.torch.save(dict(weights), {"about": json.dumps(dict(about), sort_keys=True)})
    name = f"{name}-{hashlib.sha256(content).hexdigest()[:_DIGITS]}"
    with write_atomically(_folder(results) / f"{name}.safetensors") as file:
        file.write(content)
    return name


def found(results: Path) -> dict[str, Overrides]:
    """Everything imported by name: settings of the method that evaluates it, with the checksum of the file as it is now.

    Raises:
        BenchError: a file there is damaged or was not written by :func:`save`.
    """
    presets: dict[str, Overrides] = {}
    for path in sorted(_folder(results).glob("*.safetensors")):
        try:
            with safetensors.safe_open(path, "pt") as file:
                about = json.loads((file.metadata() or {})["about"])
            presets[path.stem] = {
                "weights": _sha256(path),
                "release": str(about["release"]),
                "stream": str(about["stream"]),
            }
        except (OSError, safetensors.SafetensorError, KeyError, ValueError, TypeError) as error:
            raise BenchError(f"{path} is damaged ({error}). Delete it and import the weights again.") from None
    return presets


def load(results: Path, sha256: str, device: str) -> dict[str, Tensor]:
    """Imported weights by checksum.

    Raises:
        BenchError: they are not there (any more).
    """
    for path in sorted(_folder(results).glob("*.safetensors")):
        if _sha256(path) == sha256:
            return safetensors.torch.load_file(path, device=device)
    raise BenchError(f"No file in {_folder(results)} has checksum {sha256[:16]}...; import the weights again.")


def _folder(results: Path) -> Path:
    return results / "imported"


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
