"""What a program refuses before it computes anything: sizes of its inputs that it was not recorded for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from netslim.ir.inputs import Shape
from netslim.ir.own import REQUIRE
from netslim.ir.program import Literal, Program, Ref, function


def refused(program: Program, shapes: Sequence[Shape]) -> bool:
    """Whether the first steps, those that look at nothing but the sizes of the inputs, refuse these shapes."""
    given, numbers, further = dict[str, Shape](), dict[str, object](), iter(shapes)
    for node in program:
        args = [numbers.get(arg.name, arg) if isinstance(arg, Ref) else arg for arg in node.args]
        if node.op == "input":
            given[node.name] = next(further)
        elif node.target == "torch.Tensor.size":
            numbers[node.name] = _size(node.args, given)
        elif node.op != "call" or None in args or any(isinstance(arg, Ref) for arg in args):
            return False
        elif node.target == REQUIRE and args[0] != args[1]:
            return True
        elif node.target.startswith("operator."):
            numbers[node.name] = function(node.target)(*args)
    return False


def _size(args: Sequence[Literal], given: Mapping[str, Shape]) -> int | None:
    """One dimension of an input; None for anything else."""
    tensor, *dims = args
    known = given.get(tensor.name, ()) if isinstance(tensor, Ref) else ()
    dim = dims[0] if len(dims) == 1 else None
    return known[dim] if isinstance(dim, int) and -len(known) <= dim < len(known) else None
