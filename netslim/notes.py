"""What a file with an extracted network says about itself: what was kept, and whether its batch norm fits.

It is JSON: in a .pt file an entry of the zip archive, which can be read without opening the pickle beside it, in an
.onnx file a metadata property.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from netslim.archive.literals import inputs_read, inputs_text
from netslim.ir.inputs import Inputs, drawn
from netslim.net.runtime import runtime
from netslim.net.subnet import keep_counts
from netslim.source.shapes import Shapes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch._ops import OpOverload

    from netslim.files import JSON
    from netslim.layouts.engine import Args, Kwargs
    from netslim.net.slimnet import SlimNet
    from netslim.net.subnet import Width

KEY = "netslim"
ENTRY = f"{KEY}.json"
"""Name of the entry, in the archive's own folder; in ONNX the property is called KEY."""

NONE, OWN, FULL, RECALIBRATED = "none", "its own", "the full network's", "recalibrated"
PARTLY = "recalibrated in part"
"""Running statistics: there are none; of the network as it is; of the full network, which was cut; of new images."""

WARNINGS = {
    FULL: "its batch norm has the running statistics of the full network, which do not fit a smaller one: expect a far "
    "lower accuracy than gradaug eval says, or recalibrate it on training images with --data (digits, folder:DIR, ...)",
    PARTLY: "some of its norms keep the running statistics of the full network, which do not fit a smaller one, as "
    "only layers of batch norm can be recalibrated: expect a lower accuracy",
}


@dataclass(frozen=True, slots=True)
class Notes:
    """Of one extracted network."""

    width: float
    """Of all groups, or the mean share of the channels where groups have widths of their own."""
    round_to: int
    skipped: tuple[str, ...]
    """Names of the blocks that were left out."""
    cut: bool
    """Whether it is another network than the full one."""
    shapes: Shapes
    """Of its inputs, for one image."""
    statistics: str
    """NONE, OWN, FULL, RECALIBRATED or PARTLY."""
    calibration: str | None = None
    """The images of a recalibration."""
    groups: Mapping[str, int] | None = None
    """Channels of each group, where these have widths of their own."""
    ranking: str | None = None
    """By what channels were kept; None for the first ones."""
    inputs: Inputs | None = None
    """What its forward takes, as it takes it; None in files of before."""
    code: tuple[str, ...] = ()
    """Folders in which a pickled network's own Python was, where no name leads to it from anywhere else."""

    @property
    def warning(self) -> str | None:
        """What the person who uses the network should know."""
        return WARNINGS.get(self.statistics)

    def to_dict(self) -> dict[str, JSON]:
        """JSON values of what a person wants to know."""
        shown = asdict(replace(self, inputs=None))
        return {name: value for name, value in shown.items() if name not in _UNSEEN} | {"warning": self.warning}

    def to_json(self) -> str:
        """All of it."""
        inputs = None if self.inputs is None else json.loads(inputs_text(self.inputs))
        return json.dumps({**self.to_dict(), "inputs": inputs, "code": self.code})


_UNSEEN = {"inputs", "code"}


def notes_from(text: str) -> Notes | None:
    """The notes that `to_json` wrote; None for a text that is something else."""
    try:
        values = json.loads(text)
        shapes = tuple(tuple(int(size) for size in shape) for shape in values["shapes"])
        skipped = tuple(str(name) for name in values["skipped"])
        width, round_to, calibration = float(values["width"]), int(values["round_to"]), values["calibration"]
        cut, found = bool(values["cut"]), str(values["statistics"])
        groups, ranking = values.get("groups"), values.get("ranking")
        counts = None if groups is None else {str(name): int(count) for name, count in groups.items()}
        calibration, ranking = calibration and str(calibration), ranking and str(ranking)
        inputs, code = values.get("inputs"), tuple(str(folder) for folder in values.get("code", ()))
        known = None if inputs is None else inputs_read(json.dumps(inputs))
        return Notes(width, round_to, skipped, cut, shapes, found, calibration, counts, ranking, known, code)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def attach(path: Path, notes: Notes) -> None:
    """Adds the notes to a file that torch.save wrote."""
    with zipfile.ZipFile(path, "a") as archive:
        folder = archive.namelist()[0].split("/")[0]
        archive.writestr(f"{folder}/{ENTRY}", notes.to_json())


def notes_of(path: str | Path) -> Notes | None:
    """The notes of a .pt file, of which nothing else is opened; None where it has none."""
    try:
        with zipfile.ZipFile(path) as archive:
            entry = next((name for name in archive.namelist() if name.partition("/")[2] == ENTRY), None)
            return None if entry is None else notes_from(archive.read(entry).decode())
    except (OSError, ValueError, zipfile.BadZipFile):
        return None


def is_cut(net: SlimNet, width: Width, depth: Mapping[str, bool], round_to: int) -> bool:
    """Whether the sub-network is another one than the full network."""
    plan = runtime(net).plan
    return not all(depth.values()) or keep_counts(plan, width, round_to) != keep_counts(plan, 1.0)


def statistics(net: SlimNet, width: Width, depth: Mapping[str, bool], round_to: int) -> str:
    """The running statistics of the sub-network, extracted as it is: NONE, OWN or FULL."""
    seen = Normalised()
    inputs = drawn(runtime(net).plan.inputs, torch.Generator().manual_seed(0))
    with torch.no_grad(), net.sub(width, depth, round_to=round_to), seen:
        net(**inputs)
    if not seen.means:
        return NONE
    return FULL if is_cut(net, width, depth, round_to) else OWN


class Normalised(TorchDispatchMode):
    """Collects the running means that anything is normalised by: in layers and calls, of batch and instance norms."""

    def __init__(self) -> None:
        super().__init__()
        self.means: list[Tensor] = []

    def __torch_dispatch__(
        self, func: OpOverload, types: Sequence[type], args: Args = (), kwargs: Kwargs | None = None
    ) -> object:
        if "batch_norm" in func._schema.name:
            given = dict(zip((a.name for a in func._schema.arguments), args, strict=False)) | (kwargs or {})
            if given.get("training") is False:
                self.means.append(given["running_mean"])
        return func(*args, **(kwargs or {}))
