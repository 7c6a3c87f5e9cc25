"""Typed, frozen configuration: the one leaf of the engine that every plug-in imports (no torch here)."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

Overrides = Mapping[str, Any]
"""A flat table ``{"dotted.path": value}`` of changes to a config; recipes, budgets, presets and ablations are such tables."""


class BenchError(Exception):
    """A mistake of the user or of their data; shown as one clear message, never as a traceback."""


class Config(BaseModel):
    """Base of every config: frozen, and unknown keys are refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, protected_namespaces=(), allow_inf_nan=False
    )


def knob(default: Any, doc: str, *, unit: str = "", late: bool = False, **limits: Any) -> Any:
    """Declare a config field.

    Args:
        default: the published value (recipe ``paper``, budget ``full``).
        doc: one line that says what the value is and names its source.
        unit: unit of the value, if it has one.
        late: added after records were made whose keys do not hold it: part of a key only where it is not the default.
        limits: pydantic constraints such as ``gt``, ``ge``, ``le``.
    """
    marked: dict[str, Any] | None = {"late": True} if late else None
    return Field(default, description=f"{doc} [{unit}]" if unit else doc, json_schema_extra=marked, **limits)


def native_precision() -> Literal["float32", "bf16"]:
    """``bf16`` where this machine multiplies it in hardware (a GPU, or a CPU with AMX or AVX-512 BF16), else ``float32``."""
    import torch

    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "float32"
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return "bf16" if capabilities.get("amx_bf16") or capabilities.get("avx512_bf16") else "float32"


class TrainConfig(Config):
    """Settings of the shared training loop; batch and learning rate are global, whatever the number of devices."""

    epochs: int = knob(300, "passes over the training clips", ge=0)
    batch: int = knob(128, "clips per step", ge=2)
    optimiser: Literal["sgd", "adamw"] = knob("sgd", "optimiser")
    lr: float = knob(0.1, "base learning rate", gt=0)
    momentum: float = knob(0.9, "SGD momentum (AdamW: beta1 stays 0.9)", ge=0, lt=1)
    nesterov: bool = knob(False, "Nesterov momentum")
    weight_decay: float = knob(1e-4, "weight decay on every trainable parameter", ge=0)
    schedule: Literal["step", "cosine"] = knob("step", "learning-rate schedule")
    milestones: tuple[int, ...] = knob((250,), "step schedule: multiply by gamma in epochs after these (1-based)")
    gamma: float = knob(0.1, "step schedule: factor", gt=0)
    warmup_steps: int = knob(0, "linear warm-up", unit="steps", ge=0)
    precision: Literal["float32", "bf16", "auto"] = knob(
        "float32",
        "bf16 = autocast of the encoder, losses stay float32; auto becomes bf16 or float32 as the machine is built",
    )
    drop_last: bool = knob(True, "drop the last incomplete batch")
    clip_norm: float | None = knob(None, "clip the gradient's L2 norm")
    batch_norm: str = knob(
        "sync",
        "several processes at one training (docs/cluster.md): BatchNorm over the whole batch, as in one process, or local-N: "
        "over the share of each of N",
        late=True,
        pattern="^(sync|local-([2-9]|[1-9][0-9]+))$",
    )
    recalibrate: bool = knob(
        False, "after the last epoch re-estimate BatchNorm statistics on un-augmented training clips (aimclr.md 8.9)"
    )

    beta2: float = knob(0.999, "AdamW: decay of the squared gradients; 0.95 in MAMP, igm.md 4", late=True, ge=0, lt=1)
    decay_vectors: bool = knob(
        True,
        "weight decay also on biases, norms and other one-dimensional parameters; not in MAMP, igm.md 4",
        late=True,
    )
    compile: bool = knob(
        False,
        "compile the encoders' training passes (torch.compile): minutes at the start, then faster under bf16; rounds otherwise",
        late=True,
    )
    lr_end: float = knob(0.0, "cosine schedule: learning rate that it ends with; MAMP's is half of lr", late=True, ge=0)
    warmup_share: float = knob(
        0.0, "linear warm-up over this share of all steps; 0.05 in MAMP, 20 of 400 epochs", late=True, ge=0, lt=1
    )

    @field_validator("precision")
    @classmethod
    def _decide(cls, value: str) -> str:
        """Settle ``auto`` here, so that what was used is part of every key."""
        return native_precision() if value == "auto" else value


ConfigT = TypeVar("ConfigT", bound=Config)


def resolve(cls: type[ConfigT], *tables: Overrides, owner: str = "") -> ConfigT:
    """Build a config from its defaults and tables of overrides, the later ones winning.

    Args:
        cls: the config class.
        tables: flat tables of dotted paths; string values are parsed as JSON where that works.
        owner: plug-in name for error messages.

    Raises:
        BenchError: unknown key or ill-typed value; the message lists the known keys.
    """
    nested: dict[str, Any] = cls().model_dump()  # a class may give a nested config other defaults than its own
    for table in tables:
        for path, value in table.items():
            _check_path(cls, path, owner)
            node = nested
            *parents, leaf = path.split(".")
            for part in parents:
                node = node[part]
            node[leaf] = _parse(value, _annotation(cls, path))
    try:
        return cls.model_validate(nested)
    except ValidationError as error:
        lines = [
            f"{owner + '.' if owner else ''}{'.'.join(map(str, e['loc']))} = {e['input']!r}: {e['msg']}"
            for e in error.errors()
        ]
        raise BenchError("Bad setting: " + "; ".join(lines)) from None


def known_keys(cls: type[BaseModel], prefix: str = "") -> list[str]:
    """All dotted paths of a config class."""
    keys: list[str] = []
    for name, field in cls.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            keys += known_keys(inner, f"{prefix}{name}.")
        else:
            keys.append(f"{prefix}{name}")
    return keys


def _check_path(cls: type[BaseModel], path: str, owner: str) -> None:
    keys = known_keys(cls)
    if path in keys:
        return
    close = suggestion(path, keys)
    name = f"{owner}.{path}" if owner else path
    raise BenchError(f"Unknown setting {name!r}.{close} Known: {', '.join(keys)}.")


def suggestion(name: str, known: Iterable[str]) -> str:
    """``" Did you mean 'x'?"`` or an empty string."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean {matches[0]!r}?" if matches else ""


def _annotation(cls: type[BaseModel], path: str) -> Any:
    name, _, rest = path.partition(".")
    inner: Any = cls.model_fields[name].annotation
    return _annotation(inner, rest) if rest else inner


def _parse(value: Any, annotation: Any) -> Any:
    if not isinstance(value, str) or value in get_args(annotation):  # "none" is a word where the setting knows it
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):  # also thousands of digits or brackets
        return {"none": None, "true": True, "false": False}.get(value.lower(), value)


def canonical(value: Any) -> str:
    """Canonical JSON: sorted keys, no spaces; refuses anything that JSON does not hold exactly.

    Raises:
        TypeError: a value of another type, or a float that is not finite.
    """
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    except ValueError as error:
        raise TypeError(f"not canonical: {error}") from None


def digest(value: Any) -> str:
    """16 hexadecimal digits of the sha256 of the canonical JSON of ``value``."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:16]


def as_dict(config: Config) -> dict[str, Any]:
    """Plain JSON values of a config."""
    return config.model_dump(mode="json")


def identifying(config: Config) -> dict[str, Any]:
    """What of a config enters keys: :func:`as_dict` without ``late`` settings that have their default."""
    values = as_dict(config)
    for name, field in type(config).model_fields.items():
        value, extra = getattr(config, name), field.json_schema_extra
        if isinstance(extra, dict) and extra.get("late") and value == field.default:
            del values[name]
        elif isinstance(value, Config):
            values[name] = identifying(value)
    return values
