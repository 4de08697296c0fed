"""Regularisers at the blocks of a network: their factors, their rates, and that networks train with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.ops import StochasticDepth

import gradaug
import netslim
from gradaug import models
from gradaug.config.registry import REGULARIZERS
from gradaug.config.settings import TrainConfig
from gradaug.regularizers.dropblock import DropBlock
from gradaug.regularizers.hooks import Regularizers
from gradaug.regularizers.shakedrop import ShakeDrop
from netslim.errors import InputError

from .processes import Blocks

AT_BLOCKS = [name for name, row in REGULARIZERS.items() if row.load().needs_blocks]


def placed(net: netslim.SlimNet, config: TrainConfig) -> dict[str, nn.Module]:
    return Regularizers(config, 10).on_blocks(net)


@pytest.fixture(scope="module")
def blocks() -> netslim.SlimNet:
    return netslim.convert(Blocks(), torch.randn(2, 1, 12, 12))


def test_rates_rise_linearly_to_the_last_block(blocks: netslim.SlimNet) -> None:
    for name in ("stochastic-depth", "droppath", "shakedrop"):
        modules = placed(blocks, TrainConfig(regularizers=(name,), drop_rate=0.6))
        assert list(modules) == [block.name for block in blocks.blocks]
        assert [module.p if name != "shakedrop" else module.rate for module in modules.values()] == pytest.approx(
            [0.2, 0.4, 0.6]
        )


def test_dropblock_takes_the_last_two_sizes_of_maps_wherever_their_channels_are() -> None:
    config = TrainConfig(regularizers=("dropblock",))
    net = netslim.convert(models.PyramidNet(29, 12), torch.randn(2, 3, 32, 32))
    assert [block.name for block in net.blocks][3:] == list(placed(net, config))
    swin = netslim.convert(Swin(), torch.randn(2, 3, 16, 16))
    (last,) = placed(swin, config).values()
    assert last.channels == 3  # type: ignore[union-attr]


class Swin(nn.Module):
    """Channels come last."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.body = nn.Conv2d(3, 8, 4, 4), nn.LayerNorm(8), nn.Linear(8, 8)
        self.head = nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).permute(0, 2, 3, 1)
        return self.head((x + self.body(self.norm(x))).mean((1, 2)))


def test_several_follow_each_other(blocks: netslim.SlimNet) -> None:
    modules = placed(blocks, TrainConfig(regularizers=("shakedrop", "dropblock", "cutmix")))
    assert [type(part) for part in modules["bodies.0"]] == [DropBlock, ShakeDrop]  # type: ignore[attr-defined]
    assert placed(blocks, TrainConfig(regularizers=("mixup",))) == {}


def test_without_blocks_it_is_a_clear_error() -> None:
    net = netslim.convert(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(16, 2)), torch.randn(2, 1, 4, 4))
    with pytest.raises(InputError, match="shakedrop needs residual blocks, but none were found"):
        placed(net, TrainConfig(regularizers=("shakedrop",)))


def test_stochastic_depth_drops_batches_and_droppath_images() -> None:
    x = torch.ones(400, 2)
    batches = torch.stack([StochasticDepth(0.25, "batch")(x[:4]) for _ in range(400)])
    assert all(len(batch.unique()) == 1 for batch in batches)
    rows = StochasticDepth(0.25, "row")(x)
    for found in (batches[:, 0, 0], rows[:, 0]):
        assert found.unique().tolist() == pytest.approx([0, 4 / 3])
        assert float(found.mean()) == pytest.approx(1, abs=0.15)


def test_shakedrop_shakes_forward_and_backward_differently() -> None:
    torch.manual_seed(0)
    forward, backward = [], []
    for _ in range(300):
        x = torch.ones(4, 3, requires_grad=True)
        y = ShakeDrop(0.5, inverted=True)(x)
        y.sum().backward()
        assert len(y[0].unique()) == 1
        forward.append(y[:, 0].detach())
        backward.append(x.grad[:, 0])
    first, second = torch.cat(forward) * 0.5, torch.cat(backward) * 0.5
    kept = first == 1
    assert 0.4 < float(kept.float().mean()) < 0.6
    assert torch.equal(kept, second == 1)
    assert float(first[~kept].min()) == pytest.approx(-1, abs=0.05)
    assert float(first[~kept].max()) == pytest.approx(1, abs=0.05)
    assert float(second[~kept].min()) == pytest.approx(0, abs=0.05)
    assert float((first / 0.5).mean()) == pytest.approx(1, abs=0.1)


def test_dropblock_drops_squares_more_and_more() -> None:
    torch.manual_seed(0)
    block = DropBlock(0.3, 3)
    x = torch.ones(64, 4, 16, 16)
    block.progress = 0.0
    assert torch.equal(block(x), x)
    block.progress = 1.0
    dropped = block(x) == 0
    assert 0.2 < float(dropped.float().mean()) < 0.35
    inside = dropped & dropped.roll(1, 2) & dropped.roll(-1, 2) & dropped.roll(1, 3) & dropped.roll(-1, 3)
    assert bool(inside.any())
    assert block(torch.ones(2, 3, 2, 2)).shape == (2, 3, 2, 2)  # a map smaller than the square


def test_dropblock_is_told_how_far_the_run_is(blocks: netslim.SlimNet) -> None:
    regularizers = Regularizers(TrainConfig(regularizers=("shakedrop", "dropblock")), 10)
    modules = regularizers.on_blocks(blocks)
    for share in (0.0, 0.25):
        regularizers.on_progress(share)
        found = [one.progress for module in modules.values() for one in module.modules() if isinstance(one, DropBlock)]
        assert found == [share] * len(found)
        assert found


@pytest.mark.parametrize("name", AT_BLOCKS)
def test_in_evaluation_the_network_is_the_plain_one(blocks: netslim.SlimNet, name: str) -> None:
    blocks.eval()
    modules = placed(blocks, TrainConfig(regularizers=(name,), drop_rate=0.9))
    for module in modules.values():
        module.eval()
    x = torch.randn(2, 1, 12, 12)
    with blocks.through(modules):
        inside = blocks(x)
    assert torch.equal(inside, blocks(x))


@pytest.mark.parametrize("mode", ["none", "randwidth", "randdepth"])
@pytest.mark.parametrize("name", REGULARIZERS)
def test_every_regularizer_trains_in_every_mode_and_is_resumed(
    make_net: Callable[..., netslim.SlimNet], few_digits: None, tmp_path: Path, name: str, mode: str
) -> None:
    config = TrainConfig(mode, epochs=2, batch_size=32, round_to=1, lr=0.05, regularizers=(name,), drop_rate=0.5)
    results: dict[str, Any] = {}
    for case in ("whole", "plain"):
        net = make_net()
        gradaug.train(net, replace(config, regularizers=()) if case == "plain" else config, tmp_path / case)
        results[case] = net.state_dict()
    assert not all(torch.equal(value, results["plain"][key]) for key, value in results["whole"].items())
    assert all(value.isfinite().all() for value in results["whole"].values())
