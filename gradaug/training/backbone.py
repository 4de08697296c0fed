"""``--backbone``: what a classifier has learned, in a detector's backbone, every tensor held to its name and its shape.

    said = fill(net, "trained.pt")    # "backbone.body starts from trained.pt (265 tensors; without a use here: fc)"

The backbone is the part ``backbone`` of a network, or, where the file knows nothing of that, its ``backbone.body``:
torchvision puts a feature pyramid behind it. The file has its tensors under the same names, behind one prefix such as
``features.``. Whether a batch norm is frozen here or there makes no difference: the count of batches is all that a file
need not have.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from netslim.archive import network
from netslim.errors import InputError
from netslim.source.weights import is_of_torch, mismatches, state_dict_in

PLACES = "backbone", "backbone.body"
COUNT = "num_batches_tracked"
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class _Place:
    """A part of a network, its tensors by their names in there, and where a file has them."""

    name: str
    tensors: dict[str, Tensor]
    prefix: str
    matches: int

    @property
    def needed(self) -> dict[str, Tensor]:
        return {name: tensor for name, tensor in self.tensors.items() if not _is_count(name)}

    def among(self, theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What a file has in the same parts, by our names: a deeper network has more in them than belongs there."""
        parts = {name.partition(".")[0] for name in self.tensors}
        there = {name.removeprefix(self.prefix): t for name, t in theirs.items() if name.startswith(self.prefix)}
        return {name: tensor for name, tensor in there.items() if name.partition(".")[0] in parts}


@torch.no_grad()
def fill(net: nn.Module, file: str | Path) -> str:
    """Copies the tensors of a classifier into the backbone of `net`; a sentence about what was copied.

    `file`: what ``gradaug train`` or ``netslim convert`` wrote, or a state_dict of torch.save or safetensors.
    Raises InputError where the network has no backbone or the file not exactly its tensors, ArchiveError or SourceError
    where the file cannot be read. Nothing is copied then.
    """
    path = Path(file).expanduser()
    theirs = tensors_in(path)
    place = _backbone(net, theirs)
    found = place.among(theirs)
    problems = mismatches(place.needed, {name: tensor for name, tensor in found.items() if not _is_count(name)})
    if problems:
        raise InputError(
            f"{path} does not fit the network's {place.name}: {'; '.join(problems)}, of {len(place.needed)} tensors; "
            "train a classifier with this very backbone, or leave out --backbone"
        )
    for name, tensor in place.tensors.items():
        if name in found:
            tensor.copy_(found[name])
    used = {place.prefix + name for name in found}
    rest = _some([name.rpartition(".")[0] or name for name in theirs if not (name in used or _is_count(name))])
    return f"{place.name} starts from {path} ({len(place.needed)} tensors{rest and '; without a use here: '}{rest})"


def tensors_in(path: Path) -> dict[str, Tensor]:
    """Parameters and buffers in a file by name; nothing that the file brings is run."""
    if path.suffix == ".safetensors" or is_of_torch(path):
        return state_dict_in(path)
    return network.tensors(path)


def _backbone(net: nn.Module, theirs: Mapping[str, Tensor]) -> _Place:
    """The first of PLACES that `theirs` has a tensor of, else the last one that there is."""
    state = net.state_dict()
    there = [place for place in (_place(name, state, theirs) for name in PLACES) if place.tensors]
    if not there:
        raise InputError(
            "--backbone fills the part `backbone` of a network, and this one has only "
            f"{_some([name.partition('.')[0] for name in state])}: leave it out, or call that part so and convert the "
            "model again"
        )
    return next((place for place in there if place.matches), there[-1])


def _place(name: str, state: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> _Place:
    start = f"{name}."
    ours = {key.removeprefix(start): tensor for key, tensor in state.items() if key.startswith(start)}
    votes = _prefixes(ours, theirs)
    prefix = min(votes, key=lambda prefix: (-votes[prefix], len(prefix)), default="")
    return _Place(name, ours, prefix, votes[prefix])


def _prefixes(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> Counter[str]:
    """What stands in a file before names of ours, and before how many with the same shape."""
    ends: dict[str, list[str]] = {}
    for name in ours:
        ends.setdefault(name.rpartition(".")[2], []).append(name)
    return Counter(
        other.removesuffix(name)
        for other, tensor in theirs.items()
        for name in ends.get(other.rpartition(".")[2], ())
        if f".{other}".endswith(f".{name}") and tensor.shape == ours[name].shape and tensor.ndim
    )


def _is_count(name: str) -> bool:
    return name.rpartition(".")[2] == COUNT


def _some(names: Sequence[str]) -> str:
    different = list(dict.fromkeys(names))
    more = f" and {len(different) - _SHOWN} more" if len(different) > _SHOWN else ""
    return f"{', '.join(different[:_SHOWN])}{more}"
