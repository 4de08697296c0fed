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

from netslim.errors import ArchiveError
from netslim.extract import PLAIN
from netslim.files import atomic_write
from netslim.ops import FUNCTIONS
from netslim.plan import Plan
from netslim.program import is_listed
from netslim.proof import Proof
from netslim.shells import Shells, dump, names
from netslim.slimnet import SlimNet
from netslim.stored import plan_data, plan_from
from netslim.tracer import LIFTED
from netslim.tree import OWN, Tree, slim

FORMAT, VERSION = "netslim", 2


def save(net: SlimNet, path: str | os.PathLike[str]) -> None:
    """Write a converted network, atomically. Raises ArchiveError when the file cannot be written."""
    modules: list[Any] = []
    tensors: dict[str, Tensor] = {}
    seen: dict[int, str] = {}
    for name, module in [("", net), *_walk(net)]:
        if LIFTED not in name.split("."):
            modules.append(_module_data(name, module, tensors, seen))
    own = {path: module for path, module in _walk(net) if module is not None} | {"": getattr(net, "_shell", net)}
    python = {path: module for path, module in own.items() if _is_python(module)}
    constants = {n: b.cpu() for n, b in net.named_buffers(remove_duplicate=False) if LIFTED in n.split(".")}
    data = {
        "format": FORMAT, "version": VERSION, "torch": str(torch.__version__), "plan": plan_data(net.plan),
        "modules": modules, "tensors": {n: t.detach().cpu() for n, t in tensors.items()}, "constants": constants,
        "proof": None if net.proof is None else net.proof.to_data(), "python": names(python),
        "shells": dump(python, own, tensors) if python else None,
    }  # fmt: skip
    try:
        with atomic_write(Path(path)) as temporary:
            torch.save(data, temporary)
    except OSError as error:
        raise ArchiveError(f"{path} cannot be written: {error.strerror or error}.") from error


def load(path: str | os.PathLike[str], *, trust: bool = False) -> SlimNet:
    """Read a converted network onto the CPU, in eval mode.

    trust: a network whose forward could not be followed as a whole keeps classes of the model's; they are imported, and
    their objects unpickled, only when you say that you trust the file.
    Raises ArchiveError when the file is missing, damaged, foreign, newer than this netslim, or needs trust.
    """
    data = _read(Path(path))
    if data.get("shells") is not None and not trust:
        raise ArchiveError(
            f"{path} needs code of its model ({', '.join(map(str, data['python'][-3:]))}), whose forward could not be "
            "followed as a whole; if you trust the file, load it with trust=True, or --trust."
        )
    try:
        net = _network(data, trust)
    except ArchiveError:
        raise
    except Exception as error:
        raise ArchiveError(
            f"{path} is damaged: its contents do not fit together ({type(error).__name__}); convert the model again."
        ) from error
    return net.eval()


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
        raise ArchiveError(
            f"{path} is no converted network, or it is damaged: it cannot be opened as plain data."
        ) from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ArchiveError(
            f"{path} is no converted network (a checkpoint of another program?); write one with 'netslim convert'."
        )
    if not isinstance(data.get("version"), int) or data["version"] > VERSION:
        raise ArchiveError(
            f"{path} was written by a newer netslim (format {data.get('version')} > {VERSION}); upgrade netslim."
        )
    return data


def _network(data: Mapping[str, Any], trust: bool) -> SlimNet:
    plan = plan_from(data["plan"])
    _check_operators(plan, trust)
    _check_paths(plan, data)
    shells = None if data["shells"] is None else Shells(data["shells"])
    tree = _tree(data["modules"], data["tensors"], shells)
    net = SlimNet(plan, tree, data["constants"])
    net.proof = None if data["proof"] is None else Proof.from_data(data["proof"])
    return net


def _check_operators(plan: Plan, trust: bool) -> None:
    """A program may call operators that torch and torchvision do not have only where the file is trusted."""
    programs = (program for region in plan.regions.values() for program in region.programs.values())
    called = {n.target for program in programs for n in program if n.op == "call"} - FUNCTIONS.keys()
    others = sorted(name for name in called if not is_listed(name))
    if others and not trust:
        raise ArchiveError(
            f"the file's program calls {others[0]}, an operator of neither torch nor torchvision; if you trust the "
            "file, load it with trust=True, or --trust."
        )


def _check_paths(plan: Plan, data: Mapping[str, Any]) -> None:
    """A program may read only the parameters and call only the modules that the file holds."""
    modules = {path for path, *_ in data["modules"] if path}
    pieces = {piece for path, *_ in data["modules"] for piece in path.split(".")}
    pieces |= {name for *_, params, buffers in data["modules"] for name, *_ in [*params, *buffers]}
    for piece in pieces:
        if piece.startswith("__") or hasattr(nn.Module, piece):
            raise ArchiveError(
                f"the file calls a module or parameter {piece!r}, which is a name of Python's or torch's own."
            )
    tensors = {f"{p}.{n}" if p else n for p, *_, params, buffers in data["modules"] for n, *_ in [*params, *buffers]}
    tensors |= set(data["constants"])
    for program in (p for region in plan.regions.values() for p in region.programs.values()):
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
    shell = module._shell if isinstance(module, SlimNet) and module.plan.whole is None else module
    is_tree = isinstance(shell, (SlimNet, Tree))
    plain = PLAIN.get(type(module), (type(module),))[0]
    kind = "Tree" if is_tree else "Python" if _is_python(shell) else f"{plain.__module__}.{plain.__qualname__}"
    attributes = {"origin": getattr(module, "origin", "")} if is_tree else {}
    if kind not in ("Tree", "Python"):
        attributes = _attributes(path, module)
    attributes["training"] = module.training
    prefix = f"{path}." if path else ""
    params, buffers = [], []
    for name, param in module._parameters.items():
        params.append([name, _store(param, prefix + name, tensors, seen), param is not None and param.requires_grad])
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


def _is_python(module: nn.Module) -> bool:
    """Whether a module is of a class that is neither torch's nor netslim's."""
    if isinstance(module, (SlimNet, Tree)) or type(module) in PLAIN:
        return False
    try:
        return _leaf_class(f"{type(module).__module__}.{type(module).__qualname__}") is not type(module)
    except ArchiveError:
        return True


_PRIVATE = {"training", "kept"} | OWN | set(nn.Module().__dict__)


def _attributes(path: str, module: nn.Module) -> dict[str, Any]:
    found = {k: v for k, v in module.__dict__.items() if k not in _PRIVATE}
    for name, value in found.items():
        if not _is_plain(value):
            raise ArchiveError(
                f"{path} ({type(module).__name__}): its attribute {name!r} ({type(value).__name__}) cannot be stored."
            )
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
        from torchvision.ops import StochasticDepth

        found = StochasticDepth
    else:
        found = None
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ArchiveError(f"the file asks for a module of class {name!r}, which is not one that netslim builds.")
    return found


def _tree(modules: list[Any], tensors: Mapping[str, Tensor], shells: Shells | None) -> nn.Module:
    made: dict[str, nn.Module | None] = {}
    shared: dict[tuple[str, str], Any] = {}
    for path, kind, same, attributes, params, buffers in modules:
        module: nn.Module | None = None
        if kind == "=":
            module = made[same]
        elif kind:
            module = _empty(kind, path, attributes, shells)
            _give_tensors(module, params, buffers, tensors, shared)
            module = slim(module)
        made[path] = module
        if path:
            parent, _, name = path.rpartition(".")
            made[parent]._modules[name] = module  # type: ignore[union-attr]
    root = made[""]
    assert root is not None
    if shells is not None:
        found = {path: module for path, module in made.items() if module is not None}
        held = dict(root.named_parameters(remove_duplicate=False)) | dict(root.named_buffers(remove_duplicate=False))
        shells.fill(found, held)
    return root


def _empty(kind: str, path: str, attributes: dict[str, Any], shells: Shells | None) -> nn.Module:
    """A module of the named kind without tensors and children."""
    if kind == "Tree":
        tree = Tree(str(attributes["origin"]))
        tree.training = bool(attributes["training"])
        return tree
    plain = _python_class(path, shells) if kind == "Python" else _leaf_class(kind)
    module = plain.__new__(plain)
    nn.Module.__init__(module)
    for name, value in attributes.items():
        if name in _PRIVATE - {"training"} or not _is_plain(value):
            raise ArchiveError(f"the file sets {name!r} of a {kind}, which is not allowed.")
        module.__dict__[name] = value
    return module


def _python_class(path: str, shells: Shells | None) -> type[nn.Module]:
    found = None if shells is None else shells.classes.get(path)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ArchiveError(f"the file holds no class for its module {path!r}.")
    return found


def _give_tensors(
    module: nn.Module, params: Any, buffers: Any, tensors: Mapping[str, Tensor], shared: dict[tuple[str, str], Any]
) -> None:
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
