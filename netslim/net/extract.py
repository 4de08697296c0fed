"""A sub-network as a plain module: layers with smaller weights, and a torch.fx graph with literal sizes."""

from __future__ import annotations

import builtins
import copy
import operator
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, overload

import torch
from torch import Tensor, fx, nn
from torch.amp import autocast_mode
from torch.fx.graph import _PyTreeCodeGen, _PyTreeInfo
from torch.utils._pytree import tree_leaves, tree_structure

from netslim.errors import InputError
from netslim.ir.functions import attribute_of, method_of, operator_of
from netslim.ir.inputs import Input, Inputs
from netslim.ir.program import (
    AUTOCAST,
    REQUIRE,
    Leaf,
    Literal,
    Mode,
    Node,
    Ref,
    Size,
    Struct,
    function,
    is_word,
    map_leaves,
)
from netslim.ir.transform import skips_of, without
from netslim.layouts.engine import Args, Kwargs
from netslim.layouts.slices import Cut, Kept, take
from netslim.net.runtime import runtime
from netslim.net.subnet import Point
from netslim.net.tree import Table, walk
from netslim.ops import MODULES
from netslim.trace.meta import at

PLAIN = {slim: (plain, shrink) for plain, (slim, shrink) in MODULES.items()}


def extract(net: nn.Module, point: Point) -> nn.Module:
    """The plain network at `point`, in the mode that `net` is in, with copies of the kept weights.

    A `torch.fx.GraphModule`, which has a `graph` and `code` of its own: a child of such a name gets an underscore.
    Where forward could not be followed as a whole, the original's own classes, whose regions run graphs.
    """
    source = Source(net, point)
    if runtime(net).plan.whole is not None:
        root = nn.Module()
        root.training = net.training
        return _graph(source, "", root, runtime(net).plan.model or "Extracted")
    shell = _plain_shell(source)
    for path in runtime(net).plan.regions:
        module = at(shell, path)
        module.__dict__["forward"] = _graph(source, path, module, type(module).__name__).forward
    return shell


@dataclass
class Source:
    """A converted network at a point, and the parts of its tensors made so far: shared weights stay shared."""

    net: nn.Module
    point: Point
    parts: dict[int, Tensor] = field(default_factory=dict)

    @overload
    def part(self, tensor: nn.Parameter, cut: Cut | None) -> nn.Parameter: ...
    @overload
    def part(self, tensor: Tensor, cut: Cut | None) -> Tensor: ...
    def part(self, tensor: Tensor, cut: Cut | None) -> Tensor:
        """A copy of what is kept of a parameter or buffer."""
        if id(tensor) not in self.parts:
            part = take(tensor.detach(), cut).clone()
            is_parameter = isinstance(tensor, nn.Parameter)
            self.parts[id(tensor)] = nn.Parameter(part, tensor.requires_grad) if is_parameter else part
        return self.parts[id(tensor)]

    def layer(self, path: str) -> nn.Module:
        """The plain torch layer with the kept part of a slim one's weights."""
        layer = at(self.net, path)
        if type(layer) not in PLAIN:
            return copy.deepcopy(layer)
        kept = (None if self.point.layers is None else self.point.layers.get(path)) or Kept()
        plain_class, shrink = PLAIN[type(layer)]
        made = plain_class.__new__(plain_class)
        made.__dict__.update({k: copy.copy(v) for k, v in layer.__dict__.items() if k != "kept"})
        tables: tuple[Table, Table] = (made._parameters, made._buffers)
        for table in tables:
            for attr, tensor in table.items():
                if tensor is not None:
                    table[attr] = self.part(tensor, kept.tensors.get(attr))
        shrink(made, kept)
        return made


def _graph(source: Source, path: str, root: nn.Module, name: str) -> fx.GraphModule:
    """The region at `path` as a graph over `root`, which holds what is there, or is given it."""
    net, graph, values = source.net, fx.Graph(), dict[str, fx.Node]()
    region, skips = runtime(net).plan.regions[path], skips_of(runtime(net).plan, path, net.training, source.point.run)
    before: fx.Node | None = None  # whether gradients were on before a stretch without
    inside: list[fx.Node] = []  # the contexts of a stretch without autocast
    for node in without(region.programs[net.training], skips):
        if node.target == REQUIRE:
            continue
        before = _gradients(graph, node.grad, before)
        inside = _autocast(graph, node.cast, inside)
        _emit(source, node, root, f"{path}." if path else "", graph, values)
    if not all(isinstance(value, Input) for value in region.inputs.values()):
        _nested(graph, region.inputs)
    return fx.GraphModule(root, graph, name)


def _gradients(graph: fx.Graph, wanted: bool, before: fx.Node | None) -> fx.Node | None:
    """Turn gradients off where a stretch without them begins, and back to what they were where it ends."""
    if wanted == (before is None):
        return before
    if before is not None:
        graph.call_function(torch._C._set_grad_enabled, (before,))
        return None
    before = graph.call_function(torch.is_grad_enabled)
    graph.call_function(torch._C._set_grad_enabled, (False,))
    return before


def _autocast(graph: fx.Graph, wanted: bool, inside: list[fx.Node]) -> list[fx.Node]:
    """Turn autocast off where a stretch without it begins, and back to what it was where it ends."""
    if wanted:
        for context in reversed(inside):
            graph.call_function(autocast_mode._exit_autocast, (context,))
        return []
    enter = autocast_mode._enter_autocast
    return inside or [graph.call_function(enter, (kind, None, False, None)) for kind in AUTOCAST]


def _nested(graph: fx.Graph, inputs: Inputs) -> None:
    """The graph takes arguments as the original does: containers of tensors, or nothing, in the place of tensors."""
    leaves = iter(tree_leaves(tuple(inputs.values())))
    for node in [n for n in graph.nodes if n.op == "placeholder"]:
        for leaf in leaves:
            if isinstance(leaf, Input):
                break
            with graph.inserting_before(node):
                graph.placeholder("unused")
    last = [n for n in graph.nodes if n.op == "placeholder"][-1]
    with graph.inserting_after(last):
        for _ in leaves:
            graph.placeholder("unused")
    graph.set_codegen(
        _PyTreeCodeGen(_PyTreeInfo(_arguments(inputs), tree_structure((tuple(inputs.values()), {})), None))
    )


def _arguments(inputs: Inputs) -> list[str]:
    """The names of a graph's arguments: those of forward, as far as they can stand in source."""
    names: list[str] = []
    for name in inputs:
        names.append(_printable(name, names, dir(builtins)))
    return names


def _emit(
    source: Source, node: Node, root: nn.Module, prefix: str, graph: fx.Graph, values: dict[str, fx.Node]
) -> None:
    def put(leaf: Any) -> Any:
        if isinstance(leaf, Ref):
            return values[leaf.name]
        if isinstance(leaf, Size):
            return source.point.sizes[leaf.index]
        if isinstance(leaf, Mode):
            training = _training(graph)
            return graph.call_function(operator.not_, (training,)) if leaf.negated else training
        return leaf

    path = node.target.removeprefix(prefix)
    if node.op in ("param", "module"):
        path = _held(path) if prefix else _spared(source.net, path)
    if node.op == "input":
        values[node.name] = graph.placeholder(_printable(node.name, (), dir(builtins)))
    elif node.op == "param":
        _adopt_tensor(source, root, path, node)
        values[node.name] = graph.create_node("get_attr", path, name=node.name)
    elif node.op == "module":
        _adopt_layer(source, root, path, node.target)
        values[node.name] = graph.call_module(path, *_given(node, put))
    elif node.op == "output":
        graph.output(_structured(map_leaves(put, node.args[0]), graph))
    else:
        values[node.name] = _call(graph, node.target, *_given(node, put))


def _given(node: Node, put: Callable[[Leaf], Any]) -> tuple[Args, Kwargs]:
    """The arguments of a call, with nodes of the graph for values."""
    return map_leaves(put, node.args), map_leaves(put, node.kwargs)


def _spared(net: nn.Module, path: str) -> str:
    """The path with another name for every part that a GraphModule cannot print, or needs for itself."""
    parts: list[str] = []
    holder: nn.Module = net
    for part in path.split("."):
        beside = holder._modules.keys() | holder._parameters.keys() | holder._buffers.keys()
        parts.append(_printable(part, beside, _OF_MODULES if parts else _OF_GRAPHS))
        holder = holder._modules.get(part) or nn.Module()
    return ".".join(parts)


def _held(path: str) -> str:
    """The path of what a region's module holds under its own name. InputError where a graph cannot print it."""
    for part in path.split("."):
        if _printable(part, (), ()) != part:
            raise InputError(f"a part called {part!r} cannot be extracted: its name cannot stand in source; rename it.")
    return path


_OF_MODULES = frozenset(dir(nn.Module()))
_OF_GRAPHS = _OF_MODULES | vars(fx.GraphModule).keys()


def _printable(name: str, beside: Collection[str], needed: Collection[str]) -> str:
    """A name that can stand in source, and none of those beside it or needed: the given one, if it can."""
    plain = name.isascii() and (name.isdecimal() or is_word(name)) and not name.startswith("__")
    if plain and name not in needed:
        return name
    made = "".join(c if c.isascii() and c.isalnum() else "_" for c in name).strip("_") or "child"
    made = f"{made}_" if made[0].isalpha() else f"child_{made}_"
    while made in beside or made in needed:
        made += "_"
    return made


def _training(graph: fx.Graph) -> fx.Node:
    return graph.create_node("get_attr", "training")


def _call(graph: fx.Graph, target: str, args: Args, kwargs: Kwargs) -> fx.Node:
    if attribute := attribute_of(target):
        return graph.call_function(getattr, (args[0], attribute))
    if operation := operator_of(target):
        python, reflected = operation
        return graph.call_function(python, args[::-1] if reflected else args)
    if method := method_of(target):  # also += and x[i] = y: read back from a file, a graph has no other word for them
        return graph.call_method(method, args, kwargs)
    return graph.call_function(function(target), args, kwargs)


def _structured(value: Literal, graph: fx.Graph) -> Any:
    if isinstance(value, Struct):
        values = tuple(_structured(v, graph) for v in value.values)
        if value.kind == "OrderedDict":
            return graph.call_function(OrderedDict, (list(zip(value.keys, values, strict=True)),))
        return values  # a namedtuple's class is not known here; its values are
    if isinstance(value, (tuple, list)):
        return type(value)(_structured(v, graph) for v in value)
    return {k: _structured(v, graph) for k, v in value.items()} if isinstance(value, dict) else value


def _parent(root: nn.Module, path: str) -> tuple[nn.Module, str]:
    *parts, last = path.split(".")
    for part in parts:
        if part not in root._modules:
            root._modules[part] = nn.Module().train(root.training)
        root = root._modules[part]  # type: ignore[assignment]
    return root, last


def _adopt_tensor(source: Source, root: nn.Module, path: str, node: Node) -> None:
    parent, name = _parent(root, path)
    if name in parent._parameters or name in parent._buffers:
        return
    before, _, own = node.target.rpartition(".")
    owner = at(source.net, before)
    cut = source.point.cuts[node.args[0]] if node.args and isinstance(node.args[0], int) else None
    is_parameter = own in owner._parameters
    table: Table = owner._parameters if is_parameter else owner._buffers
    part = source.part(table[own], cut)
    if is_parameter:
        parent._parameters[name] = part
    else:
        parent.register_buffer(name, part, own not in owner._non_persistent_buffers_set)


def _adopt_layer(source: Source, root: nn.Module, path: str, full: str) -> None:
    parent, name = _parent(root, path)
    if type(parent._modules.get(name, nn.Module())) is nn.Module:  # nothing yet, or a holder of tensors read before
        parent._modules[name] = source.layer(full)


def _plain_shell(source: Source) -> nn.Module:
    """The modules of a network that runs Python of its own, with plain layers and the kept part of every tensor."""
    net, memo = source.net, dict[int, object]()
    modules = [("", runtime(net).top), *walk(net)]
    for path, module in modules:
        if type(module) in PLAIN and id(module) not in memo:
            memo[id(module)] = source.layer(path)
    cuts = dict(zip(runtime(net).plan.cuts, source.point.cuts, strict=True))
    for path, module in modules:
        for name, tensor in [*module._parameters.items(), *module._buffers.items()]:
            if tensor is not None and id(module) not in memo:
                memo[id(tensor)] = source.part(tensor, cuts.get(f"{path}.{name}" if path else name))
    shell = copy.deepcopy(runtime(net).top, memo)
    for path in runtime(net).plan.regions:
        del at(shell, path).__dict__["forward"]
    return shell.train(net.training)
