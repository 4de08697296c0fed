"""What a caller may say of a sub-network: numbers of every kind, and a sentence for what is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import netslim
from netslim.errors import SubnetError

IMAGE = torch.randn(2, 3, 8, 8)


@pytest.fixture(scope="module")
def net() -> netslim.SlimNet:
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4))
    return netslim.convert(model, IMAGE, prove=False)


def kept(net: netslim.SlimNet, width: Any, **options: Any) -> int:
    """Channels of the first layer."""
    (first, *_) = net.kept(width, **options)["0.weight"]
    with net.sub(width, **options):
        assert net(IMAGE).shape == (2, 4)
    return len(first)


@pytest.mark.parametrize(
    ("width", "channels"),
    [
        (4, 4), (np.int64(4), 4), (np.uint8(4), 4), (torch.tensor(4), 4), (torch.tensor([4]), 4), (np.array([4]), 4),
        (0.25, 4), (np.float32(0.25), 4), (torch.tensor(0.25), 4), (np.array(0.25), 4),
        (1, 1), (np.int32(1), 1), (torch.tensor(1), 1), (1.0, 16), (np.float64(1), 16), (torch.tensor(1.0), 16),
    ],
    ids=repr,
)  # fmt: skip
def test_whole_numbers_count_and_others_are_ratios(net: netslim.SlimNet, width: Any, channels: int) -> None:
    assert kept(net, {net.groups[0].name: width}) == channels


@pytest.mark.parametrize("width", [0.5, np.float32(0.5), np.float64(0.5), torch.tensor(0.5), np.array([0.5])], ids=repr)
def test_one_ratio_for_all(net: netslim.SlimNet, width: Any) -> None:
    assert kept(net, width) == 8
    assert kept(net, 1) == kept(net, np.int64(1)) == 16
    assert kept(net, width, round_to=np.int64(5)) == kept(net, width, round_to=torch.tensor(5)) == 10


@pytest.mark.parametrize("width", [True, False, np.True_, "4", None, [4], 0, -1, 17, 1.5, float("nan"), 4j], ids=repr)
def test_what_is_no_width_of_a_group(net: netslim.SlimNet, width: Any) -> None:
    with pytest.raises(SubnetError, match=r"group 0|out of range"), net.sub({net.groups[0].name: width}):
        pass


@pytest.mark.parametrize("width", [True, "0.5", None, [0.5, 0.5], 2, 0, torch.ones(2)], ids=repr)
def test_what_is_no_width(net: netslim.SlimNet, width: Any) -> None:
    with pytest.raises(SubnetError, match=r"is no number|out of range"), net.sub(width):
        pass


def test_what_is_no_grid_no_depth_and_no_ranking(net: netslim.SlimNet) -> None:
    name = net.groups[0].name
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"round_to": True}, "round_to is True"),
        ({"round_to": 2.5}, "round_to is 2.5"),
        ({"depth": ["a"]}, "depth is"),
        ({"ranking": list(range(16))}, "the ranking is a list"),
        ({"ranking": {name: np.random.default_rng(0).random(16)}}, "no permutation"),
        ({"ranking": {name: [True] * 16}}, "no permutation"),
        ({"ranking": {name: 3}}, "no permutation"),
    ]
    for options, words in wrong:
        with pytest.raises(SubnetError, match=words), net.sub(0.5, **options):
            pass


def test_a_block_runs_or_does_not() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.body, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.stem(x)
            return self.head((x + self.body(x.relu())).mean((2, 3)))

    net = netslim.convert(Residual(), IMAGE, prove=False).eval()
    (block,) = net.blocks
    full = net(IMAGE)
    for value, runs in ((False, False), (np.False_, False), (torch.tensor(False), False), (0, False), (np.True_, True)):
        with net.sub(depth={block.name: value}):  # type: ignore[dict-item]
            assert torch.equal(net(IMAGE), full) == runs
    for wrong in ("no", None, 0.5, []):
        with pytest.raises(SubnetError, match=r"False skips it"), net.sub(depth={block.name: wrong}):  # type: ignore[dict-item]
            pass


@pytest.mark.parametrize("made", [list, np.array, torch.tensor, lambda order: [torch.tensor(i) for i in order]])
def test_a_ranking_is_any_row_of_numbers(net: netslim.SlimNet, made: Any) -> None:
    order = [*range(1, 16, 2), *range(0, 16, 2)]
    (first, *_) = net.kept(0.25, ranking={net.groups[0].name: made(order)})["0.weight"]
    assert first.tolist() == [1, 3, 5, 7]
