"""A step where ``torch.distributed.fsdp.fully_shard`` has spread the network's parameters over the processes.

    fully_shard(net)
    ga = gradaug.GradAug(net, mode="both")

Every backward pass ends with the mean over the processes, of which each has its part, and the passes add up: nothing is
left to exchange. But gathering parameters and exchanging gradients is what all processes do together, so that in every
pass they must use the same ones.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import nn

from gradaug.distributed.processes import peers
from netslim import SlimNet
from netslim.errors import InputError
from netslim.net.runtime import runtime
from netslim.net.sharding import require_exchanged
from netslim.source.sharded import is_spread, settle, sharded
from netslim.source.wrapped import shells

FLATTENED = (
    "FullyShardedDataParallel flattens parameters, of which sub-networks take slices: call "
    "torch.distributed.fsdp.fully_shard on the network instead"
)


def is_flattened(found: object) -> bool:
    """Whether it is the older wrapper, whose class is not there before torch's module is imported."""
    kind = getattr(sys.modules.get("torch.distributed.fsdp"), "FullyShardedDataParallel", ())
    return issubclass(type(found), kind)


def begin(net: nn.Module, skips: Sequence[Sequence[str]]) -> None:
    """Before a step, whose sub-networks leave these blocks out: the weights are gathered anew.

    Raises InputError, in every process, where another one has other blocks.
    """
    settle(net)
    mesh = next((parameter.device_mesh for parameter in net.parameters() if is_spread(parameter)), None)
    if mesh is None:
        return
    mine = zlib.crc32(repr([sorted(names) for names in skips]).encode())
    said = torch.tensor([mine, -mine], device=mesh.device_type)
    for group in mesh.get_all_groups():
        with peers():
            dist.all_reduce(said, dist.ReduceOp.MAX, group=group)
    most, least = said.tolist()
    if most != -least:
        raise InputError(
            "processes that hold a network together (fully_shard) must leave out the same blocks in every pass: give "
            "GradAug the same seed and rank, and `draws` with the same blocks, in all of them"
        )


def require_gathered(net: nn.Module, called: object) -> None:
    """InputError where parameters of a converted network are spread, and calling `called` would not gather them."""
    if not isinstance(net, SlimNet):
        return
    passed = runtime(net).passed
    require_exchanged(passed, net)
    compiled = net._compiled_call_impl is not None or net in list(shells(called))[1:]
    if compiled and sharded(passed):
        raise InputError(
            "torch.compile cannot gather what fully_shard has spread over a container of the network: shard its layers "
            "and the network itself, or leave torch.compile out"
        )
    gathered = {id(parameter) for module in sharded(net.modules()) for parameter in module.parameters()}
    stray = (name for name, one in net.named_parameters() if is_spread(one) and id(one) not in gathered)
    if called is net and (name := next(stray, None)):
        raise InputError(
            f"the parameter {name} is spread over processes (a DTensor) by something around the network: call "
            "fully_shard on the network itself, or make GradAug before that, with what stands around as its `forward`"
        )
