"""The outcome of a proof, as data."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from netslim.files import JSON


@dataclass(frozen=True, slots=True)
class Case:
    """One sub-network: how far it is from the masked network, and from the full one, relative to the output."""

    name: str
    max_rel_diff: float
    effect: float
    passed: bool


@dataclass(frozen=True)
class Proof:
    """The outcome of `verify`."""

    cases: tuple[Case, ...] = ()
    failures: tuple[str, ...] = ()
    idle: tuple[str, ...] = ()  # groups that no output depends on: the proof says nothing of them

    @property
    def passed(self) -> bool:
        return not self.failures and all(case.passed for case in self.cases)

    def summary(self) -> str:
        worst = max((case.max_rel_diff for case in self.cases), default=0.0)
        verdict = "equal their masked full network" if self.passed else "DIFFER from their masked full network"
        text = f"{len(self.cases)} random sub-networks {verdict} (largest relative difference {worst:.1e})"
        return text + (f"; {len(self.idle)} groups have no effect on the output" if self.idle else "")

    def to_data(self) -> dict[str, JSON]:
        """Plain data, for --json."""
        return {"cases": [asdict(c) for c in self.cases], "failures": list(self.failures), "idle": list(self.idle)}
