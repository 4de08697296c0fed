"""Tasks: what is learned, told by one object; classification is the default, segmentation the second."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from torch import Tensor, nn
from torchmetrics.classification import MulticlassJaccardIndex

import gradaug
import netslim
from gradaug import data, tasks
from gradaug.data.digit_masks import scenes
from gradaug.errors import DataError
from gradaug.evaluation.assessment import assess
from gradaug.evaluation.score import measure, require_fit
from gradaug.models import fcn_small
from gradaug.report import attack_table, corruption_table, score_table
from gradaug.tasks import Classification, Segmentation
from gradaug.tasks.task import Column, merged
from gradaug.training.loop import train
from netslim.errors import InputError
from netslim_cli.main import gradaug as command

ROOT = Path(__file__).parents[2]


class Pixels(nn.Module):
    """Two convolutions, an answer for every pixel."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, padding=1)
        self.last = nn.Conv2d(8, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu(self.first(x)))


def pixels(classes: int = 4, size: int = 12) -> netslim.SlimNet:
    torch.manual_seed(0)
    return netslim.convert(Pixels(classes), torch.randn(2, 1, size, size), prove=False)


def masks(count: int = 3, classes: int = 4, size: int = 12) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(count, 1, size, size, generator=generator)
    labels = torch.randint(classes, (count, size, size), generator=generator)
    return images, labels


# ------------------------------------------------------------------------------------------------------------ laws


def test_the_names_in_the_settings_are_the_tasks_that_there_are() -> None:
    assert all(row.load().name == name for name, row in tasks.TASKS.items())
    words = gradaug.TrainConfig.__dataclass_fields__["task"].metadata["range"].words
    assert all(name in words for name in tasks.TASKS)


def test_every_data_set_says_what_its_labels_are_for() -> None:
    for name in ("digits", "digit-masks", "synthetic"):
        assert data.load(name, (1, 16, 16)).task in tasks.TASKS


@pytest.mark.parametrize("task", [row.load() for row in tasks.TASKS.values()])
def test_a_tasks_columns_are_fields_of_its_score(task: type[tasks.Task]) -> None:
    fields = {field.name for field in dataclasses.fields(task.scored)}
    columns = task.scored.columns
    assert {column.name for column in columns} | {"images"} == fields
    assert set(task.recorded) <= set(columns)
    assert set(task.followed.values()) <= set(columns)


TASKS_OWN = re.compile(r"top[-_ ]?[15]|logits|miou|pixel_acc|calibration_error", re.IGNORECASE)
ABOVE = ["step.py", "arguments.py", "report.py", "plots.py", "training/*.py", "evaluation/*.py"]


def test_what_stands_above_the_tasks_names_none_of_their_figures() -> None:
    files = [path for glob in ABOVE for path in (ROOT / "gradaug").glob(glob)]
    files += (ROOT / "cli").glob("*.py")
    assert len(files) > 20
    found = {str(path.relative_to(ROOT)): TASKS_OWN.findall(path.read_text()) for path in files}
    assert {path: words for path, words in found.items() if words} == {}


def test_what_stands_above_the_tasks_asks_the_task_for_a_loss() -> None:
    for path in [*(ROOT / "gradaug" / "training").glob("*.py"), ROOT / "gradaug" / "step.py"]:
        names = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
        assert not names & {"cross_entropy", "argmax", "kl_div"}, path


# ------------------------------------------------------------------------------------------------------------ step


def reference(net: netslim.SlimNet, images: Tensor, labels: Tensor, draws: Any, ignored: int) -> list[Tensor]:
    """Losses of one step, written out: -log p of the labelled pixels, sum p log(p / q) of every pixel."""
    logits = net(images)
    logarithms = logits - logits.exp().sum(1, keepdim=True).log()
    chosen = torch.stack([logarithms[:, c][labels == c].sum() for c in range(logits.shape[1])]).sum()
    losses = [-chosen / (labels != ignored).sum()]
    teacher = logarithms.detach()
    for draw in draws:
        small = F.interpolate(images, (draw.resolution,) * 2, mode="bilinear", align_corners=True)
        with net.sub(**draw.sub()):
            answer = F.interpolate(net(small), labels.shape[1:], mode="bilinear", align_corners=True)
        student = answer - answer.exp().sum(1, keepdim=True).log()
        losses.append((teacher.exp() * (teacher - student)).sum(1).sum() / labels.numel())
    return losses


def test_a_segmentation_step_is_the_one_written_out() -> None:
    net = pixels().double().train()
    images, labels = masks()
    images = images.double()
    labels[0, :3], labels[2, :, 5] = 255, 255
    ga = gradaug.GradAug(net, task=Segmentation(ignore_index=255), resolutions=(9,), round_to=1, alpha=0.5)
    draws = gradaug.draw(ga.space, 0, 0)
    losses = ga.backward(images, labels)
    found = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
    net.zero_grad()
    expected = reference(net, images, labels, draws, 255)
    torch.testing.assert_close([losses.full, *losses.subnets], [one.detach() for one in expected], rtol=1e-9, atol=1e-9)
    sum(expected, start=torch.zeros((), dtype=torch.float64)).backward()
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-9, atol=1e-9)


def test_settings_of_the_step_are_the_tasks() -> None:
    def halved(output: Tensor, labels: Tensor) -> Tensor:
        return 0.5 * F.cross_entropy(output, labels)

    images, labels = masks()
    found = []
    for task in (Segmentation(temperature=3.0, criterion=halved), Segmentation(ignore_index=255)):
        said = {} if task.temperature == 3.0 else {"temperature": 3.0, "criterion": halved}
        losses = gradaug.GradAug(pixels(), task=task, round_to=1, **said).backward(images, labels)
        found.append([losses.full, *losses.subnets])
    torch.testing.assert_close(*found, rtol=0, atol=0)
    plain = gradaug.GradAug(pixels(), task=Segmentation(), round_to=1).backward(images, labels)
    torch.testing.assert_close(plain.full, 2 * found[0][0])


@pytest.mark.parametrize("task", [Classification, "segmentation", 3])
def test_what_is_no_task_is_refused(task: Any) -> None:
    with pytest.raises(InputError, match="task must be a"):
        gradaug.GradAug(pixels(), task=task)


def test_segmentation_of_a_network_that_answers_images_is_refused() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
    net = netslim.convert(model, torch.randn(2, 1, 12, 12), prove=False)
    with pytest.raises(InputError, match=r"segmentation needs an answer for every pixel .*task=Classification"):
        gradaug.GradAug(net, task=Segmentation(), round_to=1).backward(torch.randn(2, 1, 12, 12), torch.tensor([1, 2]))
    with pytest.raises(DataError, match="segmentation needs"):
        require_fit(net, data.load("digit-masks", (1, 12, 12)), Segmentation())


def test_a_task_without_a_setting_says_so() -> None:
    class Bare(tasks.Task):
        name = "counting"

    assert gradaug.GradAug(pixels(), task=Bare()).task.name == "counting"
    with pytest.raises(InputError, match="counting has no temperature: leave it out"):
        gradaug.GradAug(pixels(), task=Bare(), temperature=2.0)


class OwnTask(Classification):
    """A task that a person writes: sub-networks learn the sign of the answer."""

    def subnet_loss(self, output: Any, target: Tensor, mix: Any = None) -> Tensor:
        return F.mse_loss(output.tanh(), target.tanh())


def test_a_task_of_ones_own_says_what_sub_networks_learn() -> None:
    images, labels = masks()
    net = pixels()
    ga = gradaug.GradAug(net, task=OwnTask(), round_to=1, resolutions=())
    draws = gradaug.draw(ga.space, 0, 0)
    losses = ga.backward(images, labels)
    with torch.no_grad(), net.sub(**draws[0].sub()):
        expected = F.mse_loss(net(images).tanh(), losses.output.tanh())
    torch.testing.assert_close(losses.subnets[0], expected)


# --------------------------------------------------------------------------------------------------------- figures


def test_the_mean_intersection_over_union_is_torchmetrics_own() -> None:
    net = pixels().eval()
    images, labels = masks(6)
    labels[0, :2] = -100
    labels[labels == 3] = 2  # a class that the images do not have
    found = gradaug.score(net, [(images[:4], labels[:4]), (images[4:], labels[4:])], task=Segmentation())
    answers = net(images).argmax(1)
    metric = MulticlassJaccardIndex(4, ignore_index=-100)
    assert found.miou == pytest.approx(100 * float(metric(answers, labels)), rel=1e-6)
    assert found.pixel_accuracy == pytest.approx(100 * (answers == labels)[labels >= 0].float().mean().item())
    assert found.loss == pytest.approx(F.cross_entropy(net(images), labels).item(), rel=1e-6)
    assert found.images == 6


def test_scores_of_parts_are_made_of_sums_not_of_means() -> None:
    net, task = pixels().eval(), Segmentation()
    images, labels = masks(6)
    parts = [measure(net, [(images[i:j], labels[i:j])], task=task).sums for i, j in ((0, 1), (1, 6))]
    whole = gradaug.score(net, [(images, labels)], task=task)
    assert asdict(task.score(merged([{}, *parts]))) == pytest.approx(asdict(whole))
    assert task.score({}).images == 0


def test_a_column_says_its_value_with_name_and_unit() -> None:
    column = Column("miou", "mIoU")
    assert (column.heading, column.number(12.345), column.number(None)) == ("mIoU %", "12.35", "")
    assert column.said(12.345, 1) == "mIoU 12.3 %"


# ------------------------------------------------------------------------------------------------------------ data


def test_scenes_and_masks_are_one_function_of_the_seed() -> None:
    digits = torch.zeros(6, 1, 8, 8)
    digits[:, :, 2:6, 3:5] = 1.0
    digits[:, :, 2:6, 2] = 0.3
    labels = torch.arange(6)
    images, found = scenes(digits, labels, 0)
    assert torch.equal(found, scenes(digits, labels, 0)[1])
    assert not torch.equal(found, scenes(digits, labels, 1)[1])
    assert (images.shape, found.shape) == ((6, 1, 16, 16), (6, 16, 16))
    drawn = images.squeeze(1)
    assert ((found > 0) == (drawn == 1.0)).all()
    assert ((found == -100) == (drawn == torch.tensor(0.3))).all()
    assert ((found == 0) == (drawn == 0)).all()
    assert all((found[i] == i + 1).any() for i in range(6))  # every digit is in its own scene


@pytest.mark.parametrize("side", [16, 32])
def test_images_and_masks_are_moved_and_resized_together(side: int) -> None:
    source = data.load("digit-masks", (1, side, side))
    images, found = source.train.__getitems__([(0, i) for i in range(64)])
    again, still = source.train.__getitems__([(1, i) for i in range(64)]), source.calibration
    assert found.shape == (64, side, side)
    assert not torch.equal(again[1], found)
    for pictures, answers in ((images, found), again, still.__getitems__([(0, i) for i in range(64)])):
        ink = pictures[:, 0] * source.std[0] + source.mean[0]
        assert float(ink[answers > 0].mean()) > 0.65
        assert float(ink[answers == 0].mean()) < 0.1


def test_scenes_have_their_own_refusals() -> None:
    with pytest.raises(DataError, match="no labels to choose from"):
        data.load("digit-masks", (1, 16, 16), labels=100)
    with pytest.raises(DataError, match="1 or 3 channels"):
        data.load("digit-masks", (2, 16, 16))


@pytest.mark.parametrize(
    ("net", "source", "task", "words"),
    [
        (11, "digits", Segmentation, r"digits has labels for classification: give --task classification"),
        (11, "digit-masks", Classification, r"digit-masks has labels for segmentation: give --task segmentation"),
        (4, "digit-masks", Segmentation, r"has 4 outputs and digit-masks has 11 classes; .*num_classes=11"),
    ],
)
def test_network_data_and_task_must_fit(net: int, source: str, task: type[tasks.Task], words: str) -> None:
    with pytest.raises(DataError, match=words):
        require_fit(pixels(net), data.load(source, (1, 12, 12)), task())  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"regularizers": ("cutmix",)}, "mixes one label an image"),
        ({"views": ("rotation",)}, "may move pixels"),
        ({"semi": "mean-teacher"}, "takes --semi gradaug"),
    ],
)
def test_settings_that_masks_cannot_follow_are_refused(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        tasks.of(gradaug.TrainConfig(task="segmentation", **changed))


# ------------------------------------------------------------------------------------------------------------- run


def recipe(**changed: Any) -> gradaug.TrainConfig:
    from gradaug.recipes import load

    return gradaug.TrainConfig.from_dict({**load("digits_segmentation").settings, "device": "cpu", **changed})


def converted() -> netslim.SlimNet:
    torch.manual_seed(0)
    return netslim.convert(fcn_small(), torch.randn(2, 1, 16, 16), prove=False)


def test_the_segmentation_recipe_learns(tmp_path: Path) -> None:
    asked = ["train", "--recipe", "digits_segmentation", "--epochs", "2", "--device", "cpu", "--out"]
    shown = CliRunner().invoke(command, [*asked, str(tmp_path / "run")], catch_exceptions=False)
    written = json.loads((tmp_path / "run" / "result.json").read_text())
    assert set(written["after"]) == {"miou", "pixel_accuracy", "class_accuracy", "loss", "images"}
    assert written["before"]["miou"] < 10
    assert written["after"]["miou"] > 20
    assert f"validation mIoU {written['after']['miou']:.2f} %" in shown.stdout
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    epochs = [line for line in lines if line["event"] == "epoch"]
    assert epochs[-1]["val_miou"] == written["after"]["miou"]
    assert epochs[-1]["train_pixel_accuracy"] > epochs[0]["train_pixel_accuracy"]
    assert not any("top1" in key for line in epochs for key in line)


def test_a_segmentation_run_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    from .interrupt import StopAfter, StopError

    config = recipe(epochs=2, batch_size=360, checkpoint_every=1, calibration_batches=1)
    whole = train(pixels(11, 16), config, tmp_path / "whole")
    with pytest.raises(StopError):
        train(pixels(11, 16), config, tmp_path / "cut", progress=StopAfter(5))
    result = train(pixels(11, 16), config, tmp_path / "cut", resume=True)
    assert (result.before, result.after, result.subnets) == (whole.before, whole.after, whole.subnets)


def test_tables_and_pictures_take_their_columns_from_the_task() -> None:
    net, source = converted().eval(), data.load("digit-masks", (1, 16, 16))
    found = assess(net, source, recipe(), (1.0, 0.8), epsilons=(0.1,), task=Segmentation())
    headings = [column.header for column in score_table(found.scores, found.scores[0].score).columns]
    assert headings == ["network", "parameters", "MFLOPs", "mIoU %", "pixel accuracy %", "class accuracy %", "loss"]
    assert attack_table(found.attacks, found.column).columns[1].header == "mIoU %"
    assert "mIoU" in str(corruption_table({"fog": {1: 3.0}}, found.column).title)


def test_the_command_line_knows_the_task_of_a_data_set(tmp_path: Path) -> None:
    netslim.save(converted(), tmp_path / "converted.pt")
    asked = ["eval", "--model", str(tmp_path / "converted.pt"), "--data", "digit-masks", "--device", "cpu", "--json"]
    found = CliRunner().invoke(command, asked, catch_exceptions=False)
    assert json.loads(found.output)["scores"][0]["miou"] < 20
