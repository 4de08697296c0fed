"""A program as the source of a Python function, which a converted network then runs.

No name of a model or a file stands in the source unless it is printable: an identifier in ASCII that is no keyword,
no builtin, not private to Python and none of the function's own. Values of any other name become numbered locals,
parts of any other name are looked up by entries of `words`, a tuple bound to the function.
"""

from __future__ import annotations

import builtins
import itertools
import linecache
import math
import operator
import re
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from netslim.ir.functions import ITEMS, attribute_of, memory, method_of
from netslim.ir.program import (
    AUTOCAST,
    RESERVED,
    Function,
    Literal,
    Mode,
    Node,
    Program,
    Ref,
    Size,
    Struct,
    function,
    is_listed,
    is_word,
)
from netslim.ir.structures import maker
from netslim.net.stretches import Part, parts


@dataclass(frozen=True)
class Guards:
    """Which blocks a node is part of, and what stands for a block's end when the block does not run.

    around: node -> numbers of the blocks whose bodies it is in; ends: node -> the block's number, nodes, value.
    """

    around: dict[str, tuple[int, ...]] = field(default_factory=dict)
    ends: dict[str, tuple[int, tuple[Node, ...], str]] = field(default_factory=dict)

    def refs(self, end: str) -> list[str]:
        """What the steps instead of a block read from before it."""
        if end not in self.ends:
            return []
        _, steps, value = self.ends[end]
        made = {step.name for step in steps}
        return [name for name in (value, *(ref for step in steps for ref in step.refs)) if name not in made]


OFF = ("torch.no_grad()", ", ".join(f"torch.autocast({kind!r}, enabled=False)" for kind in AUTOCAST))
"""The contexts of a stretch without gradients, and of one without autocast."""


class Words(list[str]):
    """Names that are not printed, in the order in which the source looks them up."""

    def place(self, word: str) -> str:
        """The expression that stands for a word."""
        if word not in self:
            self.append(word)
        return f"words[{self.index(word)}]"


class Printer:
    """Prints a program as the source of a Python function `forward(self, point, ...)`."""

    def __init__(self, path: Callable[[str, str, Words], str]) -> None:
        self.path = path  # path of a module or parameter, and which of the two -> Python expression
        self.words = Words()
        self.bound: dict[str, object] = {}  # classes of structures, operators that are not torch's own
        self.writes: dict[str, list[Node]] = {}  # by step: the parameters and buffers that it writes to
        self.written: frozenset[str] = frozenset()
        self.locals: dict[str, str] = {}
        self.home: dict[str, tuple[int, ...]] = {}  # by step: the blocks in whose bodies it is

    @property
    def constants(self) -> dict[str, object]:
        """What the source means by names that are bound to it."""
        return {**self.bound, "words": tuple(self.words)}

    def source(self, program: Program, guards: Guards | None = None) -> str:
        """The function; a node in the body of blocks runs only when all of them do."""
        guards = guards or Guards()
        self.writes = _writes(program)
        self.written = frozenset(param.name for params in self.writes.values() for param in params)
        self.locals = _locals([*program, *(step for _, steps, _ in guards.ends.values() for step in steps)])
        name = self.locals.__getitem__
        lines = [f"def forward(self, point, {', '.join(name(node.name) for node in program.inputs)}):"]
        lines.append("    sizes, cuts, track, run = point.sizes, point.cuts, point.track, point.run")
        last_use = {ref: i for i, node in enumerate(program) for ref in self._reads(node, guards)}
        spent: dict[int, list[str]] = {}
        for ref, i in last_use.items():
            spent.setdefault(i, []).append(ref)
        self.home = {node.name: guards.around.get(node.name, ()) for node in program}
        every = list(self._parts(program, guards, last_use))
        lines += self._unset([name for part in every for name in (*part.given, *part.made)], "    ")
        for part in every:
            lines += self._stretch(part, spent, guards) if part.again else self._lines(part, spent, guards)
        return "\n".join(lines) + "\n"

    def _parts(self, program: Program, guards: Guards, last_use: Mapping[str, int]) -> Iterator[Part]:
        return parts(program, lambda node: self._reads(node, guards), last_use)

    def _reads(self, node: Node, guards: Guards) -> list[str]:
        return [*node.refs, *guards.refs(node.name), *(param.name for param in self.writes.get(node.name, ()))]

    def _unset(self, names: Sequence[str], indent: str) -> list[str]:
        """What only some blocks make is nothing until then."""
        optional = [self.locals[name] for name in dict.fromkeys(names) if self.home.get(name)]
        return [f"{indent}{' = '.join(optional)} = None"] if optional else []

    def _stretch(self, part: Part, spent: Mapping[int, list[str]], guards: Guards) -> list[str]:
        """A stretch that is computed again in the backward pass: a function of what it reads from before."""
        given, made, over = ([self.locals[name] for name in names] for names in (part.given, part.made, part.over))
        results = "".join(f"{name}, " for name in made)
        return [
            f"    def stretch({', '.join(given)}):",
            *self._unset(part.made, "        "),
            *(f"    {line}" for line in self._lines(part, spent, guards)),
            f"        return ({results})",
            f"    {results and f'{results}= '}again({', '.join(['point', 'stretch', *given])})",
            *([f"    {' = '.join(over)} = None"] if over else []),
        ]

    def _lines(self, part: Part, spent: Mapping[int, list[str]], guards: Guards) -> list[str]:
        name, home, lines = self.locals.__getitem__, self.home, list[str]()
        for (here, *off), group in itertools.groupby(
            part.steps, key=lambda item: (home[item[1].name], item[1].grad, item[1].cast)
        ):
            indent, late = "    ", list[str]()
            if here:
                lines.append(f"    if {' and '.join(f'run[{i}]' for i in here)}:")
                indent += "    "
            contexts = [context for context, on in zip(OFF, off, strict=True) if not on]
            if contexts:
                lines.append(f"{indent}with {', '.join(contexts)}:")
                indent += "    "
            for i, node in group:
                if node.op == "input":
                    continue
                over = spent.get(i, []) if node.op != "output" else []
                within = [r for r in over if r in home and home[r][: len(here)] == here]  # in bodies that end here, too
                lines += [indent + line for line in self._steps(node, within, guards)]
                late += [r for r in over if home.get(r) == () != here]
            lines += [f"    {' = '.join(map(name, late))} = None"] if late else []
        return lines

    def _steps(self, node: Node, over: Sequence[str], guards: Guards) -> list[str]:
        """A node's line, or the two ways to the end of a block; `over` is needed no more."""
        over = [self.locals[name] for name in over]
        free = f"; {' = '.join(over)} = None" if over else ""
        where, back = comment(node.where), self._put_back(node)
        if node.name not in guards.ends:
            lines = [f"{self.line(node)}{'' if back else free}{where}", *back]
            return lines + ([free.removeprefix("; ")] if back and over else [])
        block, instead, value = guards.ends[node.name]
        lines = [f"if run[{block}]:", f"    {self.line(node)}{where}", *(f"    {line}" for line in back), "else:"]
        lines += [f"    {self.line(step)}" for step in instead]
        lines.append(f"    {self.locals[node.name]} = {self.locals[value]}")
        made = [self.locals[step.name] for step in instead if step.name != node.name]
        lines[-1] += f"; {' = '.join(made)} = None" if made else ""
        return lines + ([f"{' = '.join(over)} = None"] if over else [])

    def line(self, node: Node) -> str:
        if node.op == "output":
            return f"return {self.expr(node.args[0])}"
        if node.op == "param":
            slot = node.args[0] if node.args else None
            value = self.path(node.target, "param", self.words)
            value = value if slot is None else f"take({value}, cuts[{slot}])"
            # What a forward writes to (the vectors of a spectral norm) stays as it is where statistics do.
            return f"{self.locals[node.name]} = " + (
                f"({value}) if track else ({value}).clone()" if node.name in self.written else value
            )
        return f"{self.locals[node.name]} = {self.call(node)}"

    def _put_back(self, node: Node) -> list[str]:
        """What a step has written to the kept part of a buffer, written to the buffer where statistics are tracked."""
        cut = [param for param in self.writes.get(node.name, ()) if param.args]
        whole = {p.name: self.path(p.target, "param", self.words) for p in cut}
        return [f"if track: put_back({whole[p.name]}, cuts[{p.args[0]}], {self.locals[p.name]})" for p in cut]

    def call(self, node: Node) -> str:
        args = [self.expr(arg) for arg in node.args]
        kwargs = [f"{key}={self.expr(value)}" for key, value in node.kwargs.items()]
        if node.op == "module":
            return f"{self.path(node.target, 'module', self.words)}({', '.join(args + kwargs)})"
        if node.target in ITEMS:
            return f"{ITEMS[node.target]}({', '.join(args)})"
        if node.args and isinstance(node.args[0], Ref):
            if attribute := attribute_of(node.target):
                return f"{args[0]}.{attribute}"
            if method := method_of(node.target):
                return f"{args[0]}.{method}({', '.join(args[1:] + kwargs)})"
        return f"{self._function(node.target)}({', '.join(args + kwargs)})"

    def _function(self, target: str) -> str:
        """How a function is called: by its own name where netslim knows it, else by a number."""
        if target.startswith("builtins."):
            return target.removeprefix("builtins.")
        if target.startswith("netslim."):
            return self._bind(target.rpartition(".")[2], function(target))
        if is_listed(target) or _THROUGH.fullmatch(target):
            return target
        return self._bind("operator", function(target))

    def _bind(self, kind: str, value: object) -> str:
        known = next((name for name, bound in self.bound.items() if bound is value), None)
        name = known or f"{kind}_{len(self.bound)}"
        self.bound[name] = value
        return name

    def expr(self, value: Literal) -> str:
        if isinstance(value, Ref):
            return self.locals[value.name]
        if isinstance(value, Size):
            return f"sizes[{value.index}]"
        if isinstance(value, Mode):
            return "(not self.training)" if value.negated else "self.training"
        if isinstance(value, tuple):
            return "(" + "".join(self.expr(v) + ", " for v in value) + ")"
        if isinstance(value, list):
            return "[" + ", ".join(self.expr(v) for v in value) + "]"
        if isinstance(value, dict):
            return "{" + ", ".join(f"{k!a}: {self.expr(v)}" for k, v in value.items()) + "}"
        if isinstance(value, slice):
            return f"slice({self.expr(value.start)}, {self.expr(value.stop)}, {self.expr(value.step)})"
        if isinstance(value, Struct):
            return self._struct(value)
        if isinstance(value, torch.device):
            return f"torch.device({str(value)!r})"
        if isinstance(value, complex):
            return f"complex({self.expr(value.real)}, {self.expr(value.imag)})"
        if isinstance(value, float) and not math.isfinite(value):
            return f"float({str(value)!r})"
        return "..." if value is Ellipsis else ascii(value)

    def _struct(self, value: Struct) -> str:
        items = ", ".join(self.expr(v) for v in value.values)
        return f"{self._bind('struct', maker(value))}(({items},))"


def is_printable(word: str) -> bool:
    """Whether a name may stand in the source: an identifier in ASCII that Python and the function do not use."""
    mine = word in RESERVED or word.startswith("__") or _NUMBERED.fullmatch(word)
    return is_word(word) and not (mine or hasattr(builtins, word))


_NUMBERED = re.compile(r"(v|struct_|operator_|require_|by_dtype_|piece_)\d+|words")
_THROUGH = re.compile(r"through\[\d+\]")


def _locals(nodes: Sequence[Node]) -> dict[str, str]:
    """The local of each value: its name if it is printable, else a number."""
    names = dict.fromkeys(node.name for node in nodes)
    return {name: name if is_printable(name) else f"v{i}" for i, name in enumerate(names)}


def comment(where: str) -> str:
    """Where the model's source has a step: printable ASCII on one line."""
    shown = "".join(c if " " <= c <= "~" else "?" for c in where)
    return f"  # {shown}" if where else ""


def _writes(program: Program) -> dict[str, list[Node]]:
    """The parameters and buffers that each step writes to, through whatever views."""
    own = {node.name: node for node in program if node.op == "param"}
    writes = memory(program).writes.items()
    return {step: found for step, owners in writes if (found := [own[name] for name in own if name in owners])}


def compile_source(source: str, names: dict[str, object]) -> Function:
    """The function `forward` that `source` defines, with the source shown in tracebacks for as long as it lives."""
    filename = f"<netslim forward {next(_number)}>"
    scope: dict[str, Any] = {"torch": torch, "operator": operator, "math": math, "OrderedDict": OrderedDict, **names}
    exec(compile(source, filename, "exec"), scope)
    made: Function = scope["forward"]
    linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
    weakref.finalize(made, linecache.cache.pop, filename, None).atexit = False
    return made


_number = itertools.count()
