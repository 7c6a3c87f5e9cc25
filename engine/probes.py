"""Looks into finished runs: small arrays about data and networks, for figures. Nothing here is a result that ranks."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from datasets.actionlets import actionlet_iou, score_actionlets
from datasets.clips import ClipSet, Split, to_storage
from datasets.corruptions import CORRUPTIONS, VERSION
from datasets.streams import to_stream
from engine.bench import Bench, stage_seed
from engine.config import BenchError, digest
from engine.files import read_arrays, write_json
from engine.stages import Stage
from engine.train import seed_of
from engine.work import extract
from methods.base import Method, Step
from protocols.base import EvalContext, FeatureConfig, Protocol
from protocols.metrics import top1

Array = NDArray[np.float32]

_SEED = 0
"""All methods see the same corrupted clips and, as far as they draw alike, the same views."""
_CLIPS = 2000
"""Test clips that robustness is measured on; of more, so many spread evenly over the test part."""
_BATCH = 128


@dataclass(frozen=True)
class Shown:
    """A clip that stands for its class.

    Attributes:
        index: in the test part.
        label: its class.
        poses: (T, M, V, 3), metres.
    """

    index: int
    label: int
    poses: Array


def examples(split: Split, count: int) -> list[Shown]:
    """The most upright test clip of ``count`` classes, which are spread evenly over their numbers.

    Upright: the mean direction from the lowest joints of the first person to the highest lies nearest to the vertical.
    """
    labels = split.test.labels.cpu().numpy()
    known = np.unique(labels)
    classes = known[np.linspace(0, len(known) - 1, min(count, len(known))).round().astype(int)]
    lean = _lean(split)
    found = []
    for label in classes:
        rows = np.flatnonzero(labels == label)
        index = int(rows[np.argmin(lean[rows])])
        found.append(Shown(index, int(label), poses(split.test.clips[index : index + 1])[0]))
    return found


def _lean(split: Split) -> NDArray[np.float64]:
    """Angle (n,) between the vertical and the mean line from each test clip's feet to its head."""
    first = split.test.clips[..., 0].mean(dim=2).cpu().numpy().astype(np.float64)  # (n, 3, V)
    order = np.argsort(first[:, 1].mean(axis=0), kind="stable")
    ends = max(1, len(order) // 6)
    line = first[:, :, order[-ends:]].mean(axis=2) - first[:, :, order[:ends]].mean(axis=2)
    return np.asarray(np.arctan2(np.hypot(line[:, 0], line[:, 2]), line[:, 1]))


def poses(clips: Tensor) -> Array:
    """Clips (N, C, T, V, M) as (N, T, M, V, 3)."""
    return np.asarray(to_storage(clips).permute(0, 2, 1, 3, 4).float().cpu().numpy())


def average_motion(split: Split) -> Array:
    """The average of all training clips (T, M, V, 3), what ActCLR compares a clip with (actclr.md Eq. 2)."""
    (average,) = poses(split.train.clips.mean(dim=0, keepdim=True))
    return np.asarray(average)


def attends(method: Method) -> bool:
    """Whether a method attends to something."""
    return type(method).attention is not Method.attention


@torch.no_grad()
def attention(method: Method, clips: Tensor) -> NDArray[np.float32]:
    """What a method attends to (N, M, T, V) in 0..1, its actionlets; those of the encoder's maps are stretched to T frames.

    Args:
        method: with its weights.
        clips: joint clips (N, C, T, V, M).

    Raises:
        BenchError: it attends to nothing.
    """
    method.eval()
    frames, found = clips.shape[2], []
    for batch in torch.split(clips, _BATCH):
        mask = method.attention(method.encoder(to_stream(batch, method.context.stream, method.context.layout)))
        if mask is None:
            raise BenchError(f"{type(method).__name__} attends to nothing")
        rows = torch.arange(frames, device=mask.device) * mask.shape[2] // frames
        found.append(mask[:, :, rows].float().cpu())
    return np.asarray(torch.cat(found).numpy(), np.float32)


def fit(mask: Array, truth: NDArray[np.bool_], test: ClipSet) -> tuple[NDArray[np.float64], str]:
    """How well masks fit the joints that truly move: IoU of every clip in percent, and a line about all of them.

    Args:
        mask: (n, M, T, V) in 0..1, see :func:`attention`; above 0.5 is inside.
        truth: (n, M, T, V).
        test: the clips.
    """
    score = score_actionlets(torch.from_numpy(mask), truth, test.clips, test.presence)
    present = test.presence.cpu().numpy()[:, :, None, None]
    each = 100 * actionlet_iou((mask >= 0.5) & present, truth)
    others = f"chance {score['iou_chance']:.1f} %, fastest joints {score['iou_energy']:.1f} %"
    return each, f"IoU {score['iou']:.1f} % over {len(test)} test clips ({others})"


@torch.no_grad()
def views(method: Method, clips: Tensor) -> list[Array]:
    """The augmented views of joint clips (N, C, T, V, M) that a method draws in its first step: (N, T, M, V, 3) each."""
    generator = Generator(clips.device).manual_seed(seed_of(_SEED, "views"))
    return [poses(view) for view in method.views(clips, Step(1, 1, 0, 1, generator))]


def robustness(stage: Stage, bench: Bench) -> dict[str, list[float]]:
    """Top-1 of a finished evaluation on corrupted test clips, by kind and strength (:mod:`datasets.corruptions`).

    The protocol runs again as it did, on the stored features of the training clips, which are never corrupted: for strength 0
    it gives what the record says. Kept in ``<results>/probes``, so that it is measured once.

    Args:
        stage: an evaluation on features.
        bench: what it runs on.

    Raises:
        BenchError: the protocol does not work on features, or what it needs is gone.
    """
    if stage.kind != "evaluate" or stage.parents[0].kind != "features":
        raise BenchError(f"{stage} does not work on features")
    protocol: Protocol[Any] = stage.choice.plugin.load()(stage.choice.config)
    split = bench.split(stage)
    if protocol.draws(split.train.labels.cpu().numpy(), split.digest):
        raise BenchError(f"{stage} is a mean over draws of labels")
    strengths = {name: list(kind.strengths) for name, kind in CORRUPTIONS.items()}
    asked = {"version": VERSION, "stage": stage.key, "strengths": strengths, "clips": _CLIPS}
    path = bench.store.results / "probes" / "robustness" / f"{digest(asked)}.json"
    try:
        found: dict[str, list[float]] = json.loads(path.read_bytes())["top1"]
        return found
    except (OSError, ValueError, KeyError):
        pass
    (parent,) = stage.parents
    count = len(split.test)
    rows = np.linspace(0, count - 1, min(count, _CLIPS)).round().astype(np.int64)
    test = split.test.subset(rows)
    bench.reporter.jobs += 1
    with bench.reporter.stage(f"robustness of {stage}", f"robustness of {stage.labels.method}"):
        features = _corrupted_features(parent, bench, test)
    scores = _scores(stage, bench, protocol, split, torch.cat(list(features.values())))
    labels = test.labels.cpu().numpy()
    reached = dict(
        zip(features, (top1(one, labels) for one in scores.reshape(len(features), len(test), -1)), strict=True)
    )
    result = {name: [reached["", 0.0], *(reached[name, s] for s in strengths[name][1:])] for name in strengths}
    write_json(path, {**asked, "method": stage.labels.method, "protocol": stage.labels.protocol, "top1": result})
    return result


def _corrupted_features(stage: Stage, bench: Bench, test: ClipSet) -> dict[tuple[str, float], Tensor]:
    """Features of test clips by kind and strength of the corruption; those of the clean clips are there once."""
    config = stage.choice.config
    assert isinstance(config, FeatureConfig)
    method = bench.method(stage.parents[0])
    method.eval()
    layout, device = method.context.layout, test.clips.device
    wanted = [("", 0.0), *((name, s) for name, kind in CORRUPTIONS.items() for s in kind.strengths[1:])]
    found = {}
    for number, (name, strength) in enumerate(wanted, 1):
        clips = test.clips
        if name:  # drawn on the CPU, whose random numbers are the same everywhere
            generator = Generator().manual_seed(seed_of(_SEED, name))
            clips = CORRUPTIONS[name].apply(clips.cpu(), strength, layout, generator).to(device)
        corrupted = ClipSet(clips, test.labels, test.presence, test.ids, test.groups, test.lengths)
        generator = Generator(device).manual_seed(seed_of(stage_seed(stage), "test"))
        found[name, strength] = torch.cat(list(extract(method, corrupted, config, generator))).float()
        bench.reporter.update(number, len(wanted), f"{number}/{len(wanted)} corruptions", True)
    return found


def _scores(stage: Stage, bench: Bench, protocol: Protocol[Any], split: Split, features: Tensor) -> NDArray[np.float32]:
    """Scores of any features by a protocol that is fitted as it was for the record."""
    stored = torch.from_numpy(read_arrays(bench.store.result(stage.parents[0]))["train"]).to(bench.device)
    fit, held_out = split.validation()
    context = EvalContext(
        train_features=stored,
        train_labels=split.train.labels,
        test_features=features,
        classes=len(split.classes),
        fit=fit,
        held_out=held_out,
        seed=stage_seed(stage),
        report=lambda epoch, loss, scores: None,
    )
    return np.asarray(protocol.run(context).scores.float().cpu().numpy())
