"""A sub-network's programs as Python that needs torch alone: sizes are numbers, tensors whole, classes importable."""

from __future__ import annotations

import builtins
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, groupby

from netslim.errors import InputError
from netslim.ir.functions import operator_of
from netslim.ir.inputs import Inputs
from netslim.ir.own import BY_DTYPE, PRECISIONS, REQUIRE
from netslim.ir.program import (
    OPERATORS,
    RESERVED,
    Literal,
    Node,
    Program,
    Size,
    Struct,
    is_listed,
    is_word,
)
from netslim.ir.structures import class_of, plain
from netslim.net.codegen import OFF, Printer, Words, comment, is_printable
from netslim.net.signature import CALLED, checks, parameters, unpacked
from netslim.net.stretches import Part, parts
from netslim.versions import EXPORTING

Paths = Callable[[str, str], str]
"""Of a module or parameter, and which of the two: its Python expression."""

OWN = frozenset(
    "nn torchvision namedtuple source filename make linecache weakref copy forward Path load load_file again stretch "
    "checkpoint exporting".split()
)
"""Names that the printed module uses itself, beside those of every printed function."""

AGAIN = """
def again(stretch, *given):
    # Computed again in the backward pass, instead of being kept for it.
    if torch.is_grad_enabled() and not exporting():
        return checkpoint(stretch, *given, use_reentrant=False)
    return stretch(*given)
"""
_OUTPUT = "Output"
"""What the classes of outputs are called, with a number."""


@dataclass
class Preamble:
    """What has to stand before the functions: classes of outputs, by what is known of them."""

    classes: dict[tuple[str, tuple[str | int, ...], str], list[str]] = field(default_factory=dict)

    def name(self, value: Struct) -> str:
        """What the class of a namedtuple is called: imported where it is, else one of the same name and fields."""
        key = value.kind, value.keys, value.module
        known = list(self.classes)
        name = f"{_OUTPUT}{known.index(key) if key in known else len(known)}"
        made = f"{name} = namedtuple({value.kind!a}, {value.keys!a})"
        words = [*value.module.split("."), value.kind]
        if class_of(value) is not None and all(map(is_word, words)):
            place = f"from {value.module} import {value.kind} as {name}"
            self.classes[key] = ["try:", f"    {place}", "except ImportError:", f"    {made}"]
        else:
            self.classes[key] = [made]
        return name

    def lines(self, text: str) -> list[str]:
        """Imports of all that `text` mentions, and the classes."""
        plain = [f"import {name}" for name in ("math", "operator") if re.search(rf"\b{name}\.", text)]
        wanted = [name for name in ("OrderedDict", "namedtuple") if f"{name}(" in text + str(self.classes)]
        plain += [f"from collections import {', '.join(wanted)}"] if wanted else []
        torch = ["import torch"] + (["import torchvision"] if f"{OPERATORS}torchvision." in text else [])
        lines = [*plain, *([""] if plain else []), *torch, "from torch import nn"]
        again = "again(" in text
        lines += ["from torch.utils.checkpoint import checkpoint"] if again else []
        lines += ["", EXPORTING] if again or "exporting()" in text else []
        lines += ["", *AGAIN.splitlines()] if again else []
        return lines + [line for made in self.classes.values() for line in ("", *made)]


class Standalone(Printer):
    """Prints the programs of a network at one point: no `take`, no blocks, no statistics that are left alone."""

    _held: set[str]  # the locals of values that are still needed
    _dying: dict[str, int]  # the step that uses each value last

    def __init__(self, paths: Paths, sizes: Sequence[int], preamble: Preamble, reserved: str = "") -> None:
        super().__init__(lambda path, kind, _: paths(path, kind))
        self.sizes, self.preamble, self.reserved = sizes, preamble, OWN | {reserved}

    def function(self, programs: Mapping[bool, Program], inputs: Inputs) -> str:
        """`forward(self, ...)`, which runs the program of the mode that `self` is in. InputError where none can be."""
        both = [programs[True], programs[False]] if programs[True] != programs[False] else [programs[True]]
        bodies = [self._body(program) for program in both]
        names = self._argument_names(inputs, bodies)
        bodies = [
            unpacked(program, inputs, names, self.local) + body for program, body in zip(both, bodies, strict=True)
        ]
        if len(bodies) == 2:
            bodies = [["if self.training:", *_indented(bodies[0]), *bodies[1]]]
        lines = [f"def forward(self{''.join(parameters(inputs, names, self))}):"]
        lines += _indented([*checks(inputs, names, self), *bodies[0]])
        return "\n".join(lines) + "\n"

    def _argument_names(self, inputs: Inputs, bodies: Sequence[Sequence[str]]) -> dict[str, str]:
        """What each argument is called: as the original's, unless the source means something else by it."""
        text, names = "\n".join(line for body in bodies for line in body), dict[str, str]()
        for i, name in enumerate(inputs):
            called = hasattr(builtins, name) and (name in CALLED or re.search(rf"\b{name}\(", text, re.ASCII))
            plain = is_word(name) and name[:2] != "__" and not self._is_ours(name) and name not in RESERVED
            names[name] = name if plain and not called else f"argument_{i}"
        return names

    # -- one program

    def _body(self, program: Program) -> list[str]:
        self._dying = _last_uses(program)
        self.locals = {node.name: self.local(node.name, i) for i, node in enumerate(program.inputs)}
        self._held = set(self.locals.values())
        every = parts(program, lambda node: node.refs, self._dying)
        return [line for part in every for line in (self._anew(part) if part.again else self._plainly(part))]

    def _anew(self, part: Part) -> list[str]:
        """A stretch that is computed again in the backward pass: a function of what it reads from before."""
        given, over = ([self.locals[name] for name in names] for names in (part.given, part.over))
        given, over = ([name for name in dict.fromkeys(names) if is_word(name)] for names in (given, over))
        before, self._held = self._held.difference(over), set(given)
        inside = self._plainly(part)
        self._held = before
        made = [name for name in part.made if is_word(self.locals[name])]
        inside.append(f"return ({''.join(f'{self.locals[name]}, ' for name in made)})")
        for name in made:
            self.locals[name] = self._free()
            self._held.add(self.locals[name])
        results = "".join(f"{self.locals[name]}, " for name in made)
        call = f"{results and f'{results}= '}again({', '.join(['stretch', *given])})"
        over = [name for name in over if name not in self._held]
        lines = [f"def stretch({', '.join(given)}):", *_indented(inside), call]
        return lines + ([f"del {', '.join(over)}"] if over else [])

    def _plainly(self, part: Part) -> list[str]:
        steps = [(i, node) for i, node in part.steps if node.op != "input"]
        lines: list[str] = []
        for off, group in groupby(steps, key=lambda step: (step[1].grad, step[1].cast)):
            contexts = [context for context, on in zip(OFF, off, strict=True) if not on]
            inside = [line for i, node in group for line in self._statement(i, node)]
            if contexts and inside:
                lines.append(f"with {', '.join(contexts)}:")
                inside = [f"    {line}" for line in inside]
            lines += inside
        return lines

    def local(self, name: str, number: int) -> str:
        return name if is_printable(name) and not self._is_ours(name) else f"v{number}"

    def _is_ours(self, name: str) -> bool:
        return name in self.reserved or name.startswith(_OUTPUT)

    def _statement(self, i: int, node: Node) -> list[str]:
        """A step's lines. Its result takes the name of the first value that is needed no more."""
        if node.op == "param":
            self.locals[node.name] = self.path(node.target, "param", Words())
            return []
        if node.op == "output":
            return [f"return {self.expr(node.args[0])}"]
        if node.target == REQUIRE:
            self._held.difference_update(self.locals[ref] for ref in node.refs if self._dying[ref] == i)
            return self._refusal(node)
        text = self._assignment(node) or self.call(node)
        over = list(dict.fromkeys(self.locals[ref] for ref in node.refs if self._dying[ref] == i))
        over = [name for name in over if is_word(name)]  # parameters are read where they are used
        if node.name in self._dying:
            name = over.pop(0) if over else self._free()
            self.locals[node.name], text = name, f"{name} = {text}"
            self._held.add(name)
        self._held.difference_update(over)
        return [text + comment(node.where), *([f"del {', '.join(over)}"] if over else [])]

    def _refusal(self, node: Node) -> list[str]:
        """Lines that refuse sizes which the network was not followed for; a program that is exported asks it, too."""
        found, wanted, message = node.args
        held = self._operand(found)
        return [
            f"if exporting():{comment(node.where)}",
            f"    torch._check({held if wanted else f'torch.sym_not({held})'})",
            f"elif {'not ' if wanted else ''}{held}:",
            f"    raise ValueError({message!a})",
        ]

    def _free(self) -> str:
        """The shortest name that no value has which is still needed."""
        numbered = (f"{letter}{number or ''}" for number in count() for letter in "xyzuvw")
        return next(name for name in numbered if name not in self._held and name not in self.reserved)

    def _assignment(self, node: Node) -> str:
        """x[...] = y."""
        setter = node.target in ("torch.Tensor.__setitem__", "operator.setitem") and node.op == "call"
        if not setter or node.name in self._dying or len(node.args) != 3 or node.kwargs:
            return ""
        return f"{self._operand(node.args[0])}[{self._index(node.args[1])}] = {self.expr(node.args[2])}"

    # -- expressions

    def call(self, node: Node) -> str:
        if node.target == BY_DTYPE:
            return self._by_dtype(*node.args)
        if node.op == "call" and not node.kwargs:
            name, args = _python_operator(node.target), node.args
            if name == "getitem" and len(args) == 2:
                return f"{self._operand(args[0])}[{self._index(args[1])}]"
            reflected = (operator_of(node.target) or (None, False))[1]
            if name in _BINARY and len(args) == 2:
                left, right = args[::-1] if reflected else args
                return f"{self._operand(left)} {_BINARY[name]} {self._operand(right)}"
            if name in _UNARY and len(args) == 1:
                return f"{_UNARY[name]}{self._operand(args[0])}"
        return super().call(node)

    def _by_dtype(self, dtype: Literal, table: Literal, otherwise: Literal) -> str:
        """A table of Python's, by torch's own dtypes."""
        known = table.items() if isinstance(table, dict) else ()
        pairs = [f"{PRECISIONS[name]}: {self.expr(value)}" for name, value in known if name in PRECISIONS]
        return f"{{{', '.join(pairs)}}}.get({self.expr(dtype)}, {self.expr(otherwise)})"

    def _operand(self, value: Literal) -> str:
        text = self.expr(value)
        return text if re.fullmatch(r"[\w.\[\]]+", text) else f"({text})"

    def _index(self, value: Literal) -> str:
        if isinstance(value, tuple) and value:
            return ", ".join(map(self._index_of_dim, value)) + ("," if len(value) == 1 else "")
        return self._index_of_dim(value)

    def _index_of_dim(self, value: Literal) -> str:
        if not isinstance(value, slice):
            return self.expr(value)
        start, stop, step = ("" if v is None else self.expr(v) for v in (value.start, value.stop, value.step))
        return f"{start}:{stop}" + (f":{step}" if step else "")

    def expr(self, value: Literal) -> str:
        if isinstance(value, Size):
            return str(self.sizes[value.index])
        if isinstance(value, tuple) and len(value) > 1:
            return f"({', '.join(map(self.expr, value))})"
        return super().expr(value)

    def _function(self, target: str) -> str:
        if target.startswith("builtins."):
            return target.removeprefix("builtins.")
        if is_listed(target) or re.fullmatch(r"torch(\.[A-Za-z_]\w*)+", target, re.ASCII):
            return target
        raise InputError(f"{target!r} cannot be called in an extracted network: its name cannot stand in source.")

    def _struct(self, value: Struct) -> str:
        made = plain(value)
        if not isinstance(made, Struct):
            return self.expr(made)
        value = made
        if value.base == "OrderedDict":
            pairs = ", ".join(f"({k!a}, {self.expr(v)})" for k, v in zip(value.keys, value.values, strict=True))
            return f"OrderedDict([{pairs}])"
        values = ", ".join(map(self.expr, value.values))
        return f"tuple.__new__({self.preamble.name(value)}, ({values},))"


_BINARY = {
    "add": "+", "sub": "-", "mul": "*", "truediv": "/", "floordiv": "//", "mod": "%", "pow": "**", "matmul": "@",
    "lshift": "<<", "rshift": ">>", "and_": "&", "or_": "|", "xor": "^",
    "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!=",
}  # fmt: skip
_UNARY = {"neg": "-", "pos": "+", "invert": "~"}


def _python_operator(target: str) -> str:
    """The name in module `operator` of what a step calls; nothing where it is none."""
    found = operator_of(target)
    return found[0].__name__ if found else target.removeprefix("operator.") if target.startswith("operator.") else ""


def _last_uses(program: Program) -> dict[str, int]:
    """The step that uses each value last; what is made of views is its own value."""
    return {ref: i for i, node in enumerate(program) for ref in node.refs}


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"    {line}" for line in lines]
