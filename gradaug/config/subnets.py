"""Which sub-networks a step trains: the one list of these settings, for a run, a step and a space to draw from."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gradaug.config import kinds, ranges
from gradaug.config.fields import read, setting
from gradaug.config.ranges import COUNT, NATURAL, RATIO, at_least, one_of


class Mode(NamedTuple):
    """What is drawn at random."""

    width: bool
    depth: bool


MODES = {
    "randwidth": Mode(width=True, depth=False),
    "randdepth": Mode(width=False, depth=True),
    "both": Mode(width=True, depth=True),
    "none": Mode(width=False, depth=False),
}
"""With neither there are no sub-networks."""

_SIDES: ranges.Range[Sequence[int]] = ranges.each(
    "a list of image sides in pixels, such as 32,28,24", lambda side: side >= 1
)


@dataclass(frozen=True)
class SubnetSettings:
    """What sub-networks are drawn from, checked when built (:class:`netslim.errors.InputError` names the setting).

    ``None`` for `round_to`, `resolutions` and `scope` is a choice left to the network and the machine; no resolutions
    at all, ``()``, leave the images alone.
    """

    mode: str = setting(
        "randwidth",
        "GradAug",
        "Sub-networks: random width, random depth, both, or none (plain training).",
        one_of(*MODES),
    )
    num_subnets: int = setting(
        3,
        "GradAug",
        "Sub-networks per step; with random width the smallest is always among them.",
        at_least(1, "(--mode none trains without sub-networks)"),
    )
    alpha: float = setting(0.8, "GradAug", "Smallest width of a sub-network, in (0, 1].", RATIO)
    widths: str = setting(
        "uniform",
        "GradAug",
        "One width for a whole sub-network, or one for every channel group.",
        one_of("uniform", "per-group"),
    )
    scope: str | None = setting(
        None,
        "GradAug",
        "What sub-networks narrow and skip: all, or the module of this name alone, such as backbone.  [default: "
        "backbone for detection, else all]",
    )
    round_to: int | None = setting(
        None,
        "GradAug",
        "Widths are multiples of this many channels; 1 is the paper.  [default: what the hardware runs best]",
        at_least(1, "channel"),
    )
    survival: float = setting(0.8, "GradAug", "Random depth: chance to keep the last block.", RATIO)
    survival_first: float = setting(
        1.0, "GradAug", "Random depth: chance to keep the first block; linear in between.", RATIO
    )
    skip_blocks: int | None = setting(
        None, "GradAug", "Random depth: leave out exactly this many blocks, all equally likely.", NATURAL
    )
    stage_limit: int | None = setting(
        None, "GradAug", "Random depth: leave out at most this many blocks of one stage.", NATURAL
    )
    resolutions: tuple[int, ...] | None = setting(
        None,
        "GradAug",
        "Image sides for the sub-networks, e.g. 32,28,24.  [default: the full side, 7/8 and 3/4 of it]",
        _SIDES,
    )
    subnet_share: float = setting(
        1.0, "GradAug", "Share of the batch's images that each sub-network sees, chosen at random for each.", RATIO
    )
    subnet_every: int = setting(
        1, "GradAug", "Every so many steps has sub-networks; the steps between are plain ones.", COUNT
    )

    def __post_init__(self) -> None:
        for name in SUBNET_SETTINGS:
            value = getattr(self, name)
            none = name == "resolutions" and kinds.plain(value) in ((), [])
            vars(self)[name] = () if none else read(SubnetSettings, name, value, name)

    @property
    def random_width(self) -> bool:
        return MODES[self.mode].width

    @property
    def random_depth(self) -> bool:
        return MODES[self.mode].depth


SUBNET_SETTINGS = tuple(field.name for field in dataclasses.fields(SubnetSettings))
"""Their names."""
