"""A person's Python file: importing it, and finding the model in it.

Candidates are the names that the file itself defines: instances of nn.Module; where there are none, classes and
factories that can be called with what is given. Building blocks are no candidates: a class that another model class of
the file uses, or whose instances sit inside another candidate, is a part.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch
from torch import nn

from netslim.errors import SourceError
from netslim.source.definitions import Definitions
from netslim.source.factory import build, missing_arguments, told, unknown_arguments

_counter = itertools.count()


@dataclass(frozen=True, slots=True)
class Trial:
    """A candidate that was called: what it made, or why it failed."""

    name: str
    model: nn.Module | None
    error: SourceError | None = None


@contextmanager
def importing_from(*folders: Path) -> Iterator[None]:
    """Puts folders first on sys.path, so that the person's own modules are found, and takes them away again."""
    sys.path[:0] = map(str, folders)
    try:
        yield
    finally:
        for folder in map(str, folders):
            if folder in sys.path:
                sys.path.remove(folder)


def import_file(path: Path) -> ModuleType:
    """The module in the file `path`, registered under a name of its own so that its classes can be pickled."""
    if path.is_dir():
        raise SourceError(f"{path} is a folder; name the Python file that holds the model.")
    if not path.is_file():
        raise SourceError(f"there is no file {path}.")
    if path.suffix != ".py":
        raise SourceError(f"{path} is not a Python file; its name does not end in .py.")
    name = f"_source{next(_counter)}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None, "a .py file always has a spec"
    assert spec.loader is not None, "and a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise failure(f"{path} cannot be imported", error) from error
    return module


def failure(what: str, error: BaseException) -> SourceError:
    """`what` went wrong because of `error` in a person's code."""
    if isinstance(error, SystemExit):
        return SourceError(f"{what}: it ends the program; put its script part under `if __name__ == '__main__':`.")
    return SourceError(f"{what}: {told(error)}.")


def choose(module: ModuleType, path: Path, entry: str | None, args: Mapping[str, object]) -> tuple[str, nn.Module]:
    """The name and the model of `entry`, or of the only candidate in the file."""
    definitions = Definitions(module, path)
    name = entry or _only_candidate(definitions, path, args)
    if not hasattr(module, name):
        raise SourceError(f"{path} has no {name!r}; it defines: {_listed(definitions.names) or 'no model'}.")
    return name, build(getattr(module, name), f"{path}:{name}", args)


def _only_candidate(definitions: Definitions, path: Path, args: Mapping[str, object]) -> str:
    """SourceError, with a list, unless there is exactly one."""
    names = _instances(definitions) or _made(definitions, args)
    if len(names) == 1:
        return names[0]
    if names:
        raise SourceError(f"{path} has {len(names)} candidates: {_listed(names)}; choose one with --entry NAME.")
    wanting = definitions.whole_classes or definitions.factories
    if not wanting:
        raise SourceError(
            f"{path} defines no model: no nn.Module instance or subclass, and no function that returns one."
        )
    if len(wanting) == 1:
        return wanting[0]  # building it names the arguments
    needs = [f"{name}({', '.join(missing_arguments(definitions[name], args))})" for name in wanting]
    raise SourceError(f"every model in {path} needs arguments: {_listed(needs)}; give --entry NAME --arg NAME=VALUE.")


def _instances(definitions: Definitions) -> list[str]:
    """Instances that are not parts of other instances."""
    found = definitions.instances
    return [
        name
        for name, model in found.items()
        if not any(model is part for other in found.values() if other is not model for part in other.modules())
    ]


def _made(definitions: Definitions, args: Mapping[str, object]) -> list[str]:
    """Classes and factories that can be called with `args`, without those that only make parts or repeat a factory."""
    names = [*definitions.whole_classes, *definitions.factories]
    callable_now = [
        name
        for name in names
        if not missing_arguments(definitions[name], args) and not unknown_arguments(definitions[name], args)
    ]
    if len(callable_now) < 2:
        return callable_now
    trials = [_try(definitions[name], name, args) for name in callable_now]
    return [trial.name for trial in trials if not any(_covers(other, trial, definitions) for other in trials)]


def _try(make: Callable[..., object], name: str, args: Mapping[str, object]) -> Trial:
    """Builds on the meta device, which costs nothing; for real where the constructor computes with tensors."""
    for device in ("meta", "cpu"):
        try:
            with torch.device(device):
                return Trial(name, build(make, name, args))
        except SourceError as error:
            failed = error
    return Trial(name, None, failed)


def _covers(other: Trial, trial: Trial, definitions: Definitions) -> bool:
    """Whether `trial` adds nothing: its class is a part of `other`, or `other` is a factory of the same network."""
    if other is trial or other.model is None:
        return False
    cls = type(trial.model) if trial.model is not None else definitions[trial.name]
    parts = {type(part) for part in other.model.modules() if part is not other.model}
    if cls in parts:
        return True
    if trial.name in definitions.factories or other.name not in definitions.factories or type(other.model) is not cls:
        return False
    return trial.model is None or _shapes(trial.model) == _shapes(other.model)


def _shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in model.state_dict().items()}


def _listed(names: list[str]) -> str:
    return ", ".join(names)
