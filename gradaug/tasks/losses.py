"""The two losses of a step, for whatever a classifier returns.

    task_loss(output, labels)         full network against the labels: cross-entropy
    distillation(output, target)      sub-network against the full network: KL(target || output)

Which of an output's tensors are logits: :mod:`gradaug.tasks.outputs`. As for torch's ``cross_entropy``, dim 1 of the
logits is the classes and every further dim counts positions: (N, classes) for images, (N, classes, H, W) for pixels,
(N, classes, L) for the tokens of sequences.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from gradaug.config.values import checked
from gradaug.tasks.outputs import heads, main_output
from netslim.errors import InputError

AUXILIARY_WEIGHT = 0.3
"""Weight of each auxiliary head's cross-entropy (Szegedy et al. 2015, section 5)."""
UNLABELLED = -100
"""Label of a position that has none, as in torch's ``cross_entropy``."""


# ------------------------------------------------------------------------------------------ what can be learned


def require_classes(logits: Tensor) -> None:
    """InputError unless dim 1 of `logits` is two or more classes."""
    if not logits.is_floating_point():
        raise InputError(f"the network returns {logits.dtype}: return logits, before any argmax or rounding")
    if logits.ndim < 2 or logits.shape[1] < 2:
        raise InputError(
            f"the network returns numbers of shape {tuple(logits.shape)}, not logits (N, classes): a single number has "
            "no probabilities over classes that a sub-network could learn. One logit that says yes or no, or several "
            "labels an image, are task=MultiLabel() (--task multilabel); numbers to be predicted are task=Regression() "
            "(--task regression); for two classes return two logits, with class numbers as labels"
        )


def require_answers(logits: Tensor, labels: object, values: bool = True) -> None:
    """InputError where `labels` show that `logits` (N, classes, ...) are something else, whatever the criterion.

    Numbers instead of probabilities are those of a regression or of several labels an image, and labels that lie along
    another dim are those of logits (N, L, classes). `values`: look at the numbers, which waits for a GPU.
    """
    require_classes(logits)
    if not isinstance(labels, Tensor):
        return
    shape, given = tuple(logits.shape), tuple(labels.shape)
    if labels.is_floating_point() or given == shape:
        if given != shape or (values and not _are_probabilities(labels)):
            raise InputError(
                f"labels of shape {given} ({labels.dtype}) are no class numbers {_of_numbers(shape)} and no "
                f"probabilities of shape {shape} that add up to 1 over dim 1, the classes: what they say cannot be "
                "taught to sub-networks by softmax. Several labels an image are task=MultiLabel() (--task multilabel), "
                "numbers to be predicted are task=Regression() (--task regression)"
            )
    elif len(shape) > 2 and not _lie_along(given, shape):
        raise InputError(
            f"labels of shape {given} do not fit logits of shape {shape}, whose dim 1 is the classes: labels are "
            f"{_of_numbers(shape)}, and logits (N, L, classes) are to be transposed to (N, classes, L)"
        )


def _lie_along(labels: tuple[int, ...], logits: tuple[int, ...]) -> bool:
    """Whether labels of a shape may be those of the positions of logits, which may be fewer than the image's."""
    if len(labels) == len(logits) and labels[1] == 1:  # one channel of labels
        labels = (labels[0], *labels[2:])
    positions = (logits[0], *logits[2:])
    return labels == positions or (len(labels) == len(positions) and labels != logits[:-1])


def _are_probabilities(labels: Tensor) -> bool:
    numbers = labels.detach().double()
    return bool(((numbers >= 0).all() & ((numbers.sum(1) - 1).abs() < 1e-2).all()).item())


def _of_numbers(shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, (shape[0], *shape[2:])))}{',' if len(shape) == 2 else ''})"


# ------------------------------------------------------------------------------------------ full network, labels


def task_loss(output: object, labels: Tensor, smoothing: float = 0.0, auxiliary: float = AUXILIARY_WEIGHT) -> Tensor:
    """Mean cross-entropy in nats, plus `auxiliary` times that of each auxiliary head; computed in float32 at least.

    `labels`: class numbers (N, ...), or class probabilities (N, classes, ...) as CutMix, Mixup and soft labels give;
    `smoothing` of either is spread evenly over the classes. Positions with label -100 do not count; where all have it,
    the loss is 0. Raises InputError for labels of another shape and, on the CPU, for numbers that are no classes or no
    probabilities.
    """
    found = heads(output)
    labels = fitted(labels, found[0])
    main, *others = (_cross_entropy(head, labels, smoothing) for head in found)
    return sum((auxiliary * loss for loss in others), start=main)


Criterion = Callable[..., Tensor]


def smoothed(criterion: Criterion, smoothing: float) -> Criterion:
    """`criterion`, which takes a `smoothing`, with that share of every label over all classes (Szegedy et al. 2016)."""
    smoothing = checked("label_smoothing", smoothing)
    return functools.partial(criterion, smoothing=smoothing) if smoothing else criterion


def _cross_entropy(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    with without_autocast(logits):
        logits = wide(logits)
        if labels.is_floating_point():
            return F.cross_entropy(logits, labels.to(logits.dtype), label_smoothing=smoothing)
        total = F.cross_entropy(logits, labels, label_smoothing=smoothing, ignore_index=UNLABELLED, reduction="sum")
        return total / (labels != UNLABELLED).sum().clamp(min=1)


def fitted(labels: Tensor, logits: Tensor) -> Tensor:
    """`labels` that answer `logits`, class numbers as int64; InputError where they do not."""
    if not isinstance(labels, Tensor):
        raise InputError(f"labels are a {type(labels).__name__}: give a tensor of class numbers")
    on_cpu = labels.device.type == "cpu"
    require_answers(logits, labels, on_cpu)
    if labels.device != logits.device:
        raise InputError(f"labels are on {labels.device} and the network's output on {logits.device}: move the labels")
    shape, classes = tuple(logits.shape), logits.shape[1]
    if labels.is_floating_point() or labels.shape == logits.shape:
        return wide(labels) if labels.is_floating_point() else labels.to(logits.dtype)
    if tuple(labels.shape) != (shape[0], *shape[2:]):
        raise InputError(
            f"labels of shape {tuple(labels.shape)} do not fit logits of shape {shape}, whose dim 1 is the classes: "
            f"they are to be {_of_numbers(shape)}"
        )
    labels = labels.long()
    wrong = labels[((labels < 0) | (labels >= classes)) & (labels != UNLABELLED)] if on_cpu else labels[:0]
    if wrong.numel():
        raise InputError(
            f"label {int(wrong[0])} is none of the network's {classes} classes, 0 to {classes - 1}; a label of "
            f"{UNLABELLED} leaves a position out"
        )
    return labels


# ------------------------------------------------------------------------------------------ sub-network, full network


def distillation(
    output: object,
    target: Tensor,
    temperature: float = 1.0,
    divergence: str = "kl",
    mix: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Divergence of a sub-network from the full network in nats, summed over classes, mean over batch and positions.

    `target`: the full network's logits (N, classes, ...); detached here too, so that no gradient flows into the
    teacher. "kl" is KL(softmax(target) || softmax(output)), the paper's; "alpha" is :func:`alpha_divergence`. The paper
    uses no temperature; another T divides both logits and multiplies the loss by T^2 (Hinton et al. 2015). `mix` maps
    the full network's probabilities (N, classes, ...) to those of the images that the sub-network saw, where these were
    mixed. An output (N, classes, h, w) of smaller images is enlarged to the target's size, as the images were made
    smaller. Computed in float32 at least, under autocast too. Raises InputError for outputs that hold no classes.
    """
    temperature, divergence = checked("temperature", temperature), checked("divergence", divergence)
    logits, target = main_output(output), target.detach()
    require_classes(logits)
    require_classes(target)
    with without_autocast(logits):
        student = F.log_softmax(at_size(wide(logits), target) / temperature, dim=1)
        teacher = F.log_softmax(wide(target) / temperature, dim=1)
        if mix is not None:
            teacher = _logarithm(_mixed(mix, teacher.exp()))
        loss = alpha_divergence(teacher, student) if divergence == "alpha" else kl(teacher, student).mean()
        return loss * temperature**2


def alpha_divergence(teacher: Tensor, student: Tensor, clip: float = 5.0) -> Tensor:
    """The larger of two alpha-divergences of each answer, mean over them (Wang et al. 2021, AlphaNet, section 3).

    With p the teacher's and q the student's probabilities (both given as logarithms, (N, classes, ...)): alpha = 1 is
    KL(p || q), which punishes a student that is too sure; alpha = -1 is (sum q^2 / p - 1) / 2, which punishes one that
    is not sure enough. The ratio q / p is clipped at `clip`, so that rare classes do not dominate.
    """
    ratio = (student - teacher.clamp_min(torch.finfo(teacher.dtype).min)).clamp(max=math.log(clip)).exp()
    away = ((student.exp() * ratio).sum(1) - 1) / 2
    return torch.maximum(kl(teacher, student), away).mean()


def kl(teacher: Tensor, student: Tensor, dim: int = 1) -> Tensor:
    """KL(p || q) over the outcomes along `dim`, of logarithms; one without probability adds nothing, whatever q is.

    InputError where there is one outcome alone, whose divergence is zero whatever the network says.
    """
    if teacher.shape[dim] < 2:
        raise InputError(f"logits of shape {tuple(teacher.shape)} have one outcome along dim {dim}: nothing to learn")
    p = teacher.exp()
    return torch.where(p > 0, p * (teacher - student), 0.0).sum(dim)


def _mixed(mix: Callable[[Tensor], Tensor], probabilities: Tensor) -> Tensor:
    mixed = mix(probabilities)
    if mixed.shape != probabilities.shape:
        raise InputError(
            f"the view mixes probabilities of shape {tuple(probabilities.shape)} to {tuple(mixed.shape)}: the shape "
            "must stay"
        )
    return mixed


def _logarithm(probabilities: Tensor) -> Tensor:
    """The logarithm, and a finite number where a probability is zero."""
    return probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny).log()


def at_size(logits: Tensor, target: Tensor) -> Tensor:
    """Logits (N, classes, ...) at the positions of `target`: a picture of another size is resized."""
    if logits.shape == target.shape:
        return logits
    size, wanted = logits.shape[2:], target.shape[2:]
    if logits.shape[:2] == target.shape[:2] and len(size) == len(wanted) == 2 and _scaled_alike(size, wanted):
        return F.interpolate(logits, size=wanted, mode="bilinear", align_corners=True)
    raise InputError(
        f"a sub-network returns {tuple(logits.shape)} where the full network returns {tuple(target.shape)}: they "
        "cannot be compared. Give all the same images (resolutions=(), no transform that changes their size)"
    )


def _scaled_alike(size: Sequence[int], wanted: Sequence[int]) -> bool:
    """Whether both sides have changed by one factor, up to the rounding of a layer with strides."""
    sides = list(zip(size, wanted, strict=True))
    return max((n - 1) / m for n, m in sides) <= min((n + 1) / m for n, m in sides)


def enlarged(logits: Tensor, masks: Tensor) -> Tensor:
    """Logits (N, classes, h, w) at the size of `masks` (N, H, W), bilinear as in transformers (align_corners=False).

    InputError unless both sides are the masks', or one part of them. What is no picture is returned as it is.
    """
    if not isinstance(masks, Tensor) or logits.ndim != 4 or masks.ndim < 3 or not logits.is_floating_point():
        return logits
    size, wanted = tuple(logits.shape[2:]), tuple(masks.shape[-2:])
    if size == wanted:
        return logits
    if not _of_strides(size, wanted):
        raise InputError(
            f"logits of {size[0]} x {size[1]} pixels are no smaller picture of masks of {wanted[0]} x {wanted[1]}: "
            "both sides are to be those of the masks, or the same part of them; give masks of the images' size"
        )
    with without_autocast(logits):
        return F.interpolate(wide(logits), size=wanted, mode="bilinear", align_corners=False)


def _of_strides(size: Sequence[int], wanted: Sequence[int]) -> bool:
    """Whether layers with strides make maps of `size` of `wanted`: n = floor(m * factor + c) with one factor, one c."""
    sides = list(zip(size, wanted, strict=True))
    return all(n <= m for n, m in sides) and any(
        max((n - c) / m for n, m in sides) < min((n + 1 - c) / m for n, m in sides) for c in (0, 0.5, 1)
    )


# ------------------------------------------------------------------------------------------ precision


def wide(numbers: Tensor) -> Tensor:
    """Half precision in float32."""
    return numbers.float() if numbers.dtype in (torch.float16, torch.bfloat16) else numbers


def without_autocast(like: Tensor) -> contextlib.AbstractContextManager[object]:
    """What is computed inside keeps its dtype, under an autocast of the caller's too."""
    kind = like.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else contextlib.nullcontext()
