"""A sub-network as a plain module: leaves with smaller weights, and a torch.fx graph with literal sizes."""

from __future__ import annotations

import copy
import operator
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn

from netslim.kept import Kept, take
from netslim.ops import MODULES
from netslim.program import Mode, Node, Ref, Size, Struct, Track, function, map_leaves
from netslim.subnet import Point

if TYPE_CHECKING:
    from netslim.slimnet import SlimNet

PLAIN = {slim: (plain, shrink) for plain, (slim, shrink) in MODULES.items()}


def extract(net: SlimNet, point: Point) -> nn.Module:
    """The plain network at `point`, in the mode that `net` is in, with copies of the kept weights."""
    program = net.plan.programs[net.training]
    root, graph, values = nn.Module(), fx.Graph(), dict[str, fx.Node]()
    root.training = net.training
    for node in program:
        _emit(net, point, node, root, graph, values)
    module = fx.GraphModule(root, graph, net.plan.model or "Extracted")
    return module.train(net.training)


def _emit(net: SlimNet, point: Point, node: Node, root: nn.Module, graph: fx.Graph, values: dict[str, fx.Node]) -> None:
    def put(leaf: Any) -> Any:
        if isinstance(leaf, Ref):
            return values[leaf.name]
        if isinstance(leaf, Size):
            return point.sizes[leaf.index]
        if isinstance(leaf, Mode):
            training = _training(graph)
            return graph.call_function(operator.not_, (training,)) if leaf.negated else training
        return leaf

    if node.op == "input":
        values[node.name] = graph.placeholder(node.name)
    elif node.op == "param":
        cut = point.kept[node.args[0]] if node.args else None
        _adopt_tensor(net, root, node.target, cut)
        values[node.name] = graph.create_node("get_attr", node.target, name=node.name)
    elif node.op == "module":
        _adopt_leaf(net, root, node.target, point)
        args, kwargs = map_leaves(put, node.args), map_leaves(put, node.kwargs)
        values[node.name] = graph.call_module(node.target, args, kwargs)
    elif node.op == "output":
        graph.output(_structured(map_leaves(put, node.args[0]), graph))
    else:
        args, kwargs = map_leaves(put, node.args), map_leaves(put, node.kwargs)
        values[node.name] = _call(graph, node.target, args, kwargs)


def _training(graph: fx.Graph) -> fx.Node:
    return graph.create_node("get_attr", "training")


def _call(graph: fx.Graph, target: str, args: Any, kwargs: Any) -> fx.Node:
    if target in _TRACKED:
        kwargs = {k: v for k, v in kwargs.items() if not isinstance(v, Track)}
        return graph.call_function(_TRACKED[target], args, kwargs)
    if target.endswith(".__get__"):
        return graph.call_function(getattr, (args[0], target.split(".")[-2]))
    method = target.removeprefix("torch.Tensor.")
    if method != target and not method.startswith("__"):
        return graph.call_method(method, args, kwargs)
    return graph.call_function(_FUNCTIONS.get(target) or function(target), args, kwargs)


_TRACKED: dict[str, Any] = {
    "netslim.batch_norm": torch.nn.functional.batch_norm,
    "netslim.count_batch": torch.Tensor.add_,
}
_FUNCTIONS: dict[str, Any] = {
    "torch.Tensor.__getitem__": operator.getitem,
    "torch.Tensor.__setitem__": operator.setitem,
}


def _structured(value: Any, graph: fx.Graph) -> Any:
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
            root._modules[part] = nn.Module()
        root = root._modules[part]  # type: ignore[assignment]
    return root, last


def _adopt_tensor(net: SlimNet, root: nn.Module, path: str, cut: Any) -> None:
    parent, name = _parent(root, path)
    if name in parent._parameters or name in parent._buffers:
        return
    *prefix, _ = path.split(".")
    owner = net.get_submodule(".".join(prefix))
    if name in owner._parameters:
        parent._parameters[name] = _part(owner._parameters[name], cut)
    else:
        parent.register_buffer(name, _part(owner._buffers[name], cut), name not in owner._non_persistent_buffers_set)


def _part(tensor: Any, cut: Any) -> Any:
    kept = take(tensor.detach(), cut).clone()
    return nn.Parameter(kept, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else kept


def _adopt_leaf(net: SlimNet, root: nn.Module, path: str, point: Point) -> None:
    parent, name = _parent(root, path)
    if name not in parent._modules:
        leaf = net.get_submodule(path)
        kept = None if point.leaves is None else point.leaves.get(path)
        parent._modules[name] = plain_leaf(leaf, kept or Kept())


def plain_leaf(leaf: nn.Module, kept: Kept) -> nn.Module:
    """The plain torch layer with the kept part of a slim leaf's weights."""
    if type(leaf) not in PLAIN:
        return copy.deepcopy(leaf)
    plain_class, shrink = PLAIN[type(leaf)]
    made = plain_class.__new__(plain_class)
    made.__dict__.update({k: copy.copy(v) for k, v in leaf.__dict__.items() if k != "kept"})
    for table in (made._parameters, made._buffers):
        for attr, tensor in table.items():
            if tensor is not None:
                table[attr] = _part(tensor, kept.tensors.get(attr))
    shrink(made, kept)
    return made
