"""Networks that write to what they are called with: every pass, and the caller, has the batch as it was given."""

from __future__ import annotations

import copy
import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gradaug
import netslim
from gradaug.data import Images
from gradaug.evaluation.examples import examples
from gradaug.evaluation.recalibration import estimate
from gradaug.evaluation.robustness import attack
from gradaug.evaluation.score import score
from gradaug.inputs import copied
from gradaug.subnets.sampler import Draw
from gradaug.subnets.views import View
from gradaug.training.averages import MeanTeacher

from .detectors import batch, converted

CLOSE = {"rtol": 1e-9, "atol": 1e-11}
IMAGES = torch.rand(4, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
LABELS = torch.tensor([0, 3, 1, 4])
DRAWS = (Draw(0.75, resolution=8), Draw(0.5), Draw(0.75, resolution=6), Draw(0.5, resolution=8))


def doubled(x: Tensor) -> Tensor:
    return x.mul_(2)


def blanked(x: Tensor) -> Tensor:
    x[:, 0] = 0.5
    return x + x.flip(1)


def in_a_view(x: Tensor) -> Tensor:
    x.flatten(1).transpose(0, 1).sub_(0.25)
    return x


def by_its_data(x: Tensor) -> Tensor:
    x.data.add_(1)
    return x


def by_a_value(x: Tensor) -> Tensor:
    return x.mul_(3) if float(x.detach().sum()) > 0 else x


def in_numpy(x: Tensor) -> Tensor:
    x.detach().numpy()[...] *= 2
    return x


WRITES: dict[str, Callable[[Tensor], Tensor]] = {
    write.__name__: write for write in (doubled, blanked, in_a_view, by_its_data, by_a_value)
}


class Deeper(nn.Module):
    """Normalises in place, in a layer of its own; with a norm that has running statistics."""

    def __init__(self, write: Callable[[Tensor], Tensor], copies: bool, outputs: int, pooled: bool) -> None:
        super().__init__()
        self.write, self.copies, self.pooled = write, copies, pooled
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.body, self.head = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.write(x.clone() if self.copies else x)
        found: Tensor = self.head(self.body(self.stem(x)).relu())
        return found.mean((2, 3)) if self.pooled else found


def pair(
    write: Callable[[Tensor], Tensor] = doubled, outputs: int = 5, pooled: bool = True
) -> tuple[netslim.SlimNet, netslim.SlimNet]:
    """A network that writes to its images, and one that writes to a copy."""
    models = [Deeper(write, copies, outputs, pooled) for copies in (False, True)]
    models[1].load_state_dict(models[0].state_dict())
    made = [netslim.convert(model, torch.rand(2, 3, 8, 8), prove=False).double().train() for model in models]
    return made[0], made[1]


def gradients(net: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


def assert_alike(
    nets: tuple[netslim.SlimNet, netslim.SlimNet], work: Callable[[netslim.SlimNet, Any], Any], given: Any
) -> None:
    """Work on the same batch by both has the same results and gradients, and leaves the batch as it was."""
    before, found = copy.deepcopy(given), [work(net, given) for net in nets]
    torch.testing.assert_close(given, before, rtol=0, atol=0)
    torch.testing.assert_close(*found, **CLOSE)
    torch.testing.assert_close(*map(gradients, nets), **CLOSE)
    torch.testing.assert_close(*(dict(net.named_buffers()) for net in nets), **CLOSE)


def step(images: Any, labels: Any, unlabelled: Any = None, **options: Any) -> Callable[..., list[Tensor]]:
    def work(net: netslim.SlimNet, _: Any) -> list[Tensor]:
        ga = gradaug.GradAug(net, round_to=1, alpha=0.5, **options)
        losses = ga.backward(images, labels, DRAWS, unlabelled)
        return [losses.full, *losses.subnets]

    return work


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_every_pass_sees_the_batch_as_it_was_given(write: Callable[[Tensor], Tensor]) -> None:
    images = IMAGES.clone()
    assert_alike(pair(write), step(images, LABELS), images)


def test_whatever_it_writes_by() -> None:
    images, found = IMAGES.clone(), []
    for net, of in zip(pair(), (lambda x: x, Tensor.clone), strict=True):
        work = step(images, LABELS, forward=lambda x, net=net, of=of: net(in_numpy(of(x))))
        found.append(work(net, None))
    assert torch.equal(images, IMAGES)
    torch.testing.assert_close(*found, **CLOSE)


def test_images_without_labels_and_parts_of_a_batch_too() -> None:
    images, others = IMAGES.clone(), IMAGES.flip(0).clone()
    assert_alike(pair(), step(images, LABELS, others), [images, others])
    assert_alike(pair(), step(images, LABELS, accumulate=2), images)


def test_losses_that_a_loop_takes_gradients_of_are_those() -> None:
    images = IMAGES.clone()

    def work(net: netslim.SlimNet, _: Any) -> list[Tensor]:
        found = []
        for loss in gradaug.GradAug(net, round_to=1, alpha=0.5).losses(images, LABELS, DRAWS):
            loss.backward()
            found.append(loss.detach())
        return found

    assert_alike(pair(), work, images)


def test_a_step_with_an_optimizer_comes_to_the_same_weights() -> None:
    images, nets = IMAGES.clone(), pair()
    for net in nets:
        ga, optimizer = gradaug.GradAug(net, round_to=1), torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(2):
            ga.step(images, LABELS, optimizer)
    assert torch.equal(images, IMAGES)
    torch.testing.assert_close(*(dict(net.named_parameters()) for net in nets), **CLOSE)


def test_every_pixel_and_several_labels_too() -> None:
    images, masks = IMAGES.clone(), torch.arange(4 * 64).view(4, 8, 8) % 5
    assert_alike(pair(pooled=False), step(images, masks, task=gradaug.Segmentation()), [images, masks])
    labels = torch.arange(20).view(4, 5) % 2
    assert_alike(pair(), step(images, labels, task=gradaug.MultiLabel()), [images, labels])


@pytest.mark.parametrize("name", ["transform", "view"])
def test_what_alters_a_sub_networks_images_may_do_so_in_place(name: str) -> None:
    view: View = lambda images, _: (images.mul_(0.5), None)  # noqa: E731
    inside = {"transform": lambda images: images.mul_(0.5), "view": view}
    apart = {"transform": lambda images: images * 0.5, "view": lambda images, _: (images * 0.5, None)}
    images, found = IMAGES.clone(), []
    for functions, net in zip((inside, apart), pair(), strict=True):
        found.append(step(images, LABELS, **{name: functions[name]})(net, None))
    assert torch.equal(images, IMAGES)
    torch.testing.assert_close(*found, **CLOSE)


# ---------------------------------------------------------------------------------------------------------- detectors


def writing(forward: Callable[..., Any]) -> Callable[..., Any]:
    """A forward that alters the images, and the targets with their lists, before it runs."""

    def wrapped(images: list[Tensor], targets: list[dict[str, Tensor]]) -> Any:
        for image, target in zip(images, targets, strict=True):
            image.mul_(0.5)
            target["boxes"].mul_(0.9)
            target["labels"] = target["labels"] % 2 + 1
            target.pop("keypoints")
        images.reverse()
        targets.reverse()
        return forward(images, targets)

    return wrapped


def apart(forward: Callable[..., Any]) -> Callable[..., Any]:
    return lambda images, targets: writing(forward)(*copy.deepcopy((images, targets)))


@pytest.mark.parametrize("kind", ["own", "mask"])
def test_a_detector_may_write_to_images_and_targets(kind: str) -> None:
    images, targets = batch()
    before, found, made = copy.deepcopy((images, targets)), [], []
    for around in (writing, apart):
        net = converted(kind, frozen=True)
        ga = gradaug.GradAug(net, task=gradaug.Detection(), round_to=1, alpha=0.5, forward=around(net))
        losses = ga.backward(images, targets)
        found.append([losses.full, *losses.subnets])
        made.append(gradients(net))
    torch.testing.assert_close((images, targets), before, rtol=0, atol=0)
    torch.testing.assert_close(*found, **CLOSE)
    torch.testing.assert_close(*made, **CLOSE)


@pytest.mark.parametrize("kind", ["retina", "faster"])
def test_so_may_its_parts_where_sub_networks_learn_what_the_full_network_says(kind: str) -> None:
    (images, targets), found = batch(), []
    before = copy.deepcopy(images)
    for copies in (False, True):
        net = converted(kind, frozen=True)
        for part in ("transform", "backbone"):
            alter(net.get_submodule(part), copies)
        ga = gradaug.GradAug(net, task=gradaug.Detection("full"), round_to=1, alpha=0.5)
        losses = ga.backward(images, targets)
        found.append([losses.full, *losses.subnets])
    torch.testing.assert_close(images, before, rtol=0, atol=0)
    torch.testing.assert_close(*found, **CLOSE)


def alter(module: nn.Module, copies: bool) -> None:
    """Its images are altered before it runs, or copies of them."""

    def hook(_: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        images, *others = copy.deepcopy(given) if copies else given
        for image in images if isinstance(images, list) else [images]:
            image.mul_(0.8)
        return (images, *others)

    module.register_forward_pre_hook(hook)


# ------------------------------------------------------------------------------------------------------- no gradients


class Held(Images):
    """Images in memory, the same tensors every time."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, keys: Any) -> Any:
        return self.images, LABELS


def test_batches_are_left_as_they_were_by_all_that_measures() -> None:
    images = IMAGES.clone()
    batches = [(images, LABELS), (images, LABELS)]

    def evaluated(net: netslim.SlimNet, _: Any) -> list[Any]:
        scores = [score(net, batches).loss, score(net, batches).loss]  # type: ignore[attr-defined]
        assert scores[0] == scores[1]
        moved = attack(net, images, LABELS, 0.1, [0.0] * 3, [1.0] * 3)
        assert not images.requires_grad
        estimate(net, batches)
        return [*map(torch.tensor, scores), moved]

    assert_alike(pair(), evaluated, images)


def test_pictures_show_the_images_as_they_are() -> None:
    images, shown = IMAGES.clone(), list[Tensor]()
    source = types.SimpleNamespace(validation=Held(images))
    task = types.SimpleNamespace(pictures=lambda *given: shown.append(given[1].clone()) or [])
    assert examples(pair()[0], source, task) is None  # type: ignore[arg-type]
    assert torch.equal(shown[0], IMAGES)


def test_a_mean_teacher_leaves_the_students_images() -> None:
    images = IMAGES.clone()
    found = [MeanTeacher(net, 0.9, 1.0, 10).loss(net, images, 1) for net in pair()]
    assert torch.equal(images, IMAGES)
    torch.testing.assert_close(*found, **CLOSE)


# ------------------------------------------------------------------------------------------------------------- copies


class Named(dict[str, Any]):
    """A library's own kind of batch."""


def test_a_copy_has_tensors_and_containers_of_its_own() -> None:
    given = [Named(images=torch.ones(2), sizes=[torch.zeros(1)], name="a"), (torch.ones(1),), None]
    made: Any = copied(given)
    torch.testing.assert_close(made[0]["images"], given[0]["images"])  # type: ignore[index]
    assert type(made[0]) is Named
    assert made[0]["name"] == "a"
    made[0]["images"].zero_()
    made[0]["sizes"].append(1)
    made[1][0].zero_()
    made[0].pop("name")
    assert given == [Named(images=given[0]["images"], sizes=[torch.zeros(1)], name="a"), given[1], None]  # type: ignore[index]
    assert float(given[0]["images"].sum() + given[1][0].sum()) == 3  # type: ignore[index]


def test_a_gradient_goes_through_a_copy_and_its_memory_format_stays() -> None:
    images = torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last).requires_grad_()
    made = copied(images)
    assert made.is_contiguous(memory_format=torch.channels_last)
    made.sum().backward()
    assert images.grad is not None
