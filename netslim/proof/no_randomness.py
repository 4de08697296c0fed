"""Runs in which nothing is drawn, so that two of them can be compared."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from netslim.layouts.engine import Args, Kwargs
from netslim.net.slimnet import SlimNet
from netslim.proof.blame import called
from netslim.proof.masked import unmoved
from netslim.trace.randomness import may_draw, own_random_numbers, place, with_generator


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
