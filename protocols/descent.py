"""Linear classifiers trained by SGD on cross-entropy, several settings side by side in one matrix."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Report = Callable[[int, float, Tensor], None]
"""``report(epoch, loss, weights)``: mean training loss of the epoch over all trials, (D + 1, G, classes) after it."""


@dataclass(frozen=True)
class Gradient:
    """The gradient of a batch's loss, as the product that it is.

    Attributes:
        inputs: (n, D + 1).
        outputs: (n, G * classes), of the summed loss by the outputs; ``inputs.T @ outputs`` is that by the weights.
        samples: number of samples that the loss is a mean over.
        loss: summed over samples and trials; ``None`` where nobody asked.
    """

    inputs: Tensor
    outputs: Tensor
    samples: int
    loss: Tensor | None = None


@dataclass(frozen=True)
class Descent:
    """How to descend.

    Attributes:
        trials: G pairs of learning rate and weight decay; each is trained as it would be alone.
        epochs: passes over the samples.
        batch: samples per step.
        drop_last: drop the last incomplete batch, unless it is the only one.
        momentum: of SGD, without Nesterov.
        init_std: of the initial weights, which all trials share; biases start at 0.
        seed: of initial weights and shuffling.
        rate: ``rate(epoch, done)``: what learning rates are multiplied by in an epoch (1-based) after that share of all steps.
    """

    trials: Sequence[tuple[float, float]]
    epochs: int
    batch: int
    drop_last: bool
    momentum: float
    init_std: float
    seed: int
    rate: Callable[[int, float], float]

    def run(
        self,
        count: int,
        shape: tuple[int, int],
        device: torch.device,
        gradient: Callable[[Tensor, Tensor], Gradient],
        report: Report | None = None,
    ) -> Tensor:
        """Train all trials at once.

        Args:
            count: number of samples.
            shape: D + 1, the last input being 1 and carrying the biases, and the number of classes.
            device: where the weights are.
            gradient: of samples (n,) for weights (D + 1, G * classes).
            report: called after every epoch.

        Returns:
            Weights (D + 1, G, classes).
        """
        width, classes = shape
        generator = torch.Generator().manual_seed(self.seed)
        initial = torch.randn(width, 1, classes, generator=generator) * self.init_std
        initial[-1] = 0
        weights = initial.to(device).repeat(1, len(self.trials), 1).flatten(1)
        velocity = torch.zeros_like(weights)
        rate, decay = torch.tensor(self.trials, device=device).repeat_interleave(classes, 0).T.contiguous()
        batch = min(self.batch, count)
        used = count - count % batch if self.drop_last else count
        steps, step = -(-used // batch) * self.epochs, 0
        for epoch in range(1, self.epochs + 1):
            order = torch.randperm(count, generator=generator).to(device)
            total, samples = torch.zeros((), device=device), 0
            for rows in torch.split(order[:used], batch):
                found = gradient(rows, weights)
                samples += found.samples
                if found.loss is not None:
                    total += found.loss
                velocity.addmm_(found.inputs.T, found.outputs, beta=self.momentum, alpha=1 / max(found.samples, 1))
                velocity.addcmul_(weights, decay)
                weights.addcmul_(velocity, -rate * self.rate(epoch, step / steps))
                step += 1
            if report:
                loss = float(total) / max(samples * len(self.trials), 1)
                report(epoch, loss, weights.view(width, -1, classes))
        return weights.view(width, -1, classes)


def falling(milestones: Sequence[int]) -> Callable[[int, float], float]:
    """A rate that falls to a tenth in epochs after each milestone."""
    return lambda epoch, done: 0.1 ** sum(epoch > milestone for milestone in milestones)
