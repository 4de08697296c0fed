"""--backbone: a classifier's weights in a detector's backbone, tensor by tensor, or not at all."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import resnet18
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import Conv2dNormActivation, FrozenBatchNorm2d

import gradaug
import netslim
from gradaug.config.settings import TrainConfig
from gradaug.training.backbone import fill
from netslim.errors import InputError, NetslimError

from . import detectors


class Body(nn.Sequential):
    """Convolutions and norms, some of them in blocks."""

    def __init__(self, norm: type[nn.Module] = nn.BatchNorm2d) -> None:
        super().__init__(
            Conv2dNormActivation(3, 8, stride=2, norm_layer=norm), nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), norm(8))
        )


class Pyramid(nn.Module):
    """As torchvision puts one: a body and something behind it."""

    out_channels = 12

    def __init__(self, norm: type[nn.Module] = nn.BatchNorm2d) -> None:
        super().__init__()
        self.body, self.fpn = Body(norm), nn.Conv2d(8, 12, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fpn(self.body(x).relu())


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features, self.fc = Body(), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x).mean((2, 3)))


class Around(nn.Module):
    """A network with nothing but a backbone."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone


def equal(part: nn.Module, other: nn.Module) -> bool:
    theirs = other.state_dict()
    names = [name for name in part.state_dict() if not name.endswith("num_batches_tracked")]
    return all(torch.equal(part.state_dict()[name], theirs[name]) for name in names)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier after a step on images."""
    torch.manual_seed(5)
    net = netslim.convert(Classifier(), torch.rand(2, 3, 16, 16))
    out = tmp_path_factory.mktemp("classifier")
    gradaug.train(net, TrainConfig(data="synthetic:10x64", epochs=1, batch_size=64, mode="none"), out)
    return out / "trained.pt"


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, FrozenBatchNorm2d])
@pytest.mark.parametrize("backbone", [Pyramid, Body])
def test_what_training_wrote_is_in_the_backbone(trained: Path, backbone: Any, norm: Any) -> None:
    net = Around(backbone(norm))
    before = copy.deepcopy(net)
    said = fill(net, trained)
    place = "backbone.body" if backbone is Pyramid else "backbone"
    assert re.match(rf"{place} starts from .*trained.pt \(\d+ tensors; without a use here: fc\)", said)
    body, old = (each.backbone.body if backbone is Pyramid else each.backbone for each in (net, before))
    assert equal(body, netslim.load(trained).features)
    assert not equal(body, old)
    if backbone is Pyramid:
        assert equal(net.backbone.fpn, before.backbone.fpn)


@pytest.mark.parametrize("form", ["plain", "nested", "parallel", "safetensors", "alone"])
def test_a_state_dict_will_do(form: str, tmp_path: Path) -> None:
    model = Classifier()
    state = model.state_dict()
    if form == "alone":  # the backbone's own, without what is around it
        state = model.features.state_dict()
    path = tmp_path / f"weights.{'safetensors' if form == 'safetensors' else 'pth'}"
    if form == "safetensors":
        save_file(state, path)
    else:
        state = {f"module.{name}": value for name, value in state.items()} if form == "parallel" else state
        torch.save({"epoch": 3, "model": state} if form == "nested" else state, path)
    net = Around(Pyramid())
    fill(net, path)
    assert equal(net.backbone.body, model.features)


@pytest.mark.parametrize(("layers", "said"), [(None, "100 tensors; without a use here: fc)"), ([1, 2], "50 tensors")])
def test_torchvisions_own_fit_each_other(layers: Any, said: str, tmp_path: Path) -> None:
    """Also where the detector uses the first stages alone."""
    model = resnet18()
    torch.save(model.state_dict(), tmp_path / "resnet18.pt")
    net = Around(resnet_fpn_backbone(backbone_name="resnet18", weights=None, returned_layers=layers))
    assert said in fill(net, tmp_path / "resnet18.pt")
    assert equal(net.backbone.body, model)


def test_a_backbone_whose_part_is_called_body_is_filled_as_a_whole(tmp_path: Path) -> None:
    model, net = detectors.Backbone(), Around(detectors.Backbone())
    torch.save({f"trunk.{name}": value for name, value in model.state_dict().items()}, tmp_path / "own.pt")
    assert fill(net, tmp_path / "own.pt").startswith("backbone starts from")
    assert equal(net.backbone, model)


def wrong(change: str) -> Any:
    state = Classifier().state_dict()
    first, last = "features.0.0.weight", "features.1.0.bias"
    return {
        "shape": state | {first: torch.zeros(8, 1, 3, 3)},
        "lacks": {name: value for name, value in state.items() if name != last},
        "statistics": {name: value for name, value in state.items() if "running_mean" not in name},
        "deeper": state | {"features.1.2.weight": torch.zeros(8)},
        "other": nn.Linear(3, 4).state_dict(),
        "list": [1],
    }[change]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("shape", "does not fit the network's backbone.body: 0.0.weight is (8, 1, 3, 3) there and (8, 3, 3, 3) in"),
        (
            "lacks",
            "does not fit the network's backbone.body: it lacks 1.0.bias, of 11 tensors; train a",
        ),
        ("statistics", "it lacks 0.1.running_mean, 1.1.running_mean, of 11 tensors"),
        ("deeper", "does not fit the network's backbone.body: the model has no 1.2.weight, of 11 tensors"),
        ("other", "does not fit the network's backbone.body: it lacks 0.0.weight, 0.1.weight, 0.1.bias and 8 more"),
        ("list", "holds a list, not a state_dict"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_copied(change: str, sentence: str, tmp_path: Path) -> None:
    torch.save(wrong(change), tmp_path / "wrong.pt")
    net = Around(Pyramid())
    before = copy.deepcopy(net)
    with pytest.raises(NetslimError, match=re.escape(sentence)):
        fill(net, tmp_path / "wrong.pt")
    assert equal(net, before)


def test_files_and_networks_that_are_none(tmp_path: Path, trained: Path) -> None:
    net = Around(Pyramid())
    with pytest.raises(NetslimError, match="does not exist"):
        fill(net, tmp_path / "nowhere.pt")
    (tmp_path / "text.pt").write_text("weights")
    with pytest.raises(NetslimError, match="not a file of netslim's"):
        fill(net, tmp_path / "text.pt")
    torch.save(Classifier(), tmp_path / "pickled.pt")
    with pytest.raises(NetslimError, match=r"save model\.state_dict\(\) instead"):
        fill(net, tmp_path / "pickled.pt")
    (tmp_path / "cut.safetensors").write_bytes(b"12345")
    with pytest.raises(NetslimError, match="cannot be read as a file of safetensors"):
        fill(net, tmp_path / "cut.safetensors")
    with pytest.raises(InputError, match="this one has only features, fc: leave it out"):
        fill(Classifier(), trained)


def test_a_run_starts_from_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that goes on has weights of its own, and needs the file no more."""
    monkeypatch.setattr("gradaug.data.scenes.scenes", detectors.source)
    torch.save(detectors.Backbone().state_dict(), tmp_path / "own.pt")
    config = TrainConfig(
        task="detection", data="scenes", epochs=1, batch_size=8, mode="none", lr=1e-9, weight_decay=0,
        backbone=str(tmp_path / "own.pt"), momentum=0,
    )  # fmt: skip
    net = detectors.converted("retina").float()
    gradaug.train(net, config, tmp_path / "run")
    torch.testing.assert_close(net.backbone.first.weight, torch.load(tmp_path / "own.pt")["first.weight"])
    (tmp_path / "own.pt").unlink()
    gradaug.train(detectors.converted("retina").float(), config, tmp_path / "run", resume=True)
    with pytest.raises(NetslimError, match="does not exist"):
        gradaug.train(net, config, tmp_path / "other")
