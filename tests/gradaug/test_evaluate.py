"""Scores, batch-norm recalibration, sub-networks."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import netslim
from gradaug import data
from gradaug.errors import DataError
from gradaug.evaluation.score import measure, recalibrate, require_fit, score, spread, subnetworks
from gradaug.step import Losses
from gradaug.tasks.classification import Classification, Score
from gradaug.tasks.task import merged
from gradaug.training.metrics import figure_names, figures
from netslim.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable


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
    assert set(rows[0].to_dict()) == {"width", "skipped", "full", "params", "flops", "recalibrated", *figures}


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
    whole, parts = score(net, sets), [measure(net, sets[:1]).sums, measure(net, sets[1:]).sums]
    assert asdict(Classification().score(merged(parts))) == pytest.approx(asdict(whole))


def test_processes_that_had_no_image_do_not_count() -> None:
    none, some = measure(Fixed(), []).sums, measure(Fixed(), [(torch.eye(7), torch.arange(7) // 2)]).sums
    assert merged([none, some]) == merged([some, none]) == some
    assert Classification().score(merged([none, none])) == Score(0.0, 0.0, 0)


def test_every_modules_own_mode_comes_back(net: netslim.SlimNet) -> None:
    net.train().stem_norm.eval()
    score(net, batches(1))
    assert net.training
    assert [name for name, module in net.named_modules() if not module.training] == ["stem_norm"]


class OwnNorm(nn.Module):
    """A norm that is called as a function, on buffers of the network's own."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.conv, self.fc, self.kind = nn.Conv2d(1, 8, 3), nn.Linear(8, 10), kind
        self.register_buffer("average", torch.full((8,), 5.0))
        self.register_buffer("spread", torch.full((8,), float("inf")))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        if self.kind == "batch":
            x = F.batch_norm(x, self.average, self.spread, training=self.training)
        elif self.kind == "instance":
            x = F.instance_norm(x, self.average, self.spread, use_input_stats=self.training)
        elif self.kind == "aten":
            x = torch.batch_norm(x, None, None, self.average, self.spread, self.training, 0.1, 1e-5, False)
        return self.fc(x.relu().mean((2, 3)))


@pytest.mark.parametrize("kind", ["batch", "instance", "aten"])
def test_recalibration_finds_statistics_by_what_is_called(kind: str) -> None:
    net, sets = OwnNorm(kind), batches(3)
    features = [net.conv(images) for images, _ in sets]
    recalibrate(net.train(), sets)
    assert not net.training
    torch.testing.assert_close(net.average, torch.stack([one.mean((0, 2, 3)) for one in features]).mean(0))
    if kind != "instance":
        torch.testing.assert_close(net.spread, torch.stack([one.var((0, 2, 3)) for one in features]).mean(0))
    else:
        spreads = [one.var((2, 3)).mean(0) for one in features]
        torch.testing.assert_close(net.spread, torch.stack(spreads).mean(0))


@pytest.mark.parametrize("kind", ["batch", "instance", "none"])
def test_a_row_says_whether_it_was_recalibrated(kind: str) -> None:
    net = netslim.convert(OwnNorm(kind), torch.randn(2, 1, 12, 12), prove=False)
    full, half = subnetworks(net, [1.0, 0.5], iter(batches(2)), iter(batches(2)))
    assert (full.full, half.full) == (True, False)
    assert (full.recalibrated, half.recalibrated) == (False, kind != "none")
    assert full.score.images == half.score.images == 16
    assert torch.isfinite(torch.tensor(half.score.loss))
    assert float(net.get_buffer("average")[0]) == 5 or kind == "none"


class Twins(nn.Module):
    """Two blocks of one size: without the one or the other it costs the same."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.fc = nn.Conv2d(1, 8, 3, padding=1), nn.Linear(8, 10)
        self.a, self.b, self.c = (nn.Conv2d(8, 8, 3, padding=1) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = x + self.a(x.relu())
        x = x + self.b(x.relu())
        x = x + self.c(x.relu())
        return self.fc(x.mean((2, 3)))


def test_sub_networks_are_the_same_where_they_keep_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    net = netslim.convert(Twins(), torch.randn(2, 1, 12, 12), prove=False)
    names = [block.name for block in net.blocks]
    assert len(names) == 3
    monkeypatch.setattr("gradaug.evaluation.score.spread", lambda _, skip: names[:skip] if skip < 2 else names[1:2])
    rows = subnetworks(net, [1.0, 0.999], batches(1), batches(1), skips=(0, 1, 2))
    assert [row.skipped for row in rows] == [0, 1, 2]
    assert rows[1].params == rows[2].params
    assert rows[1].score != rows[2].score


def test_blocks_that_are_not_there_cannot_be_left_out() -> None:
    net = netslim.convert(Twins(), torch.randn(2, 1, 12, 12), prove=False)
    for skip in (4, -1, 1.5):
        with pytest.raises(InputError, match=r"skip (is 4|must be)"):
            spread(net, skip)  # type: ignore[arg-type]


def test_pixels_are_scored_as_parts_of_their_image() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(4, 7, 5, 6, generator=generator), torch.randint(7, (4, 5, 6), generator=generator)
    found = score(Fixed(), [(logits, labels)], calibration=True)
    assert found.images == 4
    assert found.top1 == pytest.approx(100 * (logits.argmax(1) == labels).float().mean().item())
    assert found.loss == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
    assert found.top5 is not None
    assert found.top1 < found.top5 <= 100
    labels[:, :4] = -100
    assert score(Fixed(), [(logits, labels)]).loss == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
    losses, task = Losses(torch.zeros(()), (), logits), Classification()
    assert 0 < float(figures(task, losses, labels)[figure_names(task).index("hits")]) < 4


def test_labels_that_do_not_fit_are_no_score() -> None:
    with pytest.raises(InputError, match="label 7 is none"):
        score(Fixed(), [(torch.zeros(2, 7), torch.tensor([0, 7]))])
