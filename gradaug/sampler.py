"""Which sub-networks a step trains: a pure function (space, seed, step) -> draws.

    space = Space(mode="randwidth", alpha=0.8, num_subnets=3, resolutions=(32, 28, 24))
    draw(space, seed=0, step=17)
    # (Draw(width=0.97, skip=(), resolution=24), Draw(width=0.85, ...), Draw(width=0.8, ...))

Random width (GradAug, algorithm 1 and the authors' code): the widths of a step are alpha itself and n - 1 uniform
values from [alpha, 1], largest first. Random depth: every residual body is kept with a probability that falls
linearly from 1 at the first to `survival` at the last; one Bernoulli per body and sub-network, for the whole batch.
Nothing here reads or changes a global random state, so the same step gives the same sub-networks on every rank, after
a resume, and in a test.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from gradaug.config import MODES
from netslim.errors import InputError


@dataclass(frozen=True, slots=True)
class Draw:
    """One sub-network of one step and the size of the images it sees."""

    width: float = 1.0
    skip: tuple[str, ...] = ()
    """Names of the residual bodies that are left out."""
    resolution: int | None = None
    """Shorter side of its images, in pixels; None: as they are."""
    round_to: int | None = None

    def sub(self) -> dict[str, Any]:
        """Arguments for ``SlimNet.sub``."""
        depth = dict.fromkeys(self.skip, False) or None
        return {"width": self.width, "depth": depth, "round_to": self.round_to}


@dataclass(frozen=True, slots=True)
class Space:
    """What is drawn from. `blocks` are the network's residual bodies in execution order."""

    mode: str = "randwidth"
    alpha: float = 0.8
    num_subnets: int = 3
    resolutions: tuple[int, ...] = ()
    """Empty: every sub-network sees the images as they are."""
    round_to: int | None = None
    blocks: tuple[str, ...] = ()
    survival: float = 0.8

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise InputError(f"mode must be one of {', '.join(MODES)}, not {self.mode!r}")
        if not 0 < self.alpha <= 1 or not 0 < self.survival <= 1:
            raise InputError(f"alpha and survival must be in (0, 1], not {self.alpha!r} and {self.survival!r}")
        if self.random_depth and not self.blocks:
            raise InputError(
                f"mode {self.mode!r} skips residual blocks, but none were found in this network; use mode 'randwidth'"
            )

    @property
    def random_width(self) -> bool:
        return self.mode in ("randwidth", "both")

    @property
    def random_depth(self) -> bool:
        return self.mode in ("randdepth", "both")


def draw(space: Space, seed: int, step: int) -> tuple[Draw, ...]:
    """The sub-networks of step `step`: `space.num_subnets` of them, none in mode "none"."""
    if space.mode == "none":
        return ()
    rng = random.Random(f"gradaug/{seed}/{step}")
    widths = _widths(rng, space) if space.random_width else [1.0] * space.num_subnets
    return tuple(
        Draw(
            width=width,
            skip=_skipped(rng, space) if space.random_depth else (),
            resolution=rng.choice(space.resolutions) if space.resolutions else None,
            round_to=space.round_to,
        )
        for width in widths
    )


def survivals(count: int, last: float) -> list[float]:
    """Keep-probabilities of `count` blocks: linear from 1 at the first to `last`; a single block gets `last`."""
    if count == 1:
        return [last]
    return [1 - (1 - last) * i / (count - 1) for i in range(count)]


def _widths(rng: random.Random, space: Space) -> list[float]:
    uniform = [rng.uniform(space.alpha, 1.0) for _ in range(space.num_subnets - 1)]
    return sorted([space.alpha, *uniform], reverse=True)


def _skipped(rng: random.Random, space: Space) -> tuple[str, ...]:
    keep = survivals(len(space.blocks), space.survival)
    return tuple(block for block, p in zip(space.blocks, keep, strict=True) if rng.random() >= p)
