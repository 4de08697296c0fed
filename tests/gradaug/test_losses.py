"""Losses on every shape of output a classifier may have."""

from __future__ import annotations

from collections import OrderedDict, namedtuple

import pytest
import torch
import torch.nn.functional as F

from gradaug.tasks.losses import distillation, require_answers, smoothed, task_loss
from gradaug.tasks.outputs import heads, main_output
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


pixels, others = torch.randn(2, 2, 5, 6, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("divergence", ["kl", "alpha"])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_every_position_is_an_answer_of_its_own(divergence: str, dims: int) -> None:
    """The loss of (N, classes, ...) is that of all its positions as one batch of (N, classes)."""
    shape = (2, 5, 3, 4, 2)[: 2 + dims]
    output, target = torch.randn(2, *shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    flat = [one.movedim(1, -1).reshape(-1, 5) for one in (output, target)]
    for temperature in (1.0, 3.0):
        expected = distillation(*flat, temperature, divergence)
        torch.testing.assert_close(
            distillation({"out": output, "aux": target}, target, temperature, divergence), expected
        )


def test_mixed_targets_of_pixels_are_mixed_before_they_are_compared() -> None:
    mixed = distillation(pixels, others, mix=lambda p: 0.25 * p + 0.75 * p.flip(0))
    target = 0.25 * others.softmax(1) + 0.75 * others.softmax(1).flip(0)
    torch.testing.assert_close(mixed, (target * (target.log() - pixels.log_softmax(1))).sum(1).mean())


def test_the_answer_to_a_smaller_picture_is_enlarged() -> None:
    small = torch.randn(2, 5, 4, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    enlarged = F.interpolate(small, size=(6, 7), mode="bilinear", align_corners=True)
    torch.testing.assert_close(distillation(small, others), distillation(enlarged, others))


@pytest.mark.parametrize("shape", [(2, 4, 6, 7), (1, 5, 6, 7), (2, 5, 42), (2, 5), (2, 5, 6, 3)], ids=str)
def test_outputs_that_cannot_be_compared_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="cannot be compared"):
        distillation(torch.randn(shape), others)


def test_boxes_of_another_number_are_no_smaller_picture() -> None:
    """(N, classes, anchors, positions): one side stays, the other shrinks by another factor."""
    with pytest.raises(InputError, match="cannot be compared"):
        distillation(torch.randn(2, 5, 3, 36), torch.randn(2, 5, 3, 64))


@pytest.mark.parametrize("divergence", ["kl", "alpha"])
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("far", [150.0, 3e4, 1e30])
def test_a_network_that_is_very_sure_is_a_target_like_any_other(divergence: str, mixed: bool, far: float) -> None:
    output = torch.zeros(2, 3, 2, requires_grad=True)
    target = torch.tensor([[2 * far, 0.0, -far], [0.0, far, 0.0]]).unsqueeze(2).expand(2, 3, 2)
    loss = distillation(output, target, 1.0, divergence, (lambda p: 0.5 * p + 0.5 * p.flip(0)) if mixed else None)
    loss.backward()
    assert bool(torch.isfinite(loss))
    assert output.grad is not None
    assert bool(torch.isfinite(output.grad).all())
    if divergence == "kl":
        expected = torch.tensor(3.0).log() - (torch.tensor(2.0).log() if mixed else 0.0)
        torch.testing.assert_close(loss.detach(), expected)


@pytest.mark.parametrize("divergence", ["kl", "alpha"])
def test_a_class_that_is_masked_out_adds_nothing(divergence: str) -> None:
    hidden = torch.tensor([0.0, 0.0, 0.0, 0.0, float("-inf")], dtype=torch.float64)
    output = (logits + hidden).requires_grad_()
    loss = distillation(output, other + hidden, divergence=divergence)
    torch.testing.assert_close(loss, distillation(logits[:, :4], other[:, :4], divergence=divergence))
    (gradient,) = torch.autograd.grad(loss, output)
    assert bool(torch.isfinite(gradient).all())


def test_a_mixture_keeps_the_shape() -> None:
    with pytest.raises(InputError, match="the shape must stay"):
        distillation(logits, other, mix=lambda p: p.mean(1, keepdim=True))


@pytest.mark.parametrize("shape", [(4,), (4, 1), (4, 1, 6, 7), ()], ids=str)
def test_a_single_number_has_no_probabilities(shape: tuple[int, ...]) -> None:
    output = torch.zeros(shape)
    with pytest.raises(InputError, match="single number"):
        distillation(output, output)
    with pytest.raises(InputError, match="single number"):
        task_loss(output, torch.zeros(shape))


def test_whole_numbers_are_no_logits() -> None:
    with pytest.raises(InputError, match=r"torch.int64: return logits"):
        task_loss(logits.argmax(1, keepdim=True).expand(4, 2), labels)


def test_losses_keep_their_precision_under_autocast() -> None:
    narrow, wide = (one.float() for one in (logits, other))
    with torch.autocast("cpu", torch.bfloat16):
        mixing = torch.eye(4)
        mixed = distillation(narrow, wide, mix=lambda p: mixing @ p)  # a product, which autocast would do in bf16
        task = task_loss(narrow.bfloat16(), labels)
    torch.testing.assert_close(mixed, distillation(narrow, wide))
    assert task.dtype == torch.float32
    torch.testing.assert_close(task, F.cross_entropy(narrow.bfloat16().float(), labels))


def test_labels_of_pixels() -> None:
    numbers = torch.randint(0, 5, (2, 6, 7), generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(task_loss({"out": pixels}, numbers), F.cross_entropy(pixels, numbers))
    numbers[0] = -100
    torch.testing.assert_close(task_loss(pixels, numbers), F.cross_entropy(pixels[1:], numbers[1:]))
    torch.testing.assert_close(task_loss(pixels, others.softmax(1)), F.cross_entropy(pixels, others.softmax(1)))


def test_class_numbers_of_any_whole_type() -> None:
    for dtype in (torch.uint8, torch.int16, torch.int32):
        assert task_loss(logits, labels.to(dtype)) == task_loss(logits, labels)
    torch.testing.assert_close(task_loss(logits, F.one_hot(labels, 5)), task_loss(logits, labels))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (labels + 1, r"label 5 is none of the network's 5 classes, 0 to 4"),
        (labels - 1, r"label -1 is none"),
        (labels[:, None], r"labels of shape \(4, 1\) do not fit logits of shape \(4, 5\)"),
        (labels[:2], r"they are to be \(4,\)"),
        (labels.double(), r"no class numbers \(4,\) and no probabilities of shape \(4, 5\)"),
        (logits, r"add up to 1 over dim 1"),
        ([0, 1, 2, 3], r"labels are a list"),
    ],
    ids=["too large", "negative", "a column", "too few", "numbers", "logits", "a list"],
)
def test_labels_that_do_not_fit_are_named(wrong: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        task_loss(logits, wrong)  # type: ignore[arg-type]


def test_sequences_have_their_classes_in_dim_1() -> None:
    tokens, numbers = torch.randn(2, 7, 5), torch.zeros(2, 7, dtype=torch.long)
    require_answers(tokens.transpose(1, 2), numbers)
    for given in (numbers, numbers.flatten(), numbers[:, 0]):
        with pytest.raises(InputError, match=r"to be transposed to \(N, classes, L\)"):
            require_answers(tokens, given)


def test_labels_of_a_criterion_of_ones_own() -> None:
    """Any that may be answers: at another size, in a channel of their own, or no tensor at all."""
    for shape in ((2, 6, 7), (2, 12, 14), (2, 1, 6, 7)):
        require_answers(pixels, torch.zeros(shape, dtype=torch.long))
    require_answers(pixels, {"boxes": 3})
    require_answers(logits, torch.zeros(4, 2, dtype=torch.long))


def test_settings_are_checked() -> None:
    for wrong in ({"divergence": "js"}, {"temperature": 0.0}, {"temperature": float("nan")}):
        with pytest.raises(InputError, match=f"{next(iter(wrong))} must be"):
            distillation(logits, other, **wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="label_smoothing must be"):
        smoothed(task_loss, 1.5)
