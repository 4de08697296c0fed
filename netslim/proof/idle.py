"""Groups without effect: no output depends on them, and a proof says nothing of them."""

from __future__ import annotations

import torch
from torch import Tensor

from netslim.ir.inputs import Arguments
from netslim.ir.plan import groups_in
from netslim.layouts.axes import Elastic, Layout, leaves, positions
from netslim.net.runtime import runtime
from netslim.net.slimnet import SlimNet
from netslim.net.subnet import IndexSets
from netslim.proof.blame import called, must_be_the_networks
from netslim.proof.masked import everything
from netslim.proof.no_randomness import no_randomness


def idle_groups(net: SlimNet, inputs: Arguments, modes: tuple[bool, ...]) -> set[int]:
    """Groups whose last channel has no gradient in any parameter, in any of the modes: no output depends on it."""
    idle = set(range(len(runtime(net).plan.groups)))
    for mode in modes:
        idle &= _idle_in(net, inputs, mode)
    return idle


def _idle_in(net: SlimNet, inputs: Arguments, mode: bool) -> set[int]:
    parameters = dict(net.named_parameters(remove_duplicate=False))
    generator = torch.Generator().manual_seed(7)
    try:
        with no_randomness(net, mode), torch.enable_grad():
            outputs = [o for o in everything(net, inputs) if o.requires_grad]
            losses = [(o * torch.randn(o.shape, generator=generator, dtype=o.dtype)).sum() for o in outputs]
            leaves = list(parameters.values())
            found = called(torch.autograd.grad, losses, leaves, allow_unused=True) if losses else ()
    except RuntimeError as error:  # the model overwrites what its own backward needs: it can run, but not train
        must_be_the_networks(error)
        return set()
    if not found:
        return set()
    grads = dict(zip(parameters, found, strict=True))
    alive: set[int] = set()
    for name, layouts in runtime(net).plan.layouts.items():
        grad = grads.get(name)
        if grad is None:
            continue
        for dim, layout in enumerate(layouts):
            weight = grad.abs().movedim(dim, 0).flatten(1).sum(1) if grad.dim() > 1 else grad.abs()
            alive |= _touched(layout, weight)
    return set(range(len(runtime(net).plan.groups))) - alive


def _touched(layout: Layout, weight: Tensor) -> set[int]:
    found = set()
    for group in groups_in(layout):
        others = {g: ((0, _size(layout, g)),) for g in groups_in(layout)}
        kept = set(positions(IndexSets({**others, group: ((0, 1),)}).of(layout)))
        dropped = [i for i in range(layout.size) if i not in kept]
        if float(weight[dropped].sum()) > 0:
            found.add(group)
    return found


def _size(layout: Layout, group: int) -> int:
    return next(leaf.size for leaf in leaves(layout) if isinstance(leaf, Elastic) and leaf.group == group)
