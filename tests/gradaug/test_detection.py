"""Detection: the step against torchvision's own narrower detectors, what a batch must be, scales, seeds, scopes."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

import gradaug
from gradaug.config.settings import TrainConfig
from gradaug.errors import DataError
from gradaug.evaluation.score import require_fit, subnetworks
from gradaug.subnets.sampler import Draw
from gradaug.tasks import Detection, boxes
from gradaug.tasks.distilled import Answers, Places, Taught, divergence, taught
from netslim.errors import InputError
from netslim.net.runtime import runtime

from .detectors import CLASSES, SIDE, batch, converted, plain, source

CLOSE = {"rtol": 1e-9, "atol": 1e-9}
ALL = 10_000
"""So many sampled anchors that all of them are."""
DRAWS = tuple(Draw((("backbone.first", width),), (), side, 1) for width, side in ((0.9, SIDE), (0.75, 42), (0.5, 36)))


# --------------------------------------------------------------------------------------------- the step, written out


class Parts(nn.Module):
    """What a detector says of anchors, proposals and objects, by torchvision's own parts."""

    def __init__(self, model: nn.Module, side: int) -> None:
        super().__init__()
        model(*batch())  # torchvision's pooling works out the scale of the features once, at the first images
        model.transform.min_size, model.transform.max_size = (side,), round(2 * SIDE * side / SIDE)
        self.model = model

    def forward(self, images: list[Tensor], targets: Any, places: dict[str, Any] | None) -> Any:
        model: Any = self.model
        if targets is not None:
            return sum(model(images, targets).values())
        places = {} if places is None else places
        resized, _ = model.transform(images)
        features = {"0": model.backbone(resized.tensors)}
        if not hasattr(model, "rpn"):
            return {name: value.flatten(0, 1) for name, value in model.head([features["0"]]).items()}, places
        (objectness,), (shifts,) = model.rpn.head([features["0"]])
        n, anchors, height, width = objectness.shape
        found = {
            "cls_logits": objectness.permute(0, 2, 3, 1).reshape(-1, 1),
            "bbox_regression": shifts.view(n, anchors, 4, height, width).permute(0, 3, 4, 1, 2).reshape(-1, 4),
        }
        if "proposals" not in places:
            model.rpn.training = False
            places["proposals"] = model.rpn(resized, features)[0]
            model.rpn.training = True
        heads, sizes = model.roi_heads, resized.image_sizes
        pooled = heads.box_head(heads.box_roi_pool(features, places["proposals"], sizes))
        found["classes"], found["boxes"] = heads.box_predictor(pooled)
        if "objects" not in places:
            kinds = found["classes"].argmax(1).split([len(one) for one in places["proposals"]])
            places["objects"] = [one[kind > 0] for one, kind in zip(places["proposals"], kinds, strict=True)]
            places["kinds"] = torch.cat(kinds)[torch.cat(kinds) > 0]
        for part in ("mask", "keypoint"):
            if getattr(heads, f"{part}_predictor", None) is not None:
                pool, head, predictor = (getattr(heads, f"{part}_{what}") for what in ("roi_pool", "head", "predictor"))
                found[part] = predictor(head(pool(features, places["objects"], sizes)))
        return found, places


def two(found: Tensor, full: Tensor) -> Tensor:
    p, q = torch.sigmoid(full), torch.sigmoid(found)
    return p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()


def several(found: Tensor, full: Tensor) -> Tensor:
    p, q = full.softmax(-1), found.softmax(-1)
    return (p * (p / q).log()).sum(-1)


def smooth(found: Tensor, full: Tensor) -> Tensor:
    d = (found - full).abs()
    return torch.where(d < 1 / 9, 4.5 * d**2, d - 1 / 18).sum(-1)


def written_out(found: dict[str, Tensor], full: dict[str, Tensor], places: dict[str, Any]) -> Tensor:
    chance = full["cls_logits"].sigmoid().max(1).values
    expected = max(1.0, float(chance.sum()))
    loss = two(found["cls_logits"], full["cls_logits"]).sum() / expected
    loss = loss + (chance * smooth(found["bbox_regression"], full["bbox_regression"])).sum() / expected
    if "classes" in full:
        count = len(full["classes"])
        loss = loss + several(found["classes"], full["classes"]).sum() / count
        p = full["classes"].softmax(1)
        for c in range(1, CLASSES):
            own = slice(4 * c, 4 * c + 4)
            loss = loss + (p[:, c] * smooth(found["boxes"][:, own], full["boxes"][:, own])).sum() / count
    if "mask" in full and len(places["kinds"]):
        at = torch.arange(len(places["kinds"])), places["kinds"]
        loss = loss + two(found["mask"][at], full["mask"][at]).mean()
    if "keypoint" in full and len(places["kinds"]):
        loss = loss + several(found["keypoint"].flatten(2), full["keypoint"].flatten(2)).mean()
    return loss


def reference(kind: str, target: str) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Losses and gradients of a step: sub-networks are torchvision's detectors with narrower backbones."""
    images, targets = batch()
    options = {} if kind == "retina" else {"sampled": ALL}
    full = plain(kind, **options).double().train()
    p = {name: parameter.detach().clone().requires_grad_() for name, parameter in full.named_parameters()}

    def run(model: nn.Module, side: int, targets: Any, places: Any = None) -> Any:
        tensors = {**dict(model.named_parameters()), **{k: v.clone() for k, v in model.named_buffers()}}
        cut = {f"model.{k}": p.get(k, v)[tuple(map(slice, v.shape))] for k, v in tensors.items()}
        return functional_call(Parts(model, side), cut, (images, targets, places))

    losses = [run(full, SIDE, targets)]
    for one in DRAWS:
        narrow = plain(kind, max(1, round(8 * dict(one.width)["backbone.first"])), **options).double().train()
        if target == "truth":
            losses.append(run(narrow, one.resolution, targets))
            continue
        with torch.no_grad():
            teacher, places = run(full, one.resolution, None)
        found, _ = run(narrow, one.resolution, None, places)
        losses.append(written_out(found, teacher, places))
    gradients = torch.autograd.grad(torch.stack(losses).sum(), list(p.values()))
    return losses, dict(zip(p, gradients, strict=True))


@pytest.mark.parametrize("target", ["truth", "full"])
@pytest.mark.parametrize("kind", ["mask", "retina", "keypoint"])
def test_losses_and_every_gradient_are_those_of_narrower_detectors(kind: str, target: str) -> None:
    net = converted(kind, sampled=ALL)
    expected, gradients = reference(kind, target)
    ga = gradaug.GradAug(net, task=Detection(subnet_target=target), round_to=1, alpha=0.5)
    losses = ga.backward(*batch(), DRAWS)
    torch.testing.assert_close([losses.full, *losses.subnets], [loss.detach() for loss in expected], **CLOSE)
    assert len({round(float(loss), 9) for loss in losses.subnets}) == 3
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        torch.testing.assert_close(parameter.grad, gradients[name], msg=name, **CLOSE)


def test_the_full_network_is_no_distance_from_itself() -> None:
    net = converted("mask")
    images, _ = batch()
    task = Detection(subnet_target="full")
    target = taught(net, images)
    assert isinstance(target, Taught)
    assert target.kinds is not None
    assert len(target.kinds) > 0
    with net.sub(), torch.no_grad():
        found = task.subnet_answer(net, net, images, target)
    assert float(divergence(found, target)) == pytest.approx(0, abs=1e-12)  # type: ignore[arg-type]


def test_classes_that_exclude_each_other_and_centres_are_compared_by_their_own_chances() -> None:
    """As SSD and FCOS have them."""
    chance = torch.Generator().manual_seed(0)
    sizes = {"anchors": (6, CLASSES), "shifts": (6, 4), "centres": (6,)}
    found, full = (
        {name: torch.randn(size, dtype=torch.float64, generator=chance) for name, size in sizes.items()} for _ in "ab"
    )
    shifted = {**found, "anchors": found["anchors"] + 5}
    objects, apart = 1 - full["anchors"].softmax(1)[:, 0], several(found["anchors"], full["anchors"])
    expected = apart.sum() + (objects * smooth(found["shifts"], full["shifts"])).sum()
    expected = (expected + (objects * two(found["centres"], full["centres"])).sum()) / max(1.0, float(objects.sum()))
    target = Taught(Answers(**full, exclusive=True), Places(None))
    for one in (found, shifted):
        torch.testing.assert_close(divergence(Answers(**one, exclusive=True), target), expected, **CLOSE)


@pytest.mark.parametrize("target", ["truth", "full"])
def test_running_statistics_are_those_of_the_full_pass_alone(target: str) -> None:
    net, alone = converted("faster"), converted("faster")
    images, targets = batch()
    alone(images, targets)
    gradaug.GradAug(net, "both", task=Detection(subnet_target=target), round_to=1, alpha=0.5).backward(images, targets)
    for (name, found), (_, expected) in zip(net.named_buffers(), alone.named_buffers(), strict=True):
        assert torch.equal(found, expected), name


def test_random_depth_leaves_blocks_of_the_backbone_out() -> None:
    net = converted("retina")
    draws = (Draw(1.0, ("backbone.body",), SIDE), Draw(1.0, (), SIDE))
    ga = gradaug.GradAug(net, "randdepth", task=Detection())
    losses = ga.backward(*batch(), draws)
    assert ga.space.blocks == ("backbone.body",)
    assert losses.subnets[1] == losses.full
    assert losses.subnets[0] != losses.full


def test_half_precision_learns_both_targets() -> None:
    images, targets = batch()
    for target in ("truth", "full"):
        net = converted("mask").float()
        ga = gradaug.GradAug(net, task=Detection(subnet_target=target), round_to=1, amp=torch.bfloat16)
        losses = ga.backward([image.float() for image in images], [{**t, "boxes": t["boxes"].float()} for t in targets])
        assert torch.isfinite(losses.total)
        assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)


# ------------------------------------------------------------------------------------------------------------- scales


def test_a_network_that_resizes_gets_its_sizes_back_after_an_error_too(monkeypatch: pytest.MonkeyPatch) -> None:
    net, seen = converted("retina"), []
    ga = gradaug.GradAug(net, task=Detection(), round_to=1)
    assert ga.space.resolutions == (48, 42, 36)

    def forward(images: Any, targets: Any) -> Any:
        seen.append((net.transform.min_size, net.transform.max_size))
        if len(seen) == 3:
            raise RuntimeError("stop")
        return net(images, targets)

    ga.forward = forward
    with pytest.raises(RuntimeError, match="stop"):
        ga.backward(*batch(), DRAWS[1:])
    assert seen == [((48,), 96), ((42,), 84), ((36,), 72)]
    assert (net.transform.min_size, net.transform.max_size) == ((48,), 96)


@pytest.mark.parametrize("target", ["truth", "full"])
def test_a_network_that_resizes_in_evaluation_alone_gets_smaller_images(target: str) -> None:
    """torchvision's detectors may leave images alone in training, for augmentations that have resized them."""
    net, seen = converted("retina"), []
    net.transform._skip_resize = True
    ga = gradaug.GradAug(net, task=Detection(subnet_target=target), round_to=1)
    net.transform.register_forward_hook(lambda _, _given, found: seen.append(found[0].image_sizes))
    ga.backward(*batch(), DRAWS[2:])
    assert seen[0] == [(56, 48), (48, 56)]
    assert set(map(tuple, seen[1:])) == {((42, 36), (36, 42))}


def test_images_of_another_network_are_resized_with_what_is_in_them() -> None:
    images, targets = batch()
    small, moved = boxes.resized(images, targets, 24)
    assert [tuple(image.shape) for image in small] == [(3, 28, 24), (3, 24, 28)]
    assert moved is not None
    for before, after in zip(targets, moved, strict=True):
        torch.testing.assert_close(after["boxes"], before["boxes"] / 2)
        torch.testing.assert_close(after["keypoints"][..., :2], before["keypoints"][..., :2] / 2)
        assert torch.equal(after["keypoints"][..., 2], before["keypoints"][..., 2])
        assert torch.equal(after["labels"], before["labels"])
        assert after["masks"].shape[1:] == torch.Size(
            small[0].shape[1:] if before is targets[0] else small[1].shape[1:]
        )
        torch.testing.assert_close(after["masks"].sum((1, 2)), before["masks"].sum((1, 2)) // 4, rtol=0.35, atol=0)


def test_a_detector_of_ones_own_sees_smaller_images_and_boxes() -> None:
    net, sizes = converted("own"), []
    images, targets = batch()
    ga = gradaug.GradAug(net, task=Detection(), round_to=1, alpha=0.5)
    assert ga.space.resolutions == (48, 42, 36)

    def forward(images: Any, targets: Any) -> Any:
        sizes.append(([min(image.shape[1:]) for image in images], float(targets[0]["boxes"][0, 0])))
        return net(images, targets)

    ga.forward = forward
    ga.backward(images, targets, (Draw(0.5, (), 36),))
    left = float(targets[0]["boxes"][0, 0])
    assert sizes == [([48, 48], left), ([36, 36], pytest.approx(left * 36 / 48))]


# ---------------------------------------------------------------------------------------------------- random anchors


def test_a_step_is_a_function_of_its_number_and_leaves_the_generators_alone() -> None:
    def losses(steps: int, seed: int = 0) -> list[float]:
        net = converted("faster", sampled=8)
        ga = gradaug.GradAug(net, task=Detection(), round_to=1, seed=seed)
        ga.steps = steps
        torch.manual_seed(random.randrange(99))
        before, python = torch.get_rng_state(), random.getstate()
        found = ga.backward(*batch(), (Draw(1.0), Draw(1.0)))
        assert torch.equal(torch.get_rng_state(), before)
        assert random.getstate() == python
        return [float(found.full), *map(float, found.subnets)]

    first = losses(0)
    assert losses(0) == first
    assert len({*first, *losses(1), *losses(0, seed=1)}) == 9  # no two passes sample the same anchors


# -------------------------------------------------------------------------------------------------------------- scope


def test_only_the_backbone_is_narrow_unless_all_is_asked_for() -> None:
    net = converted("mask")
    assert gradaug.GradAug(net, task=Detection(), round_to=1).space.narrowed == ("backbone.first",)
    drawn = gradaug.draw(gradaug.GradAug(net, task=Detection(), round_to=1).space, 0, 0)
    assert [dict(one.width).keys() for one in drawn] == [{"backbone.first"}] * 3  # type: ignore[arg-type]
    ga = gradaug.GradAug(net, task=Detection(), round_to=1, scope="all")
    assert ga.space.narrowed == ()
    assert {d.width for d in gradaug.draw(ga.space, 0, 0)} > {0.8}
    per_group = gradaug.GradAug(net, task=Detection(), round_to=1, per_group=True)
    assert per_group.space.groups == ("backbone.first",)
    heads = gradaug.GradAug(net, task=Detection(), round_to=1, scope="roi_heads").space.narrowed
    assert heads
    assert all(name.startswith("roi_heads.") for name in heads)


@pytest.mark.parametrize(
    ("scope", "words"), [("body", "this network has none of that name"), ("transform", "take --scope all")]
)
def test_a_scope_without_channels_is_refused(scope: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        gradaug.GradAug(converted("retina"), task=Detection(), scope=scope)


def test_a_run_without_sub_networks_asks_for_no_backbone() -> None:
    net = converted("retina")
    assert gradaug.GradAug(net, "none", task=Detection(), round_to=1).space.scope == "backbone"
    net.trunk = net._modules.pop("backbone")  # the name is gone
    assert gradaug.GradAug(net, "none", task=Detection(), resolutions=(), round_to=1).space.scope == "all"
    with pytest.raises(InputError, match="this network has none of that name"):
        gradaug.GradAug(net, "none", task=Detection(), round_to=1, scope="backbone")


def test_sub_networks_are_scored_as_they_are_trained() -> None:
    net, small = converted("retina").float(), source(training=4, validation=2)
    batches = [small.validation.__getitems__([(0, 0), (0, 1)])]
    rows = subnetworks(net, [1.0, 0.5], batches, batches, task=Detection())
    assert rows[1].recalibrated
    first, norm, body, last = 4 * 27 + 4, 4 + 4, (8 * 8 - 4 * 4) * 9 + 4, 12 * 4 * 9
    assert rows[0].params - rows[1].params == first + norm + body + last
    everything = subnetworks(net, [0.5], batches, batches, task=Detection(), scope="all")
    assert everything[0].params < rows[1].params


# ------------------------------------------------------------------------------------------------------ what is said


def wrong(change: str) -> tuple[Any, Any]:
    """A batch with one thing wrong."""
    images, targets = batch()
    target: dict[str, Any] = targets[1]
    if change == "negative":
        target["boxes"] = target["boxes"][:, [2, 3, 0, 1]]
    elif change == "nan":
        target["boxes"][0, 0] = torch.nan
    elif change == "no labels":
        del target["labels"]
    elif change == "no masks":
        del target["masks"]
    elif change == "masks of another size":
        target["masks"] = target["masks"][:, :-1]
    elif change == "background":
        target["labels"][0] = 0
    elif change == "too high":
        target["labels"][1] = CLASSES
    elif change == "labels of another kind":
        target["labels"] = target["labels"].float()
    elif change == "boxes of whole numbers":
        target["boxes"] = target["boxes"].long()
    elif change == "no targets":
        return images, None
    elif change == "class numbers":
        return images, torch.tensor([1, 2])
    elif change == "too few":
        return images, targets[:1]
    elif change == "one tensor":
        return torch.rand(2, 3, SIDE, SIDE), targets
    elif change == "no images":
        return [], []
    elif change == "bytes":
        return [(image * 255).byte() for image in images], targets
    return images, targets


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("negative", r"target 1 has a box \[.*\]: boxes are \(left, top, right, bottom\)"),
        ("nan", r"target 1 has a box \[nan"),
        ("no labels", "target 1 has boxes, masks, keypoints: this network learns from .* boxes, labels, masks"),
        ("no masks", "target 1 has boxes, labels, keypoints: this network learns from .* boxes, labels, masks"),
        ("masks of another size", r"target 1 has masks \(2, 47, 56\) for 2 boxes in an image of \(48, 56\)"),
        ("background", r"target 1 has the label 0: labels go from 1 \(0 is the background\) to 3"),
        ("too high", "target 1 has the label 4: .* since this network tells 4 classes apart"),
        ("labels of another kind", "target 1 has labels torch.float.* they are int64"),
        ("boxes of whole numbers", "target 1 has boxes torch.int64"),
        ("no targets", "a list of targets, .* for each of the 2 images, and this is NoneType"),
        ("class numbers", "for each of the 2 images, and this is Tensor"),
        ("too few", "for each of the 2 images, and this is 1 of them"),
        ("one tensor", r"a list of tensors \(C, H, W\), one or more, and not a tensor of shape \(2, 3, 48, 48\)"),
        ("no images", r"a list of tensors \(C, H, W\), one or more"),
        ("bytes", "image 0 is torch.uint8"),
    ],
)
def test_a_batch_that_is_none_is_refused_before_any_gradient(change: str, words: str) -> None:
    net = converted("mask")
    with pytest.raises(InputError, match=words):
        gradaug.GradAug(net, task=Detection(), round_to=1, resolutions=()).backward(*wrong(change))
    assert all(parameter.grad is None for parameter in net.parameters())


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"regularizers": ("cutmix",)}, "--regularizers cutmix changes images of one label"),
        ({"regularizers": ("dropblock", "mixup")}, "--regularizers mixup changes"),
        ({"views": ("crop",)}, "--views may move pixels"),
        ({"semi": "mean-teacher"}, "--semi mean-teacher is for images of one label"),
        ({"semi": "gradaug"}, "--semi gradaug is for"),
        ({"compile": True}, "--compile would take apart"),
        ({"label_smoothing": 0.1}, "--label-smoothing is for"),
        ({"divergence": "alpha"}, "--subnet-target says"),
        ({"temperature": 2.0}, "--subnet-target says"),
    ],
)
def test_settings_of_one_label_an_image_are_refused(setting: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Detection.of(TrainConfig(task="detection", **setting))


def test_a_regulariser_of_blocks_is_none_of_these() -> None:
    assert Detection.of(TrainConfig(regularizers=("dropblock",), subnet_target="full")).subnet_target == "full"


def test_what_does_not_go_together_is_said() -> None:
    net, (images, targets) = converted("own"), batch()
    with pytest.raises(InputError, match="subnet_target must be one of truth, full"):
        Detection(subnet_target="both")
    with pytest.raises(InputError, match="take --subnet-target truth"):
        gradaug.GradAug(net, task=Detection(subnet_target="full"), round_to=1).backward(images, targets)
    with pytest.raises(InputError, match="leave `view` out"):
        gradaug.GradAug(net, task=Detection(), round_to=1, view=lambda x, _: (x, None)).backward(images, targets)
    with pytest.raises(InputError, match="leave the unlabelled ones out"):
        gradaug.GradAug(net, task=Detection(), round_to=1).backward(images, targets, unlabelled=images)
    with pytest.raises(InputError, match=r"returns a list in training, and a detector returns a dict of losses"):
        gradaug.GradAug(net.eval(), task=Detection(), round_to=1).backward(images, targets)
    assert all(parameter.grad is None for parameter in net.parameters())


def test_a_network_and_data_that_do_not_fit_are_told_apart() -> None:
    small = source(training=2, validation=1)
    require_fit(converted("mask"), small, Detection())
    with pytest.raises(DataError, match="the network tells 3 classes apart and small has 4, the background counted"):
        require_fit(converted("retina", classes=3), small, Detection())
    with pytest.raises(DataError, match="digits has labels for classification: give --task classification"):
        require_fit(converted("mask"), gradaug.data.load("digits", (3, SIDE, SIDE)), Detection())


def test_an_image_without_objects_is_learnt_too() -> None:
    net = converted("mask")
    losses = gradaug.GradAug(net, task=Detection(), round_to=1).backward(*batch(3))
    assert torch.isfinite(losses.total)


def test_parts_run_where_the_context_of_this_thread_is() -> None:
    net = converted("retina")
    with net.sub(0.5), runtime(net).parts() as top:
        assert top.backbone.first(torch.rand(1, 3, 8, 8).double()).shape[1] == 4  # type: ignore[operator, union-attr]
    assert net.backbone.first(torch.rand(1, 3, 8, 8).double()).shape[1] == 8  # type: ignore[operator, union-attr]
