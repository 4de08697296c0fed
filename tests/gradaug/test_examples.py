"""What a trained network says, beside what is in the images: after a run, and from gradaug eval --plot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import Tensor, nn

import gradaug
import netslim
from gradaug import data
from gradaug.data.pictures import colour, draw, shaded
from gradaug.evaluation.examples import examples
from gradaug.tasks import Classification, Detection, Segmentation
from netslim_cli.main import gradaug as command

from .detectors import SIDE, converted, source


class Knows(nn.Module):
    """Answers with one box, where it is evaluated."""

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        assert not self.training
        box = {"boxes": torch.tensor([[5.0, 5, 20, 30]]), "labels": torch.tensor([2]), "scores": torch.tensor([0.9])}
        return [box for _ in images]


def sheet(images: Any, objects: Any) -> Tensor:
    return draw(images, objects, ("background", *"abc"), 2)


def test_every_image_is_shown_as_it_is_and_as_the_network_has_it() -> None:
    small, net = source(validation=5), Knows().train()
    picture = examples(net, small, Detection(), count=4)
    assert net.training
    assert picture is not None
    images, targets = small.validation.__getitems__([(0, 0)])
    both = sheet([images[0], images[0]], [targets[0], net.eval()(images)[0]])
    height, width = both.shape[1:]
    assert torch.equal(picture[:, 4 : 4 + height, 4 : 4 + width], both)
    assert picture.shape[1] < 3 * (height + 40)  # four pairs, two beside each other
    assert examples(net, source(validation=1), Detection()) is not None


class Bright(nn.Module):
    """Says class 3 of the pixels that are bright, at half the size."""

    def forward(self, images: Tensor) -> Tensor:
        bright = nn.functional.avg_pool2d(images, 2) > 0
        return torch.cat([~bright, *[torch.zeros_like(bright)] * 2, bright], 1).float()


def test_classes_of_pixels_are_shown_in_their_colours() -> None:
    masks = data.load("digit-masks", (1, 16, 16))
    picture = examples(Bright(), masks, Segmentation(), count=2)
    assert picture is not None
    (images, labels) = masks.validation.__getitems__([(0, 0)])
    assert isinstance(labels, Tensor)
    pair = shaded(images[0], [labels[0], Bright()(images[:1]).argmax(1)[0]], masks.mean, masks.std)
    assert torch.equal(picture[:, 4 : 4 + pair.shape[1], 4 : 4 + pair.shape[2]], pair)
    assert int(shaded(torch.zeros(3, 4, 4), [torch.zeros(4, 4)], (0.5,) * 3, (1.0,) * 3)[0, 50, 50]) == 128
    truth = shaded(torch.zeros(3, 4, 4), [torch.tensor([[0, 3], [-100, 0]])], (0.0,) * 3, (1.0,) * 3)
    assert truth[:, 100, 250].tolist() == pytest.approx([0.45 * each for each in colour(3)], abs=1)
    assert truth[:, 100, 100].tolist() == truth[:, 250, 100].tolist() == [0, 0, 0]


def test_a_task_that_is_not_looked_at_has_no_picture() -> None:
    digits = data.load("digits", (1, 8, 8))
    assert examples(nn.Flatten(), digits, Classification()) is None


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradaug.data.scenes.scenes", source)


def test_a_run_of_a_detector_ends_with_a_picture_and_eval_adds_one(small: None, tmp_path: Path) -> None:
    net, run = converted("mask").float(), tmp_path / "run"
    config = gradaug.TrainConfig(task="detection", data="scenes", epochs=1, batch_size=8, mode="none", alpha=1.0)
    gradaug.train(net, config, run)
    with Image.open(run / "predictions.png") as shown:
        assert shown.format == "PNG"
        assert min(shown.size) > 4 * SIDE
    netslim.save(net, tmp_path / "det.pt")
    plot = tmp_path / "plot.png"
    done = CliRunner().invoke(
        command, f"eval --model {tmp_path}/det.pt --trust --data scenes --plot {plot}".split(), catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    with Image.open(plot) as shown:
        assert shown.size[0] >= 1300
        assert shown.size[1] > 800
    with pytest.raises(gradaug.errors.OutputError, match="already holds a run"):
        gradaug.train(net, config, run)
    (run / "predictions.png").write_bytes(b"old")
    gradaug.train(net, config, run, overwrite=True)
    assert (run / "predictions.png").read_bytes()[:4] == b"\x89PNG"
