"""An Ultralytics model with the calling convention of torchvision's detectors, which gradaug trains as one of them.

netslim convert gradaug.ultralytics:detector --arg model=yolo11n.yaml --arg num_classes=11 -o yolo.pt
gradaug train --model yolo.pt --trust --task ultralytics --data scenes --out runs/yolo
gradaug.ultralytics.save(netslim.load("runs/yolo/trained.pt", trust=True), "trained-yolo.pt")
"""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from gradaug.config.values import whole
from gradaug.ultralytics.letterbox import Frame, Letterbox, batch, require
from gradaug.ultralytics.models import model_of
from netslim import SlimNet
from netslim.errors import InputError
from netslim.extras import needed
from netslim.net.runtime import runtime

LEARNT = {"detect": (), "segment": ("masks",), "pose": ("keypoints",)}
"""What a target needs besides boxes and labels, by what a model is for."""
CANDIDATES, DETECTIONS, OVERLAP = 0.001, 300, 0.7
"""Least score of a box, most boxes an image, and the overlap from which one of two is dropped: Ultralytics' `val`."""


class Detector(nn.Module):
    """``net(images, targets)`` is a dict of losses in training, ``net(images)`` a list of dicts in evaluation.

    Images are a list of (C, H, W) in [0, 1]; boxes are in their pixels, labels from 1. Losses are Ultralytics' own, a
    mean over the images. What is predicted is what Ultralytics' `val` scores.
    """

    def __init__(self, yolo: Any, size: int) -> None:
        super().__init__()
        self.yolo = yolo
        self.transform = Letterbox(size, max(int(yolo.stride.max()), 32))
        self.channels = {mode: [leaf.shape[1] for leaf in _raw(_tried(yolo, mode))] for mode in (True, False)}

    def forward(self, images: Sequence[Tensor], targets: Sequence[dict[str, Tensor]] | None = None) -> Any:
        """Without targets in training, the answer that the losses are of."""
        square, frames = self.transform(images)
        found = self.yolo(square)
        for leaf, channels in zip(_raw(found), self.channels[self.training], strict=True):
            leaf.reshape(
                len(leaf), channels, -1
            )  # losses read these by their place: so they stay whole in sub-networks
        if not self.training:
            return predictions(self.yolo, found, frames, square.shape[-1])
        if targets is None:
            return found
        require(targets, self.yolo.learnt)
        return losses(self.yolo, found, batch(square, frames, targets))


def _raw(found: Any) -> list[Tensor]:
    """What losses read of an answer: all but the feature maps, of which they ask the size alone."""
    raw = _without_features(found[1] if isinstance(found, tuple) else found)
    return [leaf for leaf in tree_leaves(raw) if isinstance(leaf, Tensor)]


def _without_features(raw: Any) -> Any:
    if not isinstance(raw, dict):
        return raw
    return {name: _without_features(value) for name, value in raw.items() if name != "feats"}


def _tried(yolo: Any, training: bool) -> Any:
    """The answer to blank images, by a copy."""
    side = 2 * max(int(yolo.stride.max()), 32)
    with torch.no_grad():
        return copy.deepcopy(yolo).train(training)(torch.zeros(2, yolo.yaml.get("channels", 3), side, side))


def losses(yolo: Any, found: Any, given: dict[str, Tensor]) -> dict[str, Tensor]:
    """The parts of the loss by name, a mean over the images."""
    parts, items = yolo.init_criterion()(found, given)
    return dict(zip(items, parts / len(given["img"]), strict=True))


def predictions(yolo: Any, found: Any, frames: Sequence[Frame], side: int) -> list[dict[str, Tensor]]:
    """Boxes, labels and scores of each image, and masks where the model has them."""
    from ultralytics.utils.nms import non_max_suppression
    from ultralytics.utils.ops import process_mask

    answer, protos = found[0] if isinstance(found[0], tuple) else (found[0], None)
    settings = {"nc": yolo.model[-1].nc, "end2end": yolo.end2end, "max_det": DETECTIONS, "multi_label": True}
    rows = non_max_suppression(answer, CANDIDATES, OVERLAP, max_time_img=60.0, **settings)
    made = []
    for i, (row, at) in enumerate(zip(rows, frames, strict=True)):
        one = {"boxes": at.boxes_out(row[:, :4]), "labels": row[:, 5].long() + 1, "scores": row[:, 4]}
        if protos is not None:
            one["masks"] = at.masks_out(process_mask(protos[i], row[:, 6:], row[:, :4], (side, side), upsample=True))
        made.append(one)
    return made


def detector(model: str | object, size: int = 640, num_classes: int | None = None) -> Detector:
    """A detector to convert, from a .yaml or .pt file of Ultralytics on this machine, or a `YOLO`.

    size: the side of the square that images are put into, in pixels. num_classes: as torchvision counts, with the
    background: a model for another number is built with that, and takes the weights that fit.

    Raises InputError for a model that is not for boxes, masks or key points, and for a file that is not there.
    """
    given = model_of(_opened(model) if isinstance(model, (str, Path)) else model)
    from ultralytics.cfg import get_cfg
    from ultralytics.nn.tasks import guess_model_task

    kind = guess_model_task(given)
    if kind not in LEARNT:
        raise InputError(f"this model is for {kind!r}, and a detector finds boxes: take one for {', '.join(LEARNT)}")
    yolo = copy.deepcopy(given)
    count = whole("num_classes", yolo.model[-1].nc + 1 if num_classes is None else num_classes, 2)
    if count != yolo.model[-1].nc + 1:
        yolo = _with_classes(yolo, count - 1)
    known = {name: value for name, value in dict(getattr(given, "args", {})).items() if name in vars(get_cfg())}
    yolo.args = get_cfg(overrides={**known, "overlap_mask": False, "task": kind})
    yolo.learnt, yolo.num_classes, yolo.criterion = LEARNT[kind], count, None
    return Detector(yolo, whole("size", size, 1))


def _opened(file: str | Path) -> Any:
    with needed("ultralytics", "Ultralytics' models"):
        from ultralytics import YOLO
    if Path(file).suffix == ".pt" and not Path(file).exists():
        raise InputError(f"there is no file {file}; a checkpoint of Ultralytics is to be on this machine")
    try:
        return YOLO(file)
    except FileNotFoundError as error:
        raise InputError(f"Ultralytics has no {file}: {str(error).splitlines()[0]}") from error


def _with_classes(yolo: Any, count: int) -> Any:
    made = type(yolo)(copy.deepcopy(yolo.yaml), ch=yolo.yaml.get("channels", 3), nc=count, verbose=False)
    made.load(yolo, verbose=False)
    return made.train(yolo.training)


def save(net: object, path: str | os.PathLike[str], names: Sequence[str] = ()) -> None:
    """Writes the model in a converted :class:`Detector`, trained or not, as a checkpoint that `YOLO(path)` opens.

    names: of the classes, without the background. Raises InputError for another network, or a wrong number of names.
    """
    from ultralytics import __version__

    model = _plain(net)
    if names:
        if len(names) != model.model[-1].nc:
            raise InputError(f"there are {len(names)} names for {model.model[-1].nc} classes (the background has none)")
        model.names = dict(enumerate(names))
    args = {**vars(model.args), "overlap_mask": True}
    for name in ("learnt", "num_classes", "criterion"):
        vars(model).pop(name, None)
    model.args = args
    document = {
        "epoch": -1,
        "model": model.half(),
        "train_args": args,
        "date": datetime.now().astimezone().isoformat(),
        "version": __version__,
    }
    torch.save(document, path)


def _plain(net: object) -> Any:
    """A copy of the model that was converted, whose own code runs."""
    top = runtime(net).top if isinstance(net, SlimNet) else net
    if not isinstance(top, Detector):
        raise InputError(
            f"{type(top).__name__} holds no model of Ultralytics: convert gradaug.ultralytics.detector(...)"
        )
    model: Any = copy.deepcopy((net.extract() if isinstance(net, SlimNet) else top).yolo).cpu()
    for module in model.modules():
        vars(module).pop("forward", None)  # where a program stood for it
    return model
