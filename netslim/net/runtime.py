"""What a converted network knows and does beside its modules: its plan, the sub-network that it is at, its functions.

One object, held under a key that no child, parameter or buffer can have; the package reaches it through `runtime`.
"""

from __future__ import annotations

import contextlib
import copy
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypedDict

from torch import Tensor, nn
from torch._ops import OpOverloadPacket

from netslim.analysis.overrides import Overrides
from netslim.ir.plan import Plan
from netslim.ir.plan_checks import check_plan
from netslim.ir.proof import Proof
from netslim.ir.transform import Further, by_block, continued_plan
from netslim.layouts.engine import Operator, Rule
from netslim.net.pieces import Pieces
from netslim.net.region import RegionForward, Run, compiled
from netslim.net.sharding import passed, require_unsharded
from netslim.net.subnet import Point, Resolver
from netslim.net.tree import SlimLayer, Table, is_slim, walk
from netslim.net.turns import Turns
from netslim.ops import RULES
from netslim.trace.meta import at

KEY = "netslim.runtime"
"""A name with a dot, which torch allows for no child, parameter or buffer."""


def runtime(net: nn.Module) -> Runtime:
    """The runtime of a converted network."""
    found: Runtime = net.__dict__[KEY]
    return found


def named_tensors(net: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers under all their names."""
    parameters = dict(net.named_parameters(remove_duplicate=False))
    return parameters | dict(net.named_buffers(remove_duplicate=False))


class State(TypedDict):
    """What is stored of a runtime; rules: by name, those that not every network has."""

    plan: Plan
    shell: nn.Module | None
    proof: Proof | None
    rules: Mapping[Operator, Rule]


Steps = tuple[tuple[str, Further], ...]
"""What follows blocks, by their names."""


@dataclass(eq=False)
class Functions:
    """What the programs are compiled into: the root's, unless the shell runs, and those of the regions by path."""

    root: Run | None = None
    regions: dict[str, Run] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Setting:
    """What a thread runs: a sub-network, by functions that have further steps in them or not."""

    point: Point
    functions: Functions

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Setting) and self.point is other.point and self.functions is other.functions

    def __hash__(self) -> int:
        return hash((id(self.point), id(self.functions)))


@dataclass(frozen=True, eq=False)
class Opened:
    """An open context: whose it is, and the point or the steps that it is for."""

    thread: int
    point: Point | None = None
    steps: Steps = ()


class Runtime:
    """Runs the modules below `root` by the plan.

    plan, proof, rules and shell are stored; all else is worked out from them and the modules by `ready`.
    shell: the original's own module, where its forward could not be followed as a whole.
    """

    root: nn.Module
    layers: dict[str, SlimLayer]  # slim layers by path, each once
    regions: dict[str, nn.Module]  # modules below the root that run a program
    passed: list[nn.Module]  # modules that programs go through without calling them
    resolver: Resolver
    full: Point
    plain: Functions  # without further steps
    turns: Turns[Setting]
    opened: dict[object, Opened]  # the open contexts, as they were opened
    functions: dict[int, Functions]  # by thread, of those that have contexts with steps open
    pieces: Pieces | None = None  # what training mode runs compiled; a copy runs without

    def __init__(self, plan: Plan, shell: nn.Module | None = None) -> None:
        self.plan, self.shell = plan, shell
        self.proof: Proof | None = None
        self.rules: Mapping[Operator, Rule] = RULES

    @property
    def top(self) -> nn.Module:
        """The module that is called: the shell, where there is one."""
        return self.root if self.shell is None else self.shell

    def ready(self, root: nn.Module) -> None:
        """Work everything out for these modules. Raises PlanError where the plan is none of theirs."""
        check_plan(self.plan, {"": root, **dict(walk(root))}, named_tensors(root))
        first = {id(m): path for path, m in reversed(list(walk(root)))}
        self.root, self.opened, self.functions = root, {}, {}
        self.layers = {path: m for path, m in walk(root) if is_slim(m) and first[id(m)] == path}
        names = {p: {a: f"{p}.{a}" for a in [*m._parameters, *m._buffers]} for p, m in self.layers.items()}
        self.resolver = Resolver(self.plan, names, _tables(root))
        self.regions = {path: at(root, path) for path in self.plan.regions if path}
        self.passed = passed(self.plan, root)
        for path, module in self.regions.items():
            module.__dict__["forward"] = RegionForward(module, path, self.plan)
        self.full, self.turns = self.resolver.full(), Turns(self._move, self._idle)
        self.plain = self._compiled(())
        self.turns.settle()

    def in_pieces(self, pieces: Pieces | None) -> None:
        """Run by pieces in training mode from now on, or without them. No context may be open."""
        self.pieces = pieces
        self.ready(self.root)

    def rebuilt(self, plan: Plan) -> None:
        """Go on by another plan of the same modules. Raises PlanError where it is none of theirs."""
        self.plan = plan
        self.ready(self.root)

    def _compiled(self, further: Steps) -> Functions:
        """The functions of the programs with these steps in them."""
        steps, through = by_block(further)
        plan, made = self.plan, Functions()
        regions, blocks = continued_plan(plan, steps) if steps else (plan.regions, plan.blocks)

        def at(point: Point) -> contextlib.AbstractContextManager[None]:
            return self.turns(Setting(point, made))

        made.root = compiled(regions[""], "", self.root, blocks, through, at, self.pieces) if "" in regions else None
        for path, module in self.regions.items():
            made.regions[path] = compiled(regions[path], path, module, blocks, through, at, self.pieces)
        return made

    @property
    def point(self) -> Point:
        """Where the layers are now."""
        return self.turns.at.point

    @property
    def run(self) -> Run | None:
        """The root's functions now, unless the shell runs."""
        return self.turns.at.functions.root

    @property
    def mine(self) -> Setting:
        """What this thread's open contexts are for: the point of the last one that has one, the steps of all."""
        return self._of(threading.get_ident())

    def _of(self, thread: int) -> Setting:
        points = (opened.point for opened in reversed(list(self.opened.values())) if opened.thread == thread)
        point = next((point for point in points if point is not None), self.full)
        return Setting(point, self.functions.get(thread, self.plain))

    def _idle(self) -> Setting:
        """That of the thread which opened the last context that is still open; else the full width."""
        last = next(reversed(list(self.opened.values())), None)
        return Setting(self.full, self.plain) if last is None else self._of(last.thread)

    def _move(self, setting: Setting) -> None:
        for path, layer in self.layers.items():
            vars(layer)["kept"] = None if setting.point.layers is None else setting.point.layers[path]
        for path, module in self.regions.items():
            forward: RegionForward = module.__dict__["forward"]
            forward.point, forward.run = setting.point, setting.functions.regions[path]

    def at_point(self, point: Point) -> contextlib.AbstractContextManager[None]:
        """Run at `point` inside, in this thread."""
        return self._open(Opened(threading.get_ident(), point))

    def continued(self, steps: Steps) -> contextlib.AbstractContextManager[None]:
        """Run with a further step after each of these blocks, in this thread, beside those of its open contexts."""
        return self._open(Opened(threading.get_ident(), steps=steps)) if steps else contextlib.nullcontext()

    @contextlib.contextmanager
    def _open(self, context: Opened) -> Iterator[None]:
        """With a context among the opened ones; they may close in any order, and in another thread."""
        key = object()
        self.opened[key] = context
        try:
            self._changed(context)
            yield
        finally:
            del self.opened[key]
            self._changed(context)

    def _changed(self, context: Opened) -> None:
        with self.turns.changed:
            if context.steps:
                every = [opened.steps for opened in list(self.opened.values()) if opened.thread == context.thread]
                steps = tuple(step for opened in every for step in opened)
                self.functions[context.thread] = self._compiled(steps) if steps else self.plain
            if all(opened.thread != context.thread for opened in list(self.opened.values())):
                self.functions.pop(context.thread, None)
            self.turns.settle()

    @contextlib.contextmanager
    def parts(self) -> Iterator[nn.Module]:
        """The module that is called, for those who call modules below it: inside, these run where the network would.

        Raises InputError where the network, or what its programs go through, is sharded.
        """
        require_unsharded([self.root, *self.passed])
        with self.turns(self.mine):
            self.top.training = self.root.training
            yield self.top

    # -- copies

    def __deepcopy__(self, memo: dict[int, object]) -> Runtime:
        made = Runtime(self.plan, copy.deepcopy(self.shell, memo))
        made.proof, made.rules = self.proof, self.rules
        return made

    def __getstate__(self) -> State:
        """Without what is worked out, and without the rules that every network has."""
        own: dict[Operator, Rule] = {
            _spelt(name): rule for name, rule in self.rules.items() if RULES.get(name) is not rule
        }
        return {"plan": self.plan, "shell": self.shell, "proof": self.proof, "rules": own}

    def __setstate__(self, state: State) -> None:
        self.__dict__.update(state)
        self.rules = Overrides(rules=state["rules"]).all_rules if state["rules"] else RULES


def _tables(root: nn.Module) -> dict[str, Table]:
    """The table that holds each parameter and buffer, by the tensor's name."""
    found: dict[str, Table] = {}
    for path, module in [("", root), *walk(root)]:
        for table in (module._buffers, module._parameters):
            found |= dict.fromkeys((f"{path}.{name}" if path else name for name in table), table)
    return found


def _spelt(name: Operator) -> Operator:
    """An operator by name, where it is all its overloads, since torch's objects for them cannot be pickled."""
    return name._qualified_op_name if isinstance(name, OpOverloadPacket) else name
