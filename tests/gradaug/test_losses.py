"""Losses on every shape of output a classifier may have."""

from __future__ import annotations

from collections import OrderedDict, namedtuple

import pytest
import torch
import torch.nn.functional as F

from gradaug.losses import distillation, heads, main_output, task_loss
from netslim.errors import InputError

GoogLeNetOutputs = namedtuple("GoogLeNetOutputs", ["logits", "aux_logits2", "aux_logits1"])
logits, other = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
labels = torch.tensor([0, 3, 4, 1])


@pytest.mark.parametrize(
    "output",
    [
        logits,
        (logits, other),
        [logits],
        GoogLeNetOutputs(logits, other, None),
        {"aux": other, "out": logits},
        OrderedDict(loss=None, logits=logits),
        {"anything": logits},
    ],
    ids=["tensor", "tuple", "list", "namedtuple", "aux first", "model output", "only one"],
)
def test_the_main_logits_are_found(output: object) -> None:
    assert main_output(output) is logits


@pytest.mark.parametrize(
    "output", [None, (), {"a": logits, "b": other}, {}], ids=["none", "empty", "two names", "no name"]
)
def test_no_logits_is_a_clear_error(output: object) -> None:
    with pytest.raises(InputError, match=r"the network returns .* return"):
        main_output(output)


def test_auxiliary_heads_count_three_tenths() -> None:
    expected = F.cross_entropy(logits, labels) + 0.3 * F.cross_entropy(other, labels)
    torch.testing.assert_close(task_loss(GoogLeNetOutputs(logits, other, None), labels), expected)


def test_features_beside_the_logits_are_no_head() -> None:
    assert len(heads((logits, torch.randn(4, 64)))) == 1


def test_mixed_labels_mix_the_losses() -> None:
    second = torch.tensor([1, 1, 2, 0])
    mixed = 0.3 * F.one_hot(labels, 5).double() + 0.7 * F.one_hot(second, 5).double()
    expected = 0.3 * F.cross_entropy(logits, labels) + 0.7 * F.cross_entropy(logits, second)
    torch.testing.assert_close(task_loss(logits, mixed), expected)


def test_distillation_is_kl_summed_over_classes_and_meaned_over_the_batch() -> None:
    p, q = other.softmax(-1), logits.softmax(-1)
    torch.testing.assert_close(distillation(logits, other), (p * (p / q).log()).sum() / 4)
    torch.testing.assert_close(distillation(logits, logits), torch.zeros((), dtype=torch.float64))


def test_the_teacher_gets_no_gradient() -> None:
    student, teacher = logits.clone().requires_grad_(), other.clone().requires_grad_()
    distillation((student, other), teacher).backward()
    assert teacher.grad is None
    torch.testing.assert_close(student.grad, (logits.softmax(-1) - other.softmax(-1)) / 4)


def test_temperature_keeps_the_scale_of_the_gradient() -> None:
    torch.testing.assert_close(distillation(logits, other, 2.0), 4 * distillation(logits / 2, other / 2))


def test_smoothed_labels_are_spread_over_the_classes() -> None:
    smoothed = 0.9 * F.one_hot(labels, 5).double() + 0.1 / 5
    torch.testing.assert_close(task_loss(logits, labels, 0.1), F.cross_entropy(logits, smoothed))


def test_the_alpha_divergence_is_the_larger_of_two() -> None:
    p = torch.tensor([[0.5, 0.5], [0.9, 0.1]], dtype=torch.float64)
    q = torch.tensor([[0.8, 0.2], [0.6, 0.4]], dtype=torch.float64)
    kl = (p * (p / q).log()).sum(-1)  # 0.2231, 0.2263
    chi = ((q * q / p).sum(-1) - 1) / 2  # 0.18, 0.5
    assert kl[0] > chi[0]
    assert kl[1] < chi[1]
    torch.testing.assert_close(distillation(q.log(), p.log(), divergence="alpha"), (kl[0] + chi[1]) / 2)
    assert float(distillation(logits, logits, divergence="alpha")) == pytest.approx(0)


def test_the_alpha_divergence_clips_the_ratio() -> None:
    p, q = torch.tensor([[1 - 1e-6, 1e-6]]), torch.tensor([[0.5, 0.5]])
    loss = distillation(q.log(), p.log(), divergence="alpha")
    torch.testing.assert_close(
        loss,
        torch.tensor((0.5 * 0.5 + 0.5 * 5.0 - 1) / 2).clamp(min=float(loss.new_tensor(2.0).log())),
        atol=1e-4,
        rtol=0,
    )


def test_mixed_images_have_mixed_targets() -> None:
    target = 0.25 * other.softmax(-1) + 0.75 * other.softmax(-1).flip(0)
    mixed = distillation(logits, other, mix=lambda p: 0.25 * p + 0.75 * p.flip(0))
    torch.testing.assert_close(mixed, (target * (target.log() - logits.log_softmax(-1))).sum() / 4)


def test_half_precision_logits_are_compared_in_single() -> None:
    half = distillation(logits.half(), other.half())
    assert half.dtype == torch.float32
    torch.testing.assert_close(half.double(), distillation(logits, other), rtol=1e-2, atol=1e-3)
