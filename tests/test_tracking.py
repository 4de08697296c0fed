"""Statistics that a forward keeps: a sub-network leaves them alone, or moves those of the channels that it keeps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import netslim
from netslim.layouts.slices import put, take

IMAGES = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Layer(nn.Module):
    """A norm as a layer."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.head = nn.Conv2d(3, 8, 3), norm, nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.conv(x)).relu().mean((2, 3)))


class Called(nn.Module):
    """Statistics in buffers of the network's own, which something else than a layer moves."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head, self.kind = nn.Conv2d(3, 8, 3), nn.Linear(8, 4), kind
        self.register_buffer("mean", torch.zeros(8))
        self.register_buffer("var", torch.ones(8))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self.kind == "F.batch_norm":
            x = F.batch_norm(x, self.mean, self.var, training=self.training)
        elif self.kind == "F.instance_norm":
            x = F.instance_norm(x, self.mean, self.var, use_input_stats=self.training)
        elif self.kind == "torch.batch_norm":
            x = torch.batch_norm(x, None, None, self.mean, self.var, self.training, 0.1, 1e-5, False)
        elif self.kind == "assigned":
            if self.training:
                self.mean = 0.9 * self.mean + 0.1 * x.mean((0, 2, 3)).detach()
            x = x - self.mean.view(1, -1, 1, 1)
        else:
            if self.training:
                with torch.no_grad():
                    self.mean.view(-1).mul_(0.9).add_(0.1 * x.mean((0, 2, 3)))
            x = x - self.mean.view(1, -1, 1, 1)
        return self.head(x.relu().mean((2, 3)))


KINDS: dict[str, Any] = {
    "BatchNorm2d": lambda: Layer(nn.BatchNorm2d(8)),
    "InstanceNorm2d": lambda: Layer(nn.InstanceNorm2d(8, affine=True, track_running_stats=True)),
    "cumulative": lambda: Layer(nn.BatchNorm2d(8, momentum=None)),
    **{
        kind: lambda kind=kind: Called(kind)
        for kind in ("F.batch_norm", "F.instance_norm", "torch.batch_norm", "own", "assigned")
    },
}
SCATTERED = [6, 1, 3, 4, 0, 2, 5, 7]


@pytest.mark.parametrize("scattered", [False, True], ids=["first", "scattered"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_sub_network_moves_the_statistics_that_it_keeps_where_asked(kind: str, scattered: bool) -> None:
    net = netslim.convert(KINDS[kind](), IMAGES, prove=False).train()
    point = {"width": 0.5, "ranking": {net.groups[0].name: SCATTERED} if scattered else None}
    before = {name: value.clone() for name, value in net.named_buffers()}
    with net.sub(**point):
        alone = net(IMAGES)
    assert all(torch.equal(value, before[name]) for name, value in net.named_buffers())

    small = net.extract(**point).train()
    with net.sub(**point, track_running_stats=True):
        tracked = net(IMAGES)
    torch.testing.assert_close(tracked, alone)
    torch.testing.assert_close(tracked, small(IMAGES))
    kept = net.kept(**point)
    for name, moved in small.named_buffers():  # those that forward reads
        value, expected = net.get_buffer(name), before[name].clone()
        expected[kept[name]] = moved
        torch.testing.assert_close(value, expected)
        assert not torch.equal(value, before[name]) or name == "norm.num_batches_tracked"


def test_a_norm_that_is_told_not_to_track_does_not() -> None:
    for norm in (nn.BatchNorm2d(8), nn.InstanceNorm2d(8, track_running_stats=True)):
        norm.track_running_stats = False
        net = netslim.convert(Layer(norm), IMAGES, prove=False).train()
        before = net.state_dict()["norm.running_mean"].clone()
        net(IMAGES)
        full = net.state_dict()["norm.running_mean"].clone()
        with net.sub(0.5, track_running_stats=True):
            net(IMAGES)
        assert torch.equal(full, before) == torch.equal(net.state_dict()["norm.running_mean"], full)


def test_an_instance_norm_takes_an_image_without_a_batch() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.InstanceNorm2d(8, affine=True), nn.Conv2d(8, 4, 3))
    net = netslim.convert(model, IMAGES, prove=False).eval()
    with net.sub(0.5):
        torch.testing.assert_close(net(IMAGES[0]), net(IMAGES[:1])[0])


@pytest.mark.parametrize(
    "cut",
    [
        None, ((0, 1, 2),), ((1, torch.tensor([0, 2, 4])),), ((0, 1, 2), (1, torch.tensor([4, 0]))),
        ((0, torch.tensor([3, 1])), (1, 1, 3), (2, torch.tensor([2, 0]))),
    ],
    ids=["whole", "run", "gather", "both", "two gathers"],
)  # fmt: skip
def test_put_is_the_inverse_of_take(cut: Any) -> None:
    whole = torch.arange(60.0).view(4, 5, 3)
    part = take(whole, cut).clone()
    changed, marks = whole.clone(), torch.zeros_like(whole)
    put(changed, cut, part + 100)
    put(marks, cut, torch.ones_like(part))
    torch.testing.assert_close(take(changed, cut), part + 100)
    torch.testing.assert_close(changed, whole + 100 * marks)
    assert int(marks.sum()) == part.numel()
