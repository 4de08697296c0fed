"""The blocks of a network: bodies that every program of a region has, with their names, parameters and stages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from netslim.analysis.candidates import Candidate, find_blocks
from netslim.analysis.dataflow import Facts
from netslim.ir.plan import Block, Refused, Region
from netslim.ir.program import Node, Program


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


# ------------------------------------------------------------------------------------------------------------ names


def named(candidates: Sequence[Sequence[str]]) -> Iterator[str]:
    """Each block's name: the path that all its layers share, made different by what lies below it where several do.

    candidates: paths of the layers and parameters of each block.
    """
    bases = [_shared(paths) for paths in candidates]
    for base, paths in zip(bases, candidates, strict=True):
        if bases.count(base) == 1 and base:
            yield base
        else:
            depth = base.count(".") + 2 if base else 1
            below = [".".join(path.split(".")[:depth]) for path in paths]
            yield max(dict.fromkeys(below), key=below.count)


def _shared(paths: Sequence[str]) -> str:
    parts = [path.split(".") for path in paths]
    shared = []
    for level in zip(*parts, strict=False):
        if len(set(level)) > 1:
            break
        shared.append(level[0])
    return ".".join(shared)
