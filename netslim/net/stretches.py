"""Stretches of a program that are computed again in the backward pass: where they are, and what goes in and out."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from netslim.ir.program import Node, Program


class Part(NamedTuple):
    """Consecutive steps with their places, and whether they are a stretch that is computed again.

    given: what a stretch reads from before; made: what of it is needed afterwards; over: what is needed no more.
    """

    steps: Sequence[tuple[int, Node]]
    again: bool = False
    given: Sequence[str] = ()
    made: Sequence[str] = ()
    over: Sequence[str] = ()


def parts(program: Program, reads: Callable[[Node], Sequence[str]], last_use: Mapping[str, int]) -> Iterator[Part]:
    """The steps in order, by the stretch that they are part of; a parameter is read where it is used.

    reads: the values that a step needs; last_use: the place of the last step that needs a value.
    """
    now = 0

    def stretch(step: tuple[int, Node]) -> int:
        nonlocal now
        now = now if step[1].op == "param" else step[1].again
        return now

    for again, group in itertools.groupby(enumerate(program), key=stretch):
        steps = list(group)
        if not again:
            yield Part(steps)
            continue
        made, end = [node.name for _, node in steps], steps[-1][0]
        given = [name for name in dict.fromkeys(ref for _, node in steps for ref in reads(node)) if name not in made]
        later = [name for name in made if last_use.get(name, -1) > end]
        yield Part(steps, True, given, later, [name for name in given if last_use[name] <= end])
