"""The copy of a network that is put to the test: random weights, inputs for it, and the outputs to compare with.

It runs in double precision, where a network can; rounding then hides nothing.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import FlopCounterMode

from netslim.errors import InputError
from netslim.ir.inputs import Arguments, Inputs, drawn, of_one, of_two, smaller
from netslim.ir.plan import groups_in
from netslim.layouts.axes import Elastic, Layout, is_fixed, leaves, positions
from netslim.layouts.engine import Args, Kwargs
from netslim.net.runtime import runtime
from netslim.net.slimnet import SlimNet
from netslim.net.subnet import IndexSets
from netslim.proof.blame import called, must_be_the_networks
from netslim.proof.masked import everything, own, unmoved
from netslim.proof.random_weights import Balance, randomize
from netslim.trace.randomness import may_draw, own_random_numbers, place, with_generator

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


def _randomized(net: SlimNet, modes: tuple[bool, ...], seed: int) -> tuple[SlimNet, Arguments, int, set[int]]:
    """A copy with random weights, inputs for it, forward FLOPs, and the groups that nothing depends on."""
    tested: SlimNet = copy.deepcopy(net).to("cpu")
    randomize(tested, seed, keep=_constants(net))
    inputs, flops = _balanced(tested, modes, seed)
    trial = _on_smaller_images(tested, modes, seed, flops) if flops > FLOPS_SHRUNK else None
    return tested, *(trial or (inputs, flops, _idle(tested, inputs, modes)))


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
    tested: SlimNet, modes: tuple[bool, ...], seed: int, whole: int
) -> tuple[Arguments, int, set[int]] | None:
    """Smaller inputs, their FLOPs and idle groups: the first in which less work (than `whole`) involves every group.

    Channels do not depend on how large an image is, so the proof says the same on a small one, if the network takes it.
    """
    of_some = of_two if True in modes else of_one
    for shapes in smaller(of_some(runtime(tested).plan.inputs)):
        inputs = _drawn(tested, shapes, seed)
        try:
            flops = max(_flops(tested, inputs, mode) for mode in modes)
            if 3 * flops <= 2 * whole and not (idle := _idle(tested, inputs, modes)):
                return inputs, flops, idle
        except Exception as error:  # the network wants larger images
            must_be_the_networks(error)
    return None


def _flops(net: SlimNet, inputs: Arguments, mode: bool = False) -> int:
    with torch.no_grad(), no_randomness(net, mode), _without_gradients(net), FlopCounterMode(display=False) as flops:
        called(net, **own(inputs))
    return flops.get_total_flops()


@contextlib.contextmanager
def _without_gradients(net: nn.Module) -> Iterator[None]:
    """The counter puts hooks on what needs gradients, and views of a parameter under no_grad take none."""
    wanting = [p for p in net.parameters() if p.requires_grad]
    try:
        for parameter in wanting:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in wanting:
            parameter.requires_grad_(True)


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


@contextlib.contextmanager
def no_randomness(net: SlimNet, training: bool) -> Iterator[None]:
    """The network in one mode, for one run: random layers do nothing, and random numbers begin at the same place."""
    net.train(training)
    for module in net.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd) or type(module).__name__ == "StochasticDepth":
            module.eval()
    with own_random_numbers(), unmoved(net), NoRandomness():
        yield


class NoRandomness(TorchDispatchMode):
    """Dropout drops nothing and random draws are all the same, so that two runs can be compared."""

    def __torch_dispatch__(
        self, func: OpOverload, types: Sequence[type], args: Args = (), kwargs: Kwargs | None = None
    ) -> object:
        name = func.overloadpacket.__name__
        if name in ("dropout", "native_dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"):
            return args[0].clone() if name != "native_dropout" else (args[0].clone(), torch.ones_like(args[0]))
        args, kwargs = without_dropout(func, args, kwargs or {})
        if may_draw(func) and (drawing := with_generator(func)) is not None:
            func, kwargs = drawing, {**kwargs, "generator": torch.Generator(place(args, kwargs))}
        out = called(func, *args, **kwargs)
        if name in _FILLED:
            out.fill_(1.0)
        return out


_FILLED = (
    "bernoulli bernoulli_ rand rand_like randn randn_like uniform_ normal normal_ exponential_ log_normal_ cauchy_ "
    "geometric_ poisson binomial"
).split()
"""Draws that may be of channels, of which sub-networks have fewer; others (places, orders) begin at the same number."""


def without_dropout(func: OpOverload, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs]:
    """The arguments of an operator that drops within itself (attention, recurrent layers), with a rate of zero."""
    for i, argument in enumerate(func._schema.arguments):
        if argument.name in ("dropout_p", "dropout"):
            if i < len(args):
                args = (*args[:i], 0.0, *args[i + 1 :])
            elif argument.name in kwargs:
                kwargs = {**kwargs, argument.name: 0.0}
    return args, kwargs


# ------------------------------------------------------------------------------------------- groups without effect


def _idle(net: SlimNet, inputs: Arguments, modes: tuple[bool, ...]) -> set[int]:
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
