"""A model whose forward could be followed as a whole, but whose class is to stay for what else it does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import netslim
from netslim.errors import ArchiveError, TraceError
from netslim.net.runtime import runtime


class Scored(nn.Module):
    """Called with a dict it gives its loss."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.ReLU())
        self.head = nn.Linear(16, 3)
        self.names = {0: "a", 1: "b", 2: "c"}

    def forward(self, x: Tensor | dict[str, Tensor]) -> Tensor:
        if isinstance(x, dict):
            return self.loss(x)
        features: Tensor = self.head(self.body(x).mean((2, 3)))
        return features

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        return nn.functional.cross_entropy(self(batch["img"]), batch["cls"])


BATCH = {"img": torch.randn(4, 1, 12, 12), "cls": torch.tensor([0, 1, 2, 0])}


@pytest.fixture
def model() -> Scored:
    torch.manual_seed(0)
    return Scored()


def test_the_loss_of_a_class_that_stays_is_there_at_any_width(model: Scored) -> None:
    net = netslim.convert(model, BATCH["img"], keep_class=True)
    assert type(runtime(net).top) is Scored
    assert torch.equal(net(BATCH), model(BATCH))
    with net.sub(width=0.5):
        narrow = net(BATCH)
    assert torch.equal(net.extract(width=0.5)(BATCH), narrow)
    assert not torch.equal(narrow, net(BATCH))


def test_it_has_the_groups_and_keys_that_it_has_without(model: Scored) -> None:
    kept, gone = netslim.convert(model, BATCH["img"], keep_class=True), netslim.convert(model, BATCH["img"])
    assert [(g.name, g.size) for g in kept.groups] == [(g.name, g.size) for g in gone.groups]
    assert list(kept.state_dict()) == list(gone.state_dict()) == list(model.state_dict())


def test_its_file_needs_trust_and_has_its_attributes(model: Scored, tmp_path: Path) -> None:
    net = netslim.convert(model, BATCH["img"], keep_class=True, prove=False)
    netslim.save(net, tmp_path / "net.pt")
    with pytest.raises(ArchiveError, match="--trust"):
        netslim.load(tmp_path / "net.pt")
    loaded = netslim.load(tmp_path / "net.pt", trust=True)
    assert runtime(loaded).top.names == model.names
    assert torch.equal(loaded(BATCH), net.eval()(BATCH))


def test_it_needs_a_model_with_values(model: Scored) -> None:
    with pytest.raises(TraceError, match="on meta"):
        netslim.convert(model.to("meta"), BATCH["img"].to("meta"), keep_class=True)
