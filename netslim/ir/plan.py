"""The finished analysis: frozen, printable data that says what is elastic, what is not and why.

group     the slots (parameter, dim) that share one axis of channels
frozen    slots that stay at full width, with the reason
block     a residual body that can be skipped
layouts   the solved layout of every dimension of every parameter and buffer
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from netslim.ir.inputs import Inputs, Left, in_order, tensors_in
from netslim.ir.merging import alike
from netslim.ir.program import Node, Program
from netslim.ir.ties import Slot, Ties
from netslim.layouts.axes import Const, Elastic, Layout, Reason, leaves, replaced


@dataclass(frozen=True, slots=True)
class Group:
    """An axis of `size` channels, and where it occurs. The name is the first place that has it."""

    name: str
    size: int
    slots: tuple[Slot, ...]


@dataclass(frozen=True, slots=True)
class Frozen:
    """Slots that stay at full width: the reason, the operator and file:line of the model's source."""

    slots: tuple[Slot, ...]
    size: int
    reason: str
    op: str = ""
    where: str = ""


@dataclass(frozen=True, slots=True)
class Skip:
    """How one program does without a block.

    body: the nodes that do not run; end: the node that gives the block's result, which is `value` instead, after the
    nodes of `instead`. bodies: the values inside that zero would make the same of. more: further ends of the body.
    """

    end: str
    body: tuple[str, ...]
    instead: tuple[Node, ...]
    value: str
    bodies: tuple[str, ...]
    more: tuple[Skip, ...] = ()

    @property
    def parts(self) -> tuple[Skip, ...]:
        """One for every end."""
        return (self, *self.more)


@dataclass(frozen=True, slots=True)
class Block:
    """A part of a network that can be skipped: the parameters that it alone uses, and where it ends.

    region: the path of the region that it is in; skips: how the region's programs do without it, by mode; stage: the
    same number for blocks whose results have one shape.
    """

    name: str
    params: int
    where: str = ""
    region: str = ""
    skips: Mapping[bool, Skip] = field(default_factory=dict)
    stage: int = 0


class Refused(NamedTuple):
    """A sum that looks like the end of a block and is none: where it is written, and why."""

    where: str
    reason: str


@dataclass(frozen=True, slots=True)
class Region:
    """A module whose forward is known: its arguments, and its program by mode (True: training).

    The two programs are often one and the same. They are already right for every width. left: arguments that the
    example left out; known: both, in forward's order.
    """

    inputs: Inputs
    programs: Mapping[bool, Program]
    left: tuple[Left, ...] = ()
    known: Inputs = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "known", in_order(self.inputs, self.left))

    @property
    def same(self) -> bool:
        """Whether both modes have one program."""
        return self.programs[True] is self.programs[False]

    @property
    def alike(self) -> bool:
        """Whether both modes compute the same, but for flags, and for counters that training keeps."""
        return alike(self.programs[True], self.programs[False])


@dataclass(frozen=True)
class Plan:
    """Everything that is known about a network.

    regions: by path; the whole network ('') where forward could be followed, else its largest parts that could, and
    `refusal` says why. sizes: what `Size(i)` counts: kept channels of a layout below a position. cuts: the tensors that
    `param` nodes read in part. ints: settings of leaf modules that count channels. inputs: arguments of forward.
    specialised: lines where the trace depended on a size of the example, or on its dtype. ties: what ties the places
    to each other.
    """

    groups: tuple[Group, ...]
    frozen: tuple[Frozen, ...]
    layouts: Mapping[str, tuple[Layout, ...]]
    regions: Mapping[str, Region]
    sizes: tuple[tuple[Layout, int], ...]
    cuts: tuple[str, ...]
    ints: Mapping[str, Mapping[str, Layout]]
    inputs: Inputs
    refusal: str = ""
    blocks: tuple[Block, ...] = ()
    refused: tuple[Refused, ...] = ()
    specialised: tuple[str, ...] = ()
    unknown: Mapping[str, int] = field(default_factory=dict)
    model: str = ""
    ties: Ties = field(default_factory=Ties)

    def __deepcopy__(self, memo: dict[int, object]) -> Plan:
        return self  # nothing in it ever changes

    @property
    def whole(self) -> Region | None:
        """The program of the whole network, where there is one."""
        return self.regions.get("")

    @property
    def input_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of the example inputs, with the batch dimension."""
        return tuple(found.shape for found in tensors_in(self.inputs))

    def group(self, name: str) -> Group | None:
        return next((g for g in self.groups if g.name == name), None)


def freeze_groups(plan: Plan, reasons: Mapping[int, Reason]) -> Plan:
    """The plan without some of its groups: they become constants, and the others are renumbered."""
    remaining = [i for i in range(len(plan.groups)) if i not in reasons]
    new_id = {old: new for new, old in enumerate(remaining)}

    def fix(layout: Layout) -> Layout:
        return replaced(layout, fixed)

    def fixed(leaf: Elastic) -> Layout:
        reason = reasons.get(leaf.group)
        return Const(leaf.size, reason) if reason else Elastic(new_id[leaf.group], leaf.size)

    refused = tuple(
        Frozen(plan.groups[i].slots, plan.groups[i].size, reason.text, reason.op, reason.where)
        for i, reason in sorted(reasons.items())
    )
    return replace(
        plan,
        groups=tuple(plan.groups[i] for i in remaining),
        frozen=plan.frozen + refused,
        layouts={name: tuple(map(fix, dims)) for name, dims in plan.layouts.items()},
        sizes=tuple((fix(layout), at) for layout, at in plan.sizes),
        ints={path: {name: fix(layout) for name, layout in ints.items()} for path, ints in plan.ints.items()},
        ties=replace(plan.ties, layouts=tuple(map(fix, plan.ties.layouts))),
    )


def refuse_blocks(plan: Plan, ids: set[int], reason: str) -> Plan:
    """The plan without some of its blocks: they always run."""
    refused = tuple(Refused(block.where, reason) for i, block in enumerate(plan.blocks) if i in ids)
    left = tuple(block for i, block in enumerate(plan.blocks) if i not in ids)
    return replace(plan, blocks=left, refused=plan.refused + refused)


def groups_in(layout: Layout) -> list[int]:
    """Ids of the groups in a layout, each once, in order."""
    return list(dict.fromkeys(leaf.group for leaf in leaves(layout) if isinstance(leaf, Elastic)))
