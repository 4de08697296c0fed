"""A small residual network, written as a user would, and conveniences to convert and train it."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

import gradaug
import netslim
from gradaug import data
from gradaug.training.loop import train

from .processes import Digitals

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Tiny(nn.Module):
    """Stem of 8 channels, a residual body of 12, a head of 16; runs at any image size."""

    def __init__(self, classes: int = 10, channels: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, 8, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(8)
        self.body1 = nn.Conv2d(8, 12, 3, padding=1, bias=False)
        self.body1_norm = nn.BatchNorm2d(12)
        self.body2 = nn.Conv2d(12, 8, 3, padding=1, bias=False)
        self.body2_norm = nn.BatchNorm2d(8)
        self.top = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.top_norm = nn.BatchNorm2d(16)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(16, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem_norm(self.stem(x)))
        y = torch.relu(self.body1_norm(self.body1(x)))
        x = torch.relu(x + self.body2_norm(self.body2(y)))
        x = torch.relu(self.top_norm(self.top(x)))
        return self.fc(self.dropout(x.mean(dim=(2, 3))))


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A converted file: a small network for 8x8 digits, with dropout, a residual block and a norm."""
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("model") / "converted.pt"
    netslim.save(netslim.convert(Digitals(), torch.randn(2, 1, 8, 8)), path)
    return path


class Part(data.Images):
    """The first images of a set: a short epoch."""

    def __init__(self, images: data.Images, count: int) -> None:
        self.images, self.count = images, count

    def __len__(self) -> int:
        return self.count

    def __getitems__(self, keys: Any) -> data.Batch:
        return self.images.__getitems__(keys)


@pytest.fixture
def tiny() -> Tiny:
    torch.manual_seed(1)
    return Tiny()


@pytest.fixture
def make_net() -> Callable[..., netslim.SlimNet]:
    """Converted networks, equal for equal arguments."""

    def make(side: int = 12, **arguments: Any) -> netslim.SlimNet:
        torch.manual_seed(1)
        model = Tiny(**arguments)
        return netslim.convert(model, torch.randn(2, arguments.get("channels", 1), side, side))

    return make


@pytest.fixture
def net(make_net: Callable[..., netslim.SlimNet]) -> netslim.SlimNet:
    return make_net()


@pytest.fixture
def few_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Digits with 128 training images."""

    def few(*arguments: Any) -> data.DataSource:
        full = data.digits(*arguments)
        return replace(full, train=Part(full.train, 128), calibration=Part(full.calibration, 128))

    monkeypatch.setattr(importlib.import_module("gradaug.data.digits"), "digits", few)


@pytest.fixture
def short() -> gradaug.TrainConfig:
    """Two epochs of four steps."""
    return gradaug.TrainConfig(epochs=2, batch_size=32, round_to=1, lr=0.05)


@pytest.fixture
def run(make_net: Callable[..., netslim.SlimNet], few_digits: None) -> Callable[..., tuple[Any, Any]]:
    """Trains a fresh network, with dropout, on a few digits: (network, result)."""

    def run_it(config: gradaug.TrainConfig, out: Path, **arguments: Any) -> tuple[Any, Any]:
        net = make_net(dropout=0.1)
        return net, train(net, config, out, **arguments)

    return run_it
