"""Small detectors of torchvision's classes, which run in milliseconds, and a batch for them."""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, KeypointRCNN, MaskRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.keypoint_rcnn import KeypointRCNNHeads, KeypointRCNNPredictor
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import MultiScaleRoIAlign

import gradaug
import netslim
from gradaug import data
from gradaug.distributed import processes as sync
from gradaug.evaluation.score import measure

SIDE = 48
CLASSES = 4


class Backbone(nn.Module):
    """Three convolutions, a norm and a residual block; the first two have `width` channels."""

    out_channels = 12

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, width, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.body = nn.Conv2d(width, width, 3, padding=1)
        self.last = nn.Conv2d(width, 12, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.first(x)))
        x = torch.relu(x + self.body(x))
        return torch.relu(self.last(x))


def _two_stages(cls: Any, width: int, classes: int, sampled: int, **parts: Any) -> nn.Module:
    """Samples of anchors and proposals that are all of them where `sampled` is large."""
    return cls(
        Backbone(width), None, min_size=SIDE, max_size=2 * SIDE,
        rpn_anchor_generator=AnchorGenerator(((8, 16, 24),), ((1.0,),)),
        box_roi_pool=MultiScaleRoIAlign(["0"], 4, 2), box_head=TwoMLPHead(12 * 16, 16),
        box_predictor=FastRCNNPredictor(16, classes), rpn_pre_nms_top_n_train=60, rpn_post_nms_top_n_train=30,
        rpn_pre_nms_top_n_test=60, rpn_post_nms_top_n_test=30, rpn_batch_size_per_image=sampled,
        box_batch_size_per_image=sampled, **parts,
    )  # fmt: skip


def faster(width: int = 8, classes: int = CLASSES, sampled: int = 32) -> nn.Module:
    return _two_stages(FasterRCNN, width, classes, sampled)


def mask(width: int = 8, classes: int = CLASSES, sampled: int = 32) -> nn.Module:
    return _two_stages(
        MaskRCNN, width, classes, sampled, mask_roi_pool=MultiScaleRoIAlign(["0"], 4, 2),
        mask_head=MaskRCNNHeads(12, (8,), 1), mask_predictor=MaskRCNNPredictor(8, 8, classes),
    )  # fmt: skip


def keypoint(width: int = 8, classes: int = CLASSES, sampled: int = 32) -> nn.Module:
    return _two_stages(
        KeypointRCNN, width, classes, sampled, keypoint_roi_pool=MultiScaleRoIAlign(["0"], 4, 2),
        keypoint_head=KeypointRCNNHeads(12, (8,)), keypoint_predictor=KeypointRCNNPredictor(8, 3),
    )  # fmt: skip


def retina(width: int = 8, classes: int = CLASSES) -> nn.Module:
    anchors = AnchorGenerator(((8, 16, 24),), ((1.0,),))
    return RetinaNet(Backbone(width), classes, min_size=SIDE, max_size=2 * SIDE, anchor_generator=anchors)


MAKERS = {"mask": mask, "retina": retina, "faster": faster, "keypoint": keypoint}


class Own(nn.Module):
    """A detector of a person's own, which takes images as they are: the centre and the size of one object an image."""

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2), nn.ReLU())
        self.top = nn.Linear(8, 4 + classes)

    def forward(self, images: Sequence[Tensor], targets: Any = None) -> Any:
        found = torch.stack([self.top(self.backbone(image[None]).mean((2, 3)))[0] for image in images])
        if not self.training:
            return [_read(one) for one in found]
        boxes = torch.stack([target["boxes"].mean(0) for target in targets])
        labels = torch.stack([target["labels"][0] for target in targets])
        return {
            "box": nn.functional.smooth_l1_loss(found[:, :4], boxes / SIDE),
            "class": nn.functional.cross_entropy(found[:, 4:], labels),
        }


def _read(one: Tensor) -> dict[str, Tensor]:
    box, chances = one[:4].abs().cumsum(0)[None], one[4:].softmax(0)
    return {"boxes": box, "labels": chances.argmax()[None], "scores": chances.amax()[None]}


@functools.cache
def _converted(kind: str, classes: int, sampled: int) -> netslim.SlimNet:
    torch.manual_seed(3)
    model = Own(classes) if kind == "own" else plain(kind, classes=classes, sampled=sampled)
    return netslim.convert(model, ([torch.rand(3, SIDE, SIDE), torch.rand(3, SIDE, SIDE)],), prove=False)


def converted(kind: str, classes: int = CLASSES, sampled: int = 32, frozen: bool = False) -> netslim.SlimNet:
    """In double precision, in training mode; the same weights every time. `frozen`: norms in eval mode."""
    net = copy.deepcopy(_converted(kind, classes, sampled)).double().train()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train(not frozen)
    return net


def plain(kind: str, width: int = 8, classes: int = CLASSES, sampled: int = 32) -> nn.Module:
    """The model as torchvision has it; with larger weights than it begins with, so that answers differ."""
    torch.manual_seed(3)
    made = MAKERS[kind](width, classes, **({} if kind == "retina" else {"sampled": sampled}))
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name.endswith("weight") and parameter.ndim > 1:
                parameter.copy_(torch.randn(parameter.shape) * (1.5 / parameter[0].numel()) ** 0.5)
    return made


def batch(count: int = 2, points: int = 3, seed: int = 1) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Images of two sizes, whose objects have boxes, masks and keypoints; the last image has none where there are
    three or more."""
    generator = torch.Generator().manual_seed(seed)
    images, targets = [], []
    for number in range(count):
        height, width = (SIDE, SIDE + 8) if number % 2 else (SIDE + 8, SIDE)
        images.append(torch.rand(3, height, width, dtype=torch.float64, generator=generator))
        objects = 0 if number == count - 1 > 1 else 2
        corners = torch.rand(objects, 2, dtype=torch.float64, generator=generator) * 20
        boxes = torch.cat([corners, corners + 8 + 15 * torch.rand(objects, 2, generator=generator).double()], 1)
        masks = torch.zeros(objects, height, width, dtype=torch.uint8)
        for one, box in zip(masks, boxes.round().int().tolist(), strict=True):
            one[box[1] : box[3], box[0] : box[2]] = 1
        keypoints = torch.cat(
            [corners.float().unsqueeze(1).expand(-1, points, -1) + 3, torch.ones(objects, points, 1)], 2
        )
        labels = torch.randint(1, CLASSES, (objects,), generator=generator)
        targets.append({"boxes": boxes, "labels": labels, "masks": masks, "keypoints": keypoints})
    return images, targets


class Scenes(data.Images):
    """Images in memory; of validation with what COCO's files say besides."""

    together = 4

    def __init__(self, count: int, validation: bool, seed: int) -> None:
        self.pairs = [batch(1, seed=seed + number) for number in range(count)]
        self.validation = validation

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitems__(self, keys: Any) -> data.Batch:
        images, targets = [], []
        for _, index in keys:
            (image,), (target,) = self.pairs[index]
            boxes = target["boxes"].float()
            found = {**target, "boxes": boxes}
            if self.validation:
                area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
                found |= {"iscrowd": torch.zeros(len(boxes), dtype=torch.int64), "area": area}
                found["image_id"] = torch.tensor(index)
            images.append(image.float())
            targets.append(found)
        return images, targets


def source(*_: Any, training: int = 8, validation: int = 5) -> data.DataSource:
    """A data set for detection, as a row of the registry makes one."""
    train, held = Scenes(training, False, 10), Scenes(validation, True, 50)
    return data.DataSource("small", CLASSES, train, train, held, task="detection", categories=("background", *"abc"))


# ------------------------------------------------------------------------------------------ in one of two processes


def step_gradients(kind: str = "retina", parts: int = 1) -> dict[str, Tensor]:
    """Of one step on this process's images, in so many parts, averaged over the processes."""
    net, world = converted(kind, frozen=True), sync.current()
    images, targets = batch(4)
    ga = gradaug.GradAug(net, "both", task=gradaug.Detection(), round_to=1, alpha=0.5, accumulate=parts)
    for part in range(parts):
        mine = slice(world.rank * parts + part, None, world.size * parts)
        ga.backward(images[mine], targets[mine])
    sync.average_gradients(net.parameters())
    return {name: p.grad for name, p in net.named_parameters() if p.grad is not None}


def measured() -> Any:
    """The score of an untrained network on the images of all processes, each taking its share."""
    held, world = source(training=1, validation=5).validation, sync.current()
    share = data.evaluation_batches(held, 2, rank=world.rank, world=world.size)
    meter = measure(converted("mask").float(), share, task=gradaug.Detection())
    if world.size > 1:
        meter.merge(sync.gathered(meter.state()))
    return asdict(meter.score())


def seen_by_each() -> list[float]:
    """Losses of a step on the same images, whose anchors each process samples by itself."""
    net = converted("faster", sampled=8)
    losses = gradaug.GradAug(net, task=gradaug.Detection(), round_to=1).backward(*batch())
    return [float(losses.full), *map(float, losses.subnets)]


def answers() -> dict[str, Any]:
    """Everything that the tests ask of one process."""
    return {"gradients": step_gradients(), "parts": step_gradients(parts=2), "score": measured(), "own": seen_by_each()}
