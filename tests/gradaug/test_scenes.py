"""Scenes of digits with boxes and masks: what they hold, and that augmentation moves all of it together."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torchvision.ops import masks_to_boxes

from gradaug import data
from gradaug.errors import DataError
from netslim.source.spec import load_source


@pytest.fixture(scope="module")
def scenes() -> data.DataSource:
    return data.load("scenes:24", (3, 64, 96))


def everything(images: data.Images, epoch: int = 0) -> tuple[list[torch.Tensor], list[data.Target]]:
    pictures, targets = images.__getitems__([(epoch, index) for index in range(len(images))])
    assert isinstance(pictures, list)
    assert isinstance(targets, list)
    return pictures, targets


def test_it_is_data_for_detection(scenes: data.DataSource) -> None:
    assert (scenes.task, scenes.classes, len(scenes.train), len(scenes.validation)) == ("detection", 11, 24, 100)
    assert scenes.categories == ("background", *"0123456789")
    assert (scenes.mean, scenes.std) == ((0.0,), (1.0,))
    assert len(data.load("scenes", (3, 32, 32)).train) == 400
    images, targets = everything(scenes.validation)
    assert {label for target in targets for label in target["labels"].tolist()} == set(range(1, 11))
    for image, target in zip(images, targets, strict=True):
        n = len(target["labels"])
        assert (image.shape, image.dtype) == ((3, 64, 96), torch.float32)
        assert 0 <= image.min() < image.max() <= 1
        assert 1 <= n <= 6
        assert (target["boxes"].shape, target["masks"].shape) == ((n, 4), (n, 64, 96))
        assert (target["boxes"].dtype, target["labels"].dtype) == (torch.float32, torch.int64)
        assert target["masks"].dtype == torch.uint8


def test_masks_are_what_is_seen_and_boxes_enclose_them(scenes: data.DataSource) -> None:
    overlaps = 0
    for target in everything(scenes.validation)[1]:
        masks, boxes = target["masks"], target["boxes"]
        assert int(masks.sum(0).max()) == 1, "one pixel is seen of one digit"
        corners = masks_to_boxes(masks) + torch.tensor([0, 0, 1, 1])
        assert torch.equal(corners, boxes)
        assert torch.equal(target["area"], masks.flatten(1).sum(1).float())
        low, high = torch.maximum(boxes[:, None, :2], boxes[:, :2]), torch.minimum(boxes[:, None, 2:], boxes[:, 2:])
        overlaps += int((high > low).all(-1).sum()) - len(boxes)
    assert overlaps > 50


def test_validation_alone_says_what_an_evaluation_asks(scenes: data.DataSource) -> None:
    _, targets = everything(scenes.validation)
    assert [int(target["image_id"]) for target in targets] == list(range(100))
    assert all(not target["iscrowd"].any() for target in targets)
    for part in (scenes.train, scenes.calibration):
        assert everything(part)[1][0].keys() == {"boxes", "labels", "masks"}


def test_scenes_are_the_same_for_everybody(scenes: data.DataSource) -> None:
    fewer = data.load("scenes:5", (3, 64, 96), seed=3)
    for part in ("calibration", "validation"):
        alike = zip(everything(getattr(fewer, part))[0], everything(getattr(scenes, part))[0], strict=False)
        assert all(torch.equal(*pair) for pair in alike)


def test_augmentation_is_a_function_of_seed_epoch_and_index(scenes: data.DataSource) -> None:
    state = torch.get_rng_state()
    (first, found), (again, same), (other, _) = (everything(scenes.train, epoch) for epoch in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(map(torch.equal, first, again))
    assert all(map(torch.equal, (one["boxes"] for one in found), (one["boxes"] for one in same)))
    assert not any(map(torch.equal, first, other))
    assert not torch.equal(first[0], everything(data.load("scenes:24", (3, 64, 96), seed=1).train)[0][0])
    still = data.load("scenes:24", (3, 64, 96), augment="none")
    assert all(map(torch.equal, everything(still.train)[0], everything(scenes.calibration)[0]))


def test_boxes_and_masks_move_with_the_picture(scenes: data.DataSource) -> None:
    """A box lies around its mask, to a pixel or two of rounding, wherever a digit has not been cut."""
    near = seen = 0
    for epoch in range(4):
        images, targets = everything(scenes.train, epoch)
        for image, target in zip(images, targets, strict=True):
            assert image.shape == (3, 64, 96)
            boxes = target["boxes"]
            assert (boxes[:, 2:] - boxes[:, :2] >= 1).all()
            assert (boxes >= 0).all()
            assert (boxes <= torch.tensor([96, 64, 96, 64])).all()
            assert target["masks"].flatten(1).any(1).all()
            corners = masks_to_boxes(target["masks"]) + torch.tensor([0, 0, 1, 1])
            near += int(((corners - boxes).abs() <= 2).all(1).sum())
            seen += len(boxes)
    assert near > 0.9 * seen


@pytest.mark.parametrize("where", ["0", "-3", "many", "10001", "1.5", "²"])
def test_a_wrong_number_of_scenes_is_said(where: str) -> None:
    with pytest.raises(DataError, match=rf"scenes:{where} is no number of images; write scenes, or scenes:N for N up"):
        data.load(f"scenes:{where}", (3, 64, 64))


def test_networks_that_scenes_do_not_fit_are_told_so() -> None:
    with pytest.raises(DataError, match=r"scenes have 1 or 3 channels and 32 pixels a side at least"):
        data.load("scenes", (3, 16, 64))
    with pytest.raises(DataError, match="scenes have boxes for every image, and no labels to choose from: leave out"):
        data.load("scenes", (3, 64, 64), labels=10)
    with pytest.raises(DataError, match="--augment color is for folders of photographs; scenes has standard and none"):
        data.load("scenes", (3, 64, 64), augment="color")
    images, _ = everything(data.load("scenes:1", (1, 640, 400)).validation)
    assert images[0].shape == (1, 320, 320)


def test_the_example_detector_learns_from_them_and_answers() -> None:
    loaded = load_source(str(Path(__file__).parents[2] / "examples/detector.py"))
    assert loaded.shapes == ((3, 128, 128),)
    source, net = data.load("scenes:4", loaded.shapes[0]), loaded.model
    images, targets = source.train.__getitems__([(0, index) for index in range(4)])
    losses = net.train()(images, targets)
    assert {"loss_classifier", "loss_box_reg", "loss_mask", "loss_objectness", "loss_rpn_box_reg"} == losses.keys()
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    answer = net.eval()([torch.rand(3, 90, 120), images[0]])
    assert [one["masks"].shape[2:] for one in answer] == [(90, 120), (128, 128)]
