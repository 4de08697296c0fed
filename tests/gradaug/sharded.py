"""What two processes do with a network that `fully_shard` has spread over them, beside what one process works out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh

import gradaug
import netslim
from gradaug.distributed import processes as sync
from gradaug.subnets.sampler import Draw
from netslim.errors import InputError

from .processes import LAST_SKIPS, MODES, batch, step_of
from .wrapped import ONLY_WHAT_IS_FROZEN, Draws, _sampled, expected, network, optimizer_of, parts

Shard = Callable[[nn.Module], object]


def sharder() -> Shard:
    """`fully_shard` over all processes, on the CPU."""
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (sync.current().size,))
    return lambda module: fully_shard(module, mesh=mesh)


def _leaves(net: nn.Module) -> list[nn.Module]:
    return [m for m in net.modules() if not list(m.children()) and list(m.parameters())]


def _containers(net: nn.Module) -> list[nn.Module]:
    return [net.get_submodule(f"bodies.{i}") for i in range(3)]


LAYOUTS: dict[str, Callable[[nn.Module], list[nn.Module]]] = {
    "root": lambda net: [net],
    "leaves": _leaves,
    "leaves and root": lambda net: [*_leaves(net), net],
    "containers and root": lambda net: [*_containers(net)[:2], net],
    "all": lambda net: [*_leaves(net), *_containers(net), net],
}


def spread(net: netslim.SlimNet, layout: str) -> netslim.SlimNet:
    shard = sharder()
    for module in LAYOUTS[layout](net):
        shard(module)
    return net


def whole(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor.clone()


def gradients(net: nn.Module) -> dict[str, Tensor | None]:
    return {name: whole(p.grad) for name, p in net.named_parameters()}


def weights(net: nn.Module) -> dict[str, Tensor | None]:
    return {name: whole(p.detach()) for name, p in net.named_parameters()}


def given(net: netslim.SlimNet, ga: gradaug.GradAug, steps: int, draws: Draws = _sampled) -> list[Any]:
    """The gradients of every step from this process's part, and the weights at last."""
    optimizer, found, rank = optimizer_of(net), [], sync.current().rank
    for step in range(steps):
        optimizer.zero_grad()
        for images, labels in parts(step, rank, ga.accumulate):
            ga.backward(images, labels, draws(step, rank))
        sync.average_gradients(net.parameters())
        found.append(gradients(net))
        optimizer.step()
    return [*found, weights(net)]


def pair(
    mode: str, layout: str, first: bool = False, draws: Draws = _sampled, frozen_norms: bool = True, **options: Any
) -> tuple[Any, Any]:
    """What comes out of a sharded network, and what should; `first`: GradAug comes before the sharding."""
    net, rank = network(frozen_norms), sync.current().rank
    ga = step_of(mode, net, **options) if first else None
    spread(net, layout)
    ga = ga or step_of(mode, net, **options)
    return given(net, ga, 2, draws), expected(network(frozen_norms), mode, 2, draws, **options)


def answers() -> dict[str, Any]:
    import time
    found: dict[str, Any] = {}
    for number, layout in enumerate(LAYOUTS):
        t = time.time()
        for mode in MODES:
            first = bool(number % 2) != (mode == "both")
            found[f"{layout}, {mode}, {first}"] = pair(mode, layout, first)
        found[f"{layout}, last pass skips"] = pair("randdepth", layout, draws=lambda *_: LAST_SKIPS)
        print(layout, time.time() - t, flush=True)
    return found
