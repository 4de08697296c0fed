"""What the results of a program's steps are made of: the program is run once more, on tensors without values.

A plan keeps the layouts of parameters; those of results are found as they were when the network was followed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from netslim.errors import is_interruption
from netslim.ir.inputs import drawn, every_tensor
from netslim.ir.plan import Region
from netslim.ir.program import Leaf, Mode, Node, Program, Ref, Size, function, map_leaves
from netslim.layouts.axes import Const, Layout
from netslim.layouts.engine import Engine
from netslim.net.runtime import named_tensors, runtime
from netslim.net.slimnet import SlimNet
from netslim.pictures.scene import Dims
from netslim.trace.meta import at, meta_copy

Values = Mapping[str, tuple[Dims, ...]]
"""By node: its tensors; none for a number."""


def values(net: SlimNet, training: Mapping[str, bool]) -> dict[str, Values | None]:
    """The tensors of every region's program, by path and node, in the given modes; None where it does not run so."""
    copied = meta_copy(net)
    return {path: _attempted(copied, path, mode) for path, mode in training.items()}


def _attempted(copied: nn.Module, path: str, training: bool) -> Values | None:
    try:
        return _followed(copied, path, training)
    except Exception as error:  # a picture without shapes is better than none, and the page says so
        if is_interruption(error):
            raise
        return None


def _followed(copied: nn.Module, path: str, training: bool) -> Values:
    plan, engine = runtime(copied).plan, Engine(runtime(copied).rules)
    region, tensors = plan.regions[path], named_tensors(copied)
    for name, dims in plan.layouts.items():
        engine.set(tensors[name], dims)
    given = _inputs(region, engine, known=not path)
    sizes = tuple(full for _, full in plan.sizes)
    seen: dict[str, list[tuple[Layout, ...]]] = {}
    with torch.inference_mode(), engine:
        copied.train(training)
        for name, value in _run(region.programs[training], copied, tensors, given, sizes):
            seen[name] = [tuple(engine.dims(tensor)) for tensor in every_tensor(value)]
    return {name: tuple(found) for name, found in seen.items()}


def _inputs(region: Region, engine: Engine, known: bool) -> list[Tensor]:
    """Tensors like the example's; those of the whole network have no channels that could be dropped."""
    arguments = drawn(region.inputs, torch.Generator().manual_seed(0))
    floats = tree_map_only(Tensor, lambda t: t.to("meta") if t.is_floating_point() else t, arguments)
    given = list(every_tensor(floats))
    for tensor in given if known else ():
        engine.set(tensor, list(map(Const, tensor.shape)))
    return given


def _run(
    program: Program, root: nn.Module, tensors: Mapping[str, Tensor], given: list[Tensor], sizes: tuple[int, ...]
) -> list[tuple[str, object]]:
    """The value of each node, in order, at full width."""
    found: dict[str, object] = dict(zip((node.name for node in program.inputs), given, strict=True))

    def leaf(value: Leaf) -> object:
        if isinstance(value, Ref):
            return found[value.name]
        if isinstance(value, Size):
            return sizes[value.index]
        return root.training != value.negated if isinstance(value, Mode) else value

    def value(node: Node) -> object:
        if node.op == "param":
            return tensors[node.target]
        args: Any = map_leaves(leaf, node.args)  # type: ignore[arg-type]
        kwargs: Any = map_leaves(leaf, node.kwargs)  # type: ignore[arg-type]
        called = at(root, node.target) if node.op == "module" else function(node.target)
        return called(*args, **kwargs)

    for node in program:
        if node.op not in ("input", "output"):
            found[node.name] = value(node)
    return list(found.items())
