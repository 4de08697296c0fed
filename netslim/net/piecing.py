"""Prints a program with its pieces (net/pieces.py) as calls of functions of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from torch import nn

from netslim.ir.functions import Memory, memory
from netslim.ir.program import Literal, Mode, Node, Program, Size
from netslim.net.codegen import Guards, Printer, Words
from netslim.net.pieces import Pieces, computes
from netslim.net.stretches import Part
from netslim.net.tree import is_slim

Steps = Sequence[tuple[int, Node]]
LEAST = 2
"""Steps that compute, of which a piece is worth its call."""


class PiecePrinter(Printer):
    """Prints steps that follow each other as a piece wherever they can be. layer: the module at a path."""

    memory: Memory

    def __init__(
        self, path: Callable[[str, str, Words], str], layer: Callable[[str], nn.Module], pieces: Pieces
    ) -> None:
        super().__init__(path)
        self.layer, self.pieces = layer, pieces

    def source(self, program: Program, guards: Guards | None = None) -> str:
        self.memory = memory(program, lambda node: _does(self.layer(node.target)))
        return super().source(program, guards)

    def _lines(self, part: Part, spent: Mapping[int, list[str]], guards: Guards) -> list[str]:
        lines = self._unset([node.name for _, node in part.steps], "    ")
        for steps, together in self._runs(part.steps, guards):
            lines += self._piece(steps, spent, guards) if together else super()._lines(Part(steps), spent, guards)
        return lines

    def _runs(self, steps: Steps, guards: Guards) -> Iterator[tuple[Steps, bool]]:
        """All steps, and which of them make a piece; parameters that it reads come before it."""
        before, found = list[tuple[int, Node]](), list[tuple[int, Node]]()
        for step in steps:
            node = step[1]
            if node.op == "param" and node.name not in self.written:
                before.append(step)
                continue
            taken = self._is_taken(node, guards)
            if not taken or any((one.grad, one.cast) != (node.grad, node.cast) for _, one in found):
                yield from _divided(before, found)
                before, found = [], []
            if taken:
                found.append(step)
            else:
                yield [step], False
        yield from _divided(before, found)

    def _is_taken(self, node: Node, guards: Guards) -> bool:
        instead = guards.ends[node.name][1] if node.name in guards.ends else ()
        return not self.writes.get(node.name) and all(self.pieces.take(one, self.layer) for one in (node, *instead))

    def _piece(self, steps: Steps, spent: Mapping[int, list[str]], guards: Guards) -> list[str]:
        """The call of a piece."""
        made = [node.name for _, node in steps]
        reads = [ref for ref in dict.fromkeys(r for _, n in steps for r in self._reads(n, guards)) if ref not in made]
        over = [ref for i, _ in steps for ref in spent.get(i, ())]
        used = {ref for refs in spent.values() for ref in refs}
        results = [name for name in made if name in used and name not in over]
        here = self._together(steps, guards)
        inside = Inside(steps, reads, guards, self.home if here is None else dict.fromkeys(made, ()))
        source = inside.function(results, self._lost(steps, reads, spent))
        piece = self._bind("piece", self.pieces.piece(source, [self.layer(path) for path in inside.layers]))
        given = (
            [self.path(path, "module", self.words) for path in inside.layers],
            [f"run[{block}]" for block in inside.blocks],
            [f"sizes[{index}]" for index in inside.sizes],
        )
        name = self.locals.__getitem__
        arguments = [*map(_tuple, given), "self.training", *map(name, reads)]
        lines = [f"    {''.join(f'{name(one)}, ' for one in results)}= {piece}({', '.join(arguments)})"]
        if here:
            lines = [f"    if {' and '.join(f'run[{block}]' for block in here)}:", f"    {lines[0]}"]
        free = [name(ref) for ref in over if ref not in made]
        return lines + ([f"    {' = '.join(free)} = None"] if free else [])

    def _together(self, steps: Steps, guards: Guards) -> tuple[int, ...] | None:
        """The blocks in whose bodies all the steps are, where they run or not together."""
        homes = {self.home[node.name] for _, node in steps}
        return homes.pop() if len(homes) == 1 and not any(node.name in guards.ends for _, node in steps) else None

    def _lost(self, steps: Steps, reads: Sequence[str], spent: Mapping[int, list[str]]) -> list[str]:
        """What the steps write to in place though nobody reads it afterwards: a copy will do, and costs nothing."""
        end, owners = steps[-1][0], self.memory.owners
        last_use = {ref: i for i, refs in spent.items() for ref in refs}
        earlier = list(owners)[: steps[0][0]]
        into = frozenset().union(*(self.memory.writes.get(node.name, frozenset()) for _, node in steps))
        lost = list[str]()
        for ref in reads:
            sharing = [name for name in earlier if owners[name] & owners[ref]]
            if owners[ref] & into and all(name in last_use and last_use[name] <= end for name in sharing):
                lost.append(ref)
        return lost


class Inside(Printer):
    """Prints the function of a piece: it names nothing of its place in the network.

    layers, blocks, sizes: what it needs of the network and of the sub-network, in the order in which it takes them.
    """

    def __init__(self, steps: Steps, reads: Sequence[str], guards: Guards, home: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__(self._layer)
        self.steps, self.reads = [(i, replace(node, where="")) for i, node in steps], reads
        self.layers, self.sizes = list[str](), list[int]()
        ends = {node.name: guards.ends[node.name] for _, node in steps if node.name in guards.ends}
        numbers = [block for _, node in steps for block in (*home[node.name], *(end[0] for end in _end(ends, node)))]
        self.blocks = list(dict.fromkeys(numbers))
        self.home = {node.name: tuple(map(self.blocks.index, home[node.name])) for _, node in steps}
        self.guards = Guards(ends={name: (self.blocks.index(b), *rest) for name, (b, *rest) in ends.items()})  # type: ignore[misc]
        names = [*reads, *(node.name for _, node in steps), *(one.name for end in ends.values() for one in end[1])]
        self.locals = {name: f"v{i}" for i, name in enumerate(dict.fromkeys(names))}

    def function(self, results: Sequence[str], copied: Sequence[str]) -> str:
        """The source of the piece, which gives the values of `results` and leaves those of `copied` as they are."""
        name = self.locals.__getitem__
        return "\n".join(
            [
                f"def forward({', '.join(['layers', 'tensors', 'run', 'sizes', 'training', *map(name, self.reads)])}):",
                *(f"    {name(ref)} = None if {name(ref)} is None else {name(ref)}.clone()" for ref in copied),
                *self._unset([node.name for _, node in self.steps], "    "),
                *self._lines(Part(self.steps), {}, self.guards),
                f"    return {_tuple(map(name, results))}",
            ]
        )

    def _layer(self, path: str, kind: str, words: Words) -> str:
        if path not in self.layers:
            self.layers.append(path)
        place = self.layers.index(path)
        return f"called(layers[{place}], tensors[{place}])"

    def expr(self, value: Literal) -> str:
        if isinstance(value, Size):
            self.sizes += [value.index] if value.index not in self.sizes else []
            return f"sizes[{self.sizes.index(value.index)}]"
        if isinstance(value, Mode):
            return "(not training)" if value.negated else "training"
        return super().expr(value)


def _end(
    ends: Mapping[str, tuple[int, tuple[Node, ...], str]], node: Node
) -> Iterator[tuple[int, tuple[Node, ...], str]]:
    if node.name in ends:
        yield ends[node.name]


def _divided(before: Steps, found: Steps) -> Iterator[tuple[Steps, bool]]:
    """Parameters and the piece that reads them, if it is one."""
    if sum(computes(node) for _, node in found) < LEAST:
        yield sorted([*before, *found], key=lambda step: step[0]), False
    else:
        yield before, False
        yield found, True


def _tuple(parts: Iterator[str] | Sequence[str]) -> str:
    return f"({''.join(f'{part}, ' for part in parts)})"


def _does(layer: nn.Module) -> tuple[bool, bool]:
    """Whether a layer may give back its argument's memory, and whether it writes to it."""
    inplace = bool(getattr(layer, "inplace", False))
    return inplace or not is_slim(layer), inplace
