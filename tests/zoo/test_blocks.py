"""How many blocks real networks have, each number worked out by hand from the architecture."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

import netslim


class Basic(nn.Module):
    """He et al. (2016), for CIFAR: two 3x3 convolutions; a subsampled, zero-padded shortcut (option A)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        self.stride, self.more = stride, outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        if self.stride > 1:
            half = self.more // 2
            x = nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, half, half))
        return (out + x).relu()


class Wide(nn.Module):
    """Zagoruyko and Komodakis (2016): pre-activation; the projection reads the activated input."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn2, self.conv2 = nn.BatchNorm2d(outputs), nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.project = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        active = self.bn1(x).relu()
        out = self.conv2(self.bn2(self.conv1(active)).relu())
        return out + (x if self.project is None else self.project(active))


def cifar(block: type[nn.Module], blocks: int, widths: tuple[int, ...]) -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 3, padding=1)]
    for stage, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        layers.append(block(inputs, outputs, 2 if stage else 1))
        layers += [block(outputs, outputs, 1) for _ in range(blocks - 1)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 10))


def blocks(model: nn.Module, size: int = 64) -> tuple[Any, ...]:
    return netslim.convert(model.eval(), torch.empty(2, 3, size, size), prove=False).blocks


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("resnet18", 2 * 4),
        ("resnet50", 3 + 4 + 6 + 3),
        ("mobilenet_v2", 17 - 7),  # of 17 inverted residuals the first of each of 7 settings changes the shape
        ("convnext_tiny", 3 + 3 + 9 + 3),
        ("vit_b_16", 12 * 2),  # attention and MLP
        ("densenet121", 6 + 12 + 24 + 16),
        ("vgg16", 0),
        ("efficientnet_b0", 0 + 1 + 1 + 2 + 2 + 3 + 0),  # repeats 1, 2, 2, 3, 3, 4, 1 without the first of each
        ("regnet_y_400mf", 1 + 3 + 6 + 6),  # the projection is smaller than the body in every first one
        ("swin_t", 2 * (2 + 2 + 6 + 2)),
        ("googlenet", 0),
    ],
)
def test_a_torchvision_network_has_the_blocks_of_its_paper(name: str, count: int) -> None:
    options = {"init_weights": False} if name in ("googlenet", "vgg16") else {}
    assert len(blocks(torchvision.models.get_model(name, **options), 224)) == count


@pytest.mark.parametrize(("name", "count"), [("resnet18", 2 * 4), ("resnet50", 3 + 4 + 6 + 3)])
def test_a_pyramid_has_the_blocks_of_its_network_with_frozen_batch_norms(name: str, count: int) -> None:
    backbone = torchvision.models.detection.backbone_utils.resnet_fpn_backbone
    assert len(blocks(backbone(backbone_name=name, weights=None, trainable_layers=5))) == count


def test_resnet110_for_cifar_has_54() -> None:
    found = blocks(cifar(Basic, 18, (16, 16, 32, 64)), 32)
    assert len(found) == 54
    assert [block.stage for block in found] == [0] * 18 + [1] * 18 + [2] * 18


def test_wide_resnet_28_10_has_12() -> None:
    found = blocks(cifar(Wide, 4, (16, 160, 320, 640)), 32)
    assert len(found) == 12
    stages = [(16, 160), (160, 320), (320, 640)]
    first = sum(9 * a * b + 9 * b * b + 2 * b for a, b in stages)  # the first norm is the projection's too
    others = sum(3 * (2 * 9 * b * b + 4 * b) for _, b in stages)
    assert sum(block.params for block in found) == first + others


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("hrnet_w18_small", 1 + 2 * 2 + 2 * 3 + 2 * 4 + 3 + 4),
        ("dpn48b", 3 + 4 + 6 + 3),
        ("dpn68", 3 + 4 + 12 + 3),
        ("res2net50_14w_8s", 3 + 4 + 6 + 3),  # the chain inside each block is used by a concatenation
    ],
)
def test_a_timm_network_has_the_blocks_of_its_paper(name: str, count: int) -> None:
    timm = pytest.importorskip("timm")
    found = blocks(timm.create_model(name), 224)
    assert len(found) == count, [block.name for block in found]
