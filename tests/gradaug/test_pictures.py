"""Boxes, masks, names and scores drawn on images."""

from __future__ import annotations

import torch

from gradaug import data
from gradaug.data.pictures import SIDE, colour, draw


def one(**changed: torch.Tensor) -> dict[str, torch.Tensor]:
    masks = torch.zeros(1, 40, 40, dtype=torch.uint8)
    masks[0, 12:20, 12:20] = 1
    return {"boxes": torch.tensor([[10.0, 10, 30, 30]]), "labels": torch.tensor([3]), "masks": masks, **changed}


def test_a_box_and_a_mask_are_in_the_colour_of_their_label_where_they_belong() -> None:
    picture = draw([torch.zeros(1, 40, 40)], [one()])
    assert picture.dtype == torch.uint8
    assert picture.shape == (3, SIDE, SIDE)
    factor = SIDE // 40
    assert tuple(picture[:, 20 * factor, 10 * factor].tolist()) == colour(3)
    inside = picture[:, 15 * factor, 15 * factor].float() / torch.tensor(colour(3)).clamp(min=1)
    assert 0.4 < float(inside.max()) < 0.5
    assert picture[:, 25 * factor, 25 * factor].tolist() == [0, 0, 0]
    assert picture[:, 35 * factor, 35 * factor].tolist() == [0, 0, 0]


def test_predictions_are_drawn_from_a_score_on() -> None:
    said = one(masks=one()["masks"].unsqueeze(0).float() * 0.9)
    image = [torch.zeros(3, 40, 40)]
    plain = draw(image, [{}])
    low, high = (draw(image, [{**said, "scores": torch.tensor([score])}]) for score in (0.4, 0.9))
    assert torch.equal(low, plain)
    assert not torch.equal(high, plain)
    assert not torch.equal(draw(image, [{**said, "scores": torch.tensor([0.4])}], threshold=0.4), plain)
    names = [draw(image, [one()], categories) for categories in ((), ("background", "cat", "dog", "tree"))]
    assert not torch.equal(*names)


def test_images_of_several_sizes_and_without_objects_make_one_picture() -> None:
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64), "masks": torch.zeros(0, 20, 60)}
    flat = one(boxes=torch.tensor([[5.0, 5, 5, 9]]))
    picture = draw([torch.rand(3, 20, 60), torch.rand(3, 40, 40), torch.rand(3, 400, 30)], [empty, flat, {}], columns=2)
    assert picture.shape[0] == 3
    assert picture.shape[1] > 2 * 400
    assert draw([], []).shape == (3, SIDE, SIDE)


def test_keypoints_that_are_seen_are_drawn() -> None:
    points = torch.tensor([[[15.0, 15, 1], [25, 25, 0]]])
    given = {key: value for key, value in one().items() if key != "masks"}
    side = draw([torch.zeros(3, 40, 40)], [{**given, "keypoints": points}])
    assert side[:, 15 * 8, 15 * 8].tolist() == [255, 255, 0]
    assert side[:, 25 * 8, 25 * 8].tolist() == [0, 0, 0]


def test_a_set_s_own_images_and_targets_go_in_as_they_are() -> None:
    source = data.load("scenes:2", (3, 64, 64))
    images, targets = source.validation.__getitems__([(0, 0), (0, 1)])
    assert isinstance(images, list)
    assert isinstance(targets, list)
    assert draw(images, targets, source.categories).float().std() > 10
