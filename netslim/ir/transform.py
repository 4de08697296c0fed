"""Programs made of others: without the bodies of blocks, or with further steps after what their bodies give.

`without` and `continued` make new programs: one leaves the bodies out, the other runs them and does more with what they
give. The first is what a sub-network is; the second, multiplying by zero, what it is held against.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from netslim.ir.functions import without_unused
from netslim.ir.plan import Block, Plan, Region, Skip
from netslim.ir.program import Leaf, Literal, Node, Program, Ref, map_leaves


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
    return Program(tuple(without_unused(nodes)))


def _renamed(node: Node, alias: Mapping[str, str]) -> Node:
    def put(leaf: Leaf) -> Leaf:
        return Ref(alias.get(leaf.name, leaf.name)) if isinstance(leaf, Ref) else leaf

    return replace(node, args=map_leaves(put, node.args), kwargs=map_leaves(put, node.kwargs))


Step = tuple[str, tuple[Literal, ...]]
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


def continued(program: Program, steps: Mapping[str, Sequence[Step]]) -> Program:
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


def continued_plan(plan: Plan, steps: Mapping[str, Sequence[Step]]) -> tuple[dict[str, Region], tuple[Block, ...]]:
    """Regions in which what the blocks give goes through their steps ({block: steps}), and the blocks of those."""
    regions: dict[str, Region] = {}
    for path, region in plan.regions.items():
        by_mode = {mode: _of_bodies(plan, path, mode, steps) for mode in (True, False)}
        train = continued(region.programs[True], by_mode[True])
        same = train if region.same else continued(region.programs[False], by_mode[False])
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
    return {name: steps[block.name] for block in chosen for part in block.skips[mode].parts for name in part.bodies}


def _with_steps(skip: Skip, steps: Mapping[str, Sequence[Step]]) -> Skip:
    last = {name: _after(name, len(more) - 1) for name, more in steps.items()}
    extra = tuple(_after(name, i) for name in skip.body for i in range(len(steps.get(name, ()))))
    instead = tuple(_renamed(node, last) for node in skip.instead)
    more = tuple(_with_steps(part, steps) for part in skip.more)
    return replace(skip, body=skip.body + extra, value=last.get(skip.value, skip.value), instead=instead, more=more)


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
    return [part for block, runs in pairs if block.region == path and not runs for part in block.skips[mode].parts]


def targets(programs: Mapping[str, Mapping[bool, Program]]) -> set[str]:
    """Parameters and modules that programs use."""
    every = (program for by_mode in programs.values() for program in by_mode.values())
    return {node.target for program in every for node in program if node.op in ("param", "module")}
