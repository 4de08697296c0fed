"""The converted network: an ordinary module that can run, extract and restore its sub-networks.

Its parameters carry the original names, its containers are plain (`Tree`, Sequential, ModuleList), its leaf modules
are torch's own classes that also run on a part of their weights; its forward is printed from the plan's program.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from netslim.errors import InputError
from netslim.ir.answers import Why
from netslim.ir.plan import Block, Frozen, Group, Plan
from netslim.ir.program import LIFTED
from netslim.ir.proof import Proof
from netslim.ir.transform import Further, scaling
from netslim.layouts.axes import Runs, count, positions
from netslim.layouts.engine import Operator, Rule
from netslim.net.region import Run, flattened
from netslim.net.runtime import KEY, Runtime, named_tensors, runtime
from netslim.net.sharding import gathered
from netslim.net.subnet import IndexSets, Point, Ranking, Width, keep_counts, kept_channels, running
from netslim.net.summary import Groups, html, text
from netslim.net.tree import Namesake, beside, lift
from netslim.source.sharded import unsharded, whole
from netslim.source.wrapped import unwrapped
from netslim.trace.meta import at

if TYPE_CHECKING:
    import networkx as nx


class SlimNet(nn.Module):
    """A network that can run at any width. At full width it is the original, bit for bit.

    `state_dict` has the original's keys. Made by `netslim.convert` and `netslim.load`.
    """

    def __init__(self, plan: Plan, tree: nn.Module, constants: Mapping[str, Tensor]) -> None:
        """tree: the modules (`tree.slim_tree`, or `tree.shell_tree` where forward could not be followed)."""
        super().__init__()
        for table in ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"):
            self.__dict__[table] = tree.__dict__[table]
        for path, tensor in constants.items():
            lift(self, path, tensor)
        self.__dict__[KEY] = Runtime(plan, tree if plan.whole is None else None)
        self._ready()

    def _ready(self) -> None:
        runtime(self).ready(self)
        for name in self._modules:
            if inspect.isroutine(inspect.getattr_static(type(self), name, None)):
                self.__dict__[name] = beside(self, name, getattr(self, name))

    # -- running

    def forward(self, *args: object, **kwargs: object) -> Any:
        """The original's forward, at the width of the `sub()` context it runs in."""
        held: Runtime = self.__dict__[KEY]
        if torch.compiler.is_compiling():  # for one thread: that of the context that is open
            return self._run(held, held.run, held.point, args, kwargs)
        mine = held.mine
        with held.turns(mine), gathered(held.passed, self):
            return self._run(held, mine.functions.root, mine.point, args, kwargs)

    def _run(
        self, held: Runtime, run: Run | None, point: Point, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> Any:
        if run is None:
            held.shell.training = self.training  # type: ignore[union-attr]
            return held.shell(*args, **kwargs)  # type: ignore[misc]
        return run[self.training](self, point, *flattened(held.plan.regions[""], args, kwargs))

    @contextlib.contextmanager
    def sub(
        self,
        width: Width = 1.0,
        depth: Mapping[str, bool] | None = None,
        *,
        round_to: int | None = None,
        ranking: Ranking | None = None,
        track_running_stats: bool = False,
    ) -> Iterator[SlimNet]:
        """Run as a sub-network inside the context; nothing stays changed on exit.

        It is this thread's: others run at their own widths meanwhile, and wait for each other where these differ. Of
        several open contexts, in whatever order they close, the one that was opened last counts.
        width: a ratio in (0, 1] or {group: count or ratio}. depth: {block: False} skips a block. round_to: kept counts
        are multiples of it. ranking: {group: order of its channels}, the first of which are kept. In training mode
        batch norm uses batch statistics, and running ones change only with `track_running_stats`.
        Raises SubnetError for a width, group or block that this network does not have.
        """
        held = runtime(self)
        run = running(held.plan, depth)
        with held.at_point(held.resolver.point(self._chosen(width, round_to, ranking), track_running_stats, run)):
            yield self

    @contextlib.contextmanager
    def scaled(self, factors: Mapping[str, float]) -> Iterator[SlimNet]:
        """Run with the results of blocks multiplied by factors ({block: factor}); nothing stays changed on exit.

        As with `sub`, it is this thread's, and contexts may close in any order; all that are open act.
        Stochastic depth (Huang et al., 2016) evaluates so: a residual is scaled by the probability that it was kept.
        Raises SubnetError for an unknown block.
        """
        with self._continued({name: scaling(factor) for name, factor in factors.items()}):
            yield self

    @contextlib.contextmanager
    def through(self, functions: Mapping[str, Callable[[Tensor], Tensor]]) -> Iterator[SlimNet]:
        """Run with the results of blocks passed through functions ({block: function}); nothing stays changed on exit.

        It is this thread's, as `scaled` is. What a block adds to its shortcut goes through its function first, in
        `sub()` too; a skipped block's gets nothing, or the zeros that stand for its features. A copy made inside has
        none. Raises as `scaled` does.
        """
        with self._continued(functions):
            yield self

    def _continued(self, more: Mapping[str, Further]) -> contextlib.AbstractContextManager[None]:
        running(runtime(self).plan, dict.fromkeys(more, True))
        return runtime(self).continued(tuple(more.items()))

    def _chosen(self, width: Width, round_to: int | None, ranking: Ranking | None) -> tuple[Runs, ...]:
        plan = runtime(self).plan
        return kept_channels(plan, keep_counts(plan, width, round_to), ranking)

    # -- questions

    @property
    def plan(self) -> Plan:
        """What was found out about the original: programs, layouts, groups, blocks."""
        return beside(self, "plan", runtime(self).plan)

    @property
    def proof(self) -> Proof | None:
        """The proof of its conversion, if there was one."""
        return beside(self, "proof", runtime(self).proof)

    @property
    def rules(self) -> Mapping[Operator, Rule]:
        """The operator rules that it was converted under."""
        return beside(self, "rules", runtime(self).rules)

    @property
    def groups(self) -> tuple[Group, ...]:
        """The elastic axes, in the order in which the program meets them; a notebook shows them as a table."""
        return beside(self, "groups", Groups(runtime(self).plan.groups))

    @property
    def frozen(self) -> tuple[Frozen, ...]:
        """What stays at full width, and why."""
        return beside(self, "frozen", runtime(self).plan.frozen)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The residual bodies that can be skipped."""
        return beside(self, "blocks", runtime(self).plan.blocks)

    @property
    def input_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of the example inputs, with the batch dimension."""
        return beside(self, "input_shapes", runtime(self).plan.input_shapes)

    def kept(
        self, width: Width = 1.0, *, round_to: int | None = None, ranking: Ranking | None = None
    ) -> dict[str, tuple[Tensor, ...]]:
        """What each parameter and buffer keeps: {name: one 1-d LongTensor of indices per dim}."""
        sets = IndexSets(dict(enumerate(self._chosen(width, round_to, ranking))))
        kept = {}
        for name, tensor in named_tensors(self).items():
            if LIFTED in name.split("."):
                continue  # constants of forward have no names in the model
            dims = runtime(self).plan.layouts.get(name)
            indices = [range(n) for n in tensor.shape] if dims is None else [positions(sets.of(d)) for d in dims]
            kept[name] = tuple(torch.tensor(list(i), dtype=torch.long) for i in indices)
        return kept

    def kept_shapes(self, width: Width = 1.0, *, round_to: int | None = None) -> dict[str, tuple[int, ...]]:
        """The shape of each used parameter and buffer in a sub-network."""
        sets = IndexSets(dict(enumerate(self._chosen(width, round_to, None))))
        layouts = {n: dims for n, dims in runtime(self).plan.layouts.items() if LIFTED not in n.split(".")}
        return {name: tuple(count(sets.of(d)) for d in dims) for name, dims in layouts.items()}

    def graph(self) -> nx.Graph:
        """Groups as nodes (size, n_slots); two groups that meet in a parameter are joined (params)."""
        from netslim.net.graph import group_graph

        return group_graph(runtime(self).plan)

    def why(self, name: str, other: str | None = None) -> Why:
        """What ties or froze the dimensions of a name: the operators and lines of the model; `str()` of it is text.

        name: a parameter or buffer, one dimension of it (fc.weight.1), a module (all its parameters) or a group. With
        `other`, the chain of operators between the two. Raises SubnetError for an unknown name.
        """
        from netslim.net.names import asked

        return asked(self, name, other)

    # -- plain networks

    def extract(
        self,
        width: Width = 1.0,
        depth: Mapping[str, bool] | None = None,
        *,
        round_to: int | None = None,
        ranking: Ranking | None = None,
    ) -> nn.Module:
        """The sub-network as a plain module with smaller layers and no netslim in it: torch alone opens what it saves.

        It follows `train()` and `eval()` as the original does. Its forward is printed source, in which every size is a
        number; arguments other than the example's that are no tensors raise TypeError.
        """
        from netslim.net.extract import extract

        run = running(runtime(self).plan, depth)
        return extract(unsharded(self), runtime(self).resolver.point(self._chosen(width, round_to, ranking), True, run))

    def original_state_dict(self) -> dict[str, Tensor]:
        """The full network's weights under the original model's keys, detached.

        Of a network that fully_shard has spread every process calls this, as it does `extract` and `restore`.
        """
        return {name: whole(tensor.detach()) for name, tensor in self.state_dict().items()}

    def restore(self, model: nn.Module) -> nn.Module:
        """Write the trained weights back into the original model, in place. Raises InputError on another model."""
        try:
            unwrapped(model).load_state_dict(self.original_state_dict())
        except RuntimeError as error:
            first = str(error).strip().split("\n")[-1].strip()
            raise InputError(f"{type(model).__name__} is not the model that was converted: {first}") from error
        return model

    # -- being an ordinary module

    def get_submodule(self, target: str) -> nn.Module:
        """As for any module, whatever a child is called."""
        try:
            return at(self, target)
        except KeyError:
            return super().get_submodule(target)

    def get_parameter(self, target: str) -> nn.Parameter:
        """As for any module, whatever a parameter is called."""
        path, _, name = target.rpartition(".")
        found = self.get_submodule(path)._parameters.get(name)
        return super().get_parameter(target) if found is None else found

    def get_buffer(self, target: str) -> Tensor:
        """As for any module, whatever a buffer is called."""
        path, _, name = target.rpartition(".")
        found = self.get_submodule(path)._buffers.get(name)
        return super().get_buffer(target) if found is None else found

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if not isinstance(value, Namesake)}

    def __setstate__(self, state: dict[str, object]) -> None:
        super().__setstate__(state)
        self._ready()

    def __repr__(self) -> str:
        return text(runtime(self).plan, runtime(self).proof)

    def _repr_html_(self) -> str:
        return html(runtime(self).plan, runtime(self).proof)
