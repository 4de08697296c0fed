"""How small a network is to be, and which channels it keeps: options that say so, and what they stand for."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from .options import WidthType, explicit

if TYPE_CHECKING:
    from netslim import SlimNet
    from netslim.choosing.budget import Budget, Kind
    from netslim.choosing.latency import Seconds
    from netslim.choosing.local import Score
    from netslim.choosing.ranking import Ranked

    from .training_data import TrainingData

FIRST = "first"
"""The channels as they are numbered."""
CRITERIA = ("l1", "l2", "bn", "taylor", "gradient", "random")
FROM_DATA = ("taylor", "gradient")


class WidthsType(WidthType):
    """Ratios in (0, 1], separated by commas."""

    name = "ratio,..."

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:  # type: ignore[override]
        if isinstance(value, tuple):
            return value
        one = super().convert
        return tuple(dict.fromkeys(one(part, param, ctx) for part in str(value).split(",")))


class BudgetType(click.ParamType):
    """A share, a number or a time."""

    def __init__(self, kind: Kind) -> None:
        self.kind, self.name = kind, {"latency": "time"}.get(kind, "share or number")

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Budget:
        from netslim.choosing.budget import Budget, parsed
        from netslim.errors import InputError

        if isinstance(value, Budget):
            return value
        try:
            return parsed(self.kind, str(value))
        except InputError as error:
            self.fail(str(error), param, ctx)


@dataclass(frozen=True, slots=True)
class SizeOptions:
    """What says which channels are kept, and how many."""

    widths: tuple[float, ...]
    budget: Budget | None
    search: str
    evaluations: int
    ranking: str

    @property
    def scored(self) -> bool:
        """Whether sub-networks are compared on data, where there are some."""
        return self.budget is not None and self.search == "greedy"


def size_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options of SizeOptions; the command gets them together, as `size`. One of the first four is needed."""

    @functools.wraps(command)
    def gathering(
        width: tuple[float, ...] | None,
        flops: Budget | None,
        params: Budget | None,
        latency: Budget | None,
        search: str,
        evaluations: int,
        ranking: str,
        **others: object,
    ) -> None:
        budgets = [budget for budget in (flops, params, latency) if budget is not None]
        if len(budgets) + bool(width) != 1:
            raise click.UsageError("say how small: one of --width, --flops, --params and --latency.")
        said = explicit(click.get_current_context(), {"search": search, "evaluations": evaluations})
        typed = [f"--{name}" for name in said]
        if width and typed:
            raise click.UsageError(f"{' and '.join(typed)} goes with a budget: give --flops, --params or --latency.")
        size = SizeOptions(width or (), budgets[0] if budgets else None, search, evaluations, ranking)
        command(size=size, **others)

    with_options: Callable[..., None] = gathering
    for option in (
        click.option(
            "--ranking",
            default=FIRST,
            show_default=True,
            metavar="FILE|NAME",
            help="Which channels are kept: the first ones (of a network trained with sub-networks), the most important "
            f"ones by {', '.join(CRITERIA)} (taylor and gradient want --data), or as netslim rank -o wrote them.",
        ),
        click.option(
            "--evaluations",
            type=click.IntRange(min=1),
            default=32,
            show_default=True,
            help="Sub-networks that greedy search compares on --data.",
        ),
        click.option(
            "--search",
            type=click.Choice(["uniform", "greedy"]),
            default="uniform",
            show_default=True,
            help="One width for all groups, or widths of their own: what is worth least for its cost goes first, and "
            "with --data local search, over blocks too, improves it.",
        ),
        click.option("--latency", type=BudgetType("latency"), help="At most this time for one image here: 8ms."),
        click.option("--params", type=BudgetType("params"), help="At most this share or number of weights: 0.5, 2M."),
        click.option("--flops", type=BudgetType("flops"), help="At most this share or number of FLOPs: 0.5, 300M."),
        click.option(
            "--width", type=WidthsType(), help="Share of the channels to keep, in (0, 1]; several for several networks."
        ),
    ):
        with_options = option(with_options)
    return with_options


def ranking_of(net: SlimNet, name: str, data: TrainingData | None, seed: int) -> Ranked | None:
    """The ranking that a name or a file stands for; None for the first channels."""
    from netslim.choosing.ranking import rank, read_ranking
    from netslim.net.runtime import runtime

    if name == FIRST:
        return None
    if name not in CRITERIA:
        return read_ranking(name, runtime(net).plan)
    return rank(net, name, data.losses if data is not None else None, seed=seed)


def require_ranking(name: str, has_data: bool, hint: str) -> None:
    """UsageError for a criterion without its data, and for a name that is neither a criterion nor a file."""
    from netslim.errors import did_you_mean

    if name in FROM_DATA and not has_data:
        raise click.UsageError(f"{name} ranks channels by a loss: say on which images, with --data.")
    if name not in (FIRST, *CRITERIA) and not Path(name).exists():
        known = (FIRST, *CRITERIA)
        raise click.BadParameter(
            f"{name} is no file and none of {', '.join(known)}{did_you_mean(name, known)}", param_hint=hint
        )


@dataclass(frozen=True, slots=True)
class Chosen:
    """The arguments of `extract`, and what a search found."""

    width: float | dict[str, int]
    depth: dict[str, bool]
    budget: str | None = None
    seconds: float | None = None
    score: float | None = None
    tried: int = 0


def chosen(
    net: SlimNet, size: SizeOptions, depth: dict[str, bool], round_to: int, ranking: Ranked | None,
    data: TrainingData | None, seed: int, seconds: Seconds,
) -> list[Chosen]:  # fmt: skip
    """The sub-networks that the options ask for."""
    from netslim.choosing.ranking import rank
    from netslim.choosing.searched import choose

    if size.budget is None:
        return [Chosen(width, depth) for width in size.widths]
    score: Score | None = data.score if data is not None and size.scored else None
    importance = rank(net, "taylor", data.losses) if data is not None and size.scored and ranking is None else None
    found = choose(
        net, search=size.search, ranking=ranking, importance=importance, depth=depth, round_to=round_to, score=score,
        evaluations=size.evaluations, seed=seed, seconds=seconds, **{size.budget.kind: size.budget.amount},
    )  # fmt: skip
    width = cast("float | dict[str, int]", found.width)
    return [Chosen(width, dict(found.depth), str(size.budget), found.seconds, found.score, found.tried)]
