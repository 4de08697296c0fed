"""What a step is given: losses and the parts that a caller brings, each held to what a step needs, and used.

Every function raises InputError, in one sentence, for what is something else.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gradaug.subnets.sampler import Draw
from netslim.errors import InputError


def one_number(loss: object) -> Tensor:
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        shown = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
        raise InputError(f"the criterion is to return one number, a mean over the batch, and returned {shown}")
    return loss.reshape(())


def learnable(loss: Tensor) -> Tensor:
    if not loss.requires_grad:
        raise InputError(
            "the loss has no gradient: all parameters are frozen, gradients are off (torch.no_grad) or the "
            "criterion returns a detached number"
        )
    return loss


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


def precision(amp: torch.dtype | None) -> torch.dtype | None:
    if amp not in (None, torch.bfloat16, torch.float16):
        raise InputError(f"amp must be torch.bfloat16, torch.float16 or None, not {amp!r}")
    return amp


def loss_scaler(scaler: object, backward: object = None) -> torch.amp.GradScaler | None:
    if scaler is not None and not isinstance(scaler, torch.amp.GradScaler):
        raise InputError(f"scaler must be a torch.amp.GradScaler or None, not {scaler!r}")
    if scaler is not None and backward is not None:
        raise InputError("a `backward` of your own scales the losses that it is given: leave `scaler` out")
    return scaler


def update(optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler | None) -> None:
    """The optimizer step, through the scaler where there is one."""
    if scaler is None:
        optimizer.step()
    else:
        scaler.step(optimizer)
        scaler.update()
