"""Whole runs of detectors: what is measured, resumed, shared by processes, averaged, and what it will cost."""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import signal
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor
from torchmetrics.detection import MeanAveragePrecision

import gradaug
import netslim
from gradaug.config.settings import TrainConfig
from gradaug.tasks import Detection
from gradaug.tasks.average_precision import DetectionScore
from gradaug.training.estimate import estimate
from gradaug.training.progress import Silent, epoch_line
from gradaug.training.run import grad_aug, resolve
from netslim.errors import InputError
from netslim_cli.main import gradaug as command

from . import detectors
from .detectors import CLASSES, SIDE, batch, converted, source
from .processes import in_processes

SHORT = TrainConfig(
    task="detection", data="scenes", epochs=2, batch_size=4, round_to=1, alpha=0.5, lr=0.02, resolutions=(48, 36),
    calibration_batches=1,
)  # fmt: skip


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("gradaug.data.scenes"), "scenes", source)


def lines(folder: Path, event: str) -> list[dict[str, Any]]:
    found = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line for line in found if line["event"] == event]


def weights(net: torch.nn.Module) -> list[Tensor]:
    return [value.clone() for value in net.state_dict().values()]


# ----------------------------------------------------------------------------------------------------- what is measured


def predictions(shift: float = 0.0) -> tuple[list[dict[str, Tensor]], list[dict[str, Tensor]]]:
    """What is there, moved, and every second label wrong; objects of three sizes, one of them a crowd."""
    sides = torch.tensor([20.0, 60.0, 120.0, 90.0])
    found, there = [], []
    for number in range(4):
        corners = torch.tensor([[5.0, 5.0], [40.0, 10.0], [60.0, 70.0], [10.0, 100.0]]) + number
        boxes = torch.cat([corners, corners + sides[:, None]], 1)
        masks = torch.zeros(4, 200, 200, dtype=torch.uint8)
        for mask, (left, top, right, bottom) in zip(masks, boxes.int().tolist(), strict=True):
            mask[top:bottom, left:right] = 1
        labels = torch.tensor([1, 2, 3, 1])
        crowd = torch.tensor([0, 0, 0, 1])
        there.append({"boxes": boxes, "labels": labels, "masks": masks, "iscrowd": crowd, "area": sides**2})
        wrong = labels if number % 2 else labels.roll(1)
        scores = torch.tensor([0.9, 0.8, 0.7, 0.6]) - 0.01 * number
        soft = masks[:, None] * 0.7 + 0.1
        found.append({"boxes": boxes + shift, "labels": wrong, "scores": scores, "masks": soft})
    return found, there


def test_figures_are_those_of_coco() -> None:
    found, there = predictions(2.0)
    meter = Detection().meter()
    meter.add(found[:1], there[:1])
    meter.add(found[1:], there[1:])
    score = meter.score()
    metric = MeanAveragePrecision(iou_type=("bbox", "segm"))
    binary = [{**one, "masks": (one["masks"] > 0.5)[:, 0]} for one in found]
    metric.update(binary, [{**one, "masks": one["masks"].bool()} for one in there])
    expected = metric.compute()
    assert isinstance(score, DetectionScore)
    assert score.images == 4
    for ours, theirs in (("ap", "map"), ("ap50", "map_50"), ("ap75", "map_75"), ("ap_small", "map_small"),
                         ("ap_medium", "map_medium"), ("ap_large", "map_large")):  # fmt: skip
        assert getattr(score, ours) == pytest.approx(100 * float(expected[f"bbox_{theirs}"]))
        assert getattr(score, f"mask_{ours}") == pytest.approx(100 * float(expected[f"segm_{theirs}"]))
    assert score.mask_ap is not None
    assert score.ap is not None
    assert 0 < score.ap < score.mask_ap < 100


def test_a_crowd_counts_neither_for_nor_against() -> None:
    found, there = predictions()
    found = [{name: value[:3] for name, value in one.items()} for one in found[1::2]]
    meter = Detection().meter()
    meter.add(found, there[1::2])
    assert meter.score().headline == pytest.approx(100)
    plain = Detection().meter()
    plain.add(found, [{**one, "iscrowd": torch.zeros(4, dtype=torch.int64)} for one in there[1::2]])
    assert plain.score().headline < 99


def test_masks_are_held_as_run_lengths() -> None:
    meter = Detection().meter()
    meter.add(*predictions())
    state: Any = meter.state()
    sizes = [len(lengths) for masks in state["detection_mask"] for _, lengths in masks]
    assert len(sizes) == 16
    assert max(sizes) < 1000


def test_what_cannot_be_measured_is_left_out() -> None:
    found, there = predictions()
    meter = Detection().meter()
    meter.add([{k: v[:1] for k, v in one.items() if k != "masks"} for one in found],
              [{k: v[:1] for k, v in one.items() if k != "masks"} for one in there])  # fmt: skip
    score = meter.score()
    assert isinstance(score, DetectionScore)
    assert score.ap_small is not None
    assert (score.ap_large, score.mask_ap) == (None, None)
    assert Detection().meter().score() == DetectionScore(None, 0)
    with pytest.raises(InputError, match="a detector returns a list there, a dict with boxes"):
        Detection().meter().add({"loss": torch.zeros(())}, there)
    meter = Detection().meter()
    meter.add(*predictions())
    with pytest.raises(InputError, match="some images have masks and others have none"):
        meter.add(found, [{k: v for k, v in one.items() if k != "masks"} for one in there])
    with pytest.raises(InputError, match="dicts without scores"):
        Detection().meter().add([{k: v for k, v in one.items() if k != "scores"} for one in found], there)


# ----------------------------------------------------------------------------------------------------------------- runs


@pytest.mark.parametrize("target", ["truth", "full"])
def test_a_run_leaves_its_record_and_resumes_bit_for_bit(small: None, tmp_path: Path, target: str) -> None:
    from .interrupt import StopAfter, StopError

    config = replace(SHORT, subnet_target=target, mode="both", checkpoint_every=1, ema=0.9, clip_norm=10.0)
    net = converted("faster").float()
    result = gradaug.train(net, config, tmp_path / "whole")
    with pytest.raises(StopError):
        gradaug.train(converted("faster").float(), config, tmp_path / "cut", progress=StopAfter(3))
    torch.manual_seed(99)
    again = converted("faster").float()
    resumed = gradaug.train(again, config, tmp_path / "cut", resume=True)
    assert all(torch.equal(a, b) for a, b in zip(weights(net), weights(again), strict=True))
    assert (resumed.before, resumed.after, resumed.subnets) == (result.before, result.after, result.subnets)
    epochs = lines(tmp_path / "whole", "epoch")
    assert [line["step"] for line in epochs] == [2, 4]
    assert epochs[-1]["val_ap"] == asdict(result.after)["ap"]
    assert epochs[-1]["val_loss"] is None
    assert epochs[-1]["train_loss"] > 0
    assert result.config.scope == "backbone"
    assert result.after.images == 5
    assert [row.width for row in result.subnets] == [1.0, 0.875, 0.75, 0.625, 0.5]
    assert not result.subnets[0].recalibrated
    assert all(row.recalibrated for row in result.subnets[1:])


def test_a_run_without_sub_networks_and_one_in_parts(small: None, tmp_path: Path) -> None:
    """Of a network whose loss is a mean over images: the parts of a batch are the batch."""
    losses = []
    for accumulate in (1, 2):
        net = converted("retina", frozen=True)
        task, (images, targets) = Detection(), batch(4)
        ga = gradaug.GradAug(net, "none", task=task, accumulate=accumulate)
        for part in range(accumulate):
            ga.backward(images[part::accumulate], targets[part::accumulate])
        losses.append([p.grad for p in net.parameters()])
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-9, atol=1e-11)
    result = gradaug.train(
        converted("retina").float(), replace(SHORT, mode="none", epochs=1, accumulate=2, amp="bf16"), tmp_path / "run"
    )
    assert result.steps == 2


class Deadly(Silent):
    """Kills its own process after so many steps."""

    def __init__(self, left: int) -> None:
        self.left = left

    def step(self, *figures: object) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def trained(model: Path, out: Path, moment: int) -> None:
    """A run that goes on where a checkpoint is, killed after `moment` steps."""
    torch.set_num_threads(1)
    config = replace(SHORT, data="scenes:8", checkpoint_every=1, calibration_batches=1)
    resume = (out / "checkpoint.pt").exists()
    gradaug.train(netslim.load(model, trust=True), config, out, resume=resume, progress=Deadly(moment))


def test_a_run_that_is_killed_ends_like_an_undisturbed_one(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("forkserver")
    fork.set_forkserver_preload(["gradaug.training.loop", "torchvision", "torch.utils.tensorboard"])
    model = tmp_path / "faster.pt"
    netslim.save(converted("faster", classes=11).float(), model)
    for out, moments in (("whole", [0]), ("killed", [2, 1, 0])):
        for moment in moments:
            process = fork.Process(target=trained, args=(model, tmp_path / out, moment))
            process.start()
            process.join()
            assert process.exitcode == (-signal.SIGKILL if moment else 0)
    whole, killed = (netslim.load(tmp_path / out / "trained.pt", trust=True) for out in ("whole", "killed"))
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(killed), strict=True))
    first, second = (json.loads((tmp_path / out / "result.json").read_text()) for out in ("whole", "killed"))
    assert [first[name] for name in ("before", "after", "subnets")] == [
        second[name] for name in ("before", "after", "subnets")
    ]


# ------------------------------------------------------------------------------------------------------------ processes


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return in_processes(2, tmp_path_factory.mktemp("processes"), detectors.answers)


@pytest.mark.parametrize("what", ["gradients", "parts"])
def test_two_processes_have_the_gradients_of_the_joined_batch(found: list[dict[str, Any]], what: str) -> None:
    alone = detectors.step_gradients()
    for process in found:
        assert process[what].keys() == alone.keys()
        for name, gradient in process[what].items():
            torch.testing.assert_close(gradient, alone[name], rtol=1e-9, atol=1e-11, msg=name)


def test_two_processes_measure_what_one_does(found: list[dict[str, Any]]) -> None:
    alone = detectors.measured()
    assert found[0]["score"] == found[1]["score"] == alone
    assert alone["images"] == 5
    assert alone["ap"] is not None


def test_processes_sample_anchors_of_their_own(found: list[dict[str, Any]]) -> None:
    first, second = (process["own"] for process in found)
    assert first == detectors.seen_by_each()
    assert not set(first) & set(second)


# ------------------------------------------------------------------------------------------------------------- commands


def test_a_dry_run_says_what_a_detector_costs() -> None:
    net = converted("mask").float()
    config = resolve(replace(SHORT, mode="none"), net)
    state = torch.get_rng_state()
    plain = estimate(net, config, grad_aug(net, config).space, images=8)
    assert torch.equal(torch.get_rng_state(), state)
    config = resolve(SHORT, net)
    with_subnets = estimate(net, config, grad_aug(net, config).space, images=8)
    assert plain.ratio == 1
    assert with_subnets.ratio > 1.5
    assert plain.memory > sum(p.numel() for p in net.parameters()) * 12
    assert plain.parameters == sum(p.numel() for p in net.parameters())


def test_the_commands_train_and_score_a_detector(small: None, tmp_path: Path) -> None:
    model = tmp_path / "retina.pt"
    netslim.save(converted("retina").float(), model)
    run = CliRunner().invoke
    options = "--task detection --data scenes --epochs 1 --batch-size 4 --round-to 1 --resolutions 48,36".split()
    out = ["--out", str(tmp_path / "run")]
    done = run(command, ["train", "--model", str(model), "--trust", *options, *out, "--calibration-batches", "1"])
    assert done.exit_code == 0, done.output
    assert "AP" in done.output
    assert "validation AP" in done.output
    settings = json.loads((tmp_path / "run" / "result.json").read_text())["config"]
    assert (settings["clip_norm"], settings["batch_size"], settings["epochs"]) == (5.0, 4, 1)  # the task's, unless said
    found = run(command, ["eval", "--model", str(tmp_path / "run" / "trained.pt"), "--trust", "--data", "scenes",
                          "--widths", "1,0.5", "--calibration-batches", "1", "--json"])  # fmt: skip
    assert found.exit_code == 0, found.output
    scores = json.loads(found.stdout)["scores"]
    assert [row["width"] for row in scores] == [1.0, 0.5]
    everything = run(command, ["eval", "--model", str(model), "--trust", "--data", "scenes", "--scope", "all",
                               "--widths", "0.5", "--calibration-batches", "1", "--json"])  # fmt: skip
    assert json.loads(everything.stdout)["scores"][0]["params"] < scores[1]["params"]
    attacked = run(command, ["eval", "--model", str(model), "--trust", "--data", "scenes", "--fgsm", "0.1"])
    assert attacked.exit_code == 1
    assert "detection has lists: leave them out" in " ".join(attacked.stderr.split())
    for wrong, words in (
        (["--regularizers", "cutmix"], "--regularizers cutmix changes images of one label"),
        (["--scope", "neck"], "this network has none of that name"),
        (["--subnet-target", "teacher"], "one of truth, full"),
    ):
        refused = run(
            command, ["train", "--model", str(model), "--trust", *options, *wrong, "--out", str(tmp_path / "no")]
        )
        assert refused.exit_code in (1, 2)
        assert words in " ".join(refused.stderr.split())


def test_a_line_about_an_epoch_has_no_loss_of_validation(small: None, tmp_path: Path) -> None:
    said: list[str] = []

    class Spoken(Silent):
        def epoch(self, epoch: Any) -> None:
            said.append(epoch_line(epoch, 1))

    gradaug.train(converted("retina").float(), replace(SHORT, mode="none", epochs=1), tmp_path / "a", progress=Spoken())
    assert said[0].startswith("epoch 1/1  loss ")
    assert "validation: AP " in said[0]
    assert "None" not in said[0]


def test_the_small_set_is_one_for_detection() -> None:
    small = source()
    assert (small.task, small.classes, len(small.validation)) == ("detection", CLASSES, 5)
    assert max(image.shape[1] for image in small.train.__getitems__([(0, 0)])[0]) <= SIDE + 8
