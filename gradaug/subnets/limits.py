"""What a network and a machine allow: which resolutions run, and on which grid widths are fast.

Measured on a 2-core AVX-512 machine: a sub-network whose channel counts are arbitrary integers can cost more than the
full network, because kernels pad; on multiples of 16 it costs what its FLOPs say. Tensor cores want multiples of 8.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gradaug.config.subnets import SubnetSettings
from gradaug.inputs import device_of
from gradaug.scopes import evaluating
from gradaug.subnets.resize import default_resolutions
from gradaug.subnets.scaling import PLAIN, Scaling
from netslim import SlimNet, cost
from netslim.errors import InputError
from netslim.net.runtime import runtime
from netslim.net.subnet import keep_counts
from netslim.source.sharded import settle, sharded


def hardware_grid(device: torch.device) -> int:
    """Channels that convolution kernels handle at a time: 16 with AVX-512, 8 with AVX2 or CUDA, otherwise 1."""
    if device.type == "cuda":
        return 8
    if device.type == "cpu":
        return {"AVX512": 16, "AVX2": 8}.get(torch.backends.cpu.get_cpu_capability(), 1)
    return 1


def fast_grid(net: SlimNet, alpha: float, groups: Sequence[str] = ()) -> int:
    """The hardware's grid, halved until the smallest sub-network saves half of what exact widths would save, or more.

    On a grid of 16 a network of 16 and 32 channels has no sub-network at 0.8 at all: such a network wants a finer one.
    `groups`: those that are narrowed; none: all.
    """
    grid = hardware_grid(device_of(net))
    if grid == 1:
        return grid
    wanted = (1 - share_of_flops(net, alpha, 1, groups)) / 2
    while grid > 1 and 1 - share_of_flops(net, alpha, grid, groups) < wanted:
        grid //= 2
    return grid


def share_of_flops(net: SlimNet, width: float, round_to: int, groups: Sequence[str] = ()) -> float:
    """FLOPs of a sub-network as a share of the full network's."""
    narrow = cost.count(net, width=_widths(width, groups), round_to=round_to).flops
    return narrow / cost.count(net, width=1.0).flops


def _widths(width: float, groups: Sequence[str]) -> float | dict[str, float]:
    return dict.fromkeys(groups, width) if groups else width


def require_smaller(net: SlimNet, settings: SubnetSettings, groups: Sequence[str] = ()) -> None:
    """InputError where rounding makes the smallest sub-network the whole network."""
    alpha, grid = settings.alpha, settings.round_to or 1
    if not settings.random_width or alpha == 1:
        return
    plan = runtime(net).plan
    if keep_counts(plan, _widths(alpha, groups), grid) == keep_counts(plan, 1.0):
        raise InputError(
            f"with widths rounded to {grid} channels the smallest sub-network (width {alpha}) is the whole "
            "network; use a smaller --round-to or --alpha"
        )


def groups_below(net: SlimNet, scope: str) -> tuple[str, ...]:
    """Names of the channel groups all of whose places lie in the module `scope`; all groups for "all".

    Raises InputError where there is no such module, or no such group.
    """
    plan = runtime(net).plan
    if scope == "all":
        return tuple(group.name for group in plan.groups)
    require_scope(net, scope)
    found = tuple(g.name for g in plan.groups if all(below(slot.param, scope) for slot in g.slots))
    if not found:
        raise InputError(
            f"--scope {scope} narrows the module {scope!r} alone, and none of its channels can go without others "
            "outside of it: take --scope all"
        )
    return found


def chosen_scope(net: SlimNet, settings: SubnetSettings, scaling: Scaling = PLAIN) -> str:
    """The scope that was asked for, or else the task's.

    Raises InputError for a module that is not there. A run without sub-networks needs none, and has "all" then.
    """
    scope = settings.scope or scaling.scope
    if settings.scope is None and not (settings.random_width or settings.random_depth):
        try:
            groups_below(net, scope)
        except InputError:
            return "all"
    require_scope(net, scope)
    return scope


def narrowed(net: SlimNet, width: float, scope: str) -> float | dict[str, float]:
    """What ``net.sub(width=...)`` takes for a sub-network that is narrow in the module `scope` alone.

    Raises InputError where it has no such module.
    """
    if width == 1 or scope == "all":
        return width
    return _widths(width, groups_below(net, scope))


def require_scope(net: SlimNet, scope: str) -> None:
    """InputError where there is no such module."""
    if scope != "all" and scope not in dict(net.named_modules()):
        raise InputError(
            f"--scope {scope} is about the module {scope!r} alone, and this network has none of that name: give the "
            "name of the module that is its backbone, or --scope all"
        )


def below(name: str, scope: str) -> bool:
    """Whether a name of a parameter or block lies in the module `scope`."""
    return scope == "all" or name.startswith(f"{scope}.")


def usable_resolutions(net: SlimNet, scaling: Scaling = PLAIN) -> tuple[int, ...]:
    """The default ones, as far as the network runs on them."""
    side = scaling.side(net)
    if side is None:
        return ()
    return tuple(one for one in default_resolutions(side) if _failure(net, one, scaling) is None)


def require_resolutions(net: SlimNet, resolutions: tuple[int, ...], scaling: Scaling = PLAIN) -> None:
    """InputError for a side on which the network does not run."""
    for side in resolutions:
        failure = _failure(net, side, scaling)
        if failure is not None:
            raise InputError(
                f"the network cannot run on images of {side} pixels ({failure}); take other --resolutions "
                f"(--resolutions {scaling.side(net) or 0} leaves the size alone) or pool globally before the classifier"
            )


def runs_channels_last(net: SlimNet, scaling: Scaling = PLAIN) -> bool:
    """Whether the network accepts channels_last images (one that flattens a feature map with ``view`` does not)."""
    images = scaling.blank(net)
    if not isinstance(images, Tensor) or images.ndim != 4:
        return False
    return _runs(net, images.contiguous(memory_format=torch.channels_last), scaling) is None


@torch.no_grad()
def _failure(net: SlimNet, side: int, scaling: Scaling) -> str | None:
    """Why the network cannot take images of this side; None if it can."""
    try:
        with scaling.scaled(net, scaling.blank(net), None, side) as (images, _):
            return _runs(net, images, scaling)
    except InputError as error:
        return str(error)


@torch.no_grad()
def _runs(net: SlimNet, images: object, scaling: Scaling) -> str | None:
    """Why the network cannot take these images; None if it can."""
    try:
        with evaluating(net):
            net(images)
        return None
    except Exception as error:
        if sharded(net.modules()):  # what has gathered parameters lets go of them when a forward comes to its end
            with torch.no_grad(), evaluating(net):
                net(scaling.blank(net))
        return (str(error) or type(error).__name__).splitlines()[0]
    finally:
        settle(net)
