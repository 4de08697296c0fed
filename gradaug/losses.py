"""The two losses of a step, for whatever a classifier returns.

    task_loss(output, labels)         full network against the labels: cross-entropy
    distillation(output, target)      sub-network against the full network: KL(target || output)

A classifier may return a tensor of logits (N, classes), a tuple whose first tensor is the logits (GoogLeNet and
Inception in train mode: ``GoogLeNetOutputs(logits, aux_logits2, aux_logits1)``) or a mapping ({"logits": ...},
{"out": ..., "aux": ...}).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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


def task_loss(output: Any, labels: Tensor) -> Tensor:
    """Mean cross-entropy in nats, plus 0.3 times that of each auxiliary head.

    `labels`: class numbers (N,), or class probabilities (N, classes) as CutMix, Mixup and soft labels give.
    """
    main, *auxiliary = heads(output)
    loss = F.cross_entropy(main, labels)
    for head in auxiliary:
        loss = loss + AUXILIARY_WEIGHT * F.cross_entropy(head, labels)
    return loss


def distillation(output: Any, target: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(softmax(target) || softmax(output)) in nats, summed over classes, mean over the batch.

    `target`: the full network's logits (N, classes); detached here too, so that no gradient flows into the teacher.
    The paper uses no temperature; another T divides both logits and multiplies the loss by T^2 (Hinton et al. 2015).
    """
    student = F.log_softmax(main_output(output) / temperature, dim=-1)
    teacher = F.log_softmax(target.detach() / temperature, dim=-1)
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2
