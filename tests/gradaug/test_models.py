"""The paper's CIFAR networks: their sizes, and what netslim makes of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

import netslim
from gradaug import models


@pytest.mark.parametrize(
    ("make", "classes", "parameters"),
    [
        (models.wrn_28_10, 100, 36_536_884),
        (models.wrn_28_2, 10, 1_467_610),
        (models.pyramidnet200_a240, 100, 26_844_952),
        (models.resnet110, 10, 1_730_714),
    ],
)
def test_sizes_are_the_papers(make: Callable[..., nn.Module], classes: int, parameters: int) -> None:
    with torch.device("meta"):
        model = make(classes)
    assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize(
    ("model", "blocks"),
    [(models.wrn_16_2(), 6), (models.resnet20(), 9), (models.PyramidNet(29, 12), 9)],
    ids=["wide", "basic", "pyramid"],
)
def test_they_convert_with_every_block_and_run_at_any_size(model: nn.Module, blocks: int) -> None:
    net = netslim.convert(model, torch.randn(2, 3, 32, 32))
    assert net.proof is not None
    assert net.proof.passed
    assert len(net.blocks) == blocks
    assert all(frozen.reason in ("model input", "model output") for frozen in net.frozen)
    with net.eval().sub(0.5):
        assert net(torch.randn(1, 3, 24, 24)).shape == (1, 10)


def test_depths_that_do_not_exist_are_refused() -> None:
    for make in (lambda: models.WideResNet(17, 2), lambda: models.ResNetCifar(21), lambda: models.PyramidNet(30, 12)):
        with pytest.raises(ValueError, match="the depth of a"):
            make()
