"""What a step is given: images, outputs, losses and the parts that a caller brings, each held to what a step needs.

Every function raises InputError, in one sentence, for what is something else.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from gradaug.subnets.sampler import Draw
from netslim.errors import InputError


def first_of(output: Any, count: int, of: int) -> Any:
    """The output for the first `count` images of `of`."""
    if count == of:
        return output
    if isinstance(output, Mapping):  # of any class, such as a library's own kind of dict
        cut: Any = copy.copy(output)
        for key, value in output.items():
            cut[key] = first_of(value, count, of)
        return cut
    return tree_map_only(Tensor, lambda t: t[:count] if t.ndim and len(t) == of else t, output)


def batch_of(images: Tensor, unlabelled: Tensor | None) -> Tensor:
    for batch in (images,) if unlabelled is None else (images, unlabelled):
        if not isinstance(batch, Tensor) or batch.ndim == 0 or len(batch) == 0:
            shown = f"shape {tuple(batch.shape)}" if isinstance(batch, Tensor) else f"a {type(batch).__name__}"
            raise InputError(f"images are to be a tensor (N, ...) with one image at least, not {shown}")
        if batch.shape[1:] != images.shape[1:]:
            raise InputError(
                f"unlabelled images of shape {tuple(batch.shape[1:])} do not go with labelled ones of shape "
                f"{tuple(images.shape[1:])}: give both the same shape"
            )
    return images if unlabelled is None else torch.cat([images, unlabelled])


def one_number(loss: Any) -> Tensor:
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        shown = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
        raise InputError(f"the criterion is to return one number, a mean over the batch, and returned {shown}")
    return loss.reshape(())


def drawn(draws: Sequence[Draw]) -> tuple[Draw, ...]:
    for one in draws:
        if not isinstance(one, Draw):
            raise InputError(f"draws are a list of gradaug.Draw, and this one holds {one!r}")
    return tuple(draws)


def require_common(optimizer: torch.optim.Optimizer, net: nn.Module) -> None:
    """InputError unless the optimizer holds some of the network's parameters: those of a part may be all that learn."""
    own = {id(parameter) for parameter in net.parameters() if parameter.requires_grad}
    groups = getattr(optimizer, "param_groups", ())
    if not any(id(parameter) in own for group in groups for parameter in group["params"]):
        raise InputError(
            "the optimizer holds none of the network's parameters that want a gradient: build it with net.parameters() "
            "of the converted network, after anything that replaces them"
        )


def function(name: str, value: Any, needed: bool = False) -> Any:
    if not callable(value) and (needed or value is not None):
        raise InputError(f"{name} must be a function{'' if needed else ' or None'}, not {value!r}")
    return value


def precision(amp: Any) -> torch.dtype | None:
    if amp not in (None, torch.bfloat16, torch.float16):
        raise InputError(f"amp must be torch.bfloat16, torch.float16 or None, not {amp!r}")
    return amp


def loss_scaler(scaler: Any) -> torch.amp.GradScaler | None:
    if scaler is not None and not isinstance(scaler, torch.amp.GradScaler):
        raise InputError(f"scaler must be a torch.amp.GradScaler or None, not {scaler!r}")
    return scaler
