"""A network whose training passes run compiled, at every sub-network and resolution.

What torch.compile makes faster stands between convolutions and products, which run as torch's own kernels either way.
So only that is compiled, in pieces (:mod:`netslim.net.pieces`), for sizes that are symbols: a handful of graphs for all
widths, depths and resolutions. torch keeps them on disk, so that the next run reads them.
"""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.fx.experimental._config as symbols
from torch import Tensor
from torch.utils._pytree import tree_leaves

from gradaug.inputs import blank_images, device_of
from gradaug.scopes import in_mode, random_state, set_random_state
from gradaug.subnets.resize import resize
from gradaug.subnets.sampler import Draw
from gradaug.subnets.space import Space
from netslim import SlimNet
from netslim.errors import InputError
from netslim.ir.program import Function
from netslim.net.pieces import Pieces
from netslim.net.runtime import runtime
from netslim.versions import COMPILES

LIMIT = 16
"""Graphs that a piece may have: by which blocks around it run, and for sizes that are special, such as 1."""


class Compilation:
    """Compiles the pieces of a network, and counts what it compiles.

    Batch norm is part of them on GPUs, unless its statistics are synchronised: on a CPU torch's own kernel takes a
    fraction of the time of what the compiler makes of it. Raises InputError under an old torch.
    """

    def __init__(self, net: SlimNet, *, synchronised: bool = False, backend: str = "inductor") -> None:
        if not COMPILES:
            raise InputError(f"--compile needs a newer torch than {torch.__version__}: upgrade it, or leave it out")
        self.graphs, self.told = 0, 0
        self.failed: dict[str, str] = {}
        self._backend = torch._dynamo.lookup_backend(backend)
        self.net, self.pieces = net, Pieces(self._compiled, device_of(net).type != "cpu" and not synchronised)
        runtime(net).in_pieces(self.pieces)

    def _counted(self, graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        made = self._backend(graph, inputs)
        self.graphs += 1
        return made

    def _compiled(self, function: Function, steps: str) -> Function:
        """Where there is no graph to be had for what it is called with, it runs as it is from then on, and says so."""
        settings: dict[str, Any] = {"backend": self._counted, "recompile_limit": LIMIT}
        made = torch.compile(function, fullgraph=True, dynamic=True, **settings)

        works = True

        def run(*args: object) -> object:
            nonlocal works
            if works:
                try:
                    return made(*args)
                except torch._dynamo.exc.FailOnRecompileLimitHit:
                    reason = f"it has {LIMIT} graphs already, and this would be another one"
                except torch._dynamo.exc.TorchDynamoException as error:
                    reason = " ".join(filter(None, map(str.strip, str(error).split("\n")[:2])))
                works, self.failed[steps] = False, reason
                warnings.warn(f"not compiled, and run as it is from here on: {steps} ({reason})", stacklevel=2)
            return function(*args)

        return run

    def warm_up(
        self,
        images: Tensor,
        space: Space,
        around: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext,
        shown: Callable[[int, int], object] = lambda *_: None,
        track: bool = False,
    ) -> str:
        """Compiles all that passes over such images need, and changes nothing else; returns a line about it.

        images (N, ...): as steps have them, on the network's device. around: a context of every forward. shown: told
        how many passes of how many are done. track: sub-networks update running statistics. Raises InputError where
        nothing can be compiled.
        """
        begun, every = time.perf_counter(), passes(space)
        with untouched(self.net), symbols.patch(use_duck_shape=False):  # type: ignore[attr-defined]
            shown(0, len(every))
            for number, one in enumerate(every):
                at = self.net.sub(**one.sub(), track_running_stats=track) if number else contextlib.nullcontext()
                with at:
                    with around():
                        parts = list(_floats(self.net(resize(images, one.resolution))))
                    torch.autograd.backward([part.float().sum() for part in parts])
                shown(number + 1, len(every))
        self.told = self.graphs
        if self.failed and not self.graphs:
            raise InputError(f"nothing could be compiled ({next(iter(self.failed.values()))}): leave --compile out")
        seconds = time.perf_counter() - begun
        return (
            f"compiled {self.graphs} graphs of {len(self.pieces.known)} pieces in {seconds:.0f} s, for all widths, "
            "depths and resolutions"
        )

    def news(self) -> list[str]:
        """A line about what was compiled since the last one."""
        more, self.told = self.graphs - self.told, self.graphs
        return [f"compiled {more} further graphs, for sizes that did not come up before"] if more else []


def example(net: SlimNet, count: int, channels_last: bool | None) -> Tensor:
    """Images to warm up on: `count`, or on a CPU, where they take long, eight at most."""
    blank = blank_images(net, max(1, count if device_of(net).type != "cpu" else min(count, 8)))
    images = torch.randn_like(blank) if blank.is_floating_point() else blank
    return images.contiguous(memory_format=torch.channels_last) if channels_last and images.ndim == 4 else images


@contextlib.contextmanager
def untouched(net: SlimNet) -> Iterator[None]:
    """`net` in training mode inside; its buffers, its gradients and the global generators are then as they were."""
    buffers = [(buffer, buffer.clone()) for buffer in net.buffers()]
    gradients = [(parameter, parameter.grad) for parameter in net.parameters()]
    random = random_state()
    net.zero_grad()
    try:
        with in_mode(net, True):
            yield
    finally:
        set_random_state(random)
        for parameter, gradient in gradients:
            parameter.grad = gradient
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)


def _floats(output: object) -> Iterator[Tensor]:
    """What gradients may come from."""
    leaves = tree_leaves(dict(output) if isinstance(output, Mapping) else output)
    return (leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.requires_grad)


def passes(space: Space) -> list[Draw]:
    """Passes in which all comes up that may in a step: the full network, resolutions, blocks with and without."""
    skips = [(), space.blocks, space.blocks[::2], space.blocks[1::2]] if space.random_depth else [()]
    width = space.alpha if space.random_width else 1.0
    widths: Any = tuple((group, width) for group in (*space.groups, *space.narrowed)) or width
    found = [
        Draw(widths, skip, resolution, space.round_to) for resolution in space.resolutions or (None,) for skip in skips
    ]
    return [Draw(), *found] if space.random_width or space.random_depth else [Draw()]
