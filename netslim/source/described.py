"""What a model says about itself beside its forward: plain data in its attributes, and what optimizers ask it for.

Training scripts read such things off a model (``model.num_classes``, ``model.pretrained_cfg``), and timm's factories
call ``no_weight_decay()`` and ``group_matcher()``. A converted network answers as its model did at the conversion.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

SETS = ("no_weight_decay", "no_weight_decay_keywords")
"""Methods that name parameters which no weight decay is for (timm, Swin)."""
MATCHERS = ("group_matcher",)
"""Methods that give regular expressions of layers, coarse or fine (timm)."""

_ATOMS = {type(None), bool, int, float, complex, str, bytes}
_SERIES = {list, tuple, set, frozenset}


@dataclass(frozen=True)
class Answer:
    """Stands for a method: what it gave, and what it gave for ``coarse=True``."""

    fine: Any
    coarse: Any

    def __call__(self, coarse: bool = False) -> Any:
        return copy.deepcopy(self.coarse if coarse else self.fine)


def described(model: nn.Module) -> dict[str, object]:
    """Public attributes of `model` that are plain data, copied, and an :class:`Answer` for each of those methods."""
    data = {
        name: copy.deepcopy(value)
        for name, value in vars(model).items()
        if not name.startswith("_") and name != "training" and is_plain(value)
    }
    asked = {name: _answer(model, name, {}) for name in SETS} | {
        name: _answer(model, name, {"coarse": True}) for name in MATCHERS
    }
    return data | {name: answer for name, answer in asked.items() if answer is not None}


def _answer(model: nn.Module, name: str, coarse: Mapping[str, bool]) -> Answer | None:
    """None where there is no such method, or it wants or gives something else."""
    with contextlib.suppress(Exception):
        method = getattr(model, name)
        found = Answer(copy.deepcopy(method()), copy.deepcopy(method(**coarse)))
        return found if is_plain(found.fine) and is_plain(found.coarse) else None
    return None


def is_plain(value: object, around: frozenset[int] = frozenset()) -> bool:
    """Whether it is numbers, texts and None, in lists, tuples, sets and dicts, none of them in itself (`around`)."""
    if id(value) in around:
        return False
    around |= {id(value)}
    if type(value) in _SERIES:
        return all(is_plain(one, around) for one in value)  # type: ignore[attr-defined]
    if type(value) is dict:
        return all(is_plain(one, around) for pair in value.items() for one in pair)
    return type(value) in _ATOMS
