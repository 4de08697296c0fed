"""One program, step by step: whether it can be run as it is, with the blocks that are skipped in it.

A step reads what an earlier step has made, is of a known kind, and calls what netslim runs; a step that stands for a
skipped block can do no more than any other; numbers stay small enough to be worked out.
"""

from __future__ import annotations

import keyword
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from netslim.errors import ArchiveError, PlanError
from netslim.ir.functions import ARITHMETIC, CATS, COPY, COUNTS, SUMS, ZEROS
from netslim.ir.plan import Plan, Skip
from netslim.ir.program import Leaf, Literal, Mode, Node, Program, Ref, Size, Struct, function, is_word, map_leaves
from netslim.ir.structures import BASES


def need(holds: object, otherwise: str) -> None:
    if not holds:
        raise PlanError(otherwise)


@dataclass(frozen=True)
class Placed:
    """A program, the region it belongs to, and the blocks in it (number, how it does without them)."""

    region: str
    program: Program
    inputs: int
    skips: tuple[tuple[int, Skip], ...]


_KINDS = ("input", "param", "module", "call", "output")
_LITERALS = (bool, int, float, complex, str, torch.dtype, torch.device, torch.layout, torch.memory_format, Mode)
_BITS = 1024
"""Of the largest number that a program may work out; one that is read from a tensor has 64."""


@dataclass
class Walk:
    """One program, step by step.

    around: the blocks whose bodies a step is in. made: the blocks that a value needs to run, by its name. bits: how
    large the numbers can become; tensors are not in it.
    """

    plan: Plan
    placed: Placed
    modules: Mapping[str, nn.Module]
    tensors: Mapping[str, Tensor]
    around: dict[str, frozenset[int]] = field(default_factory=dict)
    made: dict[str, frozenset[int]] = field(default_factory=dict)
    bits: dict[str, int] = field(default_factory=dict)

    def check(self) -> None:
        """Raises PlanError for a program that cannot be run as it is."""
        nodes = self.placed.program.nodes
        ends = self._ends({node.name for node in nodes})
        kinds = [node.op for node in nodes]
        need(kinds[-1:] == ["output"] and kinds.count("output") == 1, "a program does not end in its one output")
        inputs = kinds.count("input")
        need(inputs == self.placed.inputs, f"a program takes {inputs} inputs, and its network {self.placed.inputs}")
        need("input" not in kinds[inputs:], "a program takes an input after its first step")
        users: dict[str, set[str]] = {}
        for node in nodes:
            for name in node.refs:
                users.setdefault(name, set()).add(node.target)
        for _, skip in ends.values():
            self._check_replacement(skip, {node.name: node for node in nodes}, users.get(skip.end, set()))
        for node in nodes:
            here = self.around.get(node.name, frozenset())
            if node.name in ends:
                block, skip = ends[node.name]
                self._step(node, here | {block})
                self._instead(skip, here)
            else:
                self._step(node, here)
            self._make(node, here)

    def _ends(self, names: set[str]) -> dict[str, tuple[int, Skip]]:
        ends: dict[str, tuple[int, Skip]] = {}
        for block, skip in self.placed.skips:
            need(skip.end in names and skip.end not in skip.body, "a block ends in no step of its program")
            need(skip.end not in ends, "two blocks end in one step")
            need(names.issuperset(skip.body), "a block's body is no part of its program")
            need(set(skip.bodies) <= {skip.end, *skip.body}, "what a block gives is no part of its body")
            ends[skip.end] = block, skip
            for name in skip.body:
                self.around[name] = self.around.get(name, frozenset()) | {block}
        return ends

    def _check_replacement(self, skip: Skip, nodes: Mapping[str, Node], users: Collection[str]) -> None:
        """What stands for a block is what is left where its bodies give zeros: the rest of a sum, or zeros to join.

        users: what is called with the block's result.
        """
        steps = tuple(step.target for step in skip.instead)
        if skip.end in skip.bodies:
            zeros = steps == ZEROS and skip.value == skip.instead[-1].name
            need(zeros and users and CATS.issuperset(users), "a block is replaced by something else than zeros")
            return
        copied = steps == (COPY,) and skip.value == skip.instead[0].name
        stay = skip.instead[0].refs[:1] if copied else [] if steps else [skip.value]
        need(stay, "a block is replaced by something else than the other operand of its sum")
        found = _operands(skip.end, nodes, set(skip.body) - set(skip.bodies))
        need(
            sorted(found) == sorted([*stay, *skip.bodies]), "a block ends in something else than a sum of its branches"
        )

    def _make(self, node: Node, here: frozenset[int]) -> None:
        need(node.name not in self.made, "two steps of a program have one name")
        self.made[node.name] = here

    def _instead(self, skip: Skip, here: frozenset[int]) -> None:
        """The steps that run where a block does not: calls, of what was made outside of it."""
        before = dict(self.made)
        for step in skip.instead:
            need(step.op == "call", f"a step that replaces a block is of kind {step.op!r}; only calls may")
            self._step(step, here)
            self._make(step, here)
        need(self.made.get(skip.value, frozenset({-1})) <= here, "a block is replaced by a value that nothing makes")
        if all(step.name != skip.end for step in skip.instead):
            self.made = before | {step.name: here for step in skip.instead}
        else:
            self.made = before

    # -- one step

    def _step(self, node: Node, here: frozenset[int]) -> None:
        need(node.op in _KINDS, f"a step is of kind {node.op!r}")
        for name in node.refs:
            need(self.made.get(name, frozenset({-1})) <= here, "a program uses a value that no step has made")
        for value in (node.args, node.kwargs):
            map_leaves(self._literal, value)
            need(node.op == "output" or not any(structures(value)), "a step is given a structure of the output")
        need(
            all(is_word(name) and name[:2] != "__" for name in node.kwargs),
            "a step names an argument that is no plain word",
        )
        need(isinstance(node.grad, bool) and isinstance(node.cast, bool), "a step has flags that are none")
        need(not node.again or node.op in ("call", "module"), "a step is computed again that computes nothing")
        getattr(self, f"_{node.op}")(node)

    def _literal(self, leaf: Leaf) -> None:
        if isinstance(leaf, Size):
            need(0 <= leaf.index < len(self.plan.sizes), "a program uses a size that it does not hold")
        elif isinstance(leaf, int):
            need(abs(leaf) < 1 << 63, "a program has a number of more than 64 bits")
        elif isinstance(leaf, str):
            need(len(leaf) <= 4096, "a program has a text of more than 4096 letters")
        else:
            known = leaf is None or leaf is Ellipsis or isinstance(leaf, (Ref, *_LITERALS))
            need(known, f"a program has a {type(leaf).__name__} for a literal")

    def _input(self, node: Node) -> None:
        need(not node.args and not node.kwargs, "an input has arguments")

    def _output(self, node: Node) -> None:
        need(len(node.args) == 1 and not node.kwargs, "a program does not have one output")
        for found in structures(node.args[0]):
            need(found.base in BASES, "a structure is made of what netslim does not know")
            named = len(found.keys) + len(found.names)
            need(named == len(found.values), "a structure has other names than values")
            need(_has_words(found), "a structure has names that are no plain words")

    def _param(self, node: Node) -> None:
        need(node.target in self.tensors, f"a program reads {node.target!r}, which it does not hold")
        self._below(node)
        need(node.target in self.plan.layouts, f"a program reads {node.target!r}, which has no layout")
        need(not node.kwargs and len(node.args) < 2, "a parameter is read with arguments")
        if node.args:
            cuts, which = self.plan.cuts, node.args[0]
            cut = type(which) is int and 0 <= which < len(cuts) and cuts[which] == node.target
            need(cut, f"a program cuts {node.target!r} in a way that it does not hold")

    def _below(self, node: Node) -> None:
        region = self.placed.region
        need(node.target and (not region or node.target.startswith(f"{region}.")), "a program leaves its own module")

    def _module(self, node: Node) -> None:
        need(node.target in self.modules, f"a program calls {node.target!r}, which it does not hold")
        self._below(node)

    def _call(self, node: Node) -> None:
        try:
            function(node.target)
        except ArchiveError as error:
            raise PlanError(str(error)) from error
        if node.target in COUNTS:
            self.bits[node.name] = 64
        elif node.target in ARITHMETIC:
            self.bits[node.name] = self._size_of_result(node)

    def _size_of_result(self, node: Node) -> int:
        """Bits that the result of arithmetic can have. PlanError for what is no number, and for too many bits."""
        need(not node.kwargs and 1 <= len(node.args) <= 2, f"a step calls {node.target} on what are no numbers")
        bits = [self._bits(arg, node.target) for arg in node.args]
        power = node.args[1] if node.target == "operator.pow" else 1.0
        if not isinstance(power, float):
            if type(power) is not int:
                raise PlanError("a number is raised to a power that is none of the program's own")
            bits = [max(bits[0], 1) * max(abs(power), 1)]
        found = sum(bits) + 1 if node.target == "operator.mul" else max(bits) + 1
        need(found <= _BITS, f"a number can have more than {_BITS} bits")
        return found

    def _bits(self, arg: Literal, target: str) -> int:
        if isinstance(arg, Ref):
            need(arg.name in self.bits, f"a step calls {target} on what is no number")
            return self.bits[arg.name]
        need(isinstance(arg, (int, float, Size)), f"a step calls {target} on what is no number")
        return arg.bit_length() if isinstance(arg, int) else 64


def _operands(name: str, nodes: Mapping[str, Node], inner: Collection[str]) -> list[str]:
    """The operands of a sum, through the sums of `inner` that are only parts of it; nothing where it is none."""
    node = nodes[name]
    refs = [arg.name for arg in node.args if isinstance(arg, Ref)]
    if node.target not in SUMS or len(refs) != 2 or len(node.args) != 2 or not node.kwargs.keys() <= {"alpha"}:
        return []
    found: list[str] = []
    for ref in refs:
        part = _operands(ref, nodes, inner) if ref in inner else []
        found += part or [ref]
    return found


def structures(value: Literal) -> Iterator[Struct]:
    """Every structure in a nested value."""
    if isinstance(value, Struct):
        yield value
        value = value.values
    if isinstance(value, (tuple, list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from structures(item)


def _has_words(found: Struct) -> bool:
    if found.base == "namedtuple" and any(str(name)[:1] == "_" for name in (found.kind, *found.keys)):
        return False
    words = [found.kind, *found.names, *(found.keys if found.base == "namedtuple" else ())]
    return all(map(is_identifier, words)) and all(len(set(each)) == len(each) for each in (found.keys, found.names))


def is_identifier(name: object) -> bool:
    """Whether Python takes a name as it is: an identifier that its parser reads as no other one, and no keyword."""
    plain = isinstance(name, str) and name.isidentifier() and not keyword.iskeyword(name)
    return plain and unicodedata.normalize("NFKC", str(name)) == name
