"""What a model's forward keeps from one call to the next: buffers that it replaces, and values that it decides by.

A converted network has the model's parameters and buffers and none of its Python. What forward puts in the place of a
buffer is written into the buffer as the last step of a call. A branch that depends on what forward itself changes
cannot be written down. A table that forward works out from sizes alone and keeps for the next call (positions, grids,
masks) is no state: a program works it out in every call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from netslim.errors import TraceError
from netslim.ir.functions import COPY, form_only, written_parameters
from netslim.ir.functions import memory as followed
from netslim.ir.program import LIFTED, Leaf, Node, Program, Ref, map_leaves
from netslim.trace.numbers import plain
from netslim.trace.randomness import draws
from netslim.trace.result import Trace
from netslim.trace.tracer import Tracer

Table = dict[str, Any]
"""What a module holds of one kind, by name: whatever its author put there."""
KINDS = {"_parameters": "parameter", "_buffers": "buffer", "_modules": "child"}
TABLES = tuple(name for name, value in vars(nn.Module()).items() if isinstance(value, dict))
"""Where every module keeps its parameters, buffers and children, and its hooks of each kind."""


@dataclass(frozen=True)
class Kept:
    """The attributes, parameters, buffers, children and hooks of modules, as they were."""

    tables: tuple[tuple[str, str, Table, Table], ...]
    lists: tuple[tuple[list[Any], list[Any]], ...] = ()

    def put_back(self) -> None:
        """What forward keeps on its modules (a cached table, a counter, a hook of its first call) is forgotten."""
        for _, _, table, before in self.tables:
            if table.keys() != before.keys():
                for name in table.keys() - before.keys():
                    del table[name]
            if not before:
                continue  # as most tables of hooks are
            if changed := {name: value for name, value in before.items() if table.get(name, table) is not value}:
                table.update(changed)  # a dict that refuses to be changed has not been
        for now, then in self.lists:
            now[:] = then

    def stored(self) -> list[Tensor]:
        """Tensors that are where something else was, or nothing."""
        return [new for *_, changes in self._changes() for new in changes.values() if isinstance(new, Tensor)]

    def left(self) -> Callable[[], None]:
        """Puts there again what has been put there since, without the tensors that were beside it in a dict."""
        changes = [(kind, table, before, plain(new)) for kind, table, before, new in self._changes()]

        def put() -> None:
            for kind, table, before, new in changes:
                beside = [name for name, value in before.items() if kind == "entry" and isinstance(value, Tensor)]
                for name in beside:
                    table.pop(name, None)
                table.update(new)

        return put

    def _changes(self) -> Iterator[tuple[str, Table, Table, Table]]:
        for kind, _, table, before in self.tables:
            new = table and {n: value for n, value in table.items() if n not in before or before[n] is not value}
            if new:
                yield kind, table, before, new

    def replaced(self) -> Iterator[tuple[str, str, Tensor, object]]:
        """Tensors that are not where they were: what they are, their name, themselves, and what is there now."""
        for kind, path, table, before in self.tables:
            for name, tensor in before.items():
                if isinstance(tensor, Tensor) and table.get(name) is not tensor:
                    yield kind, f"{path}.{name}" if path else name, tensor, table.get(name)


def kept(root: nn.Module) -> Kept:
    """What the modules under `root` hold now, also in dicts and lists."""
    found: list[tuple[str, str, Table, Table]] = []
    lists: list[list[Any]] = []
    for path, module in root.named_modules():
        tables: dict[str, Table] = {"attribute": vars(module)} | {name: getattr(module, name, {}) for name in TABLES}
        found += [(KINDS.get(name, name), path, table, dict(table)) for name, table in tables.items()]
        own = [(f"{path}.{name}", value) for name, value in vars(module).items() if name not in TABLES]
        found += [("entry", name, value, dict(value)) for name, value in own if isinstance(value, dict)]
        lists += [value for _, value in own if isinstance(value, list)]
    return Kept(tuple(found), tuple((value, list(value)) for value in lists))


@dataclass(frozen=True)
class Replaced:
    """What forward has put in the place of tensors.

    written: {last step that writes one: the node that reads it}; dropped: what this run has not read; left: see Trace.
    """

    written: Mapping[str, str]
    dropped: Mapping[str, Tensor]
    left: Callable[[], None] | None = None


def record_replaced(tracer: Tracer, before: Kept) -> Replaced:
    """Record, as last steps, that what forward has put in the place of a tensor is written into it.

    An attribute that is no buffer counts where its tensor was read. Raises TraceError for what cannot be recorded.
    """
    written: dict[str, str] = {}
    dropped: dict[str, Tensor] = {}
    tables = _tables(tracer, before.stored()) if tracer.keeps else set[int]()
    for kind, name, old, new in before.replaced() if tracer.keeps else ():
        node = tracer.known(new) if isinstance(new, Tensor) else None
        where = next((n.where for n in tracer.nodes if n.name == node), "")
        at = f" at {where}" if where else ""
        if kind == "parameter":
            raise TraceError(f"forward replaces the parameter {name}{at}; netslim trains the one that is registered.")
        is_table = id(new) in tables and not _is_read(tracer.known(old), tracer.nodes)
        if kind in ("attribute", "entry") and (is_table or not tracer.known(old)):
            dropped[name] = old
            continue
        if is_table and isinstance(new, Tensor) and not _is_of_one_form(new, old, tracer):
            dropped[name] = old
            continue
        if not isinstance(new, Tensor) or (node is None and tracer.engine.produced(new)):
            raise TraceError(f"forward replaces {name} by what netslim cannot store{at}.")
        step = tracer.write(old, new, where)
        written[step] = tracer.known(old) or ""
    return Replaced(written, dropped, before.left() if tables else None)


def _tables(tracer: Tracer, stored: Iterable[Tensor]) -> set[int]:
    """Those that are worked out from sizes and numbers alone, so that every call on such sizes gives the same."""
    stored = list(stored)
    sources = _sources(Program(tuple(tracer.nodes))) if stored else {}
    return {id(tensor) for tensor in stored if _is_of_sizes(tensor, tracer, sources)}


def _is_of_sizes(tensor: Tensor, tracer: Tracer, sources: Mapping[str, Mapping[str, Node]]) -> bool:
    name = tracer.known(tensor)
    if name is None:
        return not tracer.engine.produced(tensor)
    found = sources.get(name, {name: Node(name, "param", name)})
    return all(node.op == "param" and LIFTED in node.target.split(".") for node in found.values())


def _is_of_one_form(new: Tensor, old: Tensor, tracer: Tracer) -> bool:
    with tracer.silenced():
        return (new.shape, new.dtype) == (old.shape, old.dtype)


def _is_read(name: str | None, nodes: Iterable[Node]) -> bool:
    """Whether a step reads the entries of a value."""
    return any(name in node.refs and name not in form_only(node) for node in nodes)


def settled(traced: Trace, replaced: Replaced) -> Trace:
    """The trace in which what is read of a replaced tensor is what it was when the call began.

    A constant that forward makes and then writes to is made anew in every call.
    """
    written = written_parameters(traced.program) if traced.made else {}
    made = {name for name, path in written.items() if path in traced.made}
    nodes: list[Node] = []
    copies: dict[str, str] = {}
    tensors = dict(traced.tensors)
    for node in traced.program:
        nodes.append(_reading(node, copies, 1 if node.name in replaced.written else 0))
        if node.name in made or node.name in replaced.written.values():
            copy = f"{node.name}_before"
            copies[node.name], tensors[copy] = copy, tensors[node.name]
            nodes.append(Node(copy, "call", COPY, (Ref(node.name),), grad=False))
    used = {name for node in nodes for name in node.refs}
    idle = set(copies.values()) - used
    return replace(
        traced,
        program=Program(tuple(n for n in nodes if n.name not in idle)),
        tensors=tensors,
        dropped=replaced.dropped,
        left=replaced.left,
    )


def _reading(node: Node, copies: Mapping[str, str], but: int) -> Node:
    """The node reading copies, but for its first arguments."""

    def put(leaf: Leaf) -> Leaf:
        return Ref(copies[leaf.name]) if isinstance(leaf, Ref) and leaf.name in copies else leaf

    if not any(name in copies for name in node.refs):
        return node
    args = (*node.args[:but], *map_leaves(put, node.args[but:]))
    return replace(node, args=args, kwargs=map_leaves(put, node.kwargs))


def require_decidable(traces: Iterable[Trace], constants: Mapping[str, Tensor]) -> None:
    """Raises TraceError where Python has read values of an input, or of a buffer that forward, in either mode, changes.

    Also where one mode replaces a plain attribute that only the other one reads.
    """
    traces = tuple(traces)
    changed = _changed(traces) if any(traced.decided for traced in traces) else frozenset()
    for traced in traces:
        for source, line in _decisions(traced):
            at = f" at {line}" if line else ""
            if source.op == "input":
                raise TraceError(
                    f"forward decides by the values of {source.target!r}{at}; "
                    "netslim follows forward once and cannot tell what it would do on others."
                )
            if source.target in changed and LIFTED not in source.target.split("."):
                raise TraceError(
                    f"forward decides by the value of {source.target}{at}, and changes that value itself; "
                    "netslim follows forward once and cannot tell what it would do at another call."
                )
        for name, tensor in traced.dropped.items():
            paths = {name, *(path for path, constant in constants.items() if constant is tensor)}
            if any(_is_read(n.name, t.program) for t in traces for n in t.program if n.target in paths):
                raise TraceError(
                    f"forward keeps a tensor in {name} in one mode and reads it in the other; register it as a buffer "
                    f"(self.register_buffer({name.rpartition('.')[2]!r}, ...)), so that it is part of the network."
                )


def _changed(traces: Iterable[Trace]) -> frozenset[str]:
    """Parameters and buffers that forward writes to in one of the modes."""
    return frozenset(path for traced in traces for path in written_parameters(traced.program).values())


def _decisions(traced: Trace) -> Iterator[tuple[Node, str]]:
    """Inputs, parameters and buffers on whose values Python has acted, with the lines."""
    if not traced.decided:
        return
    by_path = {node.target: node.name for node in traced.program if node.op == "param"}
    above = _sources(traced.program)
    for name, line in traced.decided:  # a path where nothing else has used the tensor
        sources = above.get(by_path.get(name, name), {name: Node(name, "param", name)})
        yield from ((source, line) for source in sources.values())


def _sources(program: Program) -> dict[str, dict[str, Node]]:
    """By value: what its entries come from, what is written to it included: inputs, parameters, layers and draws."""
    above: dict[str, dict[str, Node]] = {}
    memory = followed(program)
    for node in program:
        starts = node.op in ("input", "param", "module") or (node.op == "call" and draws(node.target))
        found = {node.name: node} if starts else {}
        for name in {*node.refs} - form_only(node):
            for owner in (name, *memory.owners[name]):
                found |= above[owner]
        above[node.name] = found
        for owner in memory.writes.get(node.name, ()):
            above[owner] = above[owner] | found
    return above
