"""A converted network whose modules ``torch.distributed.fsdp.fully_shard`` was given, while it runs.

Hooks gather the parameters of a sharded module when it is called. Layers are called; containers are not, since a
program stands for their forward, so theirs are gathered before it runs. After a backward pass it is the network's own
hook that lets go of them and exchanges their gradients.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import nn

from netslim.errors import InputError
from netslim.ir.plan import Plan
from netslim.source.sharded import sharded
from netslim.trace.meta import at


def passed(plan: Plan, root: nn.Module) -> list[nn.Module]:
    """The modules that programs go through to layers that they call and parameters that they read; each once."""
    found: dict[int, nn.Module] = {}
    for region, known in plan.regions.items():
        nodes = [node for program in known.programs.values() for node in program if node.op in ("module", "param")]
        for target in dict.fromkeys(node.target for node in nodes):
            path = target.rpartition(".")[0]
            while len(path) > len(region):
                module = at(root, path)
                found[id(module)] = module
                path = path.rpartition(".")[0]
    return list(found.values())


@contextlib.contextmanager
def gathered(modules: Sequence[nn.Module], net: nn.Module) -> Iterator[None]:
    """With whole parameters in those of the `passed` modules that are sharded; without gradients only for a while.

    Raises as `require_exchanged` does.
    """
    found = sharded(modules)
    require_exchanged(found, net)
    for module in found:
        module.unshard()
    try:
        yield
    finally:
        if not torch.is_grad_enabled():
            for module in found:
                module.reshard()


def require_exchanged(modules: Sequence[nn.Module], net: nn.Module) -> None:
    """InputError where some of the `passed` modules are sharded, and `net` itself is not."""
    if sharded(modules) and not sharded([net]):
        raise InputError(
            "parts of the network that its forward goes through without calling them (containers) are sharded, and the "
            "network itself is not, so that nothing would exchange their gradients: call fully_shard on it too, last"
        )


def require_unsharded(modules: Sequence[nn.Module]) -> None:
    """InputError for a network whose parts are to be called one by one, where one of `modules` is sharded."""
    if sharded(modules):
        raise InputError(
            "the parts of this network are called one by one, which gathers no parameters that fully_shard has spread: "
            "train it with DistributedDataParallel, or shard none but its layers"
        )
