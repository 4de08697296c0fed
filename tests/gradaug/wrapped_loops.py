"""What two processes do in loops that take the gradients of losses themselves, beside the mean that one works out."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

import gradaug
import netslim
from gradaug.distributed import processes as sync
from gradaug.distributed.wrapper import one_exchange

from . import wrapped
from .processes import LAST_SKIPS, step_of
from .wrapped import (
    ONLY_WHAT_IS_FROZEN,
    Draws,
    expected,
    gradients,
    network,
    optimizer_of,
    parts,
    sampled,
    weights,
)


def answers() -> dict[str, Any]:
    return wrapped.answers() | {"loops": loops() | other_loops()}


def looped(
    net: netslim.SlimNet, ga: gradaug.GradAug, take: Callable[[Iterator[Tensor]], None], draws: Draws = sampled
) -> list[dict[str, Tensor | None]]:
    """The same where a loop takes the gradients of the losses itself."""
    optimizer, found, rank = optimizer_of(net), [], sync.current().rank
    for step in range(2):
        optimizer.zero_grad()
        for images, labels in parts(step, rank, ga.accumulate):
            take(ga.losses(images, labels, draws(step, rank)))
        found.append(gradients(net))
        optimizer.step()
    return [*found, weights(net)]


def in_turn(losses: Iterator[Tensor]) -> None:
    for loss in losses:
        loss.backward()


def all_first(losses: Iterator[Tensor]) -> None:
    for loss in list(losses):
        loss.backward()


def summed(losses: Iterator[Tensor]) -> None:
    torch.stack(list(losses)).sum().backward()


def in_two_sums(losses: Iterator[Tensor]) -> None:
    first, second, *others = losses
    (first + second).backward()
    sum(others[1:], start=others[0]).backward()


LOOPS = {"in turn": in_turn, "all first": all_first, "summed": summed, "in two sums": in_two_sums}
UNDER = {"plain": {}, "looking": {"find_unused_parameters": True}, "views": {"gradient_as_bucket_view": True}}


def loops() -> dict[str, tuple[Any, Any]]:
    """Each way of a loop to take the gradients of losses, and of a wrapper to have been built."""
    wanted, found = expected(network(), "both", 2, lambda *_: LAST_SKIPS), {}
    for name, take in LOOPS.items():
        for wrapper, options in UNDER.items():
            net = network()
            ga = step_of("both", DistributedDataParallel(net, **options))  # type: ignore[arg-type]
            found[f"{name}, {wrapper}"] = looped(net, ga, take, lambda *_: LAST_SKIPS), wanted
    return found


def other_loops() -> dict[str, tuple[Any, Any]]:
    """Where a step has parts, is told to wait, has a loss without a gradient last, or somebody else's exchange."""
    found = {}
    halved: Callable[[Iterator[Tensor]], None] = lambda losses: in_turn(loss / 2 for loss in losses)  # noqa: E731
    for name, take in (
        ("in turn", halved),
        ("summed", lambda losses: (torch.stack(list(losses)) / 2).sum().backward()),
    ):
        net = network()
        ga = step_of("both", DistributedDataParallel(net), accumulate=2)  # type: ignore[arg-type]
        found[f"parts {name}"] = looped(net, ga, take), expected(network(), "both", 2, accumulate=2)
    net = network()
    for parameter_name, parameter in net.named_parameters():
        parameter.requires_grad_(parameter_name.startswith("bodies"))
    twin = copy.deepcopy(net)
    ga, draws = step_of("both", DistributedDataParallel(net)), lambda *_: ONLY_WHAT_IS_FROZEN  # type: ignore[arg-type]
    found["frozen last"] = looped(net, ga, summed, draws), expected(twin, "both", 2, draws)
    found["waiting"] = waiting()
    net = network()
    ga = step_of("both", net)
    ddp = DistributedDataParallel(net)
    ga.forward = ddp

    def around(losses: Iterator[Tensor]) -> None:
        with one_exchange(ddp):
            in_turn(losses)

    found["another's exchange"] = looped(net, ga, around), expected(network(), "both", 2)
    return found


def waiting() -> tuple[Any, Any]:
    """Parts that the loop counts itself, all but the last under the wrapper's no_sync."""
    net, rank = network(), sync.current().rank
    ddp = DistributedDataParallel(net)
    ga, own = step_of("both", ddp), []  # type: ignore[arg-type]
    (first, second) = parts(0, rank, 2)
    with ddp.no_sync():
        summed(ga.losses(*first))
        own.append(gradients(net))
    in_turn(ga.losses(*second))
    twin, every = network(), []
    for process in range(2):
        other = step_of("both", twin)
        twin.zero_grad()
        for i, (images, labels) in enumerate(parts(0, process, 2)):
            other.backward(images, labels)
            if i == 0 and process == rank:
                every.append(gradients(twin))
        every.append(gradients(twin))
    alone = every.pop(0 if rank == 0 else 1)
    mean = {n: None if g is None else (g + every[1][n]) / 2 for n, g in every[0].items()}
    return [*own, gradients(net)], [alone, mean]
