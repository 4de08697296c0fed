"""A teacher: its answers are learned beside the labels, by any task that has something to learn from them."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner, Result
from torch import nn

import gradaug
import netslim
from gradaug.errors import CheckpointError
from netslim.errors import ArchiveError, InputError
from netslim_cli.extract import extract
from netslim_cli.train import train

from .interrupt import StopAfter, StopError

if TYPE_CHECKING:
    from collections.abc import Callable

Nets = Any
QUICK = ["--epochs", "1", "--batch-size", "32", "--round-to", "1", "--mode", "none"]


def call(command: object, *arguments: str) -> Result:
    return CliRunner().invoke(command, arguments, catch_exceptions=False)  # type: ignore[arg-type]


def gradients(net: nn.Module) -> list[torch.Tensor]:
    return [parameter.grad.clone() for parameter in net.parameters() if parameter.grad is not None]


class Wide(nn.Module):
    """Teaches by numbers alone, with dropout that must not act."""

    def __init__(self, outputs: int = 10) -> None:
        super().__init__()
        self.drop, self.fc = nn.Dropout(0.9), nn.Linear(144, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.drop(x.flatten(1)))


# ------------------------------------------------------------------------------------------ the loss


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_the_loss_is_hintons(net: netslim.SlimNet, weight: float) -> None:
    torch.manual_seed(0)
    teacher, images, labels = Wide(), torch.randn(6, 1, 12, 12), torch.arange(6)
    other = copy.deepcopy(net.train())
    found = gradaug.GradAug(net, mode="none", teacher=gradaug.Teacher(teacher, weight, 3.0)).backward(images, labels)
    logits, said = other(images), teacher.eval()(images).detach()
    soft = F.kl_div(F.log_softmax(logits / 3, 1), F.softmax(said / 3, 1), reduction="batchmean") * 9
    wanted = (1 - weight) * F.cross_entropy(logits, labels) + weight * soft
    wanted.backward()
    torch.testing.assert_close(found.full, wanted.detach())
    torch.testing.assert_close(gradients(net), gradients(other))


def test_the_teacher_stays_as_it_is(net: netslim.SlimNet) -> None:
    teacher = nn.Sequential(nn.BatchNorm2d(1), Wide()).train()
    before = copy.deepcopy(teacher.state_dict())
    ga = gradaug.GradAug(net, mode="none", teacher=gradaug.Teacher(teacher))
    ga.backward(torch.randn(4, 1, 12, 12), torch.arange(4))
    assert all(torch.equal(before[name], tensor) for name, tensor in teacher.state_dict().items())
    assert not gradients(teacher)
    assert all(module.training for module in teacher.modules())


def test_sub_networks_learn_from_the_full_network(net: netslim.SlimNet) -> None:
    images, labels, draws = torch.randn(4, 1, 12, 12), torch.arange(4), [gradaug.Draw(0.5)]
    net.train()
    plain = gradaug.GradAug(copy.deepcopy(net), mode="randwidth").backward(images, labels, draws)
    taught = gradaug.GradAug(net, mode="randwidth", teacher=gradaug.Teacher(Wide())).backward(images, labels, draws)
    assert torch.equal(plain.subnets[0], taught.subnets[0])
    assert not torch.equal(plain.full, taught.full)


def test_a_regression_learns_the_teachers_numbers(make_net: Callable[..., netslim.SlimNet]) -> None:
    net, images, labels = make_net(classes=2).train(), torch.randn(4, 1, 12, 12), torch.randn(4, 2)
    other, teacher = copy.deepcopy(net), Wide(2)
    ga = gradaug.GradAug(net, mode="none", task=gradaug.Regression(), teacher=gradaug.Teacher(teacher, 0.5))
    found, out = ga.backward(images, labels).full, other(images)
    torch.testing.assert_close(found, (F.mse_loss(out, labels) + F.mse_loss(out, teacher.eval()(images))).detach() / 2)


class Map(nn.Module):
    """A class for every pixel, at a half of the image's size where it is `coarse`."""

    def __init__(self, coarse: bool = False) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(1, 8, 3, 1 + coarse, 1), nn.Conv2d(8, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.stem(x).relu())


@pytest.mark.parametrize(("coarse", "coarse_teacher"), [(False, False), (True, False), (False, True)])
def test_a_segmentation_learns_the_teachers_pixels(coarse: bool, coarse_teacher: bool) -> None:
    torch.manual_seed(2)
    net = netslim.convert(Map(coarse), torch.randn(2, 1, 8, 8), prove=False).train()
    other, teacher, images = copy.deepcopy(net), Map(coarse_teacher), torch.randn(2, 1, 8, 8)
    masks = torch.randint(3, (2, 8, 8))
    masks[0] = 255
    task = gradaug.Segmentation(ignore_index=255)
    found = gradaug.GradAug(net, mode="none", task=task, teacher=gradaug.Teacher(teacher, 0.4, 2.0))
    loss = found.backward(images, masks).full
    logits, said = (F.interpolate(each(images), (8, 8), mode="bilinear") for each in (other, teacher))
    said = said.detach()
    soft = F.kl_div(F.log_softmax(logits / 2, 1), F.softmax(said / 2, 1), reduction="none").sum(1).mean() * 4
    wanted = 0.6 * F.cross_entropy(logits, masks, ignore_index=255) + 0.4 * soft
    wanted.backward()
    torch.testing.assert_close(loss, wanted.detach())
    torch.testing.assert_close(gradients(net), gradients(other))


def test_several_labels_an_image_learn_the_teachers_chance_of_each(make_net: Callable[..., netslim.SlimNet]) -> None:
    net, images, labels = make_net(classes=4).train(), torch.randn(5, 1, 12, 12), torch.rand(5, 4).round()
    labels[0, 1] = float("nan")
    other, teacher = copy.deepcopy(net), Wide(4)
    ga = gradaug.GradAug(net, mode="none", task=gradaug.MultiLabel(), teacher=gradaug.Teacher(teacher, 0.7, 3.0))
    loss, logits, known = ga.backward(images, labels).full, other(images), ~labels.isnan()
    chance = (teacher.eval()(images).detach() / 3).sigmoid()
    apart = F.binary_cross_entropy_with_logits(logits / 3, chance) - F.binary_cross_entropy(chance, chance)
    hard = F.binary_cross_entropy_with_logits(logits[known], labels[known])
    (0.3 * hard + 0.7 * 9 * apart).backward()
    torch.testing.assert_close(loss, (0.3 * hard + 0.7 * 9 * apart).detach())
    torch.testing.assert_close(gradients(net), gradients(other))


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda net: gradaug.Teacher(net, 1.5), r"teacher_weight must be in \[0, 1\], not 1.5"),
        (lambda net: gradaug.Teacher(net, temperature=0), "teacher_temperature must be a positive number"),
        (lambda _: gradaug.Teacher("big.pt"), "a teacher is a network, not 'big.pt'"),
        (lambda net: gradaug.GradAug(net, teacher=net), "teacher must be a gradaug.Teacher or None, not a SlimNet"),
        (
            lambda net: gradaug.GradAug(net, mode="none", task=gradaug.Detection(), teacher=gradaug.Teacher(net)),
            "detection does not learn from another network: leave out the teacher",
        ),
    ],
    ids=["weight", "temperature", "path", "network", "task"],
)
def test_what_cannot_teach_is_a_sentence(
    net: netslim.SlimNet, build: Callable[[netslim.SlimNet], Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        build(net)


def test_a_regression_has_no_temperature() -> None:
    config = gradaug.TrainConfig(task="regression", teacher_temperature=2.0)
    with pytest.raises(InputError, match="--teacher-temperature is about probabilities"):
        gradaug.Regression.of(config)


# ------------------------------------------------------------------------------------------ in a run


@pytest.fixture
def large(make_net: Nets, tmp_path: Path) -> str:
    torch.manual_seed(5)
    netslim.save(netslim.convert(Wide().eval(), torch.randn(2, 1, 12, 12)), tmp_path / "large.pt")
    return str(tmp_path / "large.pt")


def weights(net: nn.Module) -> list[torch.Tensor]:
    return list(net.state_dict().values())


def test_a_run_is_taught_and_resumed_with_the_same_teacher_alone(
    run: Nets, short: gradaug.TrainConfig, large: str, tmp_path: Path
) -> None:
    config = replace(short, teacher=large, checkpoint_every=1)
    plain, whole = run(short, tmp_path / "plain")[0], run(config, tmp_path / "whole")[0]
    assert not torch.equal(plain.fc.weight, whole.fc.weight)
    with pytest.raises(StopError):
        run(config, tmp_path / "cut", progress=StopAfter(4))
    assert not any("teacher" in name for name in gradaug.training.checkpoint.load(tmp_path / "cut/checkpoint.pt").model)
    with pytest.raises(CheckpointError, match="run with a teacher: name its file with --teacher"):
        run(replace(config, teacher=None), tmp_path / "cut", resume=True)
    with pytest.raises(CheckpointError, match=r"teacher_weight was 0.9, now 0.5"):
        run(replace(config, teacher_weight=0.5), tmp_path / "cut", resume=True)
    torch.manual_seed(6)
    netslim.save(netslim.convert(Wide().eval(), torch.randn(2, 1, 12, 12)), tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="run with another teacher"):
        run(replace(config, teacher=str(tmp_path / "other.pt")), tmp_path / "cut", resume=True)
    moved = Path(large).rename(tmp_path / "moved.pt")
    resumed = run(replace(config, teacher=str(moved)), tmp_path / "cut", resume=True)[0]
    assert all(map(torch.equal, weights(resumed), weights(whole)))
    with pytest.raises(CheckpointError, match="run without a teacher"):
        run(replace(short, teacher=str(moved)), tmp_path / "plain", resume=True)


def test_a_teacher_that_does_not_fit_is_said_before_anything_is_written(
    run: Nets, short: gradaug.TrainConfig, tmp_path: Path
) -> None:
    path = tmp_path / "five.pt"
    netslim.save(netslim.convert(Wide(5), torch.randn(2, 1, 12, 12)), path)
    with pytest.raises(InputError, match=r"five.pt cannot teach this network: the network has 5 outputs"):
        run(replace(short, teacher=str(path)), tmp_path / "run")
    netslim.save(netslim.convert(nn.Conv2d(3, 4, 3), torch.randn(2, 3, 12, 12)), path)
    with pytest.raises(InputError, match=r"five.pt cannot teach this network: "):
        run(replace(short, teacher=str(path)), tmp_path / "run")
    with pytest.raises(ArchiveError, match=r"none.pt does not exist"):
        run(replace(short, teacher=str(tmp_path / "none.pt")), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("few_digits")
def test_an_extracted_network_is_taught_by_the_full_one(
    make_net: Nets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    netslim.save(make_net(), "converted.pt")
    call(extract, "converted.pt", "--width", "0.5", "-o", "half")
    taught = ["--model", "half", *QUICK, "--trust", "--teacher"]
    result = call(train, *taught, "converted.pt", "--out", "run")
    assert "no sub-networks; taught by converted.pt (0.9 of the loss)" in " ".join(result.stderr.split())
    values = json.loads(Path("run/result.json").read_text())
    assert (values["config"]["teacher"], values["config"]["teacher_temperature"]) == ("converted.pt", 4.0)
    assert call(train, "--resume", "run", "--epochs", "2").exit_code == 0
    plain, dry = (
        json.loads(call(train, "--model", "converted.pt", *QUICK, *more, "--dry-run", "--json").stdout)
        for more in ([], ["--teacher", "converted.pt"])
    )
    assert dry["step_flops"] == pytest.approx(plain["step_flops"] * 4 / 3)


@pytest.mark.usefixtures("few_digits")
def test_trust_is_for_a_teacher_that_the_command_line_names(
    make_net: Nets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    netslim.save(make_net(), "converted.pt")
    call(extract, "converted.pt", "--width", "1.0", "-o", "full.pt")
    with pytest.raises(ArchiveError, match="add --trust"):
        call(train, "--model", "converted.pt", *QUICK, "--teacher", "full.pt", "--out", "run")
    assert (
        call(train, "--model", "converted.pt", *QUICK, "--teacher", "full.pt", "--trust", "--out", "run").exit_code == 0
    )
    with pytest.raises(InputError, match=r"if you trust it as well, add --teacher full.pt"):
        call(train, "--resume", "run", "--trust")
    assert call(train, "--resume", "run", "--teacher", "full.pt", "--trust").exit_code == 0
