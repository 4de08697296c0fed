"""Blocks that can be skipped, found in the program alone: no class of a module and no name of a layer matters.

residual   a sum of which one operand, the body, is computed for that sum only, from a value that the other operand also
           comes from. The body has more parameters than what the other operand does with that value, and the other
           operand has the shape of the sum. Skipping puts the other operand in the place of the sum. A parameter that
           is added is no branch: it belongs to the body that it shifts, or stays after the sum.
dense      a value that is only ever concatenated with what it was computed from (a dense layer, an inner level of a
           U-Net). Skipping puts zeros in its place.
dual       a value of which some channels are added to, and others concatenated with, what it was computed from (a dual
           path). Skipping puts zeros in its place.

A value is computed for a node only when nothing else uses it; writing in place counts as a use by every later reader.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

from netslim.analysis.dataflow import Facts, Flow
from netslim.ir.functions import CATS, COPY, ZEROS, effect
from netslim.ir.plan import Refused, Skip
from netslim.ir.program import Literal, Node, Program, Ref, Size, leaves


@dataclass(frozen=True)
class Candidate:
    """A block of one program: how to skip it, and the nodes of its body in order."""

    skip: Skip
    nodes: tuple[Node, ...]
    where: str


def find_blocks(program: Program, facts: Facts) -> tuple[list[Candidate], list[Refused]]:
    """Every skippable block of a program, in the order of their ends; and sums that look like one, with a reason."""
    flow = Flow(program, facts)
    found: list[Candidate] = []
    refused: list[Refused] = []
    for node in program:
        result: Candidate | Refused | None = None
        if flow.is_sum(node) and not flow.is_part_of_a_sum(node):
            result = _residual(flow, node)
        elif node.op in ("call", "module"):
            result = _dense(flow, node) or _dual(flow, node)
        if isinstance(result, Candidate):
            found.append(result)
        elif result is not None:
            refused.append(result)
    return found, refused


# ------------------------------------------------------------------------------------------------------- residual


def _residual(flow: Flow, node: Node) -> Candidate | Refused | None:
    end, operands = flow.at[node.name], flow.operands(node)
    if len(set(operands)) != len(operands):
        return None
    tree = _tree(flow, node)
    refusal: Refused | None = None
    order = sorted(operands, key=lambda o: flow.weight(flow.only_for({o}, tree, [p for p in operands if p != o])))
    for stay in order:
        bodies = [o for o in operands if o != stay]
        body = flow.only_for(set(bodies), tree, [stay])
        reason = _why_not(flow, end, stay, bodies, body)
        if reason is None:
            inner = tree - {end}
            return _candidate(flow, end, body | inner, *_instead(flow, end, stay), bodies)
        if reason:
            refusal = refusal or Refused(node.where, reason)
    return refusal


def _tree(flow: Flow, node: Node) -> set[int]:
    """A sum and the sums that are parts of it."""
    found = {flow.at[node.name]}
    for name in node.refs[:2]:
        part = flow.nodes[flow.at[name]]
        if flow.is_sum(part) and flow.is_part_of_a_sum(part):
            found |= _tree(flow, part)
    return found


def _why_not(flow: Flow, end: int, stay: int, bodies: Sequence[int], body: set[int]) -> str | None:
    """Why the bodies cannot be skipped: a reason, '' where they look like no body at all, None where they can."""
    sources = [j for j in flow.boundary(body) if flow.above[stay] >> j & 1]
    shared = _common(flow, [stay, *bodies])
    if not sources or not all(o in body for o in bodies):
        heavy = shared is not None and any(flow.weight(flow.between(shared, o)) for o in bodies)
        outside = [o for o in bodies if o not in body]
        if not heavy or not outside or flow.weight(flow.between(shared or 0, stay)) >= min(
            flow.weight(flow.between(shared or 0, o)) for o in bodies
        ):  # fmt: skip
            return ""
        return f"the branch is also used by {_used_by(flow, outside[0], end)}"
    source = max(sources)
    if not flow.weight(body):
        return ""
    if flow.shape(stay) != flow.shape(end):
        return "the other branch does not have the shape of the sum"
    if flow.weight(body) <= flow.weight(flow.between(source, stay)):
        return "" if flow.weight(body) < flow.weight(flow.between(source, stay)) else "both branches weigh the same"
    if "alpha" in flow.nodes[end].kwargs and flow.name(stay) != flow.nodes[end].refs[0]:
        return "the other branch is scaled by the sum"
    return None


def _common(flow: Flow, values: Sequence[int]) -> int | None:
    """The last value that all depend on."""
    bits = -1
    for value in values:
        bits &= flow.above[value]
    while bits > 0:
        i = bits.bit_length() - 1
        if flow.data[i]:
            return i
        bits ^= 1 << i
    return None


def _used_by(flow: Flow, value: int, end: int) -> str:
    other = next((flow.nodes[i] for i in sorted(flow.users[value]) if i != end), flow.nodes[end])
    return f"{other.target.rpartition('.')[2]} ({other.where})" if other.where else other.name


def _instead(flow: Flow, end: int, stay: int) -> tuple[tuple[Node, ...], str]:
    """The staying operand; a copy of it where the sum is written to later, as an in-place activation does."""
    memory = flow.facts.memory.owners[flow.name(end)]
    if not any(flow.writes(i) & memory for i in range(end + 1, len(flow.nodes))):
        return (), flow.name(stay)
    name = f"{flow.name(end)}_kept"
    return (Node(name, "call", COPY, (Ref(flow.name(stay)),)),), name


# ---------------------------------------------------------------------------------------------------------- dense


def _dense(flow: Flow, node: Node) -> Candidate | None:
    end = flow.at[node.name]
    cats = flow.users[end]
    shape = flow.shape(end)
    if shape is None or not cats or not all(flow.nodes[c].target in CATS for c in cats) or not flow.data[end]:
        return None
    beside = {o for cat in cats for o in flow.reads[cat] if not flow.above[o] >> end & 1}
    body = flow.only_for({end}, cats, sorted(beside))
    sources = flow.boundary(body)
    if not sources or not flow.weight(body):
        return None
    dims = set()
    for cat in cats:
        along = _cat_dim(flow.nodes[cat])
        if not isinstance(along, int):
            return None
        dim = along % len(shape)
        others = {flow.at[leaf.name] for leaf in leaves(flow.nodes[cat].args[:1]) if isinstance(leaf, Ref)} - {end}
        if not all(any(_passes(flow, source, other, dim) for other in others) for source in sources):
            return None
        dims.add(dim)
    zeros = _zeros(flow, end, beside, dims.pop()) if len(dims) == 1 else None
    return None if zeros is None else _candidate(flow, end, body - {end}, *zeros, [end])


def _cat_dim(cat: Node) -> Literal:
    return cat.args[1] if len(cat.args) > 1 else cat.kwargs.get("dim", cat.kwargs.get("axis", 0))


def _passes(flow: Flow, source: int, other: int, dim: int) -> bool:
    """Whether a concatenated value is `source`, or a view of it with all its channels (a crop)."""
    if source == other:
        return True
    a, b = flow.shape(source), flow.shape(other)
    whole = a is not None and b is not None and len(a) == len(b) and a[dim] == b[dim]
    if not whole or not _is_view(flow.nodes[other]) or not flow.above[other] >> source & 1:
        return False
    return all(_is_view(flow.nodes[i]) for i in flow.between(source, other))


def _is_view(node: Node) -> bool:
    return node.op == "call" and effect(node.target).views


def _zeros(flow: Flow, end: int, beside: set[int], dim: int) -> tuple[tuple[Node, ...], str] | None:
    """Zeros in the place of a value: one channel of a neighbour in the concatenation, zeroed and expanded.

    None where no neighbour of its size is there in time.
    """
    name, shape = flow.name(end), flow.facts.shapes[flow.name(end)]

    def fits(o: int) -> bool:
        other = flow.shape(o)
        return o < end and other is not None and (*other[:dim], *other[dim + 1 :]) == (*shape[:dim], *shape[dim + 1 :])

    neighbours = [flow.name(o) for o in sorted(beside) if fits(o)]
    if not neighbours:
        return None
    sizes: list[Size | int] = [-1] * len(shape)
    sizes[dim] = flow.facts.channels(name, dim)
    cut, zeroed, widened = ZEROS
    steps = (
        Node(f"{name}_one", "call", cut, (Ref(neighbours[0]), dim, 0, 1)),
        Node(f"{name}_zero", "call", zeroed, (Ref(f"{name}_one"),)),
        Node(f"{name}_kept", "call", widened, (Ref(f"{name}_zero"), *sizes)),
    )
    return steps, f"{name}_kept"


# ----------------------------------------------------------------------------------------------------------- dual


def _dual(flow: Flow, node: Node) -> Candidate | Refused | None:
    end, shape, uses = flow.at[node.name], flow.shape(flow.at[node.name]), list(_uses(flow, flow.at[node.name]))
    kinds = {flow.nodes[user].target in CATS if not flow.is_sum(flow.nodes[user]) else None for user, _ in uses}
    if shape is None or kinds != {None, True} or not flow.data[end] or _is_view(node):
        return None
    beside = {user: [o for o in sorted(flow.reads[user]) if not flow.above[o] >> end & 1] for user, _ in uses}
    partners = sorted({o for others in beside.values() for o in others})
    body = flow.only_for({end}, flow.users[end], partners)
    sources = flow.boundary(body)
    if not flow.weight(body) or any(_takes_a_part(flow, sources, i) for i in body):
        return None

    def beside_it(other: int) -> bool:
        """Whether it comes from what the body comes from, by less than the body."""
        above = [s for s in sources if flow.above[other] >> s & 1]
        return bool(above) and flow.weight(flow.between(max(above), other)) < flow.weight(body)

    added = all(flow.shape(user) == flow.shape(value) for user, value in uses if flow.is_sum(flow.nodes[user]))
    seen = all(any(flow.above[o] >> s & 1 for o in partners) for s in sources)
    if not (sources and added and seen and all(any(map(beside_it, others)) for others in beside.values())):
        return None
    dims = {_cat_dim(flow.nodes[user]) for user, _ in uses if not flow.is_sum(flow.nodes[user])}
    along = dims.pop()
    zeros = (
        _zeros(flow, end, {*partners, *sources}, along % len(shape)) if isinstance(along, int) and not dims else None
    )
    written = any(flow.writes(i) & flow.facts.memory.owners[node.name] for i in range(end + 1, len(flow.nodes)))
    if zeros is None or written:
        return Refused(node.where, "what stands for the branch cannot be made before it")
    return _candidate(flow, end, body - {end}, *zeros, [end])


def _uses(flow: Flow, value: int) -> Iterator[tuple[int, int]]:
    """Who uses a value, and which part of it: (user, the value or a view of it)."""
    seen, queue = {value}, [value]
    while queue:
        part = queue.pop()
        for user in sorted(flow.users[part]):
            if not _is_view(flow.nodes[user]):
                yield user, part
            elif user not in seen:
                seen.add(user)
                queue.append(user)


def _takes_a_part(flow: Flow, sources: set[int], i: int) -> bool:
    """Whether a node is a view of a part of one of the values."""
    mine = flow.shape(i)
    read = [flow.shape(j) for j in flow.reads[i] & sources]
    return _is_view(flow.nodes[i]) and any(mine is None or s is None or prod(mine) < prod(s) for s in read)


def _candidate(
    flow: Flow, end: int, body: set[int], instead: tuple[Node, ...], value: str, bodies: Sequence[int]
) -> Candidate:
    names = tuple(flow.name(i) for i in sorted(body))
    nodes = tuple(flow.nodes[i] for i in sorted(body | {end}))
    skip = Skip(flow.name(end), names, instead, value, tuple(map(flow.name, bodies)))
    return Candidate(skip, nodes, flow.nodes[end].where)
