"""The copy of a network that is put to the test: random weights, inputs for it, and the outputs to compare with.

It runs in double precision, where a network can; rounding then hides nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from netslim.errors import InputError
from netslim.ir.inputs import Arguments, Inputs, drawn, of_one, of_two, smaller, tensors_in
from netslim.layouts.axes import is_fixed
from netslim.net.runtime import runtime
from netslim.net.slimnet import SlimNet
from netslim.proof.blame import called, must_be_the_networks
from netslim.proof.counting import Counting
from netslim.proof.idle import idle_groups
from netslim.proof.masked import everything, own
from netslim.proof.no_randomness import no_randomness
from netslim.proof.random_weights import Balance, randomize

TOLERANCE = 1e-6
"""Largest relative difference, in float64, that counts as equal."""

TOLERANCE_FLOAT32 = 1e-3
"""The same in float32, for a network that computes in nothing else."""

TOLERANCE_FIRST_LOOK = 1e-4
"""The same in float32, for a first look at a network for which double precision takes long."""

FLOPS_SMALL = 1e9
"""Forward FLOPs for one image up to which two images are used."""

FLOPS_LARGE = 2e10
"""The same from which a proof saves: single precision first, widths and depths drawn together only."""

FLOPS_SHRUNK = 2e8
"""The same from which the images are smaller ones, if the network takes those."""


@dataclass
class Bench:
    """A copy of a network with random weights, inputs for it, the modes to test, forward FLOPs, full outputs by mode.

    What fails on a `single_precision` one is looked at again in double precision (`to_double`).
    """

    net: SlimNet
    inputs: Arguments
    modes: tuple[bool, ...]
    tolerance: float = TOLERANCE
    single_precision: bool = False
    flops: int = 0
    idle: tuple[str, ...] = ()
    full: dict[bool, list[Tensor]] = field(default_factory=dict)


def prepare(net: SlimNet, seed: int = 0) -> Bench:
    """The copy that is put to the test. The training form is tested where it computes something else."""
    plan = runtime(net).plan
    whole = plan.whole
    modes = (False,) if whole is None or whole.alike else (False, True)
    tested, inputs, flops, idle = _randomized(net, modes, seed)
    for more in range(1, _DRAWS if idle else 0):  # a channel may be dead by chance
        other = _randomized(net, modes, seed + 1000 * more)
        if other[-1] == idle:
            break  # that is no chance
        if len(other[-1]) < len(idle):
            tested, inputs, flops, idle = other
    names = tuple(plan.groups[i].name for i in sorted(idle))
    bench = Bench(tested, inputs, modes, TOLERANCE_FIRST_LOOK, True, flops, names)
    large = flops > FLOPS_LARGE
    if large and whole is not None and _dtype(tested) == torch.float32:  # Python may pick by the last digits
        _run_full(bench)
    else:
        to_double(bench)
    return bench


_DRAWS = 3


def glance(net: SlimNet, seed: int = 0) -> Bench:
    """The same for one look in evaluation: nobody asks which groups have an effect, and single precision may do."""
    tested, inputs, flops, _ = _randomized(net, (False,), seed, lambda *_: set())
    bench = Bench(tested, inputs, (False,), TOLERANCE_FIRST_LOOK, True, flops)
    if flops > FLOPS_SMALL and _dtype(tested) == torch.float32:
        _run_full(bench)
    else:
        to_double(bench)
    return bench


Idle = Callable[[SlimNet, Arguments, tuple[bool, ...]], set[int]]


def _randomized(
    net: SlimNet, modes: tuple[bool, ...], seed: int, idle: Idle = idle_groups
) -> tuple[SlimNet, Arguments, int, set[int]]:
    """A copy with random weights, inputs for it, forward FLOPs, and the groups that nothing depends on."""
    tested: SlimNet = copy.deepcopy(net).to("cpu")
    randomize(tested, seed, keep=_constants(net))
    if (trial := _on_smaller_images(tested, modes, seed, idle)) is not None:
        return tested, *trial
    inputs, flops = _balanced(tested, modes, seed)
    return tested, inputs, flops, idle(tested, inputs, modes)


def _constants(net: SlimNet) -> set[str]:
    """Buffers that no width changes: a table of positions, a mean and a deviation of images."""
    layouts = runtime(net).plan.layouts
    return {name for name, _ in net.named_buffers() if all(map(is_fixed, layouts.get(name, ())))}


def _balanced(tested: SlimNet, modes: tuple[bool, ...], seed: int) -> tuple[Arguments, int]:
    """Even out the network on one image; inputs of two images where that is cheap or a batch is needed, and FLOPs."""
    one, two = of_one(runtime(tested).plan.inputs), of_two(runtime(tested).plan.inputs)
    with Balance(tested):
        for shapes in (one, two):  # what looks like a batch may be none, or be the only one
            inputs = _drawn(tested, shapes, seed)
            if (flops := _flops_if_taken(tested, inputs)) is not None:
                break
        else:
            shapes, inputs = None, _drawn(tested, runtime(tested).plan.inputs, seed)
            flops = _flops(tested, inputs)
    if shapes != two and (True in modes or flops < FLOPS_SMALL):
        several = _drawn(tested, two, seed)
        inputs = inputs if _flops_if_taken(tested, several) is None else several
    return inputs, flops


def _flops_if_taken(net: SlimNet, inputs: Arguments) -> int | None:
    """Forward FLOPs; None where a network does not run on so many images."""
    try:
        return _flops(net, inputs)
    except Exception as error:
        must_be_the_networks(error)
        return None


def _on_smaller_images(
    tested: SlimNet, modes: tuple[bool, ...], seed: int, idle: Idle
) -> tuple[Arguments, int, set[int]] | None:
    """Smaller inputs, on which the network is evened out, their FLOPs and idle groups: the first that involve all.

    Channels do not depend on how large an image is, so the proof says the same on a small one, if the network takes it.
    None where none will do, or where the network takes so little that its own size may as well be taken.
    """
    whole = (of_two if True in modes else of_one)(runtime(tested).plan.inputs)
    for shapes in smaller(whole):
        if shapes == whole:
            continue
        inputs = _drawn(tested, shapes, seed)
        try:
            with Balance(tested):
                flops = _flops(tested, inputs)
            flops = max([flops, *(_flops(tested, inputs, mode) for mode in modes if mode)])
            if flops * _entries(whole) <= FLOPS_SHRUNK * _entries(shapes):
                return None
            if not (found := idle(tested, inputs, modes)):
                return inputs, flops, found
        except Exception as error:  # the network wants larger images
            must_be_the_networks(error)
    return None


def _entries(shapes: Inputs) -> int:
    return sum(prod(leaf.shape) for leaf in tensors_in(shapes))


def _flops(net: SlimNet, inputs: Arguments, mode: bool = False) -> int:
    with torch.no_grad(), no_randomness(net, mode), Counting() as flops:
        called(net, **own(inputs))
    return flops.total


def _drawn(net: SlimNet, shapes: Inputs, seed: int) -> Arguments:
    return drawn(shapes, torch.Generator().manual_seed(seed + 1), _dtype(net))


def _dtype(net: nn.Module) -> torch.dtype:
    return next((p.dtype for p in net.parameters() if p.is_floating_point()), torch.float32)


def to_double(bench: Bench) -> None:
    """Go on in double precision, if the network can run in it."""
    net, inputs, was = bench.net, bench.inputs, _dtype(bench.net)
    bench.inputs = tree_map_only(Tensor, lambda t: t.double() if t.is_floating_point() else t, inputs)
    bench.net, bench.tolerance, bench.single_precision = net.double(), TOLERANCE, False
    try:
        _run_full(bench)
    except (RuntimeError, InputError) as error:  # it makes float32 tensors of its own, or decides by the dtype
        must_be_the_networks(error)
        bench.net, bench.inputs, bench.tolerance = net.to(was), inputs, TOLERANCE_FLOAT32
        _run_full(bench)


def _run_full(bench: Bench) -> None:
    for mode in bench.modes:
        with torch.inference_mode(), no_randomness(bench.net, mode):
            bench.full[mode] = everything(bench.net, bench.inputs)
