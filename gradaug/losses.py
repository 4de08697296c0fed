"""The two losses of a step, for whatever a classifier returns.

    task_loss(output, labels)         full network against the labels: cross-entropy
    distillation(output, target)      sub-network against the full network: KL(target || output)

A classifier may return a tensor of logits (N, classes), a tuple whose first tensor is the logits (GoogLeNet and
Inception in train mode: ``GoogLeNetOutputs(logits, aux_logits2, aux_logits1)``) or a mapping ({"logits": ...},
{"out": ..., "aux": ...}).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from netslim.errors import InputError

MAIN_KEYS = ("logits", "out", "output")
AUXILIARY_WEIGHT = 0.3
"""Weight of each auxiliary head's cross-entropy (Szegedy et al. 2015, section 5)."""


def heads(output: Any) -> tuple[Tensor, ...]:
    """The logits of every head, the main one first; raises InputError when there is none."""
    if isinstance(output, Tensor):
        return (output,)
    if isinstance(output, Mapping):
        tensors = {key: value for key, value in output.items() if isinstance(value, Tensor)}
        main = next((key for key in MAIN_KEYS if key in tensors), next(iter(tensors)) if len(tensors) == 1 else None)
        if main is None:
            raise InputError(
                f"the network returns a mapping with keys {sorted(map(str, output))}, none of which is "
                f"{' or '.join(MAIN_KEYS)}: return the logits under one of these names"
            )
        found = [tensors.pop(main), *tensors.values()]
    elif isinstance(output, (tuple, list)):
        found = [value for value in output if isinstance(value, Tensor)]
    else:
        found = []
    if not found:
        raise InputError(
            f"the network returns {type(output).__name__} without logits in it: return a tensor (N, classes)"
        )
    return (found[0], *(head for head in found[1:] if head.shape == found[0].shape))


def main_output(output: Any) -> Tensor:
    """The main logits (N, classes)."""
    return heads(output)[0]


def task_loss(output: Any, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy in nats, plus 0.3 times that of each auxiliary head.

    `labels`: class numbers (N,), or class probabilities (N, classes) as CutMix, Mixup and soft labels give;
    `smoothing` of either is spread evenly over the classes.
    """
    main, *auxiliary = heads(output)
    loss = F.cross_entropy(main, labels, label_smoothing=smoothing)
    for head in auxiliary:
        loss = loss + AUXILIARY_WEIGHT * F.cross_entropy(head, labels, label_smoothing=smoothing)
    return loss


def task_loss_smoothed(smoothing: float) -> Callable[[Any, Tensor], Tensor]:
    """:func:`task_loss` with `smoothing` of every label spread evenly over the classes (Szegedy et al. 2016)."""
    return functools.partial(task_loss, smoothing=smoothing) if smoothing else task_loss


def distillation(
    output: Any,
    target: Tensor,
    temperature: float = 1.0,
    divergence: str = "kl",
    mix: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Divergence of a sub-network from the full network in nats, summed over classes, mean over the batch.

    `target`: the full network's logits (N, classes); detached here too, so that no gradient flows into the teacher.
    "kl" is KL(softmax(target) || softmax(output)), the paper's; "alpha" is :func:`alpha_divergence`. The paper uses no
    temperature; another T divides both logits and multiplies the loss by T^2 (Hinton et al. 2015). `mix` maps the full
    network's probabilities (N, classes) to those of the images that the sub-network saw, where these were mixed.
    """
    student = F.log_softmax(_wide(main_output(output)) / temperature, dim=-1)
    teacher = F.log_softmax(_wide(target.detach()) / temperature, dim=-1)
    if mix is not None:
        teacher = mix(teacher.exp()).log()
    if divergence == "alpha":
        return alpha_divergence(teacher, student) * temperature**2
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2


def _wide(logits: Tensor) -> Tensor:
    """Half-precision logits in float32."""
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def alpha_divergence(teacher: Tensor, student: Tensor, clip: float = 5.0) -> Tensor:
    """The larger of two alpha-divergences of each image, mean over the batch (Wang et al. 2021, AlphaNet, section 3).

    With p the teacher's and q the student's probabilities (both given as logarithms, (N, classes)): alpha = 1 is
    KL(p || q), which punishes a student that is too sure; alpha = -1 is (sum q^2 / p - 1) / 2, which punishes one that
    is not sure enough. The ratio q / p is clipped at `clip`, so that rare classes do not dominate.
    """
    towards = (teacher.exp() * (teacher - student)).sum(-1)
    ratio = (student - teacher).clamp(max=math.log(clip)).exp()
    away = ((student.exp() * ratio).sum(-1) - 1) / 2
    return torch.maximum(towards, away).mean()
