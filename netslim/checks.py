"""Whether a plan and a network fit together: the one walk over every program, which each goes through before it runs.

It holds for what analysis makes as for what a file brings. Layouts have the shapes of their tensors; a step reads what
an earlier step has made, is of a known kind, and calls what netslim runs; a step that stands for a skipped block can
do no more than any other; numbers stay small enough to be worked out.
"""

from __future__ import annotations

import keyword
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from netslim.axes import Const, Elastic, Layout, leaves
from netslim.errors import ArchiveError, PlanError
from netslim.inputs import tensors_in
from netslim.ops import FUNCTIONS
from netslim.plan import Plan, Skip, groups_in
from netslim.program import Mode, Node, Program, Ref, Size, Struct, Track, function, map_leaves


def _need(holds: object, otherwise: str) -> None:
    if not holds:
        raise PlanError(otherwise)


@dataclass(frozen=True)
class Placed:
    """A program, the region it belongs to, and the blocks in it (number, how it does without them)."""

    region: str
    program: Program
    inputs: int
    skips: tuple[tuple[int, Skip], ...]


def every_program(plan: Plan) -> Iterator[Placed]:
    """Every program of a plan, with the steps that replace its blocks; one that serves both modes comes once."""
    for path, region in plan.regions.items():
        for mode in (True,) if region.same else (True, False):
            skips = tuple((i, block.skips[mode]) for i, block in enumerate(plan.blocks) if block.region == path)
            yield Placed(path, region.programs[mode], len(tensors_in(region.inputs)), skips)
        if region.same:  # its blocks may be skipped in two ways all the same
            others = tuple((i, block.skips[False]) for i, block in enumerate(plan.blocks) if block.region == path)
            if others != skips:
                yield Placed(path, region.programs[False], len(tensors_in(region.inputs)), others)


def check_plan(plan: Plan, modules: Mapping[str, nn.Module], tensors: Mapping[str, Tensor]) -> None:
    """Raises PlanError unless the plan is one of a network with these modules and tensors, by path."""
    _check_layouts(plan, tensors)
    _need("" in modules, "it has no network")
    for path in plan.regions:
        _need(path in modules, f"it has a program for {path!r}, which it does not hold")
    for block in plan.blocks:
        _need(block.region in plan.regions, f"its block {block.name!r} is in no program")
    names = [block.name for block in plan.blocks] + [group.name for group in plan.groups]
    _need(len(set(names[: len(plan.blocks)])) == len(plan.blocks), "two of its blocks have one name")
    _need(len(set(names[len(plan.blocks) :])) == len(plan.groups), "two of its groups have one name")
    for placed in every_program(plan):
        Walk(plan, placed, modules, tensors).check()


# ------------------------------------------------------------------------------------------------- layouts


def _check_layouts(plan: Plan, tensors: Mapping[str, Tensor]) -> None:
    solved: set[int] = set()

    def check(layout: Layout) -> None:
        if id(layout) in solved:
            return
        solved.add(id(layout))
        for leaf in leaves(layout):
            _need(isinstance(leaf, (Const, Elastic)), "a layout of it is not solved")
            if isinstance(leaf, Elastic):
                _need(leaf.group < len(plan.groups), "a layout names a group that it does not have")
                _need(leaf.size == plan.groups[leaf.group].size, "a layout and its group differ in size")

    for name, dims in plan.layouts.items():
        _need(name in tensors, f"it has a layout for {name!r}, which it does not hold")
        for layout in dims:
            check(layout)
        _need(
            [layout.size for layout in dims] == list(tensors[name].shape),
            f"the layout of {name!r} is not of its shape {tuple(tensors[name].shape)}",
        )
    for group in plan.groups:
        _need(group.size > 1, f"its group {group.name!r} has {group.size} channels")
    for number, group in enumerate(plan.groups):
        for slot in group.slots:
            dims = plan.layouts.get(slot.param, ())
            _need(slot.dim < len(dims), f"its group {group.name!r} is in no dim {slot.dim} of {slot.param!r}")
            _need(number in groups_in(dims[slot.dim]), f"its group {group.name!r} is not in {slot.param!r}")
    for layout, at in plan.sizes:
        check(layout)
        _need(0 <= at <= layout.size, "a size is counted beyond the end of its layout")
    for name in plan.cuts:
        _need(name in plan.layouts, f"it cuts {name!r}, which has no layout")
    for ints in plan.ints.values():
        for layout in ints.values():
            check(layout)


# ------------------------------------------------------------------------------------------------ programs

_KINDS = ("input", "param", "module", "call", "output")
_LITERALS = (bool, int, float, complex, str, torch.dtype, torch.device, torch.layout, torch.memory_format, Mode, Track)
_READS = ("torch.Tensor.size", "torch.Tensor.numel")
_ARITHMETIC = frozenset(f"operator.{name}" for name in "add sub mul truediv floordiv mod neg pos abs pow".split())
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
        _need(kinds[-1:] == ["output"] and kinds.count("output") == 1, "a program does not end in its one output")
        inputs = kinds.count("input")
        _need(inputs == self.placed.inputs, f"a program takes {inputs} inputs, and its network {self.placed.inputs}")
        _need("input" not in kinds[inputs:], "a program takes an input after its first step")
        for node in nodes:
            here = self.around.get(node.name, frozenset())
            block, skip = ends.get(node.name, (None, None))
            self._step(node, here if block is None else here | {block})
            if skip is not None:
                self._instead(skip, here)
            self._make(node, here)

    def _ends(self, names: set[str]) -> dict[str, tuple[int, Skip]]:
        ends: dict[str, tuple[int, Skip]] = {}
        for block, skip in self.placed.skips:
            _need(skip.end in names and skip.end not in skip.body, "a block ends in no step of its program")
            _need(skip.end not in ends, "two blocks end in one step")
            _need(names.issuperset(skip.body), "a block's body is no part of its program")
            _need(set(skip.bodies) <= {skip.end, *skip.body}, "what a block gives is no part of its body")
            ends[skip.end] = block, skip
            for name in skip.body:
                self.around[name] = self.around.get(name, frozenset()) | {block}
        return ends

    def _make(self, node: Node, here: frozenset[int]) -> None:
        _need(node.name not in self.made, "two steps of a program have one name")
        self.made[node.name] = here

    def _instead(self, skip: Skip, here: frozenset[int]) -> None:
        """The steps that run where a block does not: calls, of what was made outside of it."""
        before = dict(self.made)
        for step in skip.instead:
            _need(step.op == "call", f"a step that replaces a block is of kind {step.op!r}; only calls may")
            self._step(step, here)
            self._make(step, here)
        _need(self.made.get(skip.value, frozenset({-1})) <= here, "a block is replaced by a value that nothing makes")
        if all(step.name != skip.end for step in skip.instead):
            self.made = before | {step.name: here for step in skip.instead}
        else:
            self.made = before

    # -- one step

    def _step(self, node: Node, here: frozenset[int]) -> None:
        _need(node.op in _KINDS, f"a step is of kind {node.op!r}")
        for name in node.refs:
            _need(self.made.get(name, frozenset({-1})) <= here, "a program uses a value that no step has made")
        for value in (node.args, node.kwargs):
            map_leaves(self._literal, value)
            _need(node.op == "output" or not any(structures(value)), "a step is given a structure of the output")
        _need(all(map(is_keyword_argument, node.kwargs)), "a step names an argument that is no plain word")
        _need(isinstance(node.grad, bool) and isinstance(node.cast, bool), "a step has flags that are none")
        getattr(self, f"_{node.op}")(node)

    def _literal(self, leaf: Any) -> None:
        if isinstance(leaf, Size):
            _need(0 <= leaf.index < len(self.plan.sizes), "a program uses a size that it does not hold")
        elif isinstance(leaf, int):
            _need(abs(leaf) < 1 << 63, "a program has a number of more than 64 bits")
        elif isinstance(leaf, str):
            _need(len(leaf) <= 4096, "a program has a text of more than 4096 letters")
        else:
            known = leaf is None or leaf is Ellipsis or isinstance(leaf, (Ref, *_LITERALS))
            _need(known, f"a program has a {type(leaf).__name__} for a literal")

    def _input(self, node: Node) -> None:
        _need(not node.args and not node.kwargs, "an input has arguments")

    def _output(self, node: Node) -> None:
        _need(len(node.args) == 1 and not node.kwargs, "a program does not have one output")
        for found in structures(node.args[0]):
            _need(len(found.keys) == len(found.values), "a structure has other names than values")
            _need(found.kind == "OrderedDict" or _is_namedtuple(found), "a structure has names that are no plain words")

    def _param(self, node: Node) -> None:
        _need(node.target in self.tensors, f"a program reads {node.target!r}, which it does not hold")
        _need(node.target in self.plan.layouts, f"a program reads {node.target!r}, which has no layout")
        _need(not node.kwargs and len(node.args) < 2, "a parameter is read with arguments")
        if node.args:
            cuts, which = self.plan.cuts, node.args[0]
            cut = type(which) is int and 0 <= which < len(cuts) and cuts[which] == node.target
            _need(cut, f"a program cuts {node.target!r} in a way that it does not hold")

    def _module(self, node: Node) -> None:
        _need(node.target in self.modules, f"a program calls {node.target!r}, which it does not hold")

    def _call(self, node: Node) -> None:
        if node.target not in FUNCTIONS:
            try:
                function(node.target)
            except ArchiveError as error:
                raise PlanError(str(error)) from error
        if node.target in _READS:
            self.bits[node.name] = 64
        elif node.target in _ARITHMETIC or node.target.startswith("math."):
            self.bits[node.name] = self._size_of_result(node)

    def _size_of_result(self, node: Node) -> int:
        """Bits that the result of arithmetic can have. PlanError for what is no number, and for too many bits."""
        _need(not node.kwargs and 1 <= len(node.args) <= 2, f"a step calls {node.target} on what are no numbers")
        bits = [self._bits(arg, node.target) for arg in node.args]
        if node.target == "operator.pow" and not isinstance(node.args[1], float):
            _need(type(node.args[1]) is int, "a number is raised to a power that is none of the program's own")
            bits = [max(bits[0], 1) * max(abs(node.args[1]), 1)]
        found = sum(bits) + 1 if node.target == "operator.mul" else max(bits) + 1
        _need(found <= _BITS, f"a number can have more than {_BITS} bits")
        return found

    def _bits(self, arg: Any, target: str) -> int:
        if isinstance(arg, Ref):
            _need(arg.name in self.bits, f"a step calls {target} on what is no number")
            return self.bits[arg.name]
        _need(isinstance(arg, (int, float, Size)), f"a step calls {target} on what is no number")
        return arg.bit_length() if isinstance(arg, int) else 64


def structures(value: Any) -> Iterator[Struct]:
    """Every structure in a nested value."""
    if isinstance(value, Struct):
        yield value
        value = value.values
    if isinstance(value, (tuple, list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from structures(item)


def _is_namedtuple(found: Struct) -> bool:
    words = [found.kind, *found.keys]
    plain = all(isinstance(w, str) and w.isidentifier() and not keyword.iskeyword(w) and w[:1] != "_" for w in words)
    return plain and len(set(found.keys)) == len(found.keys)


def is_keyword_argument(name: str) -> bool:
    """Whether a name can be printed as that of an argument."""
    return is_plain(name) and not name.startswith("__")


def is_plain(name: object) -> bool:
    """Whether it is an identifier in ASCII that is no keyword."""
    return isinstance(name, str) and name.isascii() and name.isidentifier() and not keyword.iskeyword(name)
