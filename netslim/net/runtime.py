"""What a converted network knows and does beside its modules: its plan, the sub-network that it is at, its functions.

One object, held under a key that no child, parameter or buffer can have; the package reaches it through `runtime`.
"""

from __future__ import annotations

import contextlib
import copy
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TypedDict, TypeVar

from torch import Tensor, nn
from torch._ops import OpOverloadPacket

from netslim.analysis.overrides import Overrides
from netslim.ir.plan import Plan
from netslim.ir.plan_checks import check_plan
from netslim.ir.proof import Proof
from netslim.ir.transform import Further, by_block, continued_plan
from netslim.layouts.engine import Operator, Rule
from netslim.net.region import RegionForward, Run, compiled
from netslim.net.sharding import passed, require_unsharded
from netslim.net.subnet import Point, Resolver
from netslim.net.tree import SlimLayer, Table, is_slim, walk
from netslim.net.turns import Turns
from netslim.ops import RULES
from netslim.trace.meta import at

T = TypeVar("T")

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
    run: Run | None  # the root's functions, unless the shell runs
    full: Point
    turns: Turns[Point]
    points: dict[object, tuple[int, Point]]  # of the open contexts, with their threads, as they were opened
    steps: dict[object, tuple[tuple[str, Further], ...]]  # likewise: what follows blocks

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
        self.root, self.points, self.steps = root, {}, {}
        self.layers = {path: m for path, m in walk(root) if is_slim(m) and first[id(m)] == path}
        names = {p: {a: f"{p}.{a}" for a in [*m._parameters, *m._buffers]} for p, m in self.layers.items()}
        self.resolver = Resolver(self.plan, names, _tables(root))
        self.regions = {path: at(root, path) for path in self.plan.regions if path}
        self.passed = passed(self.plan, root)
        self.full, self.turns = self.resolver.full(), Turns(self._move, self._idle)
        self.turns.at = self.full
        self.compile()

    def rebuilt(self, plan: Plan) -> None:
        """Go on by another plan of the same modules. Raises PlanError where it is none of theirs."""
        self.plan = plan
        self.ready(self.root)

    def compile(self) -> None:
        """Let the regions run their programs, with the steps that follow blocks."""
        steps, functions = by_block(step for opened in self.steps.values() for step in opened)
        plan = self.plan
        regions, blocks = continued_plan(plan, steps) if steps else (plan.regions, plan.blocks)
        self.run = compiled(regions[""], "", self.root, blocks, functions, self.turns) if "" in regions else None
        for path, module in self.regions.items():
            run = compiled(regions[path], path, module, blocks, functions, self.turns)
            module.__dict__["forward"] = RegionForward(module, path, plan, run)
        self._move(self.point)

    @property
    def point(self) -> Point:
        """Where the layers are now."""
        return self.turns.at

    @property
    def mine(self) -> Point:
        """Of the contexts that this thread has open, the one that was opened last; else full width."""
        me = threading.get_ident()
        return next((point for thread, point in reversed(list(self.points.values())) if thread == me), self.full)

    def _idle(self) -> Point:
        """That of the context that was opened last and is still open, whichever thread's; else full width."""
        return next((point for _, point in reversed(list(self.points.values()))), self.full)

    def _move(self, point: Point) -> None:
        for path, layer in self.layers.items():
            vars(layer)["kept"] = None if point.layers is None else point.layers[path]
        for module in self.regions.values():
            module.__dict__["forward"].point = point

    def at_point(self, point: Point) -> contextlib.AbstractContextManager[None]:
        """Run at `point` inside, in this thread."""
        return _open(self.points, (threading.get_ident(), point), self.turns.settle)

    @contextlib.contextmanager
    def parts(self) -> Iterator[nn.Module]:
        """The module that is called, for those who call modules below it: inside, these run where the network would.

        Raises InputError where the network, or what its programs go through, is sharded.
        """
        require_unsharded([self.root, *self.passed])
        with self.turns(self.mine):
            self.top.training = self.root.training
            yield self.top

    def continued(self, steps: tuple[tuple[str, Further], ...]) -> contextlib.AbstractContextManager[None]:
        """Run with a further step after each of these blocks, beside those of other open contexts."""
        return _open(self.steps, steps, self.compile) if steps else contextlib.nullcontext()

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


@contextlib.contextmanager
def _open(opened: dict[object, T], value: T, change: Callable[[], None]) -> Iterator[None]:
    """With `value` among the opened ones; contexts may close in any order."""
    key = object()
    opened[key] = value
    try:
        change()
        yield
    finally:
        del opened[key]
        change()


def _spelt(name: Operator) -> Operator:
    """An operator by name, where it is all its overloads, since torch's objects for them cannot be pickled."""
    return name._qualified_op_name if isinstance(name, OpOverloadPacket) else name
