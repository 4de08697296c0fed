"""The converted network: an ordinary module that can run, extract and restore its sub-networks.

Its parameters carry the original names, its containers are plain (`Tree`, Sequential, ModuleList), its leaf modules
are torch's own classes that also run on a part of their weights; its forward is printed from the plan's program.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from netslim.errors import InputError, SubnetError, did_you_mean
from netslim.ir.plan import Block, Frozen, Group, Plan, why
from netslim.ir.plan_checks import check_plan
from netslim.ir.transform import Further, by_block, followed_plan, scaling
from netslim.layouts.axes import count, positions
from netslim.layouts.engine import Rule
from netslim.net.region import Followed, Run, compiled, flattened
from netslim.net.subnet import IndexSets, Point, Ranking, Resolver, Width, keep_counts, kept_channels, running
from netslim.net.tree import Shadow, lift, walk
from netslim.ops import RULES
from netslim.trace.meta import at

if TYPE_CHECKING:
    import networkx as nx

    from netslim.ir.proof import Proof


class SlimNet(nn.Module):
    """A network that can run at any width. At full width it is the original, bit for bit.

    `state_dict` has the original's keys. Made by `netslim.convert` and `netslim.load`.
    """

    plan: Plan
    proof: Proof | None
    rules: Mapping[Any, Rule] = RULES
    _point: Point
    _resolver: Resolver
    _leaves: dict[str, nn.Module]
    _regions: dict[str, nn.Module]
    _run: Run | None
    _steps: tuple[tuple[str, Further], ...]
    _shell: nn.Module

    def __init__(self, plan: Plan, tree: nn.Module, constants: Mapping[str, Tensor]) -> None:
        """tree: the modules (`tree.plain_tree`, or `tree.shell_tree` where forward could not be followed)."""
        super().__init__()
        self.plan, self.proof = plan, None
        for table in ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"):
            self.__dict__[table] = tree.__dict__[table]
        if plan.whole is None:
            self.__dict__["_shell"] = tree
        for path, tensor in constants.items():
            lift(self, path, tensor)
        self._ready()

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("plan", "proof", "rules"):  # also where a child has that name
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def _ready(self) -> None:
        """Everything that is worked out from the plan and the modules, and so is never stored.

        Raises PlanError where the plan is none of these modules.
        """
        check_plan(self.plan, {"": self, **dict(walk(self))}, self._tensors())
        first = {id(m): path for path, m in reversed(list(walk(self)))}
        leaves = {path: m for path, m in walk(self) if hasattr(type(m), "kept") and first[id(m)] == path}
        names = {p: {a: f"{p}.{a}" for a in [*m._parameters, *m._buffers]} for p, m in leaves.items()}
        self.__dict__["_leaves"] = leaves
        self.__dict__["_resolver"] = Resolver(self.plan, names)
        self.__dict__["_regions"] = {path: at(self, path) for path in self.plan.regions if path}
        self.__dict__["_steps"] = ()
        self._compile()
        self._enter(self._resolver.full())

    def _tensors(self) -> dict[str, Tensor]:
        parameters = dict(self.named_parameters(remove_duplicate=False))
        return parameters | dict(self.named_buffers(remove_duplicate=False))

    def _compile(self) -> None:
        """Let the regions run their programs, with the steps that follow blocks."""
        steps, functions = by_block(self._steps)
        regions, blocks = followed_plan(self.plan, steps) if steps else (self.plan.regions, self.plan.blocks)
        self.__dict__["_run"] = compiled(regions[""], "", self, blocks, functions) if "" in regions else None
        for path, module in self._regions.items():
            run = compiled(regions[path], path, self, blocks, functions)
            module.__dict__["forward"] = Followed(module, regions[path], run)

    # -- running

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The original's forward, at the width of the `sub()` context it runs in."""
        if self._run is None:
            self._shell.training = self.training
            return self._shell(*args, **kwargs)
        run, region = self._run[self.training], self.plan.regions[""]
        return run(self, *flattened(region, args, kwargs))

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

        width: a ratio in (0, 1] or {group: count or ratio}. depth: {block: False} skips a block. round_to: kept counts
        are multiples of it. ranking: {group: order of its channels}, the first of which are kept. In training mode
        batch norm uses batch statistics, and running ones change only with `track_running_stats`.
        Raises SubnetError for a width, group or block that this network does not have.
        """
        before, run = self._point, running(self.plan, depth)
        self._enter(self._resolver.point(self._chosen(width, round_to, ranking), track_running_stats, run))
        try:
            yield self
        finally:
            self._enter(before)

    @contextlib.contextmanager
    def scaled(self, factors: Mapping[str, float]) -> Iterator[SlimNet]:
        """Run with the results of blocks multiplied by factors ({block: factor}); nothing stays changed on exit.

        Stochastic depth (Huang et al., 2016) evaluates so: a residual is scaled by the probability that it was kept.
        Raises SubnetError for an unknown block.
        """
        with self._followed({name: scaling(factor) for name, factor in factors.items()}):
            yield self

    @contextlib.contextmanager
    def through(self, functions: Mapping[str, Callable[[Tensor], Tensor]]) -> Iterator[SlimNet]:
        """Run with the results of blocks passed through functions ({block: function}); nothing stays changed on exit.

        What a block adds to its shortcut goes through its function first, in `sub()` too; a skipped block's gets
        nothing, or the zeros that stand for its features. A copy made inside has none. Raises as `scaled` does.
        """
        with self._followed(functions):
            yield self

    @contextlib.contextmanager
    def _followed(self, more: Mapping[str, Further]) -> Iterator[None]:
        """With a further step after each of these blocks, beside those of contexts around this one."""
        if not more:
            yield
            return
        running(self.plan, dict.fromkeys(more, True))
        before, point = self._steps, self._point
        self.__dict__["_steps"] = (*before, *more.items())
        self._compile()
        self._enter(point)
        try:
            yield
        finally:
            self.__dict__["_steps"] = before
            self._compile()
            self._enter(point)

    def _chosen(self, width: Width, round_to: int | None, ranking: Ranking | None) -> Any:
        return kept_channels(self.plan, keep_counts(self.plan, width, round_to), ranking)

    def _enter(self, point: Point) -> None:
        self.__dict__["_point"] = point
        for path, leaf in self._leaves.items():
            leaf.__dict__["kept"] = None if point.leaves is None else point.leaves[path]
        for module in self._regions.values():
            module.__dict__["_point"] = point

    # -- questions

    @property
    def groups(self) -> tuple[Group, ...]:
        """The elastic axes, in the order in which the program meets them."""
        return self._listed("groups", self.plan.groups)

    @property
    def frozen(self) -> tuple[Frozen, ...]:
        """What stays at full width, and why."""
        return self.plan.frozen

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The residual bodies that can be skipped."""
        return self._listed("blocks", self.plan.blocks)

    def _listed(self, name: str, items: tuple[Any, ...]) -> Any:
        child = self._modules.get(name)
        return items if child is None else Shadow(child, items)

    @property
    def input_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of the example inputs, with the batch dimension."""
        return self.plan.input_shapes

    def kept(
        self, width: Width = 1.0, *, round_to: int | None = None, ranking: Ranking | None = None
    ) -> dict[str, tuple[Tensor, ...]]:
        """What each parameter and buffer keeps: {name: one 1-d LongTensor of indices per dim}."""
        sets = IndexSets(dict(enumerate(self._chosen(width, round_to, ranking))))
        kept = {}
        for name, tensor in [
            *self.named_parameters(remove_duplicate=False),
            *self.named_buffers(remove_duplicate=False),
        ]:
            dims = self.plan.layouts.get(name)
            indices = [range(n) for n in tensor.shape] if dims is None else [positions(sets.of(d)) for d in dims]
            kept[name] = tuple(torch.tensor(list(i), dtype=torch.long) for i in indices)
        return kept

    def kept_shapes(self, width: Width = 1.0, *, round_to: int | None = None) -> dict[str, tuple[int, ...]]:
        """The shape of each used parameter and buffer in a sub-network."""
        sets = IndexSets(dict(enumerate(self._chosen(width, round_to, None))))
        return {name: tuple(count(sets.of(d)) for d in dims) for name, dims in self.plan.layouts.items()}

    def graph(self) -> nx.Graph:
        """Groups as nodes (size, n_slots); two groups that meet in a parameter are joined (params)."""
        from netslim.net.graph import group_graph

        return group_graph(self.plan)

    def why(self, name: str) -> str:
        """Why the dims of a parameter are tied or frozen, a line per dim. Raises SubnetError for an unknown name."""
        if name not in self.plan.layouts:
            known = self.state_dict().keys()
            if name in known:
                return f"{name}: frozen: never used by forward"
            raise SubnetError(f"this network has no parameter {name!r}{did_you_mean(name, known)}")
        return why(self.plan, name)

    # -- plain networks

    def extract(
        self,
        width: Width = 1.0,
        depth: Mapping[str, bool] | None = None,
        *,
        round_to: int | None = None,
        ranking: Ranking | None = None,
    ) -> nn.Module:
        """The sub-network as a plain `torch.fx.GraphModule` with smaller layers and no netslim in it.

        Where the original runs differently in training (auxiliary heads), the result is the form of the present mode.
        """
        from netslim.net.extract import extract

        run = running(self.plan, depth)
        return extract(self, self._resolver.point(self._chosen(width, round_to, ranking), True, run))

    def original_state_dict(self) -> dict[str, Tensor]:
        """The full network's weights under the original model's keys, detached."""
        return {name: tensor.detach() for name, tensor in self.state_dict().items()}

    def restore(self, model: nn.Module) -> nn.Module:
        """Write the trained weights back into the original model, in place. Raises InputError on another model."""
        try:
            model.load_state_dict(self.original_state_dict())
        except RuntimeError as error:
            first = str(error).strip().split("\n")[-1].strip()
            raise InputError(f"{type(model).__name__} is not the model that was converted: {first}") from error
        return model

    # -- being an ordinary module

    def get_submodule(self, target: str) -> nn.Module:
        """As for any module, also where a child is called like a property of SlimNet (`blocks`, `groups`)."""
        head, _, rest = target.partition(".")
        child = self._modules.get(head)
        return super().get_submodule(target) if child is None else child.get_submodule(rest) if rest else child

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        for name in ("_run", "_regions", "_leaves", "_resolver", "_point", "_steps"):
            state.pop(name, None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for module in self.modules():
            if hasattr(type(module), "kept"):
                module.__dict__.pop("kept", None)
        self._ready()

    def extra_repr(self) -> str:
        return f"{self.plan.model}: {len(self.groups)} channel groups, {len(self.blocks)} blocks"
