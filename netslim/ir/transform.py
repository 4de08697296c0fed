"""What a program is when blocks are skipped, and what a network's blocks are in all its programs.

`without` and `followed` make new programs: one leaves the bodies out, the other runs them and does more with what they
give. The first is what a sub-network is; the second, multiplying by zero, what it is held against.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from netslim.analysis.candidates import Candidate, find_blocks, named
from netslim.analysis.dataflow import Facts
from netslim.ir.functions import written
from netslim.ir.plan import Block, Plan, Refused, Region, Skip
from netslim.ir.program import Node, Program, Ref, map_leaves


@dataclass(frozen=True)
class Found:
    """The blocks of a network and the candidates that were refused."""

    blocks: tuple[Block, ...]
    refused: tuple[Refused, ...]


def find(
    regions: Mapping[str, Region], facts: Callable[[str, bool], Facts], tensors: Callable[[Node], Mapping[str, int]]
) -> Found:
    """The blocks that every program of a region has, in program order.

    tensors: the parameters of a node by name, with their numbers of elements.
    """
    blocks: list[Block] = []
    refused: list[Refused] = []
    stages: dict[tuple[int, ...], int] = {}
    for path, region in regions.items():
        modes = (True,) if region.same else (False, True)
        by_mode = [_of_program(region.programs[mode], facts(path, mode), tensors) for mode in modes]
        first, others = by_mode[0], [found for found, _ in by_mode[1:]]
        for name, (candidate, params) in first[0].items():
            again = [found[name][0] for found in others if name in found and found[name][1] == params]
            if len(again) == len(others):
                skips = {mode: c.skip for mode, c in zip(modes, [candidate, *again], strict=True)}
                skips = {True: skips[modes[-1]], False: skips[modes[0]]}
                shape = facts(path, modes[0]).shapes[candidate.skip.end][1:]
                stage = stages.setdefault(shape, len(stages))
                blocks.append(Block(name, params, candidate.where, path, skips, stage))
        refused += first[1]
    taken: dict[str, int] = {}
    unique = []
    for block in blocks:
        taken[block.name] = taken.get(block.name, 0) + 1
        again_here = taken[block.name] > 1
        unique.append(replace(block, name=f"{block.name}#{taken[block.name]}") if again_here else block)
    return Found(tuple(unique), tuple(dict.fromkeys(refused)))


def _of_program(
    program: Program, facts: Facts, tensors: Callable[[Node], Mapping[str, int]]
) -> tuple[dict[str, tuple[Candidate, int]], list[Refused]]:
    candidates, refused = find_blocks(program, facts)
    users: dict[str, int] = {}
    for node in program:
        for name in tensors(node):
            users[name] = users.get(name, 0) + 1
    own: list[dict[str, int]] = []
    for candidate in candidates:
        inside: dict[str, int] = {}
        sizes: dict[str, int] = {}
        for node in candidate.nodes:
            for name, size in tensors(node).items():
                inside[name] = inside.get(name, 0) + 1
                sizes[name] = size
        own.append({name: size for name, size in sizes.items() if inside[name] == users[name]})
    paths = [[n.target for n in c.nodes if tensors(n)] or [c.skip.end] for c in candidates]
    names: dict[str, tuple[Candidate, int]] = {}
    for name, candidate, params in zip(named(paths), candidates, own, strict=True):
        unique, i = name, 1
        while unique in names:
            unique, i = f"{name}#{i + 1}", i + 1
        names[unique] = candidate, sum(params.values())
    return names, refused


# ------------------------------------------------------------------------------------------------ other programs


def without(program: Program, skips: Iterable[Skip]) -> Program:
    """The program in which the bodies are left out."""
    ends = {skip.end: skip for skip in skips}
    gone = {name for skip in ends.values() for name in skip.body}
    alias: dict[str, str] = {}
    nodes: list[Node] = []
    for node in program:
        if node.name in gone:
            continue
        skip = ends.get(node.name)
        if skip is None:
            nodes.append(_renamed(node, alias))
        else:
            nodes += [_renamed(step, alias) for step in skip.instead]
            alias[node.name] = alias.get(skip.value, skip.value)
    return Program(_needed(nodes))


def _renamed(node: Node, alias: Mapping[str, str]) -> Node:
    def put(leaf: object) -> object:
        return Ref(alias.get(leaf.name, leaf.name)) if isinstance(leaf, Ref) else leaf

    return replace(node, args=map_leaves(put, node.args), kwargs=map_leaves(put, node.kwargs))


def _needed(nodes: list[Node]) -> tuple[Node, ...]:
    """Without parameters and sizes that nobody reads any more."""
    used: set[str] = set()
    kept: list[Node] = []
    for node in reversed(nodes):
        idle = node.op == "param" or node.target.startswith("operator.") or node.target == "torch.Tensor.size"
        if idle and node.name not in used and not written(node):
            continue
        used.update(node.refs)
        kept.append(node)
    return tuple(reversed(kept))


Step = tuple[str, tuple[Any, ...]]
"""A further call on a value: what is called, and the arguments after the value."""


Further = Step | Callable[[Tensor], Tensor]
"""The same, or a function that a program calls by its number."""


def by_block(further: Iterable[tuple[str, Further]]) -> tuple[dict[str, list[Step]], list[Callable[[Tensor], Tensor]]]:
    """(block, step) pairs as the steps of each block, and the functions in the order of their numbers."""
    functions: list[Callable[[Tensor], Tensor]] = []
    steps: dict[str, list[Step]] = {}
    for name, step in further:
        if not isinstance(step, tuple):
            functions.append(step)
            step = f"through[{len(functions) - 1}]", ()
        steps.setdefault(name, []).append(step)
    return steps, functions


def scaling(factor: float) -> Step:
    return "torch.mul", (factor,)


def followed(program: Program, steps: Mapping[str, Sequence[Step]]) -> Program:
    """The program in which values go through further steps, for all that use them."""
    alias: dict[str, str] = {}
    nodes: list[Node] = []
    for node in program:
        nodes.append(_renamed(node, alias))
        for i, (target, rest) in enumerate(steps.get(node.name, ())):
            before = alias.get(node.name, node.name)
            alias[node.name] = _after(node.name, i)
            nodes.append(Node(alias[node.name], "call", target, (Ref(before), *rest)))
    return Program(tuple(nodes))


def _after(name: str, step: int) -> str:
    return f"{name}_after{step}"


def followed_plan(plan: Plan, steps: Mapping[str, Sequence[Step]]) -> tuple[dict[str, Region], tuple[Block, ...]]:
    """Regions in which what the blocks give goes through their steps ({block: steps}), and the blocks of those."""
    regions: dict[str, Region] = {}
    for path, region in plan.regions.items():
        by_mode = {mode: _of_bodies(plan, path, mode, steps) for mode in (True, False)}
        train = followed(region.programs[True], by_mode[True])
        same = train if region.same else followed(region.programs[False], by_mode[False])
        regions[path] = replace(region, programs={True: train, False: same})
    blocks = tuple(
        replace(
            block,
            skips={
                mode: _with_steps(skip, _of_bodies(plan, block.region, mode, steps))
                for mode, skip in block.skips.items()
            },
        )
        for block in plan.blocks
    )
    return regions, blocks


def _of_bodies(plan: Plan, path: str, mode: bool, steps: Mapping[str, Sequence[Step]]) -> dict[str, Sequence[Step]]:
    chosen = [block for block in plan.blocks if block.region == path and steps.get(block.name)]
    return {name: steps[block.name] for block in chosen for name in block.skips[mode].bodies}


def _with_steps(skip: Skip, steps: Mapping[str, Sequence[Step]]) -> Skip:
    last = {name: _after(name, len(more) - 1) for name, more in steps.items()}
    extra = tuple(_after(name, i) for name in skip.body for i in range(len(steps.get(name, ()))))
    instead = tuple(_renamed(node, last) for node in skip.instead)
    return replace(skip, body=skip.body + extra, value=last.get(skip.value, skip.value), instead=instead)


def remade(
    plan: Plan, run: tuple[bool, ...], make: Callable[[Program, list[Skip]], Program]
) -> dict[str, dict[bool, Program]]:
    """Every region's programs, changed for the blocks that do not run."""
    made: dict[str, dict[bool, Program]] = {}
    for path, region in plan.regions.items():
        train = make(region.programs[True], skips_of(plan, path, True, run))
        same = train if region.same else make(region.programs[False], skips_of(plan, path, False, run))
        made[path] = {True: train, False: same}
    return made


def skips_of(plan: Plan, path: str, mode: bool, run: tuple[bool, ...]) -> list[Skip]:
    """How a region's program skips the blocks that do not run."""
    pairs = zip(plan.blocks, run, strict=True)
    return [block.skips[mode] for block, runs in pairs if block.region == path and not runs]


def targets(programs: Mapping[str, Mapping[bool, Program]]) -> set[str]:
    """Parameters and modules that programs use."""
    every = (program for by_mode in programs.values() for program in by_mode.values())
    return {node.target for program in every for node in program if node.op in ("param", "module")}
