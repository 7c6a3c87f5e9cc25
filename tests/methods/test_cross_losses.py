"""Losses across streams against slow twins."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from methods.cmd import DistillConfig, distilled
from methods.crossclr import CrossConfig, Similarities, mined


def similarities(seed: int) -> Similarities:
    generator = torch.Generator().manual_seed(seed)
    own, query, key = (2 * torch.rand(3, n, generator=generator, dtype=torch.float64) - 1 for n in (1, 7, 7))
    return Similarities(own, query.requires_grad_(), key)


@pytest.mark.parametrize("form", ["log_sum", "mean_log"])
@pytest.mark.parametrize("context", [True, False])
@pytest.mark.parametrize("topk", [1, 2])
def test_mined_positives(form, context, topk) -> None:
    one, other = similarities(0), similarities(1)
    total = 0.0
    for row in range(3):
        s, v = one.query[row].tolist(), other.query[row].tolist()
        nearest = sorted(range(7), key=lambda i: -v[i])[:topk]
        columns = [one.own[row].item(), *s] + ([a * b for a, b in zip(s, v, strict=True)] if context else [])
        positive = [0] + [1 + i for i in nearest] + ([8 + i for i in nearest] if context else [])
        whole = sum(math.exp(c / 0.07) for c in columns)
        shares = [math.exp(columns[i] / 0.07) / whole for i in positive]
        total += -math.log(sum(shares)) if form == "log_sum" else -sum(map(math.log, shares)) / len(shares)
    loss = mined(one, other, CrossConfig(form=form, context=context, topk=topk), 0.07)
    assert loss.item() == pytest.approx(total / 3)
    loss.backward()
    assert one.query.grad is not None
    assert (other.query.grad is not None) == context  # through the products


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_distilled_neighbourhoods(share) -> None:
    teacher, student = similarities(2), similarities(3)
    total = 0.0
    for row in range(3):
        key, query = teacher.key[row].numpy(), student.query[row].detach().numpy()
        nearest = np.argsort(-key)[: round(7 * share)]

        def softmax(values: Tensor) -> Tensor:
            e = np.exp(values - values.max())
            return e / e.sum()

        p, q = softmax(key[nearest] / 0.05), softmax(query[nearest] / 0.1)
        total += float((p * np.log(p / q)).sum())
    loss = distilled(teacher, student, DistillConfig(share=share))
    assert loss.item() == pytest.approx(total / 3)
    loss.backward()
    assert teacher.query.grad is None
    assert student.query.grad is not None
