"""Several labels an image, and one logit that says yes or no: losses, figures and runs against what they should be."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import average_precision_score, f1_score
from torch import Tensor, nn

import gradaug
import netslim
from gradaug import data
from gradaug.errors import DataError
from gradaug.evaluation.assessment import assess
from gradaug.tasks.losses import kl
from gradaug.tasks.multilabel import MultiLabel, binary_loss, mean_average_precision
from gradaug.training.averages import MeanTeacher
from netslim.errors import InputError

from . import formats
from .written_out import assert_a_step_is, batch, tiny


def written_out(logits: Tensor, target: Tensor) -> Tensor:
    """KL of two outcomes, the mean over images and labels."""
    q, p = logits.sigmoid(), target.sigmoid()
    return (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).mean()


@pytest.mark.parametrize("outputs", [1, 5])
def test_a_step_is_the_one_written_out(outputs: int) -> None:
    net = tiny(outputs).double().train()
    images, labels = batch(outputs)

    def said(logits: Tensor) -> Tensor:
        return -(labels * logits.sigmoid().log() + (1 - labels) * (1 - logits.sigmoid()).log()).mean()

    assert_a_step_is(net, MultiLabel(), images.double(), labels, said, written_out)


def test_a_logit_an_image_takes_labels_of_any_kind() -> None:
    images, labels = batch(1)
    forms = [labels, labels[:, 0], labels[:, 0].long(), labels[:, 0].bool(), labels.double()]
    found = [gradaug.GradAug(tiny(1), task=MultiLabel(), round_to=1).backward(images, each) for each in forms]
    for one in found:
        torch.testing.assert_close([one.full, *one.subnets], [found[0].full, *found[0].subnets])


def test_masks_of_one_channel_are_learned_pixel_by_pixel() -> None:
    net = netslim.convert(
        nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 1)),
        torch.randn(2, 1, 12, 12),
        prove=False,
    )
    masks = torch.rand(2, 12, 12).round()
    losses = gradaug.GradAug(net, task=MultiLabel(), resolutions=(9,), round_to=1).backward(
        torch.randn(2, 1, 12, 12), masks
    )
    assert all(float(one) > 0 for one in losses.subnets)


@pytest.mark.parametrize("divergence", ["kl", "alpha"])
def test_a_network_that_agrees_has_nothing_to_learn(divergence: str) -> None:
    task, logits = MultiLabel(divergence=divergence, temperature=2.0), torch.randn(4, 3)
    assert float(task.subnet_loss(logits, logits)) == pytest.approx(0, abs=1e-6)
    assert float(task.subnet_loss(logits + 1, logits)) > 1e-3
    task.subnet_loss(logits, logits, lambda p: p.roll(1, 0))


def test_what_is_not_known_counts_nowhere() -> None:
    logits = torch.randn(4, 3, requires_grad=True)
    labels = torch.tensor([[1.0, 0, 1], [0, 1, 0], [1, 1, 0], [0, 0, 1]])
    hidden = labels.clone()
    hidden[0, 1] = hidden[2] = float("nan")
    known = ~hidden.isnan()
    loss = binary_loss(logits, hidden)
    torch.testing.assert_close(loss, F.binary_cross_entropy_with_logits(logits[known], labels[known]))
    loss.backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad != 0, known)
    nothing = binary_loss(logits, torch.full_like(labels, float("nan")))
    assert float(nothing.detach()) == 0
    smooth = binary_loss(logits, labels, smoothing=0.2)
    torch.testing.assert_close(smooth, F.binary_cross_entropy_with_logits(logits, 0.8 * labels + 0.1))


def test_figures_are_scikit_learns_over_any_batches_and_processes() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(40, 4)).round(1)  # with ties
    labels = (generator.random((40, 4)) > 0.7).astype(float)
    labels[:, 3] = 0  # which no image has
    task = MultiLabel()
    parts = [slice(0, 9), slice(9, 30), slice(30, 40)]
    meters = [task.meter() for _ in parts]
    for meter, part in zip(meters, parts, strict=True):
        meter.add(torch.tensor(logits[part]), torch.tensor(labels[part]))
    meters[0].merge([meter.state() for meter in meters])
    found = meters[0].score()
    assert found.map == pytest.approx(100 * average_precision_score(labels[:, :3], logits[:, :3], average="macro"))
    assert found.f1 == pytest.approx(100 * f1_score(labels, logits > 0, average="micro"))
    assert found.label_accuracy == pytest.approx(100 * ((logits > 0) == labels).mean())
    assert found.loss == pytest.approx(
        float(F.binary_cross_entropy_with_logits(torch.tensor(logits), torch.tensor(labels)))
    )
    assert found.images == 40
    assert mean_average_precision(torch.zeros(2, 2), torch.zeros(2, 2)) is None


def test_wrong_labels_are_a_clear_error() -> None:
    ga = gradaug.GradAug(tiny(3), task=MultiLabel(), round_to=1)
    images, labels = batch(3)
    for wrong, said in {
        "is task=Classification": torch.tensor([0, 1, 2, 0, 1, 2]),
        "have numbers from 0 to 2": labels * 2,
        "have numbers from -1 to 1": labels * 2 - 1,
        r"labels of shape \(6, 2\)": labels[:, :2],
        "labels are a list": labels.tolist(),
    }.items():
        with pytest.raises(InputError, match=wrong):
            ga.backward(images, said)


# ------------------------------------------------------------------------------- silence where one outcome is possible


@pytest.mark.parametrize("outputs", [1])
def test_no_divergence_over_one_outcome(outputs: int) -> None:
    """Softmax of one logit is 1 whatever the network says: zero loss, for ever."""
    with pytest.raises(InputError, match="one outcome along dim 1"):
        kl(torch.zeros(4, 1), torch.zeros(4, 1))
    images, labels = batch(1)
    with pytest.raises(InputError, match=r"task=MultiLabel\(\) \(--task multilabel\).*task=Regression\(\)"):
        gradaug.GradAug(tiny(outputs), round_to=1).backward(images, labels)
    with pytest.raises(InputError, match="--task multilabel"):
        gradaug.GradAug(
            tiny(4), round_to=1, criterion=lambda out, y: F.binary_cross_entropy_with_logits(out, y)
        ).backward(images, torch.ones(6, 4))
    with pytest.raises(InputError, match="--task multilabel"):
        MeanTeacher(tiny(1), 0.9, 1.0, 10).loss(tiny(1).train(), torch.cat([images, images]), 1)


def test_a_mean_teacher_compares_what_the_task_says() -> None:
    net = tiny(1).train()
    teacher = MeanTeacher(net, 0.9, 1.0, 10, MultiLabel())
    images = torch.randn(8, 1, 8, 8)
    loss = teacher.loss(net, images, 5)
    expected = ((net(images[:4]).sigmoid() - teacher.net(images[4:]).sigmoid()) ** 2).mean()
    torch.testing.assert_close(loss, expected, rtol=1e-3, atol=1e-6)


# ---------------------------------------------------------------------------------------------------------- whole runs


def test_a_run_learns_labels_of_a_table(tmp_path: Path) -> None:
    root = formats.csv_labels(tmp_path / "data", train=24, val=12)
    net = tiny(3, 3, 32)
    config = gradaug.TrainConfig(
        task="multilabel", data=f"csv-labels:{root}", epochs=6, batch_size=8, lr=0.1, regularizers=("mixup",),
        views=("cutmix",), num_subnets=2,
    )  # fmt: skip
    result = gradaug.train(net, config, tmp_path / "run")
    assert result.after.map is not None
    assert result.after.loss < result.before.loss
    last = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert {"val_map", "val_f1", "train_label_accuracy"} <= last.keys()
    assert last["subnet_loss"] > 0
    source = data.load(config.data, (3, 32, 32))
    found = assess(net, source, config, (1.0, 0.5), epsilons=(0.1,), task=MultiLabel())
    assert len(found.scores) == 2
    assert list(found.attacks) == [0.1]


def test_other_data_is_refused(tmp_path: Path) -> None:
    root = formats.csv_labels(tmp_path / "data")
    with pytest.raises(DataError, match="give --task multilabel"):
        gradaug.train(tiny(3, 3, 32), gradaug.TrainConfig(data=f"csv-labels:{root}"), tmp_path / "run")
    config = gradaug.TrainConfig(data=f"csv-labels:{root}", task="multilabel")
    with pytest.raises(DataError, match=r"multilabel needs \(1, 3\)"):
        gradaug.train(tiny(4, 3, 32), config, tmp_path / "run")
