"""What stands in the source of an extracted network for the arguments of its forward, and their checks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from netslim.errors import InputError
from netslim.ir.inputs import Input, Inputs, Left
from netslim.ir.program import Program
from netslim.net.codegen import Printer

CALLED = frozenset("type len list tuple dict set TypeError ValueError eval".split())
"""Builtins that the checks of arguments, and what the class adds to them, call."""


def parameters(inputs: Inputs, names: Mapping[str, str], printer: Printer) -> Iterator[str]:
    """The parameters of forward. What the example left out, or gave as None, may be left out, and so what follows."""
    optional = False
    for name, wanted in inputs.items():
        optional = optional or wanted is None or isinstance(wanted, Left)
        default = printer.expr(wanted.value) if isinstance(wanted, Left) else "None"
        yield f", {names[name]}" + (f"={default}" if optional else "")


def unpacked(program: Program, inputs: Inputs, names: Mapping[str, str], local: Callable[[str, int], str]) -> list[str]:
    """The tensors of the arguments as locals, where they are not called so already."""
    found = [f"{names[name]}{place}" for name, wanted in inputs.items() for place in _places(wanted, "")]
    places = zip(found, program.inputs, strict=True)
    made = [(local(node.name, i), place) for i, (place, node) in enumerate(places)]
    if any(place.partition("[")[0] in [local for local, _ in made[:i]] for i, (_, place) in enumerate(made)):
        made = [(", ".join(local for local, _ in made), ", ".join(place for _, place in made))]
    return [f"{local} = {place}" for local, place in made if local != place]


def _places(wanted: Any, place: str) -> Iterator[str]:
    """Where the tensors of an argument are within it."""
    if isinstance(wanted, Input):
        yield place
    for key, item in _items(wanted):
        yield from _places(item, f"{place}[{key!a}]")


def _items(wanted: Any) -> list[tuple[Any, Any]]:
    """What an argument holds, and under which keys."""
    if isinstance(wanted, Mapping):
        return list(wanted.items())
    return list(enumerate(wanted)) if isinstance(wanted, (tuple, list)) else []


def checks(inputs: Inputs, names: Mapping[str, str], printer: Printer) -> Iterator[str]:
    """Lines that refuse arguments for which another program would have been recorded."""
    optional = False
    for name, wanted in inputs.items():
        optional = optional or wanted is None or isinstance(wanted, Left)
        if optional and isinstance(wanted, Input):
            yield from _refusal(f"{names[name]} is None", name, "missing")
        yield from _check(wanted, names[name], name, printer)


def _check(wanted: Any, given: str, name: str, printer: Printer) -> Iterator[str]:
    if isinstance(wanted, Input):
        return
    wanted = wanted.value if isinstance(wanted, Left) else wanted
    if isinstance(wanted, (Mapping, tuple, list)):
        keys = [key for key, _ in _items(wanted)]
        if not all(isinstance(key, (str, int)) for key in keys):
            raise InputError(f"argument {name!r} has keys that cannot stand in source; it cannot be extracted.")
        same = f"set({given}) == set({keys!a})" if isinstance(wanted, Mapping) else f"len({given}) == {len(keys)}"
        kind = type(wanted).__name__ if type(wanted) in (list, tuple, dict) else ""
        same = f"type({given}) is {kind} and {same}" if kind else same
        yield from _refusal(f"not ({same})", name, f"another {kind or 'container'} than the example's")
    elif wanted is None:
        yield from _refusal(f"{given} is not None", name, "another value than None, the example's")
    elif isinstance(wanted, (bool, int, float, complex, str, torch.dtype, torch.device)):
        same = f"type({given}) is type({printer.expr(wanted)}) and {given} == {printer.expr(wanted)}"
        yield from _refusal(f"not ({same})", name, f"another value than {wanted!a}, the example's")
    else:
        raise InputError(f"argument {name!r} is a {type(wanted).__name__}, which an extracted network cannot check.")
    for key, item in _items(wanted):
        yield from _check(item, f"{given}[{key!a}]", f"{name}[{key!r}]", printer)


def _refusal(wrong: str, name: str, what: str) -> Iterator[str]:
    yield f"if {wrong}:"
    yield f"    raise TypeError({f'argument {name} is {what}'!a})"
