"""What a file holds of the Python around regions: references to classes, and the attributes of their objects.

A network whose forward could not be followed keeps its own classes. They are pickled, which stores a class as the name
to import it by; unpickling may run code, so that a file is only asked for it by someone who says that it is trusted.
Modules and tensors inside are stored as their paths: they are in the file as data.
"""

from __future__ import annotations

import importlib
import io
import os
import pickle
import re
import sys
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from netslim.archive.modules import DERIVED, Stored
from netslim.errors import ArchiveError
from netslim.net.tree import OWN
from netslim.source.userfile import importing_from

_TABLES = {"_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"}
_FROM_FILE = re.compile(r"^_source\d+_")  # how the module of a mymodel.py is called while it is imported from its path


def names(shells: Mapping[str, nn.Module]) -> list[str]:
    """The classes, as module.Class, each once."""
    found = (f"{_FROM_FILE.sub('', type(m).__module__)}.{type(m).__qualname__}" for m in shells.values())
    return list(dict.fromkeys(found))


def dump(stored: Stored, modules: Mapping[str, nn.Module]) -> Tensor:
    """Classes and attributes of the model's own modules as bytes. ArchiveError when something cannot be pickled."""
    places = {id(module): ("module", path) for path, module in modules.items()}
    places |= {id(tensor): ("tensor", name) for name, tensor in stored.tensors.items()}
    classes = {path: type(module) for path, module in stored.python.items()}
    states = {path: _attributes(module) for path, module in stored.python.items()} | stored.more
    parts = _pickled(folders_of(classes.values()), {}) + _pickled(classes, {}) + _pickled(states, places)
    return torch.frombuffer(bytearray(parts), dtype=torch.uint8)


def folders_of(classes: Iterable[type]) -> list[str]:
    """Where the code of classes is that no name leads to from anywhere else: what was imported from a path."""
    homes = dict.fromkeys(kind.__module__.partition(".")[0] for kind in classes)
    files = [getattr(sys.modules.get(home), "__file__", None) for home in homes]
    found = dict.fromkeys(_above(os.path.abspath(file)) for file in files if file)
    return [folder for folder in found if folder not in map(os.path.abspath, sys.path)]


def _above(file: str) -> str:
    """The folder that a module's file, or a package's, is imported from."""
    folder, name = os.path.split(file)
    return os.path.dirname(folder) if name == "__init__.py" else folder


def _attributes(module: nn.Module) -> dict[str, object]:
    found: dict[str, Any] = {k: v for k, v in vars(module).items() if k not in _TABLES | OWN | DERIVED}
    hooks: Mapping[int, object] = found["_load_state_dict_pre_hooks"]
    return found | {"_load_state_dict_pre_hooks": OrderedDict((k, v) for k, v in hooks.items() if not _is_torchs(v))}


def _is_torchs(hook: object) -> bool:
    """Whether it is a function inside one of torch's, for state dicts of older forms; no name leads to it."""
    function = getattr(hook, "hook", hook)
    return "<locals>" in getattr(function, "__qualname__", "") and function.__module__.startswith("torch.")


def _pickled(value: object, places: Mapping[int, tuple[str, str]]) -> bytes:
    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: object) -> tuple[str, str] | None:
            return places.get(id(obj)) if isinstance(obj, (nn.Module, Tensor)) else None

        def reducer_override(self, obj: Any) -> Any:
            if isinstance(obj, type) and _is_parametrized(obj):
                return parametrized, (obj.__base__, *(name for name, v in vars(obj).items() if isinstance(v, property)))
            return NotImplemented

    stream = io.BytesIO()
    try:
        Pickler(stream, protocol=4).dump(value)
    except Exception as error:
        raise ArchiveError(
            f"the model's own Python cannot be stored: {str(error).splitlines()[0]}. Its forward could not be followed "
            "as a whole, so that its objects must be picklable: use functions and classes of a module in place of "
            "lambdas and local ones."
        ) from error
    return stream.getvalue()


def _is_parametrized(kind: type) -> bool:
    """Whether it is a class that torch made for one module with parametrizations; no name leads to it."""
    return kind.__module__ == parametrize.__name__ and kind is not getattr(parametrize, kind.__name__, None)


def parametrized(base: type[nn.Module], *names: str) -> type[nn.Module]:
    """The class of a module of class `base` whose tensors `names` are parametrized."""
    module = base.__new__(base)
    nn.Module.__init__(module)
    parametrize._inject_new_class(module)
    for name in names:
        parametrize._inject_property(module, name)
    return type(module)


class Shells:
    """The Python of a trusted file: `classes` by path first; `fill` when all modules are made.

    Code is looked for in the working folder, in `beside`, and where it was when the network was converted.
    """

    def __init__(self, blob: Tensor, beside: Path) -> None:
        self._stream = io.BytesIO(blob.numpy().tobytes())
        self._folders = [Path.cwd(), beside.absolute()]
        first = self._read({}, {})
        if isinstance(first, list):  # files of before begin with the classes
            self._folders += map(Path, first)
            first = self._read({}, {})
        self.classes: dict[str, type[nn.Module]] = first

    def fill(self, modules: Mapping[str, nn.Module], tensors: Mapping[str, Tensor]) -> None:
        """Give every module its attributes."""
        for path, attributes in self._read(modules, tensors).items():
            modules[path].__dict__.update(attributes)
        for module in modules.values():
            if isinstance(module, nn.RNNBase):
                module._init_flat_weights()

    def _read(self, modules: Mapping[str, nn.Module], tensors: Mapping[str, Tensor]) -> Any:
        class Unpickler(pickle.Unpickler):
            def persistent_load(self, place: tuple[str, str]) -> nn.Module | Tensor:
                kind, name = place
                return modules[name] if kind == "module" else tensors[name]

            def find_class(self, module: str, name: str) -> object:
                home: object = importlib.import_module(_FROM_FILE.sub("", module))
                for part in name.split("."):
                    home = getattr(home, part)
                return home

        try:
            with importing_from(*self._folders):
                return Unpickler(self._stream).load()
        except (ImportError, AttributeError) as error:
            raise ArchiveError(
                f"the file needs the model's own code, which cannot be imported here ({error}); put it beside the "
                "file, or add its folder to PYTHONPATH."
            ) from error
