"""Blocks that can be skipped, found in the program alone: no class of a module and no name of a layer matters.

residual   a sum of which one operand, the body, is computed for that sum only, from a value that the other operand also
           comes from. The body has more parameters than what the other operand does with that value, and the other
           operand has the shape of the sum. Skipping puts the other operand in the place of the sum. A parameter that
           is added is no branch: it belongs to the body that it shifts, or stays after the sum.
dense      a value that is only ever concatenated with what it was computed from (a dense layer, an inner level of a
           U-Net). Skipping puts zeros in its place.
dual       a body that gives one value to such a sum, others to such concatenations (a dual path). Skipping does both.

A value is computed for a node only when nothing else uses it; writing in place counts as a use by every later reader.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from netslim.analysis.dataflow import Facts, Flow, is_view
from netslim.ir.functions import CATS, COPY, ZEROS
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
    taken: set[str] = set()
    refused: list[Refused] = []
    for node in program:
        result: Candidate | Refused | None = None
        if flow.is_sum(node) and not flow.is_part_of_a_sum(node):
            result = _residual(flow, node)
            result = result if isinstance(result, Candidate) else _dual(flow, node) or result
        elif node.op in ("call", "module"):
            result = _dense(flow, node)
        if isinstance(result, Candidate):
            ends = {part.end for part in result.skip.parts}
            found += [] if ends & taken else [result]
            taken |= ends
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
    if not whole or not is_view(flow.nodes[other]) or not flow.above[other] >> source & 1:
        return False
    return all(is_view(flow.nodes[i]) for i in flow.between(source, other))


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
    """A body of which one value is added to, and others are concatenated with, what it was computed from."""
    operands = flow.operands(node)
    pairs = [(a, b) for a in operands for b in operands if a != b] if len(operands) == 2 else []
    return next((found for stay, added in pairs if (found := _joined(flow, flow.at[node.name], stay, added))), None)


def _joined(flow: Flow, end: int, stay: int, added: int) -> Candidate | Refused | None:
    core, cats = _up_to_cats(flow, end, _not_beside(flow, flow.bits(flow.above[added] & ~flow.above[stay])))
    outside = {i for i, data in enumerate(flow.data) if data and not flow.above[i] >> added & 1} - core
    beside = {cat: sorted(flow.reads[cat] & outside) for cat in cats}
    partners = sorted({stay, *(o for others in beside.values() for o in others)})
    values = sorted({v for found in cats.values() for v in found})
    body = flow.only_for({added, *values}, {end, *cats}, partners)
    sources = flow.boundary(body)
    if not (cats and sources and {added, *values} <= body and flow.weight(body)):
        return None
    seen = all(any(flow.above[o] >> s & 1 for o in partners) for s in sources)
    whole = not any(_takes_a_part(flow, sources, i) for i in body) and flow.shape(stay) == flow.shape(end)
    roots = {*sources, flow.root(stay)}
    above = [s for s in sources if flow.above[stay] >> s & 1]
    light = bool(above) and flow.weight(flow.between(max(above), stay)) < flow.weight(body)
    paired = light and all(any(flow.root(o) in roots for o in others if o != stay) for others in beside.values())
    if not (seen and whole and paired) or "alpha" in flow.nodes[end].kwargs:
        return None
    more: list[Skip] = []
    for value in values:
        mine = [cat for cat in cats if value in cats[cat]]
        zeros = _zeros_for(flow, value, mine, {*sources, *(o for cat in mine for o in beside[cat])})
        if zeros is None:
            return Refused(flow.nodes[end].where, "what stands for a part of the branch cannot be made before it")
        more.append(Skip(flow.name(value), (), *zeros, (flow.name(value),)))
    return _candidate(flow, end, body, *_instead(flow, end, stay), [added], tuple(more))


def _not_beside(flow: Flow, core: set[int]) -> set[int]:
    """What a body is made of, without what is concatenated with it too, and what that comes from."""
    beside = [i for i in core if any(flow.nodes[user].target in CATS for user in flow.users[i] - core)]
    return core - {j for i in beside for j in core if flow.above[i] >> j & 1}


def _up_to_cats(flow: Flow, end: int, core: set[int]) -> tuple[set[int], dict[int, set[int]]]:
    """A body with what is made of it alone, and what it gives to concatenations: nothing where others get some too."""
    core = {i for i in core if flow.data[i]}
    cats: dict[int, set[int]] = {}
    queue = list(core)
    while queue:
        value = queue.pop()
        for user in flow.users[value] - core - {end}:
            if flow.nodes[user].target in CATS:
                cats.setdefault(user, set()).add(value)
            elif flow.nodes[user].op == "output" or any(flow.data[i] and i not in core for i in flow.reads[user]):
                return core, {}
            else:
                core.add(user)
                queue.append(user)
    return core, cats


def _zeros_for(flow: Flow, value: int, cats: Sequence[int], beside: set[int]) -> tuple[tuple[Node, ...], str] | None:
    """Zeros in the place of a value that is concatenated; None where they cannot be made, or are written to."""
    along, shape = {_cat_dim(flow.nodes[cat]) for cat in cats}, flow.shape(value)
    owners = flow.facts.memory.owners[flow.name(value)]
    written = any(flow.writes(i) & owners for i in range(value + 1, len(flow.nodes)))
    dim = along.pop()
    if along or not isinstance(dim, int) or shape is None or written:
        return None
    return _zeros(flow, value, beside, dim % len(shape))


def _takes_a_part(flow: Flow, sources: set[int], i: int) -> bool:
    """Whether a node is a view of a part of one of the values."""
    mine = flow.shape(i)
    read = [flow.shape(j) for j in flow.reads[i] & sources]
    return is_view(flow.nodes[i]) and any(mine is None or s is None or prod(mine) < prod(s) for s in read)


def _candidate(
    flow: Flow, end: int, body: set[int], instead: tuple[Node, ...], value: str, bodies: Sequence[int],
    more: tuple[Skip, ...] = (),
) -> Candidate | None:  # fmt: skip
    """The block; None where a size in its body is looked at after its end."""
    ends = {end, *(flow.at[part.end] for part in more)}
    body = flow.with_asides(body) - ends
    if any(i > max(ends) for i in body):
        return None
    names = tuple(flow.name(i) for i in sorted(body))
    nodes = tuple(flow.nodes[i] for i in sorted(body | ends))
    skip = Skip(flow.name(end), names, instead, value, tuple(map(flow.name, bodies)), more)
    return Candidate(skip, nodes, flow.nodes[end].where)
