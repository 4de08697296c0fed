"""Real models, extracted, from files, where there is no netslim: bit for bit the sub-network, in both modes."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

import netslim
from netslim.export import WRITERS
from netslim.notes import NONE, Notes
from tests.elsewhere import play, played_elsewhere, tensors

MODELS = torchvision.models.list_models(module=torchvision.models)
SAMPLE = ("resnet18", "densenet121", "mobilenet_v3_small", "googlenet", "efficientnet_b0", "swin_t")
LARGER = {"vit": 224, "maxvit_t": 224, "vit_h_14": 224, "inception_v3": 299, "googlenet": 96}


def side(name: str) -> int:
    return LARGER.get(name, LARGER.get(name.split("_")[0], 64))


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    options = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
    return torchvision.models.get_model(name, weights=None, num_classes=10, **options)


def same(got: Any, wanted: Any) -> None:
    assert type(got) is type(wanted)
    if isinstance(wanted, dict):
        assert got.keys() == wanted.keys()
        for name in wanted:
            same(got[name], wanted[name])
        return
    assert all(torch.equal(a, b) for a, b in zip(tensors(got), tensors(wanted), strict=True))


def check(name: str, folder: Path) -> None:
    images = torch.randn(2, 3, side(name), side(name), generator=torch.Generator().manual_seed(1))
    net = netslim.convert(build(name), images, prove=False)
    small = net.train().extract(0.5)
    notes = Notes(0.5, 1, (), True, (images.shape[1:],), NONE)
    for form in ("slim.pt", "slim"):
        path = folder / form
        compared = WRITERS[path.suffix].write(small, net.plan.inputs, path, notes).compared
        assert compared == "outputs, gradients and buffers in evaluation and training mode"
    with torch.no_grad(), net.sub(0.5, track_running_stats=True):
        wanted = play(net, [images])
    del net
    made = play(copy.deepcopy(small), [images])
    for run, sub in zip(made, wanted, strict=True):
        torch.testing.assert_close(tensors(run["output"]), tensors(sub["output"]), rtol=1e-4, atol=1e-5)
    for form in ("slim.pt", "slim"):
        for run, again in zip(made, played_elsewhere(folder / form, [images]), strict=True):
            same(again, run)


@pytest.mark.parametrize("name", SAMPLE)
def test_a_model_of_torchvision_from_a_file(name: str, tmp_path: Path) -> None:
    check(name, tmp_path)


@pytest.mark.zoo
@pytest.mark.parametrize("name", [name for name in MODELS if name not in SAMPLE])
def test_every_classifier_of_torchvision_from_a_file(name: str, tmp_path: Path) -> None:
    check(name, tmp_path)
    for file in tmp_path.rglob("*"):  # gigabytes, which pytest would keep
        file.is_file() and file.unlink()


def test_planted_a_file_of_another_network_is_noticed(tmp_path: Path) -> None:
    images: Tensor = torch.randn(2, 3, 64, 64)
    small = netslim.convert(build("resnet18"), images, prove=False).extract(0.5)
    torch.save(small, tmp_path / "slim.pt")
    with torch.no_grad():
        next(small.parameters()).mul_(1.001)
    with pytest.raises(AssertionError):
        same(played_elsewhere(tmp_path / "slim.pt", [images])[0], play(small, [images])[0])
