"""Clips per second of the protocols that train or run the encoder, beside the encoder alone on the same batches.

Run by hand: ``python -m benchmarks.labelled [--threads 2] [--batch 64]``. Semi-supervised
training is fine-tuning on fewer clips.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from torch import Tensor

from benchmarks.steps import alone, generated, timed_steps
from benchmarks.tables import Table
from benchmarks.timing import best_seconds
from datasets.clips import to_storage
from datasets.layout import NTU25
from datasets.prepare import Preparation
from datasets.untrimmed import RecordingSet
from encoders.stgcn import STGCN, STGCNConfig
from engine import train
from engine.memory import keep_freed_memory
from protocols.base import EncoderContext, NetworkTraining, UntrimmedContext
from protocols.finetune import PUBLISHED, Finetune, FinetuneConfig
from protocols.segmentation import encode
from protocols.windows import cut_windows

CLASSES = 60
STEPS = 3


def finetune(precision: str, threads: int, batch: int) -> tuple[float, float]:
    """Clips per second of fine-tuning, and of the encoder's forward and backward pass alone."""
    torch.set_num_threads(threads)
    keep_freed_memory()
    clips = generated(batch * (STEPS + 1), NTU25).clips
    labels = torch.arange(len(clips)) % CLASSES
    config = FinetuneConfig(train=PUBLISHED.model_copy(update={"batch": batch, "epochs": 1, "precision": precision}))
    encoder = STGCN(STGCNConfig(), NTU25, 50, 2)
    times: list[float] = []

    def run(asked: NetworkTraining) -> Tensor:
        training = train.Training(
            asked.network,
            asked.config,
            len(clips),
            lambda index, step: asked.losses(index, step.generator),
            torch.device("cpu"),
        )
        times.extend(timed_steps(lambda report: train.fit(training, seed=0, report=report), STEPS))
        return torch.zeros(len(clips), CLASSES)

    Finetune(config).run(EncoderContext(encoder, clips, labels, clips[:0], CLASSES, NTU25, "joint", 0, run))
    encoder.train()
    encoder.precision = precision
    return batch / min(times), batch / best_seconds(lambda: encoder(clips[:batch]).sum().backward(), STEPS, 1)


def segmentation(threads: int, batch: int) -> tuple[float, float]:
    """Windows per second that segmentation cuts, prepares and encodes, and of the encoder's forward pass alone; float32."""
    torch.set_num_threads(threads)
    keep_freed_memory()
    encoder = STGCN(STGCNConfig(), NTU25, 50, 2).eval()
    clips = generated(4 * batch, NTU25).clips
    frames = to_storage(clips).transpose(1, 2).flatten(0, 1).contiguous()  # (F, M, V, 3), one long recording
    offsets = np.array([0, len(frames)], np.int64)
    windows = cut_windows(offsets, ("recording",), 50, 50)
    labels = torch.zeros(len(frames), dtype=torch.int64)
    recordings = RecordingSet(frames, labels, offsets, ("recording",), {})
    context = UntrimmedContext(
        encoder=encoder,
        attention=lambda maps: None,
        layout=NTU25,
        stream="joint",
        rules=Preparation(length="all"),
        train=recordings,
        group="",
        test_frames=frames,
        test_offsets=offsets,
        test_ids=("recording",),
        classes=2,
        seed=0,
        device=torch.device("cpu"),
        progress=lambda done, total: None,
        report=lambda *point: None,
    )
    rate = len(windows) / best_seconds(lambda: encode(windows, frames, context, "gap", batch=batch), STEPS, 1)
    with torch.no_grad():
        return rate, batch / best_seconds(lambda: encoder(clips[:batch]), STEPS, 1)


def table(threads: int = 2, batch: int = 64) -> Table:
    """Fine-tuning in both precisions, and the encoding of segmentation's windows."""
    rows = []
    for precision in ("float32", "bf16"):
        rates = alone(finetune, precision, threads, batch)
        rows.append((f"finetune, semi ({precision})", "forward and backward", *rates))
    rows.append(("segmentation (float32)", "forward", *alone(segmentation, threads, batch)))
    return Table(
        f"Protocols that run the encoder, batch {batch}, {threads} thread(s)",
        ("protocol", "passes", "clips/s", "encoder alone", "share"),
        [(name, what, f"{rate:.1f}", f"{bare:.1f}", f"{rate / bare:.2f}") for name, what, rate, bare in rows],
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=64)
    table(**vars(parser.parse_args())).show()


if __name__ == "__main__":
    main()
