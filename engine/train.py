"""The one training loop, of methods and protocols: optimiser, schedule, precision, checkpoints; resumes bit for bit on CPU."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from torch import Generator, Tensor, nn

from datasets.clips import ClipSet, from_storage, to_storage
from datasets.streams import to_stream
from encoders.base import Encoder
from engine import checkpoints
from engine.config import BenchError, TrainConfig
from engine.memory import keep_freed_memory
from engine.ranks import ALONE, Ranks
from methods.base import Method, Step

_LOOK_EVERY = {"cpu": 1, "cuda": 20}
"""Steps between two looks at the losses: reading a number of a GPU makes it wait for everything that is queued there."""


@dataclass(frozen=True)
class Progress:
    """Where a training run stands, after a step."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    losses: dict[str, float]
    clips_per_second: float


class DivergenceError(BenchError):
    """The loss is no longer finite."""


def seed_of(seed: int, *names: object) -> int:
    """A seed for one purpose, derived from the run's seed and the purpose's names."""
    text = "/".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


def optimiser(
    network: nn.Module, config: TrainConfig, rate: Callable[[str], float]
) -> tuple[torch.optim.Optimizer, list[float]]:
    """The optimiser of a network's trainable parameters that a train config describes.

    Returns:
        The optimiser, and what the learning rate of each of its groups of parameters is multiplied by.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            decay = config.weight_decay if config.decay_vectors or parameter.ndim > 1 else 0.0
            groups.setdefault((rate(name), decay), []).append(parameter)
    parameters = [{"params": group, "weight_decay": decay} for (_, decay), group in groups.items()]
    factors = [factor for factor, _ in groups]
    if config.optimiser == "sgd":
        return torch.optim.SGD(parameters, config.lr, config.momentum, nesterov=config.nesterov), factors
    return torch.optim.AdamW(parameters, config.lr, (0.9, config.beta2)), factors


def learning_rate(config: TrainConfig, epoch: int, step: int, steps: int, warmup_epochs: int = 0) -> float:
    """Learning rate of a step.

    Args:
        config: settings.
        epoch: 1-based; the step schedule decays in epochs *after* a milestone, as the released code.
        step: steps done before this one.
        steps: steps of the whole run.
        warmup_epochs: the rate of epoch e is e / ``warmup_epochs`` of itself until it is all of it.
    """
    warmup = max(config.warmup_steps, round(config.warmup_share * steps))
    base = config.lr * min(1.0, epoch / max(warmup_epochs, 1))
    lr = base * min(1.0, (step + 1) / max(warmup, 1))
    if config.schedule == "step":
        return lr * config.gamma ** sum(epoch > milestone for milestone in config.milestones)
    if step < warmup:
        return lr
    end = min(config.lr_end, lr)
    return end + (lr - end) * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1)))


def batches(count: int, config: TrainConfig, generator: Generator) -> Iterator[Tensor]:
    """Shuffled index batches of one epoch."""
    order = torch.randperm(count, generator=generator, device=generator.device)
    size = min(config.batch, count)
    stop = count - count % size if config.drop_last else count
    for start in range(0, stop, size):
        yield order[start : start + size]


@dataclass(frozen=True)
class Training:
    """What the loop trains.

    Attributes:
        network: its trainable parameters are optimised, its whole state is in the checkpoint.
        config: settings of the loop.
        count: samples in an epoch.
        losses: named scalar losses of the samples ``index`` (n,); their sum is minimised.
        device: where the network is.
        metrics: scalars of the last step that are worth keeping.
        after_step: called after the optimiser's step.
        after_last: called once after the last epoch, before the last checkpoint.
        after_epoch: numbers to add to the epoch's row of the curve; must leave the network as it was.
        rate: what the learning rate of the parameter of that name is multiplied by.
        warmup_epochs: linear warm-up in steps of an epoch, see :func:`learning_rate`.
        ranks: the processes that train it together; ``losses`` and ``after_step`` are called on all of them.
    """

    network: nn.Module
    config: TrainConfig
    count: int
    losses: Callable[[Tensor, Step], Mapping[str, Tensor]]
    device: torch.device
    metrics: Callable[[], Mapping[str, Tensor]] = dict
    after_step: Callable[[Step], None] = lambda step: None
    after_last: Callable[[], None] = lambda: None
    after_epoch: Callable[[int], Mapping[str, float]] = lambda epoch: {}
    rate: Callable[[str], float] = lambda name: 1.0
    warmup_epochs: int = 0
    ranks: Ranks = ALONE


def pretrain(
    method: Method,
    clips: ClipSet,
    *,
    seed: int,
    checkpoint: Path | None = None,
    report: Callable[[Progress], None] = lambda _: None,
    tell: Callable[[str], None] = print,
    ranks: Ranks = ALONE,
) -> list[dict[str, float]]:
    """Train a method in place; see :func:`fit`.

    Args:
        method: built and, where it starts from another's run, already started.
        clips: training clips on the device of the method.
        seed: as for :func:`fit`.
        checkpoint: as for :func:`fit`.
        report: as for :func:`fit`.
        tell: as for :func:`fit`.
        ranks: the processes that do this together, each with all of the clips.
    """
    config, context = method.config.train, method.context
    stored = to_storage(clips.clips)
    if config.epochs:
        ranks.divide(method, config.batch_norm)

    def losses(index: Tensor, step: Step) -> Mapping[str, Tensor]:
        views = method.views(from_storage(stored.index_select(0, index)), step)
        if not method.all_streams:
            views = tuple(to_stream(view, context.stream, context.layout) for view in views)
        return method(views, step)  # type: ignore[no-any-return]

    def recalibrated() -> None:
        for stream, encoder in method.encoders().items() if config.recalibrate else ():
            recalibrate(encoder, clips.clips, config.batch, partial(to_stream, stream=stream, layout=context.layout))

    def after_step(step: Step) -> None:
        method.after_step(step)
        if config.batch_norm != "sync":
            ranks.average_statistics(method)

    training = Training(
        method,
        config,
        len(clips),
        losses,
        clips.clips.device,
        metrics=method.metrics,
        after_step=after_step,
        after_last=recalibrated,
        ranks=ranks,
    )
    return fit(training, seed=seed, checkpoint=checkpoint, report=report, tell=tell)


def fit(
    training: Training,
    *,
    seed: int,
    checkpoint: Path | None = None,
    report: Callable[[Progress], None] = lambda _: None,
    tell: Callable[[str], None] = print,
) -> list[dict[str, float]]:
    """Train a network in place.

    Args:
        training: what, and how.
        seed: seed of this run; every epoch derives its own, so that a resumed run repeats it exactly.
        checkpoint: file that is read when it exists and rewritten, atomically, after every epoch (:mod:`engine.checkpoints`).
        report: called after every step on a CPU, after every 20th and the last one of an epoch on a GPU.
        tell: takes a line about a damaged checkpoint.

    Returns:
        One row per epoch: ``epoch``, ``loss``, every named loss and metric (means over the epoch) and ``lr``.

    Raises:
        DivergenceError: a loss or a weight became NaN or infinite; the message names epoch, step, losses and the last
            good checkpoint.
        BenchError: too few clips for one batch, another number of processes than ``batch_norm`` says, or a checkpoint that
            does not fit.
    """
    network, config, count, ranks = training.network, training.config, training.count, training.ranks
    if config.epochs == 0:
        return []
    if count < 2:
        raise BenchError(f"Training needs at least 2 clips, got {count}.")
    if config.batch_norm not in ("sync", f"local-{ranks.size}"):
        raise BenchError(
            f"train.batch_norm={config.batch_norm} is for a pre-training by that many processes, not {ranks.size} "
            "(docs/cluster.md)."
        )
    for module in network.modules():
        if isinstance(module, Encoder):
            module.precision = config.precision
            module.compiled = torch.compile(module.forward, dynamic=False) if config.compile else None
    device = training.device
    if device.type == "cpu":
        keep_freed_memory()
    generator = Generator(device)
    trainable = [p for p in network.parameters() if p.requires_grad]
    optim, factors = optimiser(network, config, training.rate)
    per_epoch = len(list(batches(count, config, Generator(device))))
    steps = per_epoch * config.epochs
    curve: list[dict[str, float]] = []
    if checkpoint is not None:
        curve = _restore(checkpoint, network, optim, tell, ranks)
    network.train()
    with checkpoints.Writer(checkpoint) if checkpoint and ranks.first else nullcontext() as writer:
        for epoch in range(len(curve) + 1, config.epochs + 1):
            torch.manual_seed(seed_of(seed, "dropout", epoch, *filter(None, [ranks.rank])))
            generator.manual_seed(seed_of(seed, "views", epoch))
            sums: dict[str, Tensor] = {}
            unseen: list[tuple[tuple[str, ...], Tensor]] = []
            started = time.perf_counter()
            for number, index in enumerate(batches(count, config, generator)):
                step = Step(epoch, config.epochs, (epoch - 1) * per_epoch + number, steps, generator)
                lr = learning_rate(config, epoch, step.index, steps, training.warmup_epochs)
                for group, factor in zip(optim.param_groups, factors, strict=True):
                    group["lr"] = lr * factor
                losses = training.losses(index, step)
                loss = torch.stack(list(losses.values())).sum()
                values = {"loss": loss.detach(), **{name: value.detach() for name, value in losses.items()}}
                unseen.append((tuple(values), torch.stack([value.float() for value in values.values()])))
                due = len(unseen) == _LOOK_EVERY[device.type] or number + 1 == per_epoch
                if due:
                    numbers = iter(torch.cat([terms for _, terms in unseen]).tolist())  # one copy from the device
                    for at, (names, terms) in enumerate(unseen, number + 2 - len(unseen)):
                        seen = dict(zip(names, islice(numbers, len(terms)), strict=True))
                        if not all(map(math.isfinite, seen.values())):
                            named = ", ".join(f"{name} = {value:.4g}" for name, value in seen.items())
                            place = f"epoch {epoch}, step {at} of {per_epoch}"
                            raise DivergenceError(f"Loss is not finite in {place}: {named}. {_good(checkpoint, curve)}")
                    unseen.clear()
                optim.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                ranks.average_gradients(trainable)
                if config.clip_norm is not None:
                    nn.utils.clip_grad_norm_(trainable, config.clip_norm)
                optim.step()
                training.after_step(step)
                for name, value in {**values, **training.metrics()}.items():
                    sums[name] = sums.get(name, torch.zeros((), device=device)) + value
                if due:
                    rate = (number + 1) * len(index) / (time.perf_counter() - started)
                    report(Progress(epoch, config.epochs, step.index + 1, steps, seen.pop("loss"), seen, rate))
            if broken := _not_finite(network):
                place = f"after epoch {epoch}, step {per_epoch}"
                raise DivergenceError(f"The weights {broken} are not finite {place}. {_good(checkpoint, curve)}")
            if epoch == config.epochs:
                training.after_last()
            row = {name: float(value) / per_epoch for name, value in sums.items()}
            curve.append({"epoch": float(epoch), **row, "lr": lr, **training.after_epoch(epoch)})
            if writer:
                writer.save({"network": network.state_dict(), "optimiser": optim.state_dict(), "curve": curve})
    return curve


@torch.no_grad()
def recalibrate(encoder: Encoder, clips: Tensor, batch: int, prepare: Callable[[Tensor], Tensor] = lambda x: x) -> None:
    """Replace an encoder's BatchNorm running statistics by averages over clean clips, dropout off.

    Args:
        encoder: changed in place, in training mode afterwards.
        clips: (N, C, T, V, M).
        batch: clips per average; an incomplete last batch is left out.
        prepare: what the encoder gets from a batch, e.g. its stream.
    """
    norms = [m for m in encoder.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    encoder.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative average
        norm.train()
    for start in range(0, len(clips) - len(clips) % min(batch, len(clips)), batch):
        encoder(prepare(clips[start : start + batch]))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    encoder.train()


def _good(checkpoint: Path | None, curve: list[dict[str, float]]) -> str:
    """Which checkpoint was written before all went wrong."""
    if checkpoint is None or not curve:
        return "There is no checkpoint from before."
    return f"Last good checkpoint: {'/'.join(checkpoint.parts[-4:])}, after epoch {len(curve)}."


@torch.no_grad()
def _not_finite(network: nn.Module) -> str:
    """The first trained parameter that holds NaN or infinity, "" if none does; the device is waited for once."""
    names, values = zip(*((name, p) for name, p in network.named_parameters() if p.requires_grad), strict=True)
    finite = torch.stack([value.isfinite().all() for value in values]).tolist()
    return next((name for name, is_finite in zip(names, finite, strict=True) if not is_finite), "")


def _restore(
    checkpoint: Path, network: nn.Module, optim: torch.optim.Optimizer, tell: Callable[[str], None], ranks: Ranks
) -> list[dict[str, float]]:
    """Continue from the newest whole checkpoint, if there is one; returns its curve."""
    path, state = (ranks.first and checkpoints.load(checkpoint, tell)) or (checkpoint, None)
    state = ranks.same(state)
    if state is None:
        return []
    try:
        network.load_state_dict(state["network"])
        optim.load_state_dict(state["optimiser"])
        curve: list[dict[str, float]] = list(state["curve"])
    except Exception as error:
        raise BenchError(
            f"Checkpoint {path} is of another network ({error}); delete it to start this stage anew."
        ) from error
    return curve
