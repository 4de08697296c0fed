"""What a smaller network may cost: a share or a number of FLOPs or parameters, or a time."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from netslim.errors import InputError

if TYPE_CHECKING:
    from netslim.cost import Count

Kind = Literal["flops", "params", "latency"]
UNITS = {"flops": "FLOPs", "params": "parameters", "latency": "of latency"}

_THOUSANDS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9, "t": 1e12}
_SECONDS = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0}
_NUMBER = r"(\d+\.?\d*(?:e[+-]?\d+)?|\.\d+)"


@dataclass(frozen=True, slots=True)
class Budget:
    """At most `amount`: seconds of latency; of the rest a share of the full network's up to 1, a number above.

    Raises InputError for an amount that is no positive number.
    """

    kind: Kind
    amount: float

    def __post_init__(self) -> None:
        if isinstance(self.amount, bool) or not isinstance(self.amount, (int, float)) or not self._positive:
            raise InputError(f"a budget of {self.amount!r} {UNITS[self.kind]} is none: give a positive number.")

    @property
    def _positive(self) -> bool:
        return math.isfinite(self.amount) and self.amount > 0

    def limit(self, full: Count) -> float:
        """As a number of FLOPs or parameters of one image, or seconds."""
        share = self.kind != "latency" and self.amount <= 1
        return self.amount * self.of(full) if share else self.amount

    def of(self, count: Count) -> int:
        """What of a count this is about."""
        return count.params if self.kind == "params" else count.flops

    def said(self, amount: float) -> str:
        """An amount with its unit."""
        if self.kind == "latency":
            return f"{amount * 1e3:.3g} ms"
        return f"{math.ceil(amount):,} {UNITS[self.kind]}"

    def __str__(self) -> str:
        if self.kind != "latency" and self.amount <= 1:
            return f"{self.amount:.4g} of the {UNITS[self.kind]}"
        return self.said(self.amount)


def parsed(kind: Kind, text: str) -> Budget:
    """0.5, 50%, 300M, 1.5G of FLOPs or parameters; 8ms, 500us, 0.01s of time. Raises InputError for other texts."""
    units = _SECONDS if kind == "latency" else {**_THOUSANDS, "%": 0.01}
    found = re.fullmatch(
        rf"{_NUMBER}\s*({'|'.join(sorted(map(re.escape, units), key=len, reverse=True))})", text.strip().lower()
    )
    amount = float(found[1]) * units[found[2]] if found else 0.0
    if not found or not 0 < amount < math.inf or (found[2] == "%" and amount > 1):
        forms = "a time: 8ms, 500us, 0.01s" if kind == "latency" else "a share up to 1, or a number: 0.5, 50%, 300M"
        raise InputError(f"{text!r} is no budget of {UNITS[kind].removeprefix('of ')}; write {forms}.")
    return Budget(kind, amount)
