"""Networks in the forms that they are written in: converted ones, and extracted ones, which are converted anew.

found = opened("slim", trust=True)      # what `netslim extract` wrote
found.net                               # trains in any mode
found.write(trained, Path("again"))     # in the form that it came in
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

import netslim
from netslim import SlimNet
from netslim.export.faithful import by_position
from netslim.export.reading import Form, form_of, read
from netslim.export.writers import WRITERS
from netslim.ir.inputs import drawn
from netslim.net.runtime import runtime
from netslim.notes import Notes, statistics
from netslim.source.shapes import example_inputs

if TYPE_CHECKING:
    from torch import nn

    from gradaug.training.folder import RunFolder


@dataclass(frozen=True, eq=False)
class Opened:
    """A network that trains, and what its file said of it where that was an extracted one."""

    net: SlimNet
    form: Form | None = None
    notes: Notes | None = None

    def write(self, trained: SlimNet, folder: RunFolder) -> Path | None:
        """Writes a trained `net` in the form that it came in; None for one that came converted."""
        if self.form is None or self.notes is None:
            return None
        notes = replace(self.notes, statistics=statistics(trained, 1.0, {}, 1), calibration=None)
        path = folder.slim[self.form.suffix]
        WRITERS[self.form.suffix].write(trained.extract(), runtime(trained).plan.inputs, path, notes)
        return path


def opened(path: str | Path, *, trust: bool = False, prove: bool = True) -> Opened:
    """The network in a file or folder, whichever netslim or gradaug wrote, on the CPU and in eval mode.

    trust: the file may run code that it brings, as an extracted network does, and a converted one that keeps Python.
    prove: prove the conversion of an extracted one. Raises ArchiveError or SourceError where it cannot be opened.
    """
    form = form_of(path)
    if form is None:
        return Opened(netslim.load(path, trust=trust))
    model, notes = read(path, trust=trust)
    return Opened(netslim.convert(model, _example(model, notes), prove=prove).eval(), form, notes)


def _example(model: nn.Module, notes: Notes) -> object:
    """Arguments by position like those that the full network was converted with."""
    if notes.inputs is None:
        return example_inputs(notes.shapes)
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), None)
    return tuple(by_position(model, drawn(notes.inputs, torch.Generator().manual_seed(0), dtype)).values())


def of_run(folder: RunFolder, *, trust: bool = False) -> Opened | None:
    """The network of a run that left it in its folder: trained, or a recipe's before it; None where there is none."""
    file = next((file for file in (folder.trained, folder.converted) if file.is_file()), None)
    if file is None:
        return None
    net = netslim.load(file, trust=trust)
    forms = ((form_of(place), place) for place in folder.slim.values())
    form, place = next(((form, place) for form, place in forms if form is not None), (None, None))
    return Opened(net, form, None if form is None or place is None else form.notes(place))
