"""What a sub-network of a detector learns of the full network at the same images, anchors and proposals.

    target = taught(net, images)                # the full network's answers, at the scale that `net` resizes to now
    with net.sub(0.5):
        loss = divergence(answers(net, target.places), target)

Both see the very same pixels, so that anchors are the same; proposals are the full network's, of each image its best,
as many as the detector's own losses are over (512 in torchvision's), and masks and keypoints are compared on those of
them that it takes for an object, the surest, as many as there may be among the sampled ones (a quarter). So each
sub-network costs a further forward pass of the full network, without gradient. Everything is in float32 at least, and
zero where both say the same. With p what the full network says, and detached:

    anchors        (rpn, or a detector of one stage) sum over anchors of KL(p || q), of the two outcomes object and none
                   or of each class by itself (of all classes together in a detector that mines negatives, as SSD does),
                   and of smooth-L1 (beta 1/9) between the box regressions, weighted by the chance p of an object; both
                   divided by the sum of these chances, the number of anchors with objects that are expected, at least 1
    centre-ness    (FCOS) KL of the two outcomes, weighted and divided likewise
    proposals      KL(p || q) over classes, mean over proposals; smooth-L1 between the regressions of each class,
                   weighted by its chance, the background's left out, divided by the number of proposals
    masks          KL of inside and outside, mean over the pixels of the masks of the full network's class
    keypoints      KL over the positions, mean over objects and keypoints

Read off the attributes that torchvision's detectors have: ``transform``, ``backbone``, and ``rpn`` with ``roi_heads``
or ``head``; any other network with these works too.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gradaug.inputs import copied
from gradaug.tasks.losses import kl, wide, without_autocast
from netslim.errors import InputError
from netslim.net.runtime import runtime

if TYPE_CHECKING:
    from torch import nn

    from gradaug.tasks.boxes import Images
    from netslim import SlimNet

PROPOSALS, SHARE = 512, 0.25
"""Of an image at most, and how many of them objects, where a detector does not say how many it samples."""
BETA = 1 / 9
"""Of the smooth-L1 loss, as in torchvision's R-CNN."""


@dataclass(frozen=True)
class Places:
    """What answers are about: the resized images, proposals (P, 4) an image, and those of them that are objects."""

    images: Any
    proposals: list[Tensor] | None = None
    objects: list[Tensor] | None = None


@dataclass(frozen=True)
class Answers:
    """Logits and regressions of a detector; None for what it does not have.

    `anchors` (A,) or, in one stage, (A, classes); `shifts` (A, 4); `centres` (A,); `classes` (P, C); `boxes` (P, C, 4)
    or (P, 1, 4); `masks` (R, C, h, w); `keypoints` (R, K, h, w).
    """

    anchors: Tensor
    shifts: Tensor
    centres: Tensor | None = None
    classes: Tensor | None = None
    boxes: Tensor | None = None
    masks: Tensor | None = None
    keypoints: Tensor | None = None
    exclusive: bool = False
    """Whether the classes of an anchor exclude each other, the first being the background."""


@dataclass(frozen=True)
class Taught:
    """The full network's answers, and the places that they are about; `kinds`: the class of every object (R,)."""

    answers: Answers
    places: Places
    kinds: Tensor | None = None


def require_parts(net: nn.Module) -> None:
    """InputError for a network whose answers at an anchor cannot be asked for."""
    stages = hasattr(net, "head") or (hasattr(net, "rpn") and hasattr(net, "roi_heads"))
    if not (stages and hasattr(net, "transform") and hasattr(net, "backbone")):
        raise InputError(
            "sub-networks learn what the full network says of each anchor or proposal by the attributes transform, "
            "backbone, and head or rpn and roi_heads, as torchvision's detectors have them, and this network has not "
            "all of these: take --subnet-target truth"
        )


@torch.no_grad()
def taught(net: SlimNet, images: Images) -> Taught:
    """The full network's answers to images (C, H, W), whatever sub-network `net` is at; running statistics stay."""
    with net.sub(), _parts(net) as top:
        resized, _ = top.transform(copied(images))
        features = _features(top, resized)
        if not hasattr(top, "rpn"):
            return Taught(_one_stage(top, features), Places(resized))
        most, surest = _sampled(top.roi_heads)
        proposals = [boxes[:most] for boxes in _proposals(top.rpn, resized, features)]
        found = _two_stages(top, features, Places(resized, proposals))
        assert found.classes is not None
        objects, kinds = _objects(found.classes, proposals, surest)
        places = Places(resized, proposals, objects)
        return Taught(_on_objects(top, features, places, found), places, kinds)


def answers(net: SlimNet, places: Places) -> Answers:
    """The answers of the sub-network that `net` is at."""
    with _parts(net) as top:
        features = _features(top, places.images)
        if places.proposals is None:
            return _one_stage(top, features)
        return _on_objects(top, features, places, _two_stages(top, features, places))


def divergence(found: Answers, target: Taught) -> Tensor:
    """How far a sub-network's answers are from the full network's: the sum of what the head of this file lists."""
    with without_autocast(found.anchors):
        return torch.stack(list(_divergences(found, target.answers, target.kinds))).sum()


def _divergences(found: Answers, full: Answers, kinds: Tensor | None) -> Iterator[Tensor]:
    chances, apart = _at_anchors(wide(found.anchors), wide(full.anchors), full.exclusive)
    expected = chances.sum().clamp(min=1)
    yield apart.sum() / expected
    yield (chances * _l1(found.shifts, full.shifts)).sum() / expected
    if found.centres is not None and full.centres is not None:
        yield (chances * _two(wide(found.centres), wide(full.centres))).sum() / expected
    if found.classes is not None and full.classes is not None:
        count = max(1, len(full.classes))
        p = wide(full.classes).softmax(1)
        yield _several(wide(found.classes), wide(full.classes)).sum() / count
        if found.boxes is not None and full.boxes is not None:
            inside = p[:, 1:].sum(1, keepdim=True) if full.boxes.shape[1] == 1 else F.pad(p[:, 1:], (1, 0))
            yield (inside * _l1(found.boxes, full.boxes)).sum() / count
    if kinds is not None and len(kinds) and found.masks is not None and full.masks is not None:
        at = torch.arange(len(kinds), device=kinds.device), kinds.clamp(max=full.masks.shape[1] - 1)
        yield _two(wide(found.masks[at]), wide(full.masks[at])).mean()
    if kinds is not None and len(kinds) and found.keypoints is not None and full.keypoints is not None:
        yield _several(wide(found.keypoints).flatten(2), wide(full.keypoints).flatten(2), dim=2).mean()


def _at_anchors(found: Tensor, full: Tensor, exclusive: bool) -> tuple[Tensor, Tensor]:
    """The chance of an object at each anchor, and how far the two are apart there."""
    if exclusive:
        return 1 - full.softmax(1)[:, 0], _several(found, full)
    apart, p = _two(found, full), full.sigmoid()
    return (p, apart) if full.ndim == 1 else (p.amax(1), apart.sum(1))


def _two(found: Tensor, full: Tensor) -> Tensor:
    """KL of two outcomes with these logits."""
    p = full.sigmoid()
    return F.binary_cross_entropy_with_logits(found, p, reduction="none") - F.binary_cross_entropy_with_logits(
        full, p, reduction="none"
    )


def _several(found: Tensor, full: Tensor, dim: int = 1) -> Tensor:
    """KL over the outcomes along `dim`."""
    return kl(full.log_softmax(dim), found.log_softmax(dim), dim)


def _l1(found: Tensor, full: Tensor) -> Tensor:
    return F.smooth_l1_loss(wide(found), wide(full), beta=BETA, reduction="none").sum(-1)


# ------------------------------------------------------------------------------------------ running parts of a detector


def _parts(net: SlimNet) -> contextlib.AbstractContextManager[Any]:
    """The detector, whose parts run at the sub-network of `net`."""
    return runtime(net).parts()


def _features(top: Any, images: Any) -> Mapping[str, Tensor]:
    found = top.backbone(copied(images.tensors))
    return {"0": found} if isinstance(found, Tensor) else found


def _one_stage(top: Any, features: Mapping[str, Tensor]) -> Answers:
    found = top.head(list(features.values()))
    centres = found.get("bbox_ctrness")
    return Answers(
        found["cls_logits"].flatten(0, 1),
        found["bbox_regression"].flatten(0, 1),
        centres if centres is None else centres.flatten(),
        exclusive=hasattr(top, "neg_to_pos_ratio"),
    )


def _two_stages(top: Any, features: Mapping[str, Tensor], places: Places) -> Answers:
    """All but masks and keypoints."""
    objectness, shifts = top.rpn.head(list(features.values()))
    pooled = top.roi_heads.box_roi_pool(features, places.proposals, places.images.image_sizes)
    classes, boxes = top.roi_heads.box_predictor(top.roi_heads.box_head(pooled))
    return Answers(
        torch.cat([level.flatten() for level in objectness]),
        torch.cat([_by_anchor(s, o.shape[1]) for s, o in zip(shifts, objectness, strict=True)]),
        classes=classes,
        boxes=boxes.unflatten(1, (-1, 4)),
    )


def _by_anchor(shifts: Tensor, anchors: int) -> Tensor:
    """(N, 4 * anchors, H, W) as (N * anchors * H * W, 4), in the order of the objectness (N, anchors, H, W)."""
    return shifts.unflatten(1, (anchors, 4)).movedim(2, -1).flatten(0, -2)


def _on_objects(top: Any, features: Mapping[str, Tensor], places: Places, found: Answers) -> Answers:
    """With masks and keypoints, where the network has them."""
    made: dict[str, Any] = {"masks": None, "keypoints": None}
    for name, part in (("masks", "mask"), ("keypoints", "keypoint")):
        if getattr(top.roi_heads, f"{part}_predictor", None) is not None:
            whats = ("roi_pool", "head", "predictor")
            pool, head, predictor = (getattr(top.roi_heads, f"{part}_{what}") for what in whats)
            made[name] = predictor(head(pool(features, places.objects, places.images.image_sizes)))
    return dataclasses.replace(found, **made)


def _proposals(rpn: Any, images: Any, features: Mapping[str, Tensor]) -> Sequence[Tensor]:
    """As in evaluation, since in training they go with targets."""
    with _not_training(rpn):
        boxes: Sequence[Tensor] = rpn(images, features)[0]
        return boxes


def _sampled(roi_heads: Any) -> tuple[int, int]:
    """Of each image, how many proposals the losses of a detector are over at most, and how many of them objects."""
    sampler = getattr(roi_heads, "fg_bg_sampler", None)
    most = int(getattr(sampler, "batch_size_per_image", PROPOSALS))
    return most, max(1, int(most * getattr(sampler, "positive_fraction", SHARE)))


def _objects(classes: Tensor, proposals: Sequence[Tensor], surest: int) -> tuple[list[Tensor], Tensor]:
    """Of each image the proposals of which a class is likelier than the background, the surest, and their classes."""
    boxes, kinds = [], []
    for logits, there in zip(classes.split([len(p) for p in proposals]), proposals, strict=True):
        chances, kind = logits.softmax(1).max(1)
        chosen = chances.masked_fill(kind == 0, 0).argsort(descending=True, stable=True)[:surest]
        chosen = chosen[kind[chosen] > 0]
        boxes.append(there[chosen])
        kinds.append(kind[chosen])
    return boxes, torch.cat(kinds)


@contextlib.contextmanager
def _not_training(module: nn.Module) -> Iterator[None]:
    """Its own mode alone, not that of modules below it."""
    before = module.training
    module.training = False
    try:
        yield
    finally:
        module.training = before
