"""GradAug steps on torchvision's detectors: two of them always, all ten in `make zoo`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torchvision.models import get_model

import gradaug
import netslim
from gradaug.tasks import Detection

from .detectors import CLASSES, batch

QUICK = "fasterrcnn_mobilenet_v3_large_320_fpn", "ssdlite320_mobilenet_v3_large"
FURTHER = (
    "fasterrcnn_mobilenet_v3_large_fpn", "fasterrcnn_resnet50_fpn", "fasterrcnn_resnet50_fpn_v2", "fcos_resnet50_fpn",
    "keypointrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn_v2", "retinanet_resnet50_fpn",
    "retinanet_resnet50_fpn_v2", "ssd300_vgg16",
)  # fmt: skip


def steps(name: str) -> None:
    """Three steps of random width and depth, with either target, at small sizes where the model lets them be chosen."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {} if name.startswith("ssd") else {"min_size": 96, "max_size": 160}
    model = get_model(name, weights=None, weights_backbone=None, num_classes=CLASSES, **sizes)
    net = netslim.convert(model, torch.rand(2, 3, 96, 96), prove=False).train()
    images, targets = batch(2, points=17)
    images = [image.float() for image in images]
    targets = [{**target, "boxes": target["boxes"].float()} for target in targets]
    before = {key: value.clone() for key, value in net.state_dict().items()}
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-4)
    mode = "both" if net.blocks else "randwidth"
    ga = gradaug.GradAug(net, mode, task=Detection(), round_to=1, num_subnets=2)
    side = {"ssdlite320_mobilenet_v3_large": 320, "ssd300_vgg16": 300}.get(name, 96)
    assert ga.space.resolutions[0] == side
    assert len(ga.space.resolutions) > 1 or name == "ssd300_vgg16"  # whose last maps are one pixel at 300
    for learnt in ("truth", "full", "truth"):
        ga.task = Detection(subnet_target=learnt)
        losses = ga.step(images, targets, optimizer)
        assert torch.isfinite(losses.total)
        assert len(losses.subnets) == 2
    changed = [key for key, value in net.state_dict().items() if not torch.equal(value, before[key])]
    assert any(key.startswith("backbone.") for key in changed)
    assert any(not key.startswith("backbone.") for key in changed)
    with torch.no_grad():
        assert len(net.eval()(images)) == 2


@pytest.mark.parametrize("name", QUICK)
def test_a_detector_of_torchvision_takes_steps(name: str) -> None:
    steps(name)


@pytest.mark.zoo
@pytest.mark.parametrize("name", FURTHER)
def test_every_detector_of_torchvision_takes_steps(name: str) -> None:
    steps(name)
