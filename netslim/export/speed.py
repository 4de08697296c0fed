"""What a plain network takes in the runtimes that its written forms are for."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from netslim.choosing.latency import Run, torch_run
from netslim.choosing.steady import QUICK, Prepare, Yardstick
from netslim.errors import ArchiveError
from netslim.export.exported import NO_RUNTIME, Trial, cause, quiet
from netslim.export.faithful import by_position
from netslim.export.onnx import save_onnx
from netslim.export.runtimes import RUNTIME, session
from netslim.export.sizes import BATCH, Sizes
from netslim.export.written import Written
from netslim.extras import require
from netslim.ir.inputs import Inputs, batch, drawn, of_one, tensors_in

TORCH = "torch"


def onnx_run(model: nn.Module, inputs: Inputs) -> Run:
    """In onnxruntime, on the CPU. Raises ArchiveError where torch cannot write the network as ONNX."""
    for package in ("onnxscript", "onnx", RUNTIME):
        require(package, f"times in {RUNTIME}")
    with tempfile.TemporaryDirectory() as folder, quiet("torch.onnx", "torch.export", "torch._export"):
        path = Path(folder) / "timed.onnx"
        one = of_one(inputs)
        shapes = tuple((None,) * len(each.shape) for each in tensors_in(one))
        try:
            save_onnx(Trial(model, one, Sizes(shapes, {}), by_name=True), path, None)
        except Exception as error:
            raise ArchiveError(f"torch cannot write this network as ONNX ({cause(error)}).") from error
        return file_run(path, model, one)


def file_run(path: Path, model: nn.Module, inputs: Inputs) -> Run:
    """The network as it was written to `path`, on inputs like these; the plain one where the form holds that."""
    if path.suffix not in _OPENED:
        return torch_run(model, inputs)
    made = _OPENED[path.suffix](path)
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), None)
    given = tuple(by_position(model, drawn(inputs, torch.Generator().manual_seed(0), dtype)).values())

    def run() -> None:
        with torch.inference_mode():
            made(*given)

    return run


def _opened(path: Path) -> Callable[..., object]:
    found = session(path)
    assert found is not None
    return found


_OPENED: dict[str, Callable[[Path], Callable[..., object]]] = {
    ".onnx": _opened, ".pt2": lambda path: torch.export.load(path).module(),
}  # fmt: skip

RUNTIMES: dict[str, Prepare] = {TORCH: torch_run, RUNTIME: onnx_run}
"""What runs a plain network, by name."""


def speeds(path: Path, model: nn.Module, full: nn.Module, inputs: Inputs, written: Written) -> Speeds | None:
    """Of what was written, and of the full network in the same runtime; None where nothing here runs the form."""
    if written.unchecked == NO_RUNTIME:
        return None
    one = of_one(inputs) if written.open is None or BATCH in written.open else inputs
    runtime = RUNTIME if path.suffix == ".onnx" else TORCH
    images = batch(one) or 1
    with contextlib.suppress(Exception):  # a network that takes no single image, or whose whole cannot be written so
        beside = Yardstick(RUNTIMES[runtime](full, inputs), QUICK)
        return Speeds(runtime, beside.beside(file_run(path, model, one)) / images, beside.seconds)
    return None


@dataclass(frozen=True, slots=True)
class Speeds:
    """Seconds for one image."""

    runtime: str
    seconds: float
    full: float
