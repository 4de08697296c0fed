"""Real models at random widths and depths, written in every form, and read back: the running sub-network."""

from __future__ import annotations

import random
import runpy
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import netslim
from netslim.export import WRITERS
from netslim.export.runtimes import session
from netslim.notes import NONE, Notes
from tests.elsewhere import tensors
from tests.zoo.test_extracted import MODELS, build, side

SAMPLE = ("resnet18", "mobilenet_v3_small", "squeezenet1_1")
ROUNDING = {"": 1e-5, ".pt": 1e-5, ".pt2": 1e-5, ".onnx": 1e-4}

Run = Callable[[Tensor], Any]


def read(path: Path) -> Run:
    """What the file computes, without netslim where the form is one of torch's or Python's."""
    if path.suffix == ".onnx":
        made = session(path)
        assert made is not None
        return made
    if path.suffix == ".pt2":
        return torch.export.load(path).module()
    loaded = runpy.run_path(str(path / "model.py"))["load"]() if path.is_dir() else torch.load(path, weights_only=False)
    return loaded.eval()


def chosen(net: netslim.SlimNet, name: str) -> tuple[dict[str, float], dict[str, bool]]:
    """Widths by group and blocks that are left out: the same ones every time."""
    draw = random.Random(zlib.crc32(name.encode()))
    return {g.name: draw.uniform(0.25, 1) for g in net.groups}, {b.name: draw.random() > 0.3 for b in net.blocks}


def lively(net: nn.Module, images: Tensor) -> nn.Module:
    """In evaluation mode, with the statistics of some images: a random network's activations die out without them.

    Weights that begin as zeros, such as the heads of transformers, are random: all answers would be zero.
    """
    for parameter in net.parameters():
        if parameter.ndim > 1 and not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0
    with torch.no_grad():
        net.train()(images)
    return net.eval()


def error(got: Any, wanted: Any) -> float:
    """The largest difference, relative to the largest number; the answers to different images are not all alike."""
    pairs = list(zip(tensors(got), tensors(wanted), strict=True))
    assert all((b.amax(0) - b.amin(0)).max() > 1e-3 * b.abs().max() for _, b in pairs)
    return max(((a - b).abs().max() / b.abs().max()).item() for a, b in pairs)


def check(name: str, folder: Path) -> dict[str, float]:
    """The error of every form, at the example's batch and another one."""
    images = torch.randn(3, 3, side(name), side(name), generator=torch.Generator().manual_seed(1))
    net = netslim.convert(lively(build(name), images), images[:2], prove=False)
    width, depth = chosen(net, name)
    small = net.extract(width, depth).eval()
    with torch.no_grad(), net.sub(width, depth):
        wanted = [net(images[:n]) for n in (2, 3)]
    notes = Notes(0.5, 1, tuple(depth), True, (images.shape[1:],), NONE)
    found = {}
    for suffix in ROUNDING:
        path = folder / f"slim{suffix}"
        written = WRITERS[suffix].write(small, net.plan.inputs, path, notes)
        assert written.compared
        assert written.open is None or "batch" in written.open
        with torch.no_grad():
            run = read(path)
            found[suffix] = max(error(run(images[:n]), out) for n, out in zip((2, 3), wanted, strict=True))
        print(name, suffix or "folder", f"{found[suffix]:.1e}", written, flush=True)
        assert found[suffix] <= ROUNDING[suffix], (suffix, found[suffix])
    return found


@pytest.mark.parametrize("name", SAMPLE)
def test_every_form_of_a_model_at_random_widths_and_depths(name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    check(name, tmp_path)


@pytest.mark.zoo
@pytest.mark.parametrize("name", [name for name in MODELS if name not in SAMPLE])
def test_every_form_of_every_classifier_of_torchvision(name: str, tmp_path: Path) -> None:
    check(name, tmp_path)
    for file in tmp_path.rglob("*"):  # gigabytes, which pytest would keep
        file.is_file() and file.unlink()
