"""The step in anybody's loop: parts, scalers, autocast, outputs and labels of all kinds; right, or refused."""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gradaug
import netslim
from gradaug.config.settings import TrainConfig
from gradaug.subnets.sampler import Draw
from gradaug.subnets.views import views
from gradaug.tasks.outputs import heads
from netslim.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

IMAGES = torch.randn(8, 1, 12, 12, generator=torch.Generator().manual_seed(5))
LABELS = torch.arange(8) % 4


def converted(classes: int = 4, pixels: bool = False) -> netslim.SlimNet:
    torch.manual_seed(0)
    body = nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()
    pooled = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, classes)
    head = (nn.Conv2d(16, classes, 1),) if pixels else pooled
    return netslim.convert(nn.Sequential(*body, *head), IMAGES, prove=False).train()


def stepped(parts: int = 1, steps: int = 1, **options: Any) -> tuple[list[Tensor], gradaug.GradAug]:
    """The weights after steps through `step`, each batch in so many parts."""
    net = converted()
    ga = gradaug.GradAug(net, round_to=1, accumulate=parts, resolutions=(), **options)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    for _ in range(steps):
        for images, labels in zip(IMAGES.chunk(parts), LABELS.chunk(parts), strict=True):
            ga.step(images, labels, optimizer)
    return list(net.parameters()), ga


# ------------------------------------------------------------------------------------------ step


def test_parts_of_a_step_are_one_step() -> None:
    whole, ga = stepped(1, 2)
    parted, other = stepped(4, 2)
    assert ga.steps == other.steps == 2
    torch.testing.assert_close(parted, whole, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("parts", [1, 2])
def test_a_scaler_changes_nothing(parts: int) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=65536.0)
    scaled, ga = stepped(parts, 2, scaler=scaler)
    torch.testing.assert_close(scaled, stepped(1, 2)[0], rtol=1e-4, atol=1e-6)
    assert ga.steps == 2


def test_a_step_whose_gradient_overflows_is_left_out() -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=3e38)
    weights, ga = stepped(1, 1, scaler=scaler, subnet_weight=1e10)
    torch.testing.assert_close(weights, list(converted().parameters()))
    assert scaler.get_scale() < 3e38
    assert ga.steps == 1


def test_an_optimizer_of_something_else_is_refused() -> None:
    net, other = converted(), converted()
    ga = gradaug.GradAug(net, round_to=1, resolutions=())
    replaced = torch.optim.SGD(net.parameters(), lr=0.1)
    net.load_state_dict(copy.deepcopy(net.state_dict()), assign=True)
    frozen = torch.optim.SGD([net.get_parameter("0.weight").requires_grad_(False)], lr=0.1)
    for wrong in (torch.optim.SGD(other.parameters(), lr=0.1), replaced, frozen, None):
        with pytest.raises(InputError, match="holds none of the network's parameters"):
            ga.step(IMAGES, LABELS, wrong)  # type: ignore[arg-type]
    assert all(parameter.grad is None for parameter in net.parameters())


def test_a_part_of_the_network_may_be_all_that_learns() -> None:
    net = converted()
    before = [parameter.clone() for parameter in net.parameters()]
    net.double().float()  # the same parameters
    gradaug.GradAug(net, round_to=1).step(IMAGES, LABELS, torch.optim.SGD(net.get_submodule("6").parameters(), lr=0.1))
    moved = [not torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True)]
    assert moved == [False] * 4 + [True] * 2


def test_a_sub_network_without_anything_that_learns_adds_nothing(make_net: Callable[..., netslim.SlimNet]) -> None:
    net = make_net().train()
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(name.startswith("body"))
    (block,) = net.blocks
    draws = [Draw(skip=(block.name,)), Draw(0.5)]
    losses = gradaug.GradAug(net, "both", round_to=1).backward(IMAGES, LABELS, draws)
    assert [bool(loss > 0) for loss in losses.subnets] == [True, True]


# ------------------------------------------------------------------------------------------ precision


@pytest.mark.parametrize("amp", [None, torch.float16])
def test_the_callers_autocast_holds_unless_amp_says_otherwise(amp: torch.dtype | None) -> None:
    net, seen = converted(), []
    ga = gradaug.GradAug(net, round_to=1, amp=amp)
    net.get_submodule("2").register_forward_hook(lambda *call: seen.append(call[-1].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        losses = ga.backward(IMAGES, LABELS)
    assert seen == [amp or torch.bfloat16] * 4
    assert {loss.dtype for loss in (losses.full, *losses.subnets)} == {torch.float32}


def test_steps_inside_one_autocast_see_the_weights_of_the_step_before() -> None:
    weights = []
    for inside in (True, False):
        net = converted()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        with torch.autocast("cpu", torch.bfloat16, enabled=inside):
            ga = gradaug.GradAug(net, round_to=1)  # tries the network without gradients
            for _ in range(3):
                with torch.autocast("cpu", torch.bfloat16):
                    ga.step(IMAGES, LABELS, optimizer)
        weights.append(list(net.parameters()))
    torch.testing.assert_close(*weights, rtol=0, atol=0)


# ------------------------------------------------------------------------------------------ outputs


def test_a_network_that_answers_every_pixel_learns_as_it_comes() -> None:
    net = converted(pixels=True)
    labels = torch.randint(0, 4, (8, 12, 12), generator=torch.Generator().manual_seed(0))
    ga = gradaug.GradAug(net, round_to=1)
    assert len(ga.space.resolutions) == 3
    draws = [Draw(0.5, resolution=9), Draw(0.5, resolution=12)]
    losses = ga.backward(IMAGES, labels, draws)
    full = net(IMAGES)
    torch.testing.assert_close(losses.full, F.cross_entropy(full, labels).detach())
    for found, side in zip(losses.subnets, (9, 12), strict=True):
        small = F.interpolate(IMAGES, (side, side), mode="bilinear", align_corners=True)
        with net.sub(0.5):
            output = F.interpolate(net(small), (12, 12), mode="bilinear", align_corners=True)
        expected = F.kl_div(output.log_softmax(1), full.softmax(1), reduction="none").sum(1).mean()
        torch.testing.assert_close(found, expected.detach())
    assert losses.output.shape == (8, 4, 12, 12)


def test_views_that_may_move_pixels_are_refused_for_them() -> None:
    view = views(TrainConfig(views=("rotation",)), (0.5,), (0.5,))
    net = converted(pixels=True)
    with pytest.raises(InputError, match="leave `view` out"):
        gradaug.GradAug(net, round_to=1, view=view).backward(IMAGES, torch.zeros(8, 12, 12, dtype=torch.long))
    assert all(parameter.grad is None for parameter in net.parameters())


class Returning(nn.Module):
    """Gives its logits in a form of one's choice."""

    def __init__(self, form: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head, self.aux, self.form = nn.Conv2d(1, 8, 3), nn.Linear(8, 4), nn.Linear(8, 4), form

    def forward(self, x: Tensor) -> Any:
        x = self.body(x).relu().mean((2, 3))
        return self.form(self.head(x), self.aux(x))


@pytest.mark.parametrize(
    "form",
    [
        lambda main, aux: {"out": main, "aux": aux},
        lambda main, aux: OrderedDict(aux=aux, logits=main),
        lambda main, aux: (main, aux),
    ],
    ids=["dict", "OrderedDict", "tuple"],
)
def test_unlabelled_images_in_any_form_of_output(form: Any) -> None:
    net = netslim.convert(Returning(form), IMAGES, prove=False)
    losses = gradaug.GradAug(net, round_to=1, resolutions=()).backward(IMAGES[:5], LABELS[:5], unlabelled=IMAGES[5:])
    main, aux = heads(net(IMAGES[:5]))
    expected = F.cross_entropy(main, LABELS[:5]) + 0.3 * F.cross_entropy(aux, LABELS[:5])
    torch.testing.assert_close(losses.full, expected.detach())


@pytest.mark.parametrize(
    "criterion", [F.binary_cross_entropy_with_logits, F.mse_loss, lambda out, y: (out - y).abs().mean()]
)
def test_a_single_number_is_refused_by_its_shape_whatever_the_criterion(criterion: Any) -> None:
    net, numbers = converted(classes=1), torch.rand(8, 1)
    with pytest.raises(InputError, match=r"task=MultiLabel\(\).*task=Regression\(\).*return two logits"):
        gradaug.GradAug(net, round_to=1, criterion=criterion).backward(IMAGES, numbers)
    assert all(parameter.grad is None for parameter in net.parameters())
    losses = gradaug.GradAug(net, "none", criterion=criterion).backward(IMAGES, numbers)
    assert losses.subnets == ()


@pytest.mark.parametrize(
    "labels", [torch.randn(8, 4), torch.ones(8, 4), torch.rand(8)], ids=["numbers", "several", "one"]
)
def test_labels_that_are_no_classes_are_refused_whatever_the_criterion(labels: Tensor) -> None:
    ga = gradaug.GradAug(converted(), round_to=1, criterion=lambda out, _: out.mean())
    with pytest.raises(InputError, match="cannot be taught to sub-networks"):
        ga.backward(IMAGES, labels)


def test_the_loss_is_one_number_with_a_gradient() -> None:
    net = converted()
    with pytest.raises(InputError, match=r"a mean over the batch, and returned shape \(8,\)"):
        gradaug.GradAug(net, criterion=lambda out, y: F.cross_entropy(out, y, reduction="none")).backward(
            IMAGES, LABELS
        )
    with torch.no_grad(), pytest.raises(InputError, match="the loss has no gradient"):
        gradaug.GradAug(net, round_to=1).backward(IMAGES, LABELS)


def test_a_very_sure_network_learns_from_pasted_images() -> None:
    net = converted()
    with torch.no_grad():
        net.get_submodule("6").weight.mul_(3000)
    view = views(TrainConfig(views=("cutmix",)), (0.5,), (0.5,))
    for divergence in ("kl", "alpha"):
        net.zero_grad()
        losses = gradaug.GradAug(net, round_to=1, view=view, divergence=divergence).backward(IMAGES, LABELS)
        assert bool(torch.isfinite(losses.total))
        assert all(bool(torch.isfinite(parameter.grad).all()) for parameter in net.parameters())  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------ arguments


@pytest.mark.parametrize("wrong", [nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten()), "converted.pt", None], ids=str)
def test_only_a_converted_network_will_do(wrong: Any) -> None:
    with pytest.raises(InputError, match=r"is no converted network: give what netslim\.convert"):
        gradaug.GradAug(wrong)
    wrapped = nn.Sequential(converted())
    with pytest.raises(InputError, match="no wrapper of it"):
        gradaug.GradAug(wrapped)  # type: ignore[arg-type]


WRONG: dict[str, tuple[Any, ...]] = {
    "mode": ("RandWidth", ["randwidth"], None),
    "alpha": (0, 1.5, "0.5", True, float("nan")),
    "num_subnets": (0, -1, 2.5, True, None),
    "resolutions": (32, "32", [0], [9.5]),
    "round_to": (0, -8, 1.5, True),
    "survival": (0, 2),
    "survival_first": (-1,),
    "skip_blocks": (-1, 0.5),
    "stage_limit": (-1,),
    "per_group": (1, "yes"),
    "seed": (-1, 0.5, None),
    "rank": (-1, 1.0),
    "transform": (3,),
    "view": ("cutmix",),
    "criterion": (None, "mse"),
    "temperature": (0, -1, float("inf")),
    "divergence": ("js", None),
    "subnet_weight": (-1, float("nan")),
    "track_stats": ("no", 1),
    "accumulate": (0, 1.5, None),
    "amp": ("bf16", torch.float32),
    "scaler": (True,),
    "forward": (1,),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_argument_is_named(net: netslim.SlimNet, name: str) -> None:
    for value in WRONG[name]:
        with pytest.raises(InputError, match=f"{name} must be"):
            gradaug.GradAug(net, **{name: value})


def test_numbers_of_numpy_and_torch_are_numbers(net: netslim.SlimNet) -> None:
    plain = gradaug.GradAug(net, alpha=0.5, num_subnets=2, resolutions=(12, 9), round_to=4, seed=3)
    other = gradaug.GradAug(
        net, alpha=np.float64(0.5), num_subnets=np.int64(2), resolutions=torch.tensor([12, 9]),  # type: ignore[arg-type]
        round_to=torch.tensor(4), seed=np.uint8(3),  # type: ignore[arg-type]
    )  # fmt: skip
    assert plain.space == other.space
    assert plain.seed == other.seed
    assert repr(plain.space) == repr(other.space)


def test_batches_that_are_none() -> None:
    ga = gradaug.GradAug(converted(), round_to=1)
    for wrong in (IMAGES.numpy(), IMAGES[:0], None):
        with pytest.raises(InputError, match="images are to be a tensor"):
            ga.backward(wrong, LABELS)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="give both the same shape"):
        ga.backward(IMAGES, LABELS, unlabelled=IMAGES[..., :9])
    with pytest.raises(InputError, match=r"a list of gradaug\.Draw"):
        ga.backward(IMAGES, LABELS, [0.5])  # type: ignore[list-item]


# ------------------------------------------------------------------------------------------ gradients taken elsewhere


def gradients(net: netslim.SlimNet) -> list[Tensor]:
    return [parameter.grad.clone() for parameter in net.parameters() if parameter.grad is not None]


def test_a_backward_of_the_loops_own_gets_every_loss() -> None:
    given: list[float] = []
    net, other = converted(), converted()
    hook = lambda loss: (given.append(float(loss.detach())), (3 * loss).backward())  # noqa: E731
    losses = gradaug.GradAug(net, round_to=1, backward=hook, accumulate=2).backward(IMAGES, LABELS)
    gradaug.GradAug(other, round_to=1).backward(IMAGES, LABELS)
    assert given == pytest.approx([float(loss) / 2 for loss in (losses.full, *losses.subnets)])
    torch.testing.assert_close(gradients(net), [1.5 * gradient for gradient in gradients(other)])


def test_a_backward_that_scales_and_a_scaler_are_one_too_many() -> None:
    with pytest.raises(InputError, match="leave `scaler` out"):
        gradaug.GradAug(converted(), scaler=torch.amp.GradScaler("cpu"), backward=lambda loss: loss.backward())


def test_losses_one_after_another_are_those_of_backward() -> None:
    net, other = converted(), converted()
    ga, found = gradaug.GradAug(net, round_to=1, subnet_weight=0.5), []
    for loss in ga.losses(IMAGES, LABELS):
        loss.backward()
        found.append(loss.detach())
    losses = gradaug.GradAug(other, round_to=1, subnet_weight=0.5).backward(IMAGES, LABELS)
    torch.testing.assert_close(found, [losses.full, *(0.5 * loss for loss in losses.subnets)])
    torch.testing.assert_close(gradients(net), gradients(other))
    assert ga.steps == 1


def test_a_loop_that_leaves_in_mid_step_leaves_the_network_whole() -> None:
    net = converted()
    for i, _ in enumerate(gradaug.GradAug(net, round_to=1).losses(IMAGES, LABELS)):
        if i == 2:
            break
    torch.testing.assert_close(net(IMAGES), converted()(IMAGES))


def test_a_loop_that_counts_its_steps_gets_the_sub_networks_of_each() -> None:
    whole, later = converted(), converted()
    ga, other = gradaug.GradAug(whole, round_to=1), gradaug.GradAug(later, round_to=1)
    ga.backward(IMAGES, LABELS)
    whole.zero_grad()
    other.seek(1)
    first, second = ga.backward(IMAGES, LABELS), other.backward(IMAGES, LABELS)
    torch.testing.assert_close(first.subnets, second.subnets)
    with pytest.raises(InputError, match="steps must be a whole number, at least 0"):
        other.seek(-1)
