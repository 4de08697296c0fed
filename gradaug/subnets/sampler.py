"""Which sub-networks a step trains: a pure function (space, seed, step) -> draws.

    space = Space(mode="randwidth", alpha=0.8, num_subnets=3, resolutions=(32, 28, 24))
    draw(space, seed=0, step=17)
    # (Draw(width=0.97, skip=(), resolution=24), Draw(width=0.85, ...), Draw(width=0.8, ...))

Random width (GradAug, algorithm 1 and the authors' code): the widths of a step are alpha itself and n - 1 uniform
values from [alpha, 1], largest first. Random depth: every residual body is kept with its own probability
(`Space.chances`: linear from `survival_first` at the first to `survival` at the last); one Bernoulli per body and
sub-network, for the whole batch. With `skip_blocks` that many bodies are left out, all equally likely. `stage_limit`
bounds how many are left out of one stage (bodies whose results have one shape).
Nothing here reads or changes a global random state, so the same step gives the same sub-networks on every rank, after
a resume, and in a test.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gradaug.config.values import checked, names, ratio, share_or_count, whole
from gradaug.subnets.space import Space
from netslim.errors import InputError


@dataclass(frozen=True, slots=True)
class Draw:
    """One sub-network of one step and the size of the images it sees."""

    width: float | tuple[tuple[str, float], ...] = 1.0
    """A ratio for the whole network, or (group, ratio) pairs."""
    skip: tuple[str, ...] = ()
    """Names of the residual bodies that are left out."""
    resolution: int | None = None
    """Shorter side of its images, in pixels; None: as they are."""
    round_to: int | None = None
    share: float = 1.0
    """Of the batch's images, that it sees."""

    def __post_init__(self) -> None:
        _set(
            self,
            width=_by_group(self.width)
            if isinstance(self.width, (Mapping, tuple, list))
            else ratio("width", self.width),
            skip=names("skip", self.skip),
            resolution=None if self.resolution is None else whole("resolution", self.resolution, 1),
            round_to=checked("round_to", self.round_to),
            share=ratio("share", self.share),
        )

    def sub(self) -> dict[str, Any]:
        """Arguments for ``SlimNet.sub``."""
        depth = dict.fromkeys(self.skip, False) or None
        width = self.width if isinstance(self.width, float) else dict(self.width)
        return {"width": width, "depth": depth, "round_to": self.round_to}


def draw(space: Space, seed: int, step: int, rank: int = 0) -> tuple[Draw, ...]:
    """The sub-networks of step `step`: `space.num_subnets` of them, none in mode "none" and in a plain step.

    Another `rank` draws others; the processes of a run share theirs by all asking as rank 0. Raises InputError for a
    seed, step or rank that is no whole number from 0.
    """
    if not isinstance(space, Space):
        raise InputError(f"sub-networks are drawn from a gradaug.Space, not from {space!r}")
    seed, step, rank = whole("seed", seed), whole("step", step), whole("rank", rank)
    if space.plain(step) or not (space.random_width or space.random_depth):
        return ()
    rng = random.Random(f"gradaug/{seed}/{step}" + (f"/{rank}" if rank else ""))
    widths: Sequence[float | tuple[tuple[str, float], ...]] = [1.0] * space.num_subnets
    if space.random_width:
        widths = _group_widths(rng, space) if space.groups else _widths(rng, space)
    return tuple(
        Draw(
            width=width,
            skip=_skipped(rng, space) if space.random_depth else (),
            resolution=rng.choice(space.resolutions) if space.resolutions else None,
            round_to=space.round_to,
            share=space.subnet_share,
        )
        for width in widths
    )


def _widths(rng: random.Random, space: Space) -> list[float] | list[tuple[tuple[str, float], ...]]:
    uniform = [rng.uniform(space.alpha, 1.0) for _ in range(space.num_subnets - 1)]
    ratios = sorted([space.alpha, *uniform], reverse=True)
    return [tuple((group, ratio) for group in space.narrowed) for ratio in ratios] if space.narrowed else ratios


def _group_widths(rng: random.Random, space: Space) -> list[tuple[tuple[str, float], ...]]:
    """Every group its own width; alpha everywhere comes last, as the smallest sub-network does."""
    drawn = [tuple((group, rng.uniform(space.alpha, 1.0)) for group in space.groups) for _ in range(space.num_subnets)]
    return [*drawn[1:], tuple((group, space.alpha) for group in space.groups)]


def _skipped(rng: random.Random, space: Space) -> tuple[str, ...]:
    count = len(space.blocks)
    if space.skip_blocks is None:
        chosen = [i for i, p in enumerate(space.chances.values()) if rng.random() >= p]
        rng.shuffle(chosen)
    else:
        chosen = rng.sample(range(count), count)
    left_out: list[int] = []
    for i in chosen:
        if len(left_out) == space.skip_blocks:
            break
        if space.stage_limit is None or _in_stage(space, left_out, i) < space.stage_limit:
            left_out.append(i)
    return tuple(space.blocks[i] for i in sorted(left_out))


def _in_stage(space: Space, chosen: list[int], block: int) -> int:
    """How many of the chosen blocks are in the stage of `block`."""
    return sum(not space.stages or space.stages[i] == space.stages[block] for i in chosen)


# ------------------------------------------------------------------------------------------ arguments


def _set(frozen: object, **values: object) -> None:
    """Fields of a frozen object, while it is made."""
    for name, value in values.items():
        object.__setattr__(frozen, name, value)


def _by_group(widths: Mapping[str, float] | Sequence[tuple[str, float]]) -> tuple[tuple[str, float], ...]:
    """(group, count or ratio) pairs, from a mapping too."""
    pairs = list(widths.items()) if isinstance(widths, Mapping) else list(widths)
    if not all(isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in pairs):
        raise InputError(f"width must be a ratio in (0, 1] or (group, count or ratio) pairs, not {widths!r}")
    names("the groups of width", [name for name, _ in pairs])
    return tuple((name, share_or_count(f"the width of {name}", width)) for name, width in pairs)
