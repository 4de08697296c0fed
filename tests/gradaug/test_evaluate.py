"""Scores, batch-norm recalibration, sub-networks."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gradaug import data
from gradaug.errors import DataError
from gradaug.evaluate import Score, merged, recalibrate, require_fit, score, subnetworks

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
    figures = {"top1", "top5", "loss", "images", "calibration_error"}
    assert set(rows[0].to_dict()) == {"width", "skipped", "params", "flops", "recalibrated", *figures}


def test_widths_that_keep_the_same_channels_are_listed_once(net: netslim.SlimNet) -> None:
    assert len(subnetworks(net, [1.0, 0.99, 0.98], batches(1), batches(1), round_to=4)) == 1


def test_the_number_of_classes_must_fit(make_net: Callable[..., netslim.SlimNet]) -> None:
    source = data.load("digits", (1, 12, 12))
    require_fit(make_net(), source)
    with pytest.raises(DataError, match=r"has 7 outputs and digits has 10 classes; .*--arg num_classes=10"):
        require_fit(make_net(classes=7), source)


class Fixed(nn.Module):
    """Answers with the images themselves, as logits."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def test_top5_counts_labels_among_the_five_largest() -> None:
    logits = torch.arange(7.0).repeat(7, 1)
    found = score(Fixed(), [(logits, torch.arange(7))])
    assert (found.top1, found.top5) == pytest.approx((100 / 7, 500 / 7))
    assert score(Fixed(), [(logits[:, :5], torch.arange(5).repeat(2)[:7])]).top5 is None


def test_the_calibration_error_is_the_gap_between_confidence_and_accuracy() -> None:
    confidence = torch.tensor([0.9, 0.9, 0.9, 0.9, 0.6, 0.6])
    logits = torch.stack([confidence, 1 - confidence], 1).log()
    labels = torch.tensor([0, 0, 0, 1, 0, 1])  # right: 3 of 4, 1 of 2
    found = score(Fixed(), [(logits[:3], labels[:3]), (logits[3:], labels[3:])], calibration=True)
    assert found.calibration_error == pytest.approx(100 * (4 / 6 * (0.9 - 0.75) + 2 / 6 * (0.6 - 0.5)), rel=1e-4)
    assert score(Fixed(), [(logits, labels)]).calibration_error is None


def test_scores_of_parts_merge_to_that_of_the_whole(net: netslim.SlimNet) -> None:
    sets = [*batches(3), *batches(1, size=3)]
    whole, parts = score(net, sets), [score(net, sets[:1]), score(net, sets[1:])]
    assert asdict(merged(parts)) == pytest.approx(asdict(whole))


def test_processes_that_had_no_image_do_not_count() -> None:
    none, some = Score(0.0, 0.0, 0), Score(50.0, 1.5, 2, 100.0)
    assert merged([none, some]) == merged([some, none]) == some
    assert merged([none, none]) == none


def test_every_modules_own_mode_comes_back(net: netslim.SlimNet) -> None:
    net.train().stem_norm.eval()
    score(net, batches(1))
    assert net.training
    assert [name for name, module in net.named_modules() if not module.training] == ["stem_norm"]
