"""Scores, batch-norm recalibration, sub-networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gradaug import data
from gradaug.errors import DataError
from gradaug.evaluate import recalibrate, require_fit, score, subnetworks

if TYPE_CHECKING:
    from collections.abc import Callable

    import netslim


def batches(count: int, size: int = 8) -> list[data.Batch]:
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randn(size, 1, 12, 12, generator=generator), torch.randint(10, (size,), generator=generator))
        for _ in range(count)
    ]


def test_score_is_that_of_all_images_at_once(tiny: nn.Module) -> None:
    sets = [*batches(3), *batches(1, size=3)]
    images, labels = (torch.cat(part) for part in zip(*sets, strict=True))
    found = score(tiny.train(), sets)
    assert tiny.training
    logits = tiny.eval()(images)
    assert found.images == 27
    assert found.loss == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
    assert found.top1 == pytest.approx(100 * (logits.argmax(1) == labels).float().mean().item())


def test_recalibration_replaces_statistics_by_the_mean_over_the_batches() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))
    net[1].running_mean.fill_(7)
    sets = batches(3)
    weights = [parameter.clone() for parameter in net.parameters()]
    recalibrate(net.train(), sets)
    features = [net[0](images) for images, _ in sets]
    expected = torch.stack([one.mean((0, 2, 3)) for one in features]).mean(0)
    torch.testing.assert_close(net[1].running_mean, expected)
    torch.testing.assert_close(net[1].running_var, torch.stack([one.var((0, 2, 3)) for one in features]).mean(0))
    assert net[1].momentum == 0.1
    assert not any(module.training for module in net.modules())
    assert all(torch.equal(a, b) for a, b in zip(weights, net.parameters(), strict=True))


def test_a_network_without_batch_norm_needs_no_images() -> None:
    assert not recalibrate(nn.Sequential(nn.Linear(2, 2)), iter(())).training


def test_subnetworks_are_smaller_and_leave_the_network_alone(net: netslim.SlimNet) -> None:
    before = {name: value.clone() for name, value in net.state_dict().items()}
    rows = subnetworks(net, [1.0, 0.75, 0.74, 0.5], batches(2), batches(2))
    assert next(row.width for row in rows) == 1.0
    assert [row.recalibrated for row in rows] == [False] + [True] * (len(rows) - 1)
    assert [row.params for row in rows] == sorted({row.params for row in rows}, reverse=True)
    assert rows[0].params == sum(p.numel() for p in net.parameters())
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert set(rows[0].to_dict()) == {"width", "skipped", "params", "flops", "recalibrated", "top1", "loss", "images"}


def test_widths_that_keep_the_same_channels_are_listed_once(net: netslim.SlimNet) -> None:
    assert len(subnetworks(net, [1.0, 0.99, 0.98], batches(1), batches(1), round_to=4)) == 1


def test_the_number_of_classes_must_fit(make_net: Callable[..., netslim.SlimNet]) -> None:
    source = data.load("digits", (1, 12, 12))
    require_fit(make_net(), source)
    with pytest.raises(DataError, match=r"has 7 outputs and digits has 10 classes; .*--arg num_classes=10"):
        require_fit(make_net(classes=7), source)
