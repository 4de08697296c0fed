"""Rankings: the order in which the channels of each group are kept, as a value and as a file."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from netslim.choosing.importance import Closure, Loss, Pairs, importance
from netslim.errors import ArchiveError, SubnetError, did_you_mean
from netslim.files import atomic_write
from netslim.ir.plan import Plan
from netslim.net.slimnet import SlimNet

FORMAT, VERSION = "netslim ranking", 1
_LARGEST = 256 * 2**20  # bytes; a network of a million channels takes 40 MB


@dataclass(frozen=True, eq=False)
class Ranked(Mapping[str, tuple[int, ...]]):
    """{group: its channels, the most important first}, for `sub(ranking=...)` and `extract(ranking=...)`.

    by: the criterion; orders: the same as a dict; importance: that of every channel, by its number.
    """

    by: str
    orders: Mapping[str, tuple[int, ...]]
    importance: Mapping[str, Tensor]

    def __getitem__(self, group: str) -> tuple[int, ...]:
        return self.orders[group]

    def __iter__(self) -> Iterator[str]:
        return iter(self.orders)

    def __len__(self) -> int:
        return len(self.orders)

    def __repr__(self) -> str:
        return f"<ranking of {len(self)} groups by {self.by}>"


def ordered(by: str, found: Mapping[str, Tensor]) -> Ranked:
    """The ranking by importance; of channels that are worth the same, the first one first."""
    orders = {name: tuple(values.argsort(descending=True, stable=True).tolist()) for name, values in found.items()}
    return Ranked(by, orders, dict(found))


def rank(
    net: SlimNet, by: str = "l1", data: Pairs | Closure | None = None, loss: Loss | None = None, *, seed: int = 0
) -> Ranked:
    """The channels of each group by their importance, the most important first; see `importance` for the rest."""
    return ordered(by, importance(net, by, data, loss, seed=seed))


# -------------------------------------------------------------------------------------------------------- files


def write_ranking(ranking: Ranked, path: str | Path) -> None:
    """A JSON file with the orders and the importances. Raises ArchiveError where it cannot be written."""
    groups = {
        name: {"order": list(order), "importance": ranking.importance[name].tolist()} for name, order in ranking.items()
    }
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps({"format": FORMAT, "version": VERSION, "by": ranking.by, "groups": groups}))


def read_ranking(path: str | Path, plan: Plan) -> Ranked:
    """The ranking in a file, which is one of the channels of this plan.

    Raises ArchiveError for a file that is none, SubnetError for the ranking of another network.
    """
    document = _document(Path(path))
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ArchiveError(f"{path} is no ranking: write one with netslim rank converted.pt -o ranking.json.")
    if document.get("version") != VERSION:
        raise ArchiveError(f"{path} is a ranking of another version of netslim: write it again with netslim rank.")
    groups = document.get("groups")
    if not isinstance(groups, dict) or not isinstance(by := document.get("by"), str):
        raise ArchiveError(f"{path} is damaged: write it again with netslim rank.")
    _require_same(path, groups, plan)
    orders, found = {}, {}
    for group in plan.groups:
        orders[group.name], found[group.name] = _group(path, group.name, group.size, groups[group.name])
    return Ranked(by, orders, found)


def _document(path: Path) -> Any:
    try:
        if path.stat().st_size > _LARGEST:
            raise ArchiveError(f"{path} is too large to be a ranking.")
        return json.loads(path.read_bytes())
    except OSError as error:
        raise ArchiveError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise ArchiveError(f"{path} is no ranking, as it is not JSON.") from error


def _require_same(path: str | Path, groups: Mapping[str, object], plan: Plan) -> None:
    names = {group.name for group in plan.groups}
    for name in groups:
        if name not in names:
            raise SubnetError(
                f"{path} ranks {name!r}, which is no group of this network{did_you_mean(name, names)} (a ranking "
                "belongs to the network that it was made from)"
            )
    for name in names - groups.keys():
        raise SubnetError(f"{path} does not rank group {name}: it was made from another network.")


def _group(path: str | Path, name: str, size: int, found: object) -> tuple[tuple[int, ...], Tensor]:
    order, values = (found.get("order"), found.get("importance")) if isinstance(found, dict) else (None, None)
    if not isinstance(order, list) or not all(type(each) is int for each in order):
        raise ArchiveError(f"{path} is damaged at group {name}: write it again with netslim rank.")
    if sorted(order) != list(range(size)):
        raise SubnetError(
            f"{path} ranks {len(order)} channels of group {name}, which is no order of the {size} that it has here: it "
            "was made from another network."
        )
    numbers = [v for v in values if type(v) in (int, float)] if isinstance(values, list) else []
    if len(numbers) != size or not all(map(math.isfinite, numbers)):
        raise ArchiveError(f"{path} is damaged at the importances of group {name}: write it again with netslim rank.")
    return tuple(order), torch.tensor(numbers, dtype=torch.float64)
