"""How much the channels of a group are worth, by their weights or by what a loss says of these.

A channel is in many places: the filter that makes it, the scale and shift of its norm, the slice of every layer that
reads it, heads or pixels of it behind a reshape, its part of a concatenation. At each place all entries that go with
the channel count; the layouts say which they are.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from netslim.choosing.scales import scales
from netslim.errors import InputError, did_you_mean
from netslim.ir.plan import Plan
from netslim.ir.program import LIFTED
from netslim.layouts.channels import by_channel
from netslim.net.runtime import runtime
from netslim.net.slimnet import SlimNet

Pairs = Iterable[tuple[Any, Any]]
"""(inputs, target) of batches; the inputs are one argument of the network, or a tuple or dict of them."""
Loss = Callable[[Any, Any], Tensor]
"""Of an output and a target."""
Closure = Callable[[], Tensor | Iterable[Tensor]]
"""Runs the network and returns the loss, whose gradients are taken, or gives the losses of several batches."""


@dataclass(frozen=True, slots=True)
class Criterion:
    """What is summed over the entries of a place.

    score: of a weight, or of a weight and its gradient, entry by entry; root: what is made of the sum; absolute:
    whether the sums of different groups compare as they are (they are in units of the loss).
    """

    score: Callable[..., Tensor]
    from_data: bool = False
    root: bool = False
    absolute: bool = False


CRITERIA = {
    "l1": Criterion(lambda w: w.abs()),
    "l2": Criterion(lambda w: w.abs().square(), root=True),
    "bn": Criterion(lambda w: w.abs()),
    "taylor": Criterion(lambda w, g: (w * g).abs(), from_data=True, absolute=True),
    "gradient": Criterion(lambda _, g: g.abs().square(), from_data=True),
    "random": Criterion(lambda w: w),
}
"""By name: norms of weights, scales of norms, |weight x gradient| (Molchanov et al., 2019), squared gradients."""


def criterion(by: str) -> Criterion:
    """InputError for a name that is none."""
    if by not in CRITERIA:
        raise InputError(
            f"{by!r} is no criterion of importance: take one of {', '.join(CRITERIA)}{did_you_mean(by, CRITERIA)}"
        )
    return CRITERIA[by]


def importance(
    net: SlimNet, by: str = "l1", data: Pairs | Closure | None = None, loss: Loss | None = None, *, seed: int = 0
) -> dict[str, Tensor]:
    """The importance of every channel: {group: (channels,) float64}; `net` is not changed.

    l1, l2: the norm of the weights that go with a channel, at each place as a share of the mean of the place, so that
    scaling a layer changes nothing; then the mean over the places, so that the mean of every group is 1. bn: the same
    of the scales of norms alone; a group without any is given its l1. gradient: the same of squared gradients. taylor:
    |weight x gradient| summed over all places, the mean over batches, over the mean of all channels of the network:
    groups compare as they are. random: numbers drawn with `seed`.

    taylor and gradient take `data`: (inputs, target) pairs with `loss(output, target)`, run in eval mode, or a closure
    that runs `net` on some data and returns the loss, or yields that of each batch.
    Raises InputError for an unknown criterion, for data that is missing, and for weights or losses that are no numbers.
    """
    chosen, plan = criterion(by), runtime(net).plan
    if by == "random":
        generator = torch.Generator().manual_seed(seed)
        return {g.name: torch.rand(g.size, generator=generator, dtype=torch.float64) for g in plan.groups}
    weights = _weights(net)
    if chosen.from_data:
        if data is None:
            raise InputError(f"{by} needs data: batches with a loss, or a closure that returns one (or take l1).")
        places = _places(plan, _scored(net, weights, chosen, data, loss), root=False)
    else:
        places = _places(plan, ((n, chosen.score(w)) for n, w in weights.items()), chosen.root)
    if by == "bn":
        named = set(scales(net))
        if not named:
            raise InputError("no norm of this network has a scale: take another criterion than bn, such as l1.")
        places = _only(places, named)
    return _summed(plan, places) if chosen.absolute else _shares(plan, places)


Places = dict[int, dict[tuple[str, int], Tensor]]
"""By group and place (a parameter, a dim): the sum for each channel."""


def _weights(net: SlimNet) -> dict[str, Tensor]:
    """Parameters by name, each once; InputError for one that holds what is no number."""
    found = {name: p for name, p in net.named_parameters() if LIFTED not in name.split(".")}
    for name, parameter in found.items():
        if not torch.isfinite(parameter.detach()).all():
            raise InputError(f"{name} holds entries that are not finite: nothing can be ranked by such weights.")
    return {name: p.detach() for name, p in found.items() if p.is_floating_point() or p.is_complex()}


def _places(plan: Plan, scored: Iterable[tuple[str, Tensor]], root: bool) -> Places:
    places: Places = {i: {} for i in range(len(plan.groups))}
    for name, score in scored:
        for dim, layout in enumerate(plan.layouts.get(name, ())):
            others = [d for d in range(score.dim()) if d != dim]
            at_index = score.float().sum(others) if others else score.float()
            for group, sums in by_channel(at_index.double().cpu(), layout).items():
                places[group][name, dim] = sums.sqrt() if root else sums
    return places


def _only(places: Places, names: set[str]) -> Places:
    """The places in these parameters; of a group that has none, all of them."""
    kept = {g: {place: v for place, v in by_place.items() if place[0] in names} for g, by_place in places.items()}
    return {g: found or places[g] for g, found in kept.items()}


def _shares(plan: Plan, places: Places) -> dict[str, Tensor]:
    """The mean over the places, at each of which the mean of the channels is 1; a place of zeros says nothing."""
    found = {}
    for i, group in enumerate(plan.groups):
        said = [values / values.mean() for values in places[i].values() if values.mean() > 0]
        found[group.name] = torch.stack(said).mean(0) if said else torch.ones(group.size, dtype=torch.float64)
    return found


def _summed(plan: Plan, places: Places) -> dict[str, Tensor]:
    """The sum over the places, in which the mean of all channels of the network is 1."""
    none = {group.name: torch.zeros(group.size, dtype=torch.float64) for group in plan.groups}
    sums = {g.name: sum(places[i].values(), none[g.name]) for i, g in enumerate(plan.groups)}
    mean = float(torch.cat(list(sums.values())).mean()) if sums else 0.0
    return {name: values / mean for name, values in sums.items()} if mean > 0 else none


# ------------------------------------------------------------------------------------------------ what a loss says


def _scored(
    net: SlimNet, weights: Mapping[str, Tensor], chosen: Criterion, data: Pairs | Closure, loss: Loss | None
) -> Iterator[tuple[str, Tensor]]:
    """The mean over the batches of the score of every parameter that the losses depend on."""
    parameters = {name: p for name, p in net.named_parameters() if name in weights}
    sums: dict[str, Tensor] = {}
    batches = 0
    with _learning(parameters.values()):
        for value in _losses(net, data, loss):
            batches += 1
            for name, gradient in zip(parameters, _gradients(value, list(parameters.values())), strict=True):
                if gradient is None:
                    continue
                score = chosen.score(weights[name], gradient)
                if not torch.isfinite(score).all():
                    raise InputError(f"the gradient of {name} is not finite: nothing can be ranked by such a loss.")
                sums[name] = sums[name] + score if name in sums else score
    if not batches:
        raise InputError("there is no batch in the data: channels cannot be ranked by a loss on nothing.")
    return ((name, total / batches) for name, total in sums.items())


def _gradients(value: object, parameters: list[nn.Parameter]) -> tuple[Tensor | None, ...]:
    if not isinstance(value, Tensor) or value.numel() != 1 or not value.requires_grad:
        raise InputError(
            "the loss is no number that depends on the network's weights: return the loss itself, one number, "
            "without calling backward or item."
        )
    return torch.autograd.grad(value.sum(), parameters, allow_unused=True)


def _losses(net: SlimNet, data: Pairs | Closure, loss: Loss | None) -> Iterator[object]:
    with _modes_put_back(net):
        if callable(data):
            said = data()
            yield from (said,) if isinstance(said, Tensor) or not isinstance(said, Iterable) else said
            return
        if loss is None:
            raise InputError("say which loss: a function of the network's output and the target.")
        net.eval()
        for inputs, target in data:
            yield loss(answer(net, inputs), target)


def answer(net: nn.Module, inputs: object) -> object:
    """The output for one argument, or a tuple or dict of them."""
    if isinstance(inputs, Mapping):
        return net(**inputs)
    return net(*inputs) if isinstance(inputs, tuple) else net(inputs)


@contextlib.contextmanager
def _learning(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Frozen parameters have gradients too, until it closes."""
    frozen = [p for p in parameters if not p.requires_grad]
    try:
        for parameter in frozen:
            parameter.requires_grad_(True)
        with torch.enable_grad():
            yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)


@contextlib.contextmanager
def _modes_put_back(net: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in net.modules()]
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
