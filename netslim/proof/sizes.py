"""On inputs of which sizes a network is compared with its model."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from netslim.ir.inputs import Inputs, described, of_one, of_two
from netslim.ir.plan import Plan
from netslim.ir.refusals import refused
from netslim.trace.resized import Scale, families, resized, tensors_of


def like_example(plan: Plan) -> tuple[Inputs, ...]:
    """The example's, those that cost least first."""
    return of_one(plan.inputs), of_two(plan.inputs), plan.inputs


def others_of(given: dict[str, object], plan: Plan, large: bool) -> Iterator[Inputs]:
    """Another batch and resolution, those that cost little first; sides that are large only shrink.

    Without those that the network refuses. For a large one narrow images come first: it may enlarge others.
    """
    images = [t.shape for t in tensors_of(given) if t.dim() > 3]
    shrinks = any(sorted(shape)[-2] >= _LARGE for shape in images)
    scales = (*_NARROW[: 2 * large], *_SHRUNK) if shrinks else _GROWN
    last = any(shape[-1] < min(shape[1:-1]) for shape in images)
    found = families(given)
    chosen = found if not images else found[1:2] if last else found[:1]
    for family, scale in itertools.product(chosen, scales):
        inputs = resized(given, scale, family)
        if plan.whole is None or not refused(plan.whole.programs[False], [t.shape for t in tensors_of(inputs)]):
            yield described(inputs)


def batches_of(given: dict[str, object]) -> Iterator[Inputs]:
    """Another batch of the same resolution."""
    yield described(resized(given, Scale(2), {}))


_LARGE = 64
_NARROW = (Scale(2, (0.0625, 0.75)), Scale(2, (0.125, 0.875)))
_SHRUNK = (Scale(2, (0.25, 0.375)), Scale(2, (0.25,)), Scale(2, (0.5,)))
_GROWN = (Scale(3, (2.0, 1.5)), Scale(3, (2.0,)), Scale(3, (0.5,)))
