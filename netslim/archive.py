"""converted.pt: a network as data. Loading runs nothing that the file brings.

The file is what `torch.save` writes of a dict of plain lists, strings, numbers and tensors, so that
`torch.load(path, weights_only=True)` opens it. Functions are stored by name and looked up in an allowlist, leaf
modules by the name of their torch class and their plain attributes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from netslim.axes import Concat, Const, Elastic, Layout, Product, Reason
from netslim.errors import ArchiveError
from netslim.extract import _PLAIN
from netslim.files import atomic_write
from netslim.ops import FUNCTIONS
from netslim.plan import Block, Frozen, Group, Plan, Slot
from netslim.program import RESERVED, Mode, Node, Program, Ref, Size, Struct, Track, function
from netslim.slimnet import SlimNet, Tree, slim
from netslim.trace import LIFTED

FORMAT, VERSION = "netslim", 1


def save(net: SlimNet, path: str | os.PathLike[str]) -> None:
    """Write a converted network, atomically. Raises ArchiveError when the file cannot be written."""
    modules: list[Any] = []
    tensors: dict[str, Tensor] = {}
    seen: dict[int, str] = {}
    for name, module in [("", net), *_walk(net)]:
        if name.split(".")[0] != LIFTED:
            modules.append(_module_data(name, module, tensors, seen))
    constants = {n: b.cpu() for n, b in net._modules[LIFTED]._buffers.items()} if LIFTED in net._modules else {}  # type: ignore[union-attr]
    data = {
        "format": FORMAT, "version": VERSION, "torch": str(torch.__version__), "plan": _plan_data(net.plan),
        "modules": modules, "tensors": {n: t.detach().cpu() for n, t in tensors.items()}, "constants": constants,
        "proof": None if net.proof is None else net.proof.to_data(),
    }  # fmt: skip
    try:
        with atomic_write(Path(path)) as temporary:
            torch.save(data, temporary)
    except OSError as error:
        raise ArchiveError(f"{path} cannot be written: {error.strerror or error}.") from error


def load(path: str | os.PathLike[str], trust: bool = False) -> SlimNet:
    """Read a converted network onto the CPU, in eval mode.

    Raises ArchiveError when the file is missing, damaged, foreign or newer than this netslim. `trust` is reserved for
    files that refer to a user's own module; a file written by this version never needs it.
    """
    data = _read(Path(path))
    try:
        net = _network(data)
    except ArchiveError:
        raise
    except Exception as error:
        raise ArchiveError(f"{path} is damaged: its contents do not fit together ({type(error).__name__}); convert the model again.") from error
    return net.eval()  # type: ignore[return-value]


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise ArchiveError(f"{path} does not exist; write it with 'netslim convert SOURCE -o {path}'.")
    if path.is_dir():
        raise ArchiveError(f"{path} is a folder; name the converted file in it.")
    if not path.stat().st_size:
        raise ArchiveError(f"{path} is empty; convert the model again.")
    try:
        data = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ArchiveError(f"{path} cannot be read: {error.strerror or error}.") from error
    except Exception as error:
        raise ArchiveError(f"{path} is no converted network, or it is damaged: torch.load cannot open it as plain data.") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ArchiveError(f"{path} is no converted network (a checkpoint of another program?); write one with 'netslim convert'.")
    if not isinstance(data.get("version"), int) or data["version"] > VERSION:
        raise ArchiveError(f"{path} was written by a newer netslim (format {data.get('version')}, this one reads up to {VERSION}); upgrade netslim.")
    return data


def _network(data: Mapping[str, Any]) -> SlimNet:
    from netslim.proof import Proof

    plan = _plan_from(data["plan"])
    _check_paths(plan, data)
    tree = _tree(data["modules"], data["tensors"])
    constants = {f"{LIFTED}.{name}": tensor for name, tensor in data["constants"].items()}
    net = SlimNet(plan, tree, constants)
    net.proof = None if data["proof"] is None else Proof.from_data(data["proof"])
    return net


def _check_paths(plan: Plan, data: Mapping[str, Any]) -> None:
    """A program may read only the parameters and call only the modules that the file holds."""
    modules = {path for path, *_ in data["modules"] if path}
    tensors = {f"{p}.{n}" if p else n for p, *_, params, buffers in data["modules"] for n, *_ in [*params, *buffers]}
    tensors |= {f"{LIFTED}.{name}" for name in data["constants"]}
    for program in plan.programs.values():
        for node in program:
            if node.target not in {"module": modules, "param": tensors}.get(node.op, {node.target}):
                raise ArchiveError(f"the file's program uses {node.target!r}, which the file does not hold.")


# ------------------------------------------------------------------------------------------------- modules


def _walk(root: nn.Module, prefix: str = "") -> list[tuple[str, nn.Module | None]]:
    found: list[tuple[str, nn.Module | None]] = []
    for name, child in root._modules.items():
        found.append((f"{prefix}{name}", child))
        if child is not None:
            found += _walk(child, f"{prefix}{name}.")
    return found


def _module_data(path: str, module: nn.Module | None, tensors: dict[str, Tensor], seen: dict[int, str]) -> Any:
    if module is None:
        return [path, "", "", {}, [], []]
    if id(module) in seen:
        return [path, "=", seen[id(module)], {}, [], []]
    seen[id(module)] = path
    is_tree = isinstance(module, (SlimNet, Tree))
    plain = _PLAIN.get(type(module), (type(module),))[0]
    kind = "Tree" if is_tree else f"{plain.__module__}.{plain.__qualname__}"
    attributes = {"origin": getattr(module, "origin", "")} if is_tree else _attributes(path, module)
    attributes["training"] = module.training
    prefix = f"{path}." if path else ""
    params, buffers = [], []
    for name, tensor in module._parameters.items():
        params.append([name, _store(tensor, prefix + name, tensors, seen), tensor is not None and tensor.requires_grad])
    for name, tensor in module._buffers.items():
        key = _store(tensor, prefix + name, tensors, seen)
        buffers.append([name, key, name not in module._non_persistent_buffers_set])
    return [path, kind, "", attributes, params, buffers]


def _store(tensor: Tensor | None, name: str, tensors: dict[str, Tensor], seen: dict[int, str]) -> str:
    if tensor is None:
        return ""
    if id(tensor) not in seen:
        seen[id(tensor)] = name
        tensors[name] = tensor
    return seen[id(tensor)]


_PRIVATE = {"training", "kept"} | set(nn.Module().__dict__)


def _attributes(path: str, module: nn.Module) -> dict[str, Any]:
    found = {k: v for k, v in module.__dict__.items() if k not in _PRIVATE}
    for name, value in found.items():
        if not _is_plain(value):
            raise ArchiveError(f"{path} ({type(module).__name__}) has an attribute {name!r} of type {type(value).__name__}, which cannot be stored.")
    return found


def _is_plain(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(k, str) and _is_plain(v) for k, v in value.items())
    return value is None or isinstance(value, (bool, int, float, str, torch.dtype, torch.device, torch.Size))


def _leaf_class(name: str) -> type[nn.Module]:
    module_name, _, class_name = name.rpartition(".")
    if module_name.startswith("torch.nn.modules."):
        found = getattr(nn, class_name, None)
    elif name == "torchvision.ops.stochastic_depth.StochasticDepth":
        from torchvision.ops import StochasticDepth as found
    else:
        found = None
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ArchiveError(f"the file asks for a module of class {name!r}, which is not one that netslim builds.")
    return found


def _tree(modules: list[Any], tensors: Mapping[str, Tensor]) -> nn.Module:
    made: dict[str, nn.Module | None] = {}
    shared: dict[str, Any] = {}
    for path, kind, same, attributes, params, buffers in modules:
        module = made[same] if kind == "=" else _module(kind, attributes, params, buffers, tensors, shared) if kind else None
        made[path] = module
        if path:
            parent, _, name = path.rpartition(".")
            made[parent]._modules[name] = module  # type: ignore[union-attr]
    root = made[""]
    assert root is not None
    return root


def _module(kind: str, attributes: dict[str, Any], params: Any, buffers: Any, tensors: Mapping[str, Tensor], shared: dict[str, Any]) -> nn.Module:
    if kind == "Tree":
        module: nn.Module = Tree(str(attributes["origin"]))
        module.training = bool(attributes["training"])
    else:
        plain = _leaf_class(kind)
        module = plain.__new__(plain)
        nn.Module.__init__(module)
        for name, value in attributes.items():
            if name in _PRIVATE - {"training"} or not _is_plain(value):
                raise ArchiveError(f"the file sets {name!r} of a {kind}, which is not allowed.")
            module.__dict__[name] = value
    for name, key, trainable in params:
        if key and (key, "param") not in shared:
            shared[key, "param"] = nn.Parameter(tensors[key], bool(trainable))
        module._parameters[name] = shared[key, "param"] if key else None
    for name, key, persistent in buffers:
        if key and (key, "buffer") not in shared:
            shared[key, "buffer"] = tensors[key]
        module._buffers[name] = shared[key, "buffer"] if key else None
        if not persistent:
            module._non_persistent_buffers_set.add(name)
    return slim(module)


# ---------------------------------------------------------------------------------------------------- plan


def _plan_data(plan: Plan) -> dict[str, Any]:
    same = plan.programs[True] is plan.programs[False]
    return {
        "groups": [[g.name, g.size, [list(s) for s in g.slots]] for g in plan.groups],
        "frozen": [[[list(s) for s in f.slots], f.size, f.reason, f.op, f.where] for f in plan.frozen],
        "layouts": {name: [_layout_data(d) for d in dims] for name, dims in plan.layouts.items()},
        "programs": [_program_data(plan.programs[mode]) for mode in ((True,) if same else (True, False))],
        "sizes": [[_layout_data(layout), at] for layout, at in plan.sizes],
        "cuts": list(plan.cuts),
        "ints": {p: {n: _layout_data(d) for n, d in ints.items()} for p, ints in plan.ints.items()},
        "input_names": list(plan.input_names),
        "input_shapes": [list(shape) for shape in plan.input_shapes],
        "blocks": [[b.name, b.params, b.where] for b in plan.blocks],
        "specialised": list(plan.specialised),
        "unknown": dict(plan.unknown),
        "model": plan.model,
    }  # fmt: skip


def _plan_from(data: Mapping[str, Any]) -> Plan:
    def slots(found: Any) -> tuple[Slot, ...]:
        return tuple(Slot(str(name), int(dim)) for name, dim in found)

    programs = [_program_from(nodes) for nodes in data["programs"]]
    interned: dict[Layout, Layout] = {}

    def layout(found: Any) -> Layout:
        made = _layout_from(found, len(data["groups"]))
        return interned.setdefault(made, made)

    return Plan(
        groups=tuple(Group(name, size, slots(found)) for name, size, found in data["groups"]),
        frozen=tuple(Frozen(slots(found), size, *rest) for found, size, *rest in data["frozen"]),
        layouts={name: tuple(map(layout, dims)) for name, dims in data["layouts"].items()},
        programs={True: programs[0], False: programs[-1]},
        sizes=tuple((layout(found), int(at)) for found, at in data["sizes"]),
        cuts=tuple(data["cuts"]),
        ints={p: {n: layout(d) for n, d in ints.items()} for p, ints in data["ints"].items()},
        input_names=tuple(data["input_names"]),
        input_shapes=tuple(tuple(shape) for shape in data["input_shapes"]),
        blocks=tuple(Block(*block) for block in data["blocks"]),
        specialised=tuple(data["specialised"]),
        unknown=dict(data["unknown"]),
        model=str(data["model"]),
    )


def _layout_data(layout: Layout) -> list[Any]:
    if isinstance(layout, Elastic):
        return ["group", layout.group, layout.size]
    if isinstance(layout, Const):
        reason = layout.reason
        return ["const", layout.size, [reason.text, reason.op, reason.where] if reason else None]
    if isinstance(layout, Product):
        return ["product", *map(_layout_data, layout.factors)]
    assert isinstance(layout, Concat)
    return ["concat", *map(_layout_data, layout.parts)]


def _layout_from(data: list[Any], groups: int) -> Layout:
    kind, *rest = data
    if kind == "group":
        if not 0 <= rest[0] < groups:
            raise ValueError("no such group")
        return Elastic(rest[0], rest[1])
    if kind == "const":
        return Const(rest[0], Reason(*rest[1]) if rest[1] else None)
    children = tuple(_layout_from(child, groups) for child in rest)
    return Product(children) if kind == "product" else Concat(children)


def _program_data(program: Program) -> list[Any]:
    return [[n.name, n.op, n.target, _value_data(n.args), _value_data(n.kwargs), n.where] for n in program]


def _program_from(nodes: list[Any]) -> Program:
    return Program(tuple(map(_node_from, nodes)))


def _node_from(data: list[Any]) -> Node:
    name, op, target, args, kwargs, where = data
    made = Node(str(name), str(op), str(target), _value_from(args), _value_from(kwargs), " ".join(str(where).split()))
    if op not in ("input", "param", "module", "call", "output"):
        raise ArchiveError(f"the file's program has a step of kind {op!r}, which netslim does not know.")
    if op == "call" and target not in FUNCTIONS:
        function(target)
    words = [name, *made.kwargs, *made.refs]
    if not all(isinstance(w, str) and w.isidentifier() and not w.startswith("__") for w in words) or name in RESERVED:
        raise ArchiveError("the file's program uses a name that is no plain identifier.")
    return made


def _value_data(value: Any) -> Any:
    if isinstance(value, Ref):
        return ["ref", value.name]
    if isinstance(value, Size):
        return ["size", value.index]
    if isinstance(value, Mode):
        return ["mode", value.negated]
    if isinstance(value, Track):
        return ["track"]
    if isinstance(value, (tuple, list)):
        return ["list" if isinstance(value, list) else "tuple", [_value_data(v) for v in value]]
    if isinstance(value, Mapping):
        return ["dict", [[k, _value_data(v)] for k, v in value.items()]]
    if isinstance(value, slice):
        return ["slice", [_value_data(v) for v in (value.start, value.stop, value.step)]]
    if isinstance(value, Struct):
        return ["struct", value.kind, list(value.keys), [_value_data(v) for v in value.values]]
    if value is Ellipsis:
        return ["ellipsis"]
    if isinstance(value, (torch.memory_format, torch.layout)):
        return ["torch", str(value).removeprefix("torch.")]
    return ["value", value]


def _value_from(data: list[Any]) -> Any:
    kind, *rest = data
    if kind == "value":
        if not (rest[0] is None or isinstance(rest[0], (bool, int, float, complex, str, torch.dtype, torch.device))):
            raise ValueError("no literal")
        return rest[0]
    if kind == "ref":
        return Ref(str(rest[0]))
    if kind in ("size", "mode"):
        return Size(int(rest[0])) if kind == "size" else Mode(bool(rest[0]))
    if kind in ("track", "ellipsis"):
        return Track() if kind == "track" else Ellipsis
    if kind == "torch":
        found = getattr(torch, str(rest[0]))
        if not isinstance(found, (torch.memory_format, torch.layout)):
            raise ValueError("no memory format")
        return found
    if kind == "dict":
        return {k: _value_from(v) for k, v in rest[0]}
    if kind == "struct":
        if not str(rest[0]).isidentifier():
            raise ValueError("no name")
        return Struct(rest[0], tuple(rest[1]), tuple(map(_value_from, rest[2])))
    items = [_value_from(v) for v in rest[0]]
    return items if kind == "list" else slice(*items) if kind == "slice" else tuple(items)
