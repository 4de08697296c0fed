"""Calling what a person named, so that a failure is one sentence about their code."""

from __future__ import annotations

import inspect
import sysconfig
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import nn

from netslim.errors import SourceError

_OURS = str(Path(__file__).parents[1])  # all of netslim
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})


def build(found: object, label: str, args: Mapping[str, object]) -> nn.Module:
    """The model that `found` is (an instance) or makes (a class or factory, called with `args`), or a SourceError.

    `label` is what the messages call it.
    """
    if isinstance(found, nn.Module):
        if args:
            raise SourceError(f"{label} is a model already, so --arg {next(iter(args))}=... has nothing to set.")
        return found
    if not callable(found):
        raise SourceError(
            f"{label} is a {type(found).__name__}; a model, a class or a function that makes one is needed."
        )
    check_arguments(found, label, args)
    try:
        model = found(**args)
    except (Exception, SystemExit) as error:
        raise SourceError(f"{label} cannot be built: {told(error)}.") from error
    if not isinstance(model, nn.Module):
        raise SourceError(f"{label} returned a {type(model).__name__}, not an nn.Module.")
    return model


def check_arguments(make: Callable[..., object], label: str, args: Mapping[str, object]) -> None:
    """SourceError, naming the arguments, when `make(**args)` has too few or too many."""
    missing = missing_arguments(make, args)
    if missing:
        options = " ".join(f"--arg {name}=VALUE" for name in missing)
        raise SourceError(f"{label} needs {_listed('argument', missing)}: add {options}.")
    unknown = unknown_arguments(make, args)
    if unknown:
        known = ", ".join(_parameters(make)) or "none"
        raise SourceError(f"{label} has no {_listed('argument', unknown)}; it takes: {known}.")


def missing_arguments(make: Callable[..., object], args: Mapping[str, object]) -> list[str]:
    """Arguments without a default that `args` does not give."""
    return [
        name
        for name, parameter in _parameters(make).items()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and name not in args
    ]


def unknown_arguments(make: Callable[..., object], args: Mapping[str, object]) -> list[str]:
    """Names in `args` that `make` does not take."""
    parameters = _parameters(make)
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return []
    return [name for name in args if name not in parameters]


def _parameters(make: Callable[..., object]) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(make).parameters)
    except (TypeError, ValueError):  # some builtins have no signature: let the call decide
        anything = inspect.Parameter("arguments", inspect.Parameter.VAR_KEYWORD)
        return {anything.name: anything}


def told(error: BaseException) -> str:
    """An error as 'file.py:12 raises ValueError: its message', in the user's own code where there is some."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno} has a syntax error: {error.msg}"
    place = _place(error)
    at = f"{place} " if place else ""
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"{at}imports {error.name!r}, which is not installed"
    message = str(error).strip().splitlines()
    what = f"{type(error).__name__}: {message[0].rstrip('.')}" if message else type(error).__name__
    return f"{at}raises {what}" if at else f"it raises {what}"


def _place(error: BaseException) -> str:
    """file:line of the deepest frame in the user's code, else of the deepest frame outside this package, else ''."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((_OURS, "<frozen"))
    ]
    theirs = [frame for frame in frames if not frame.filename.startswith(_LIBRARIES)]
    deepest = (theirs or frames)[-1:]
    return "".join(f"{_short(frame.filename)}:{frame.lineno}" for frame in deepest)


def _short(filename: str) -> str:
    """Relative to the current folder where that is shorter."""
    path = Path(filename)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else filename


def _listed(noun: str, names: list[str]) -> str:
    return f"{noun}{'s' if len(names) > 1 else ''} {', '.join(names)}"
