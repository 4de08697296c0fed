"""Finds how a number follows from sizes: the simplest formula that holds in every recording of a forward.

Python may do to a size what it likes (`int(h * 0.5)`, `len(x)`, `math.ceil`, numpy, a table): what arrives in the
program is a number, and the sizes that it depends on are known in every recording. A formula with as many free numbers
as there are recordings would fit anything, so one counts only where more recordings hold it than it has choices.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

Number = int | float
Values = tuple[Number, ...]
"""A number in every recording."""


@dataclass(frozen=True)
class Feature:
    """A number that a program reads or has worked out: a node, or a dimension of a value."""

    name: str
    dim: int | None = None


@dataclass(frozen=True)
class Apply:
    """A function of numbers, by the name that programs call it by."""

    target: str
    args: tuple[Formula, ...]


Formula: TypeAlias = "Feature | Apply | int | float"

Scalar = Callable[..., Number]
_NAMES: dict[str, Scalar] = {
    **{f"operator.{name}": getattr(operator, name) for name in "add sub mul truediv floordiv mod pow neg".split()},
    **{f"math.{name}": getattr(math, name) for name in "sqrt floor ceil log2 log exp".split()},
    **{f"builtins.{name}": value for name, value in (("max", max), ("min", min), ("round", round), ("float", float))},
}


def formula(wanted: Values, features: Mapping[Feature, Values]) -> Formula | None:
    """The simplest formula of `features` whose values are `wanted` in every recording; None where there is none."""
    distinct = _distinct(features)
    for guess in _guesses(wanted, distinct):
        if _values(guess, distinct, len(wanted)) == tuple(map(_typed, wanted)):
            return guess
    return None


def evaluated(found: Formula, value: Callable[[Feature], Number]) -> Number:
    """A formula's number, given those of its features."""
    if isinstance(found, Feature):
        return value(found)
    if isinstance(found, Apply):
        return _NAMES[found.target](*(evaluated(arg, value) for arg in found.args))
    return found


def _values(found: Formula, features: Mapping[Feature, Values], count: int) -> tuple[tuple[type, Number], ...] | None:
    try:
        return tuple(_typed(evaluated(found, lambda f, i=i: features[f][i])) for i in range(count))  # type: ignore[misc]
    except (ArithmeticError, ValueError):
        return None


def _typed(value: Number) -> tuple[type, Number]:
    return type(value), value


def _distinct(features: Mapping[Feature, Values]) -> dict[Feature, Values]:
    """The first feature of every sequence of values that is not the same everywhere."""
    first: dict[Values, Feature] = {}
    for feature, values in features.items():
        if len(set(values)) > 1:
            first.setdefault(values, feature)
    return {feature: values for values, feature in first.items()}


# --------------------------------------------------------------------------------------------------------- guesses


def _guesses(wanted: Values, features: Mapping[Feature, Values]) -> Iterator[Formula]:
    """Formulas, the simplest first; each holds more recordings than it has free numbers if it holds all."""
    yield from features
    whole = all(isinstance(value, int) for value in wanted)
    for feature, values in features.items():
        yield from _of_one(feature, values, wanted, whole)
    combined = dict(_combined(features))
    yield from combined
    for joint, values in combined.items():
        yield from _of_one(joint, values, wanted, whole, joined=True)


def _of_one(base: Formula, values: Values, wanted: Values, whole: bool, joined: bool = False) -> Iterator[Formula]:
    """Formulas of one number; fewer of two that are `joined`, since there are many of them."""
    pairs = sorted(set(zip(values, wanted, strict=True)))
    if len({value for value, _ in pairs}) < len(pairs):
        return  # one value, two results
    if not whole:
        yield from _fractional(base, pairs)
    elif len(pairs) > 2:
        yield from _linear(base, pairs)
        yield from _rounded(base, pairs)
        if not joined:
            yield from _clamped(base, pairs)
            yield from _remainders(base, pairs)
    elif len(pairs) > 1 and isinstance(base, Feature):  # two values: only what has one free number
        yield from (Apply("operator.mul", (base, w // v)) for v, w in pairs[:1] if v and w % v == 0)
        yield from (Apply("operator.floordiv", (base, v // w)) for v, w in pairs[-1:] if w and v % w == 0)


def _linear(base: Formula, pairs: Sequence[tuple[Number, Number]]) -> Iterator[Formula]:
    """a * base + b, or a * base // b."""
    (v0, w0), (v1, w1) = pairs[0], pairs[-1]
    slope = Fraction(w1 - w0) / Fraction(v1 - v0)
    rest = Fraction(w0) - slope * Fraction(v0)
    if slope.denominator == 1 and rest.denominator == 1:
        yield _plus(_times(base, int(slope)), int(rest))
    elif rest == 0 and slope.denominator <= _LARGEST:
        yield Apply("operator.floordiv", (_times(base, slope.numerator), slope.denominator))


_LARGEST = 1024


def _times(base: Formula, by: Number) -> Formula:
    return base if by == 1 and isinstance(by, int) else Apply("operator.mul", (base, by))


def _plus(base: Formula, more: int) -> Formula:
    return base if more == 0 else Apply("operator.add", (base, more))


def _clamped(base: Formula, pairs: Sequence[tuple[Number, Number]]) -> Iterator[Formula]:
    """max(a * base + b, c), and with min: flat on one side."""
    results = [w for _, w in pairs]
    for end, name in ((0, "builtins.max"), (-1, "builtins.min"), (-1, "builtins.max"), (0, "builtins.min")):
        flat = results[end]
        inner = [(v, w) for v, w in pairs if w != flat]
        if len(inner) > 2 and len(inner) < len(pairs):
            yield from (Apply(name, (line, flat)) for line in _linear(base, inner))


def _remainders(base: Formula, pairs: Sequence[tuple[Number, Number]]) -> Iterator[Formula]:
    """base % m, and -base % m."""
    if not all(isinstance(v, int) for v, _ in pairs):
        return
    low = int(max(w for _, w in pairs))
    for by in range(low + 1, max(2 * low, 256) + 1) if min(w for _, w in pairs) >= 0 else ():
        if all(v % by == w for v, w in pairs):
            yield Apply("operator.mod", (base, by))
        if all(-v % by == w for v, w in pairs):
            yield Apply("operator.mod", (Apply("operator.neg", (base,)), by))


def _rounded(base: Formula, pairs: Sequence[tuple[Number, Number]]) -> Iterator[Formula]:
    """floor, ceil and round of a multiple, times a step and plus a number: int(h * 0.7), (h + 7) // 8 * 8."""
    results = [int(w) for _, w in pairs]
    step = math.gcd(*(w - results[0] for w in results))
    for by in dict.fromkeys((1, step)) if step else ():
        rest = results[0] % by
        counts = [(v, (w - rest) // by) for (v, _), w in zip(pairs, results, strict=True)]
        for shape in itertools.chain(_rooted(base), _roundings(base, counts)):
            yield _plus(_times(shape, by), rest)


def _roundings(base: Formula, pairs: Sequence[tuple[Number, int]]) -> Iterator[Formula]:
    """Few results say little: they are taken for simple ratios alone."""
    many = len({w for _, w in pairs})
    if many < _FEWEST:
        return
    (v0, w0), (v1, w1) = pairs[0], pairs[-1]
    low, high = (w1 - w0 - 2) / (v1 - v0), (w1 - w0 + 2) / (v1 - v0)
    for ratio in _ratios(low, high):
        p, q = ratio.numerator, ratio.denominator
        if q > _SIMPLE and many < _RICH:
            return
        least = max(q * w - p * math.ceil(v) for v, w in pairs)
        most = min(q * w - p * math.floor(v) + q - 1 for v, w in pairs)
        offsets = (0, q - 1, least) if many >= _RICH else (0, q - 1)
        whole = q > 1 and all(isinstance(v, int) for v, _ in pairs)
        for more in dict.fromkeys(offsets) if whole else ():
            if least <= more <= most:
                yield Apply("operator.floordiv", (_plus(_times(base, p), more), q))
        products = [Apply("operator.truediv", (_times(base, p), q))]
        products += [Apply("operator.mul", (base, float(ratio)))] if 1000 % q == 0 else []
        yield from (Apply(name, (by,)) for by in products for name in ("math.floor", "math.ceil", "builtins.round"))


_FEWEST, _RICH, _SIMPLE = 3, 5, 8
"""How many results a rounding needs, how many one of any ratio and offset needs, and what a simple denominator is."""


def _ratios(low: float, high: float) -> Iterator[Fraction]:
    """Ratios between two numbers, those of small denominators first."""
    seen: set[Fraction] = {Fraction(0)}
    for q in itertools.chain(range(1, 17), (20, 24, 28, 32, 48, 56, 64, 96, 100, 112, 128, 224, 256, 512, 1000)):
        for p in range(max(math.ceil(low * q), -4 * q), math.floor(min(high, 64) * q) + 1):
            if Fraction(p, q) not in seen:
                seen.add(Fraction(p, q))
                yield Fraction(p, q)


def _rooted(base: Formula) -> Iterator[Formula]:
    root = Apply("math.sqrt", (base,))
    for name in ("math.floor", "builtins.round", "math.ceil"):
        yield Apply(name, (root,))
        yield Apply(name, (Apply("math.log2", (base,)),))


def _fractional(base: Formula, pairs: Sequence[tuple[Number, Number]]) -> Iterator[Formula]:
    """Formulas whose result is no whole number."""
    yield Apply("builtins.float", (base,))
    if len(pairs) < 2:
        return
    yield from _scaled(base, pairs)
    for name in ("math.sqrt", "math.log2", "math.log") if min(v for v, _ in pairs) > 0 else ():
        inner = Apply(name, (base,))
        yield inner
        yield from _scaled(inner, [(_NAMES[name](v), w) for v, w in pairs])


def _scaled(base: Formula, pairs: Sequence[tuple[Number, Number]]) -> Iterator[Formula]:
    """A multiple, a quotient, a line."""
    v, w = pairs[-1]
    if v and w and math.isfinite(w):
        near = Fraction(w / v).limit_denominator(4096)
        yield from (Apply("operator.mul", (base, by)) for by in (w / v, round(w / v, 6)))
        yield Apply("operator.truediv", (_times(base, near.numerator), near.denominator))
        yield from (Apply("operator.truediv", (_whole(over), base)) for over in (w * v, round(w * v, 6)))
    if len(pairs) > 2:
        v0, w0 = pairs[0]
        slope = Fraction((w - w0) / (v - v0)).limit_denominator(4096)
        rest = Fraction(w0 - float(slope) * v0).limit_denominator(4096)
        if slope and rest:
            line = Apply("operator.truediv", (_times(base, slope.numerator), slope.denominator))
            yield Apply("operator.add", (line, float(rest)))


def _whole(value: Number) -> Number:
    return int(value) if math.isfinite(value) and value == int(value) else value


def _combined(features: Mapping[Feature, Values]) -> Iterator[tuple[Formula, Values]]:
    """Two numbers as one: products, quotients, sums, the larger, the smaller; and products of three."""
    chosen = dict(itertools.islice(features.items(), _MANY))
    for (a, va), (b, vb) in itertools.combinations(chosen.items(), 2):
        for name in ("operator.mul", "builtins.max", "builtins.min", "operator.add"):
            yield Apply(name, (a, b)), tuple(_NAMES[name](x, y) for x, y in zip(va, vb, strict=True))
        for (f, vf), (g, vg) in (((a, va), (b, vb)), ((b, vb), (a, va))):
            yield Apply("operator.sub", (f, g)), tuple(x - y for x, y in zip(vf, vg, strict=True))
            if all(vg):
                yield Apply("operator.truediv", (f, g)), tuple(x / y for x, y in zip(vf, vg, strict=True))
                yield Apply("operator.floordiv", (f, g)), tuple(x // y for x, y in zip(vf, vg, strict=True))
                yield Apply("operator.mod", (f, g)), tuple(x % y for x, y in zip(vf, vg, strict=True))
    for (a, va), (b, vb), (c, vc) in itertools.combinations(itertools.islice(chosen.items(), _FEW), 3):
        first = Apply("operator.mul", (a, b))
        yield Apply("operator.mul", (first, c)), tuple(x * y * z for x, y, z in zip(va, vb, vc, strict=True))


_MANY, _FEW = 12, 6
"""How many numbers are joined in pairs, and how many in threes: products of all would fit anything."""
