"""Evaluation on untrimmed recordings: what a protocol gets to see of them, and what its scores per frame are worth.

Test labels are touched in ``record_frames`` and in the reported curve, and nowhere else.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from torch import Tensor

from engine.bench import Bench, stage_seed
from engine.config import BenchError
from engine.files import write_arrays
from engine.records import Record
from engine.stages import Stage
from protocols.base import Outcome, Protocol, UntrimmedContext
from protocols.segmentation_metrics import HEADLINE, confusion, evaluate_frames, majority, mean_iou


def evaluate_recordings(stage: Stage, bench: Bench, protocol: Protocol[UntrimmedContext]) -> Record:
    """Evaluate the frozen encoder of a pre-training, the stage's parent, on the stage's untrimmed recordings."""
    (parent,) = stage.parents
    split, method = bench.recordings(stage), bench.method(parent, stage.labels.stream)
    method.eval()
    labels = split.train.labels.numpy()
    wanted = protocol.label_count(labels)
    if len(labels) != wanted:
        raise BenchError(f"{stage} sees {len(labels)} labels, but the protocol's definition asks for {wanted}.")
    epochs = getattr(stage.choice.config, "epochs", 0)
    windows = 0
    curve: list[dict[str, float]] = []

    def progress(done: int, total: int) -> None:
        nonlocal windows
        windows = total
        bench.reporter.update(done, total, f"{done:,}/{total:,} windows", False)

    def report(epoch: int, loss: float, scores: Tensor) -> None:
        counts = confusion(scores.argmax(1).numpy(), split.test.labels.numpy(), len(split.classes))
        point = {"epoch": float(epoch), f"test_{HEADLINE}": 100 * float(mean_iou(counts))}
        curve.append(point | ({"loss": loss} if math.isfinite(loss) else {}))
        bench.reporter.update(windows + epoch, windows + max(epochs, epoch), f"epoch {epoch}, loss {loss:.3f}")

    context = UntrimmedContext(
        encoder=method.encoder,
        attention=method.attention,
        layout=split.layout,
        stream=stage.labels.stream,
        rules=split.rules,
        train=split.train,
        group=split.group,
        test_frames=split.test.frames,
        test_offsets=split.test.offsets,
        test_ids=split.test.ids,
        classes=len(split.classes),
        seed=stage_seed(stage),
        device=bench.device,
        progress=progress,
        report=report,
    )
    outcome = protocol.run(context)
    known = {name: value for name, value in bench.record(parent).facts.items() if not name.endswith("_clips")}
    return record_frames(stage, bench, outcome, known | dict(outcome.facts) | {"labels": len(labels)}, curve)


def record_frames(
    stage: Stage, bench: Bench, outcome: Outcome, facts: dict[str, Any], curve: list[dict[str, float]]
) -> Record:
    """Measure scores (F, classes) of the test frames, store them, and make the record.

    Beside the measures there are those of the majority class (``majority_miou`` ...), ``best_on_test``, and the background's
    share of the test frames (``background``, percent).
    """
    split = bench.recordings(stage)
    truth, scores = split.test.labels.numpy(), outcome.scores.float().cpu().numpy()
    if not np.isfinite(scores).all():
        raise BenchError(f"{stage}: scores are not finite, the classifier diverged; try smaller learning rates.")
    prediction = scores.argmax(1).astype(np.int64)
    measured = evaluate_frames(prediction, truth, split.test.offsets, len(split.classes))
    metrics = dict(measured.values)
    constant = majority(split.train.labels.numpy(), truth, len(split.classes))
    metrics |= {f"majority_{name}": value for name, value in constant.items()}
    if best := [point[f"test_{HEADLINE}"] for point in curve]:
        metrics["best_on_test"] = max(best)
    arrays = {
        "scores": scores,
        "prediction": prediction,
        "label": truth,
        "offsets": split.test.offsets,
        "id": np.array(split.test.ids),
        "influence": measured.influence,
    }
    write_arrays(bench.store.result(stage), arrays)
    facts |= {
        "headline": HEADLINE,
        "train_recordings": len(split.train),
        "test_recordings": len(split.test),
        "background": 100 * float((truth == 0).mean()),
        "classes": list(split.classes),
        "iou": measured.iou,
        "confusion": measured.confusion.tolist(),
    }
    if math.isfinite(split.fps):
        facts["fps"] = split.fps
    return stage.record(metrics, curve, facts)
