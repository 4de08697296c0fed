"""The outcome of a proof, as data."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from netslim.files import JSON

QUICK = "NOT PROVED, only checked quickly"
TO_PROVE = "convert it without --quick, or run netslim verify with --original"


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
    quick: bool = False  # one look in evaluation, which is no proof

    @property
    def passed(self) -> bool:
        """Whether nothing was found wrong."""
        return not self.failures and all(case.passed for case in self.cases)

    def summary(self) -> str:
        worst = max((case.max_rel_diff for case in self.cases), default=0.0)
        if self.quick:
            found = f"; of its sub-networks one equals the masked full network ({worst:.1e})" if self.cases else ""
            return f"{QUICK}: in eval mode its outputs are the model's on the example's size{found}"
        verdict = "equal their masked full network" if self.passed else "DIFFER from their masked full network"
        text = f"{len(self.cases)} random sub-networks {verdict} (largest relative difference {worst:.1e})"
        return text + (f"; {len(self.idle)} groups have no effect on the output" if self.idle else "")

    def to_data(self) -> dict[str, JSON]:
        """Plain data, for --json."""
        told: dict[str, JSON] = {"failures": list(self.failures), "idle": list(self.idle), "quick": self.quick}
        return {"cases": [asdict(c) for c in self.cases], **told}
