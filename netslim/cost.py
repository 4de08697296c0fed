"""What a sub-network costs: parameters, and forward FLOPs as torch counts them (a multiply-add is two)."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map, tree_map_only
from torch.utils.flop_counter import FlopCounterMode

from netslim.ir.inputs import Arguments, Input, Inputs, batch, drawn, of_one
from netslim.ir.transform import remade, targets, without
from netslim.net.runtime import runtime
from netslim.net.slimnet import SlimNet
from netslim.net.subnet import Width, running
from netslim.source.sharded import unsharded
from netslim.trace.meta import OneDevice, meta_copy


@dataclass(frozen=True, slots=True)
class Count:
    """Parameters, and forward FLOPs for one image of the example's shape."""

    params: int
    flops: int


@dataclass(frozen=True, slots=True)
class Cost:
    """A sub-network beside its full network."""

    params_full: int
    params_kept: int
    flops_full: int
    flops_kept: int

    @property
    def params_share(self) -> float:
        return self.params_kept / max(1, self.params_full)

    @property
    def flops_share(self) -> float:
        return self.flops_kept / max(1, self.flops_full)


def count(
    net: SlimNet, width: Width = 1.0, depth: Mapping[str, bool] | None = None, *, round_to: int | None = None,
    shapes: tuple[tuple[int, ...], ...] | None = None,
) -> Count:  # fmt: skip
    """Parameters and forward FLOPs of a sub-network in eval mode, counted on the meta device: no weight is touched.

    `shapes` replaces the example's input shapes (with a batch dimension). A network that takes no batch of one, or no
    batch at all, is counted on the whole input. A network whose forward reads values runs on random images, on the CPU.
    """
    inputs, flops = _of_shapes(net, shapes), None
    if batch(inputs):
        with contextlib.suppress(Exception):  # what looks like a batch is none
            flops = _flops(net, of_one(inputs), width, depth, round_to)
    if flops is None:
        flops = _flops(net, inputs, width, depth, round_to)
    return Count(_kept_params(net, width, round_to, depth), flops)


def _flops(net: SlimNet, inputs: Inputs, width: Width, depth: Mapping[str, bool] | None, round_to: int | None) -> int:
    copied, given = light(net, inputs)
    part = copied.eval().sub(width, depth, round_to=round_to)
    with torch.no_grad(), OneDevice(), FlopCounterMode(display=False) as flops, part:
        copied(**given)
    return flops.get_total_flops()


def light(net: SlimNet, inputs: Inputs) -> tuple[SlimNet, Arguments]:
    """A copy of a network without weights, and arguments for it, which live on the meta device; run it in `OneDevice`.

    A network whose forward reads values, so that it needs them, is copied with its weights, to the CPU.
    """
    given = drawn(inputs, torch.Generator().manual_seed(0), _dtype(net))
    if runtime(net).plan.whole is None:
        return copy.deepcopy(unsharded(net)).to("cpu"), given
    given = tree_map_only(Tensor, lambda t: t.to("meta") if t.is_floating_point() else t, given)
    return meta_copy(net), given  # type: ignore[return-value]


def _of_shapes(net: SlimNet, shapes: tuple[tuple[int, ...], ...] | None) -> Inputs:
    """The network's inputs, with other shapes where they are given."""
    if shapes is None:
        return dict(runtime(net).plan.inputs)
    new, inputs = iter(shapes), dict(runtime(net).plan.inputs)
    return tree_map(lambda leaf: replace(leaf, shape=next(new)) if isinstance(leaf, Input) else leaf, inputs)


def elastic_share(net: SlimNet, width: Width = 0.5) -> Cost:
    """The costs of the sub-network in which every group has the given width."""
    full, kept = count(net), count(net, width)
    return Cost(full.params, kept.params, full.flops, kept.flops)


def _dtype(net: nn.Module) -> torch.dtype:
    return next((p.dtype for p in net.parameters() if p.is_floating_point()), torch.float32)


def _kept_params(net: SlimNet, width: Width, round_to: int | None, depth: Mapping[str, bool] | None) -> int:
    cuts = net.kept_shapes(width, round_to=round_to)
    return sum(prod(cuts.get(name, parameter.shape)) for name, parameter in used(net, depth))


def used(net: SlimNet, depth: Mapping[str, bool] | None) -> list[tuple[str, nn.Parameter]]:
    """Parameters by name, each once, without those that the skipped blocks alone use."""
    plan, run = runtime(net).plan, running(runtime(net).plan, depth)
    gone = targets(remade(plan, (True,) * len(run), without)) - targets(remade(plan, run, without))
    return [(n, p) for n, p in net.named_parameters() if n not in gone and n.rpartition(".")[0] not in gone]
