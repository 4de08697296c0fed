"""torch.export programs: the network in evaluation mode, as operators of ATen, open in what sizes torch can follow."""

from __future__ import annotations

import contextlib
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import Dim
from torch.utils._pytree import tree_map

from netslim.errors import ArchiveError
from netslim.export.faithful import MODES, Unfaithful, by_position, require_same_at
from netslim.export.sizes import BATCH, Sizes, open_sizes, resized, size_of
from netslim.export.written import Written
from netslim.files import atomic_write
from netslim.ir.inputs import Input, Inputs, drawn, of_two
from netslim.notes import ENTRY, Notes
from netslim.versions import export


def write_exported(model: nn.Module, inputs: Inputs, path: Path, notes: Notes | None = None) -> Written:
    """One file for torch.export.load, open in the sizes that the network and torch allow.

    Raises ArchiveError where torch cannot write the network so.
    """
    extra = {} if notes is None else {ENTRY: notes.to_json()}

    def saved(trial: Trial, temporary: Path) -> Callable[..., Any]:
        torch.export.save(trial.program(), temporary, extra_files=extra)
        return torch.export.load(temporary).module()

    return written(model, inputs, path, saved, "torch cannot export this network", tolerance=1e-4)


NO_RUNTIME, NO_INPUT = "onnxruntime is not installed", "the network runs on no random input"
UNSEEN = f"{NO_RUNTIME}, so that nothing shows the file to be right at another"
DIFFERS = "with others open, what torch's exporter writes does not do what the network does"


@dataclass(frozen=True)
class Trial:
    """A way to have a network followed: the inputs to follow it with, and the sizes that are open.

    by_name: whether the open sizes are said to be any; torch otherwise finds what they may be.
    """

    model: nn.Module
    inputs: Inputs
    sizes: Sizes
    by_name: bool

    def program(self) -> torch.export.ExportedProgram:
        """The network in evaluation mode. Raises whatever torch does."""
        given = tuple(by_position(self.model, self.inputs).values())
        named = iter(self.sizes.open)
        dims = {name: Dim(name, min=1 if name == BATCH else None) for name in self.sizes.names}

        def free(leaf: object) -> dict[int, Any] | None:
            if not isinstance(leaf, Input):
                return None
            found = {i: name for i, name in enumerate(next(named)) if name is not None}
            return {i: dims[name] if self.by_name else Dim.AUTO for i, name in found.items()} or None

        args = tuple(
            by_position(self.model, drawn(self.inputs, torch.Generator().manual_seed(0), self._dtype)).values()
        )
        return export(self.model.eval(), args, tree_map(free, given))

    @property
    def _dtype(self) -> torch.dtype | None:
        return next((p.dtype for p in self.model.parameters() if p.is_floating_point()), None)


def written(
    model: nn.Module, inputs: Inputs, path: Path, save: Callable[[Trial, Path], Callable[..., Any] | None],
    failure: str, tolerance: float, runs: bool = True,
) -> Written:  # fmt: skip
    """The first of the trials whose file does what the network does, at the example's sizes and at others.

    save: writes one, and gives what runs the file; None where nothing is there that could. runs: whether there is.
    Exporters have been seen to write what is wrong at other images, so without a comparison the batch alone is open.
    Raises ArchiveError, and leaves nothing, where none does.
    """
    inputs, sizes = open_sizes(model, inputs)
    if not runs:
        sizes = sizes.without(tuple(name for name in sizes.names if name != BATCH), UNSEEN)
    first, error = "", Exception()
    for trial in _trials(model, inputs, sizes):
        try:
            with atomic_write(path) as temporary, quiet("torch.export", "torch._export", "torch.onnx"):
                again = save(trial, temporary)
                compared = "" if again is None else _compared(trial, again, inputs, tolerance)
        except Exception as wrong:
            if isinstance(wrong, ArchiveError) and not isinstance(wrong, Unfaithful):
                raise  # the system refuses the file, and will again
            told = DIFFERS if isinstance(wrong, Unfaithful) else f"torch's exporter takes no other ({cause(wrong)})"
            first, error = first or told, wrong
        else:
            said = sizes.without(tuple(n for n in sizes.names if n not in trial.sizes.names), first)
            unchecked = "" if compared else NO_INPUT if again else NO_RUNTIME
            return Written(compared, unchecked, said.names, said.fixed)
    raise error if isinstance(error, ArchiveError) else ArchiveError(f"{failure} ({cause(error)}); write it as .pt.")


def _trials(model: nn.Module, inputs: Inputs, sizes: Sizes) -> Iterator[Trial]:
    """Ways to follow the network, those that leave most open first.

    At sizes at which dimensions within it shrink to 1 torch follows nothing, so larger ones come second.
    """
    two = of_two(inputs) if BATCH in sizes.names else inputs
    sides = tuple(name for name in sizes.names if name != BATCH)
    larger = {name: 4 * size_of(inputs, sizes.open, name) + 32 * (i + 1) for i, name in enumerate(sides)}
    batch_alone = sizes.without(sides, "")
    yield Trial(model, two, sizes, by_name=True)
    if sides:
        yield Trial(model, resized(two, sizes.open, larger), sizes, by_name=False)
        yield Trial(model, two, batch_alone, by_name=True)
    if BATCH in sizes.names:
        yield Trial(model, inputs, batch_alone.without((BATCH,), ""), by_name=True)


def _compared(trial: Trial, again: Callable[..., Any], inputs: Inputs, tolerance: float) -> str:
    """Compares at the example's sizes and at others, as far as they are open and the network runs there itself."""
    known = {name: size_of(inputs, trial.sizes.open, name) for name in trial.sizes.names}
    known |= {BATCH: size_of(of_two(inputs), trial.sizes.open, BATCH)} if BATCH in known else {}

    def same(sizes: dict[str, int]) -> bool:
        given = resized(trial.inputs, trial.sizes.open, {**known, **sizes})
        return require_same_at(trial.model, again, given, tolerance)

    if not same({}):
        return ""
    others = [f"at {what}" for what, found in _others(known) if any(map(same, found))]
    return " and ".join(filter(None, (f"outputs in {MODES[False]} mode", ", ".join(others))))


def _others(known: Mapping[str, int]) -> Iterator[tuple[str, Iterator[dict[str, int]]]]:
    """Other sizes to compare at, by what they are; of each kind the first one counts at which the network runs."""
    sides, one = [name for name in known if name != BATCH], {BATCH: 1} if BATCH in known else {}
    if one:
        yield "other batches", iter([{BATCH: 3 if known[BATCH] != 3 else 5}])
    if one and not sides:
        yield "one image", iter([one])
    if sides:
        odd = {name: known[name] + 17 + 16 * i for i, name in enumerate(sides)}
        even = (
            {name: known[name] * n // d + 32 * i for i, name in enumerate(sides)} for n, d in ((3, 2), (2, 1), (1, 2))
        )
        yield "odd sizes", iter([{**one, **odd}])
        yield "other sizes", ({**one, **each} for each in even)


@contextlib.contextmanager
def quiet(*names: str) -> Iterator[None]:
    """Without torch's remarks on its own exporters."""
    logs = [logging.getLogger(name) for name in names]
    before = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for log, level in zip(logs, before, strict=True):
            log.setLevel(level)


def cause(error: BaseException) -> str:
    """The first line of what was wrong first."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = re.sub("\x1b\\[[0-9;]*m", "", str(error)).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]:.200}" if lines else type(error).__name__
