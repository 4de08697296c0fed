"""The space that sub-networks are drawn from: settings, and the blocks and channel groups of a network.

    space = Space.for_network(net, SubnetSettings(mode="both", alpha=0.5))
    space.chances                   # {"layer1.0": 1.0, ..., "layer3.2": 0.8}

A space is plain data, and making one does not import torch; asking a network for one does.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gradaug.config.subnets import SUBNET_SETTINGS, SubnetSettings
from gradaug.config.values import names, whole
from netslim.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from gradaug.subnets.scaling import Scaling
    from netslim import SlimNet


@dataclass(frozen=True)
class Space(SubnetSettings):
    """The settings and the parts of a network that they are about. Without resolutions images stay as they are.

    Raises InputError for what is out of its range, blocks that are not there, and parts that do not go together.
    """

    blocks: tuple[str, ...] = ()
    """The network's residual bodies in execution order."""
    stages: tuple[int, ...] = ()
    """The stage of each block; empty: all are one stage."""
    groups: tuple[str, ...] = ()
    """Channel groups that draw a width each; empty: one width for the whole sub-network."""
    narrowed: tuple[str, ...] = ()
    """Channel groups that the one width is for, every other one being full; empty: all."""
    subnet_from: int = 0
    """Steps that are plain before the first one with sub-networks."""

    def __post_init__(self) -> None:
        super().__post_init__()
        vars(self).update(
            resolutions=self.resolutions or (),
            blocks=names("blocks", self.blocks),
            stages=tuple(whole("a stage", at) for at in self.stages),
            groups=names("groups", self.groups),
            narrowed=names("narrowed", self.narrowed),
            subnet_from=whole("subnet_from, in steps,", self.subnet_from),
        )
        if self.widths == "per-group" and not self.groups:
            raise InputError(
                "widths 'per-group' need the groups that draw a width each: name some, or let "
                "Space.for_network(net, settings) find them"
            )
        vars(self)["widths"] = "per-group" if self.groups else "uniform"
        if self.stages and len(self.stages) != len(self.blocks):
            raise InputError(f"stages has {len(self.stages)} entries for {len(self.blocks)} blocks: give one for each")
        if not self.random_depth:
            return
        if not self.blocks:
            raise InputError(
                f"mode {self.mode!r} skips residual blocks, but none were found in this network; use mode 'randwidth'"
            )
        if self.skip_blocks is not None and self.skip_blocks > len(self.blocks):
            raise InputError(
                f"skip_blocks is {self.skip_blocks}, and this network has {len(self.blocks)} blocks that can be skipped"
            )
        if self.skip_blocks is not None and self.skip_blocks > self._most:
            raise InputError(
                f"skip_blocks is {self.skip_blocks}, and a stage_limit of {self.stage_limit} lets this network skip "
                f"{self._most} blocks at most: raise the one or lower the other"
            )

    @property
    def _most(self) -> int:
        """How many blocks may be left out at once."""
        sizes = Counter(self.stages or [0] * len(self.blocks)).values()
        return sum(sizes) if self.stage_limit is None else sum(min(self.stage_limit, size) for size in sizes)

    def plain(self, step: int) -> bool:
        """Whether a step is without sub-networks though others have some; of each `subnet_every` the last has them."""
        late = step - self.subnet_from
        return self.mode != "none" and (late < 0 or (late + 1) % self.subnet_every != 0)

    def trained(self, steps: int) -> int:
        """How many of the first `steps` steps have sub-networks."""
        return 0 if self.mode == "none" else max(0, steps - self.subnet_from) // self.subnet_every

    @property
    def chances(self) -> dict[str, float]:
        """Each block's probability of being kept."""
        if not self.random_depth:
            return {}
        if self.skip_blocks is not None:
            return dict.fromkeys(self.blocks, 1 - self.skip_blocks / len(self.blocks))
        return dict(zip(self.blocks, survivals(len(self.blocks), self.survival, self.survival_first), strict=True))

    @classmethod
    def for_network(cls, net: SlimNet, settings: SubnetSettings | None = None, scaling: Scaling | None = None) -> Space:
        """The space of sub-networks of `net`, with every choice made that the settings leave open.

        `scaling`: the task, which says what images are and what is narrowed; classification, if not given.
        Raises InputError that says what cannot work with this network and why.
        """
        from gradaug.subnets import limits  # needs torch, which a space does not
        from netslim.net.runtime import runtime

        require_converted(net)
        plan = runtime(net).plan
        settings = SubnetSettings() if settings is None else settings
        if not isinstance(settings, SubnetSettings):
            raise InputError(f"settings are to be a gradaug.SubnetSettings or a TrainConfig, not {settings!r}")
        scaling = limits.PLAIN if scaling is None else scaling
        scope = limits.chosen_scope(net, settings, scaling)
        inside = limits.groups_below(net, scope) if settings.random_width else ()
        groups = inside if settings.widths == "per-group" else ()
        narrowed = inside if scope != "all" and not groups else ()
        kept = [block for block in plan.blocks if limits.below(block.name, scope)]
        chosen = {name: getattr(settings, name) for name in SUBNET_SETTINGS if name not in ("widths", "scope")}
        space = cls(
            **chosen,
            widths="per-group" if groups else "uniform",
            scope=scope,
            blocks=tuple(block.name for block in kept),
            stages=tuple(block.stage for block in kept),
            groups=groups,
            narrowed=narrowed,
        )
        limits.require_resolutions(net, space.resolutions or (), scaling)
        grid = space.round_to or limits.fast_grid(net, space.alpha, inside)
        limits.require_smaller(net, replace(space, round_to=grid), inside)
        usable = limits.usable_resolutions(net, scaling) if settings.resolutions is None else space.resolutions
        return replace(space, resolutions=usable, round_to=grid)

    def require_of(self, net: SlimNet, scaling: Scaling | None = None) -> None:
        """InputError unless `net` has these blocks and groups and runs at these resolutions."""
        from gradaug.subnets import limits
        from netslim.net.runtime import runtime

        require_converted(net)
        plan = runtime(net).plan
        for what, mine, there in (
            ("block", self.blocks, plan.blocks),
            ("group", (*self.groups, *self.narrowed), plan.groups),
        ):
            known = [part.name for part in there]
            for name in mine:
                if name not in known:
                    hint = did_you_mean(name, known, 1) or "; Space.for_network(net, settings) finds them"
                    raise InputError(f"the space has a {what} {name!r}, and this network has none of that name{hint}")
        limits.require_resolutions(net, self.resolutions or (), limits.PLAIN if scaling is None else scaling)


def space_of(
    net: SlimNet, given: Space | str | None, settings: dict[str, Any], scaling: Scaling | None = None
) -> Space:
    """A space for `net`: the one that is given, or that of a mode and settings by name; InputError where both are."""
    if isinstance(given, Space):
        if settings:
            raise InputError(f"{', '.join(settings)} belongs to the space: give a Space, or its settings, not both")
        given.require_of(net, scaling)
        return given
    settings = dict(settings)
    first = settings.pop("subnet_from", 0)
    if given is not None and "mode" in settings:
        raise InputError(f"mode is given twice, as {given!r} and as {settings['mode']!r}: give it once")
    for name in settings:
        if name not in SUBNET_SETTINGS:
            raise InputError(f"there is no argument {name!r}{did_you_mean(name, SUBNET_SETTINGS, 1)}")
    chosen = SubnetSettings(**({} if given is None else {"mode": given}) | settings)
    return replace(Space.for_network(net, chosen, scaling), subnet_from=first)


def require_converted(net: object) -> None:
    """InputError for anything else than a converted network."""
    from netslim import SlimNet

    if not isinstance(net, SlimNet):
        raise InputError(
            f"{type(net).__name__} is no converted network: give what netslim.convert(model, example_inputs) or "
            "netslim.load(path) returns, and no wrapper of it"
        )


def survivals(count: int, last: float, first: float = 1.0) -> list[float]:
    """Keep-probabilities of `count` blocks: linear from `first` to `last`; a single block gets `last`."""
    if count == 1:
        return [last]
    return [first - (first - last) * i / (count - 1) for i in range(count)]
