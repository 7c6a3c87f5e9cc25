"""Frame-wise linear segmentation of untrimmed recordings, frozen encoder: seg-v1 (protocols.md, version 1; actclr.md 12.2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import model_validator
from torch import Tensor
from torch.nn import functional

from datasets.clips import from_storage, held_out
from datasets.prepare import prepare_clips
from datasets.streams import to_stream
from engine.config import BenchError, Config, Overrides, knob
from protocols.base import Outcome, Protocol, UntrimmedContext
from protocols.descent import Descent, Gradient, Report, falling
from protocols.linear import Grid, Scale
from protocols.segmentation_metrics import confusion, mean_iou
from protocols.windows import IGNORED, Windows, cut_windows, frame_scores, stretch

_BATCH = 32
"""Windows per forward pass; in evaluation mode a window's maps do not depend on the others."""
_INIT_STD = 0.02
_REPORT_EVERY = 10


class SegmentationConfig(Config):
    """Settings of segmentation; more than one learning rate means a choice on held-out training recordings."""

    window: int = knob(100, "window length; actclr.md 12.2", unit="frames", ge=2)
    stride: int = knob(50, "distance of windows; actclr.md 12.2", unit="frames", ge=1)
    subsample: int = knob(1, "use every n-th frame; all test frames are scored nevertheless", unit="frames", ge=1)
    pooling: Literal["gap", "safp"] = knob(
        "gap", "average over joints, or weighted by the method's actionlets (ActCLR's SAFP)"
    )
    standardise: bool = knob(
        True, "zero mean and unit variance by the statistics of the training windows, as in linear"
    )
    lr: Grid = knob((0.01, 0.1, 1.0), "learning rates tried, suited to standardised features (the suite's own choice)")
    held_out: float = knob(
        0.1, "share of the training recordings held out to choose the rate; protocols.md v1", gt=0, lt=1
    )
    epochs: int = knob(100, "passes over the training windows; protocols.md v1", ge=1)
    milestones: tuple[int, ...] = knob((80,), "multiply lr by 0.1 in epochs after these (1-based); actclr.md 12.2")
    momentum: float = knob(0.9, "SGD momentum, no Nesterov, no weight decay; actclr.md 12.2", ge=0, lt=1)
    batch: int = knob(32, "windows per step (the suite's own choice)", ge=1)

    @model_validator(mode="after")
    def _no_gaps(self) -> SegmentationConfig:
        if self.stride > self.window:
            raise ValueError(f"stride {self.stride} > window {self.window} would leave frames out of every window")
        return self


class Segmentation(Protocol[UntrimmedContext]):
    """Linear classifier per frame on windows of untrimmed recordings; background is class 0.

    Windows are prepared like clips, their maps averaged over persons and joints, classified step by step, and the logits
    stretched linearly to the window's frames (which equals stretching the features). Where windows overlap, logits are
    averaged; nothing is smoothed.
    """

    title: ClassVar[str] = "class of every frame of untrimmed recordings, linear on frozen maps (seg-v1)"
    version: ClassVar[int] = 2  # 1: the same definition, rounded otherwise, and another interval in the record
    aliases: ClassVar[tuple[str, ...]] = ("seg",)
    Config: ClassVar[type[Config]] = SegmentationConfig
    presets: ClassVar[Mapping[str, Overrides]] = {
        "safp": {"pooling": "safp"},
        "unscaled": {"standardise": False, "lr": (0.24, 2.4, 24.0)},
    }
    needs = "untrimmed"
    on_targets = True
    config: SegmentationConfig

    @property
    def needs_attention(self) -> bool:
        """For pooling by actionlets."""
        return self.config.pooling == "safp"

    def passes(self, train_clips: int, test_clips: int) -> float:
        """Windows, of which there is one per stride."""
        return (train_clips + test_clips) / (self.config.stride * self.config.subsample)

    def run(self, context: UntrimmedContext) -> Outcome:
        """Choose the learning rate, train on all training recordings, and score every test frame."""
        config, train = self.config, context.train
        shape = config.window, config.stride, config.subsample
        windows = cut_windows(train.offsets, train.ids, *shape)
        test_windows = cut_windows(context.test_offsets, context.test_ids, *shape)
        total = len(windows) + len(test_windows)
        features = encode(windows, train.frames, context, config.pooling, lambda n: context.progress(n, total))
        labels = train.labels.numpy()
        facts: dict[str, float | int | str] = {"n_trials": len(config.lr), "feature_dim": features.shape[2]}
        facts |= {name: getattr(config, name) for name in ("window", "stride", "subsample", "pooling")}
        rates = config.lr
        if len(rates) > 1:
            rates, facts["validation_miou"] = self._choose(windows, features, labels, context)
        facts["lr"] = rates[0]

        test = encode(
            test_windows,
            context.test_frames,
            context,
            config.pooling,
            lambda n: context.progress(len(windows) + n, total),
        )
        scale = Scale.of(features.flatten(0, 1), config.standardise)
        test = _scaled(scale, test)

        def score(weights: Tensor) -> Tensor:
            return frame_scores(test_windows, test @ weights[:, 0])

        def report(epoch: int, loss: float, weights: Tensor) -> None:
            if epoch % _REPORT_EVERY == 0 or epoch == config.epochs:
                context.report(epoch, loss, score(weights))

        weights = fit(
            _scaled(scale, features), windows.labels(labels), context.classes, rates, config, context.seed, report
        )
        return Outcome(score(weights), facts=facts)

    def _choose(
        self, windows: Windows, features: Tensor, labels: NDArray[np.int64], context: UntrimmedContext
    ) -> tuple[tuple[float], float]:
        """The learning rate with the best mIoU on held-out training recordings, of equals the smallest; and that mIoU."""
        order = np.argsort(context.train.ids)
        groups = {name: values[order] for name, values in context.train.groups.items()}
        kept, chosen = held_out(groups, context.group, len(order), self.config.held_out)
        if not len(chosen):
            raise BenchError(
                f"{len(order)} training recordings are too few to hold one out: give one learning rate, e.g. "
                "--set segmentation.lr=0.1."
            )
        fitted, held = (np.flatnonzero(np.isin(windows.recording, order[part])) for part in (kept, chosen))
        scale = Scale.of(features[fitted].flatten(0, 1), self.config.standardise)
        targets = windows.labels(labels)
        weights = fit(
            _scaled(scale, features[fitted]),
            targets[fitted],
            context.classes,
            self.config.lr,
            self.config,
            context.seed,
        )
        frames = np.concatenate([np.arange(*context.train.offsets[[i, i + 1]]) for i in order[chosen]])
        inputs = _scaled(scale, features[held])
        values = []
        for trial in range(len(self.config.lr)):
            scores = frame_scores(windows.pick(held), inputs @ weights[:, trial])[frames]
            values.append(float(mean_iou(confusion(scores.argmax(1).numpy(), labels[frames], context.classes))))
        best = max(range(len(values)), key=lambda i: (values[i], -self.config.lr[i]))
        return (self.config.lr[best],), 100 * values[best]


@torch.no_grad()
def encode(
    windows: Windows,
    frames: Tensor,
    context: UntrimmedContext,
    pooling: str,
    progress: Callable[[int], None] = lambda done: None,
    batch: int = _BATCH,
) -> Tensor:
    """Maps of every window, averaged over persons and joints as the encoder's pooling does: (W, T', D) on the device.

    Args:
        windows: W of them.
        frames: (F, M, V, 3).
        context: encoder, and how windows are prepared; the whole window always counts, empty frames and padding included,
            so that steps of the maps and frames keep their places.
        pooling: ``gap`` or ``safp``.
        progress: takes the number of windows done.
        batch: windows at once; bounds memory, does not change the result.

    Raises:
        BenchError: ``safp`` and a method without actionlets, or maps that are not finite.
    """
    encoder, recorded = context.encoder, frames.numpy()
    rules = context.rules.model_copy(update={"frames": encoder.frames})
    found = []
    for rows in np.split(windows.index, range(batch, len(windows), batch)):
        raw = np.where((rows < 0)[..., None, None, None], 0, recorded[rows])
        offsets = np.arange(len(rows) + 1) * rows.shape[1]
        stored, _ = prepare_clips(raw.reshape(-1, *raw.shape[2:]), offsets, context.layout, rules)
        clips = from_storage(torch.from_numpy(stored).to(context.device))
        maps = encoder(to_stream(clips, context.stream, context.layout))
        weights = context.attention(maps) if pooling == "safp" else None
        if pooling == "safp" and weights is None:
            raise BenchError("pooling=safp needs a method with actionlets, such as actclr.")
        found.append(pool_steps(encoder.pool, maps, weights))
        progress(sum(map(len, found)))
    features = torch.cat(found)
    if not bool(features.isfinite().all()):
        raise BenchError("The maps hold NaN or infinite values: the pre-training diverged.")
    return features


def pool_steps(pool: Callable[[Tensor, Tensor | None], Tensor], maps: Tensor, weights: Tensor | None) -> Tensor:
    """Pool maps (N, M, D, T', V) step by step -> (N, T', D'), every step like a clip of its own."""
    count, steps = maps.shape[0], maps.shape[3]
    single = maps.permute(0, 3, 1, 2, 4).flatten(0, 1)[:, :, :, None]
    weighed = None if weights is None else weights.permute(0, 2, 1, 3).flatten(0, 1)[:, :, None]
    return pool(single, weighed).view(count, steps, -1)


def _scaled(scale: Scale, features: Tensor) -> Tensor:
    """Features (W, T', D) scaled, with a column of ones."""
    return scale(features.flatten(0, 1)).view(*features.shape[:2], -1)


def fit(
    features: Tensor,
    targets: Tensor,
    classes: int,
    rates: Sequence[float],
    config: SegmentationConfig,
    seed: int,
    report: Report | None = None,
) -> Tensor:
    """Train one linear classifier per learning rate by SGD on the cross-entropy of frames, all of them at once.

    Args:
        features: (W, T', D + 1), the last column is 1 and carries the biases.
        targets: (W, window) int64 on the CPU, -100 for padding.
        classes: number of classes.
        rates: G learning rates; all start from the same weights and see the same batches.
        config: everything else.
        seed: of the initial weights, N(0, 0.02) with biases 0, and of the shuffling.
        report: called after every epoch with its mean loss and the weights.

    Returns:
        Weights (D + 1, G, classes).
    """
    spread = stretch(features.shape[1], targets.shape[1]).to(features.device)
    targets = targets.to(features.device)
    padded = targets == IGNORED
    frames = (~padded).sum(1).cpu()

    def gradient(rows: Tensor, weights: Tensor) -> Gradient:
        inputs, blank = features.index_select(0, rows), padded.index_select(0, rows)
        target = functional.one_hot(targets[rows].masked_fill(blank, 0), classes)[:, :, None]
        outputs = spread @ (inputs @ weights)
        logits = outputs.view(*outputs.shape[:2], -1, classes)
        log_likelihood = functional.log_softmax(logits, dim=3).masked_fill_(blank[:, :, None, None], 0)
        loss = -(log_likelihood * target).sum() if report else None
        # As in linear: no denormal numbers.
        outputs = log_likelihood.clamp_(min=-40).exp_().sub_(target).masked_fill_(blank[:, :, None, None], 0)
        steps = spread.T @ outputs.flatten(2)
        return Gradient(inputs.flatten(0, 1), steps.flatten(0, 1), int(frames[rows.cpu()].sum()), loss)

    descent = Descent(
        [(rate, 0.0) for rate in rates],
        config.epochs,
        config.batch,
        drop_last=False,
        momentum=config.momentum,
        init_std=_INIT_STD,
        seed=seed,
        rate=falling(config.milestones),
    )
    return descent.run(len(features), (features.shape[2], classes), features.device, gradient, report)
