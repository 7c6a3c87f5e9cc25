"""Evaluation on other data than the encoder was pre-trained on (protocols.md, version 1; field.md 3.3, actclr.md 9)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import model_validator

from engine.config import Config, Overrides, knob
from protocols.base import EncoderContext, EvalContext, FeatureConfig, Outcome, Protocol
from protocols.finetune import Finetune, FinetuneConfig
from protocols.linear import Linear, LinearConfig

_PARTS: Mapping[str, type[Protocol[Any]]] = {"linear": Linear, "finetune": Finetune}


class TransferConfig(Config):
    """Settings of transfer: those of the protocol that is run on the target."""

    by: Literal["linear", "finetune"] = knob(
        "linear", "what is run on the target: the encoder stays frozen, or is trained"
    )
    linear: LinearConfig = knob(LinearConfig(), "the frozen encoder's classifier, as under linear")
    finetune: FinetuneConfig = knob(FinetuneConfig(), "training of the whole network, as under finetune")

    @model_validator(mode="before")
    @classmethod
    def _only_one(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Settings of the protocol that is not run have no say, so that they change no key and no label."""
        used = data.get("by", "linear")
        return {name: value for name, value in data.items() if name in ("by", used) or name not in _PARTS}


def _inside(table: str) -> dict[str, Overrides]:
    """A table of overrides of both protocols together, as one of this protocol."""
    merged: dict[str, dict[str, Any]] = {}
    for part, protocol in _PARTS.items():
        for name, changes in getattr(protocol, table).items():
            merged.setdefault(name, {}).update({f"{part}.{path}": value for path, value in changes.items()})
    return {**merged}


class Transfer(Protocol[Any]):
    """``linear`` or ``finetune`` on a target; the encoder was pre-trained on the source, without labels.

    ``transfer:linear`` keeps the encoder frozen, ``transfer:finetune`` trains it: two columns, and the bare name means
    both. Variants of either protocol are named behind it, e.g. ``transfer:linear:actclr``. Clips of the target are brought
    into the layout of the source. All reference rows are of the target.
    """

    title: ClassVar[str] = "linear and finetune on other data than the encoder was pre-trained on"
    version: ClassVar[int] = 1
    Config: ClassVar[type[Config]] = TransferConfig
    budgets: ClassVar[Mapping[str, Overrides]] = _inside("budgets")
    tuned: ClassVar[Mapping[str, Overrides]] = _inside("tuned")
    presets: ClassVar[Mapping[str, Overrides]] = {
        f"{part}:{name}" if name else part: {"by": part, **{f"{part}.{path}": value for path, value in changes.items()}}
        for part, protocol in _PARTS.items()
        for name, changes in {"": {}, **protocol.presets}.items()
    }
    headlines: ClassVar[tuple[str, ...]] = tuple(_PARTS)
    on_targets: ClassVar[bool] = True
    config: TransferConfig

    def __init__(self, config: TransferConfig) -> None:
        super().__init__(config)
        self.part = _PARTS[config.by](getattr(config, config.by))
        self.needs = self.part.needs
        self.keeps_validation = self.part.keeps_validation

    @classmethod
    def version_under(cls, config: TransferConfig) -> int:
        """A new version of the protocol that is run on the target is a new one of this; of the other one it is not."""
        return cls.version + _PARTS[config.by].version - 1

    def features(self) -> FeatureConfig:
        """The features of the target that ``linear`` reads."""
        return self.part.features()

    def keeps_joints(self) -> bool:
        """See :meth:`Protocol.keeps_joints`."""
        return self.part.keeps_joints()

    def supports(self, method: str, has_projector: bool, train_clips: int) -> str | None:
        """What the protocol on the target supports."""
        return self.part.supports(method, has_projector, train_clips)

    def passes(self, train_clips: int, test_clips: int) -> float:
        """See :meth:`Protocol.passes`."""
        return self.part.passes(train_clips, test_clips)

    def run(self, context: EvalContext | EncoderContext) -> Outcome:
        """Run the protocol on the target."""
        return self.part.run(context)
