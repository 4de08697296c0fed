"""Cheaper steps: sub-networks on a part of the batch, in every k-th step, from a later step on."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gradaug
import netslim
from gradaug.distributed import processes as sync
from gradaug.distributed.reduction import exchanging
from gradaug.subnets.parts import part_of, part_size
from gradaug.subnets.sampler import Draw, draw
from gradaug.subnets.space import Space
from gradaug.subnets.views import Mix
from gradaug.tasks import Detection
from netslim.errors import InputError

from .detectors import SIDE, batch, converted
from .loops import SETTINGS, batches, optimizer_of
from .loops import network as two_blocks
from .processes import in_processes

IMAGES = torch.randn(6, 1, 12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
LABELS = torch.tensor([1, 0, 9, 4, 4, 7])
OTHERS = torch.randn(5, 1, 12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
DRAWS = (Draw(0.91, resolution=9, share=0.5), Draw(0.77, share=0.5), Draw(0.5, resolution=10, share=0.5))
CLOSE = {"rtol": 1e-10, "atol": 1e-10}


@pytest.fixture
def double(make_net: Callable[..., netslim.SlimNet]) -> netslim.SlimNet:
    return make_net().double().train()


def seen_by(ga: gradaug.GradAug, count: int, number: int, share: float = 0.5, part: int = 0) -> list[int]:
    """The images of a sub-network, as what is written down says."""
    found = part_of(share, count, f"{(ga.seed, ga.steps, part, number)}/{ga.rank}", 2)
    return list(range(count)) if found is None else found


def gradients(net: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


def assert_gradients(net: nn.Module, expected: Sequence[Tensor]) -> None:
    """Those in `net` are those of the sum of the losses."""
    found = gradients(net)
    net.zero_grad()
    torch.stack(list(expected)).sum().backward()
    assert found.keys() == gradients(net).keys()
    for name, value in gradients(net).items():
        torch.testing.assert_close(found[name], value, **CLOSE, msg=name)


# ------------------------------------------------------------------------------------------------ a part of the batch


def written_out(
    net: netslim.SlimNet, images: Tensor, draws: Sequence[Draw], parts: Sequence[list[int]]
) -> list[Tensor]:
    """The losses of a step whose first images have LABELS, and whose sub-networks see these parts of all."""
    full = net(images)
    losses = [F.cross_entropy(full[: len(LABELS)], LABELS)]
    for one, part in zip(draws, parts, strict=True):
        small, target = images[part], full.detach()[part].log_softmax(1)
        if one.resolution is not None:
            small = F.interpolate(small, (one.resolution, one.resolution), mode="bilinear", align_corners=True)
        with net.sub(**one.sub()):
            log_q = net(small).log_softmax(1)
        losses.append((target.exp() * (target - log_q)).sum() / len(part))
    return losses


@pytest.mark.parametrize("others", [None, OTHERS], ids=["labelled", "unlabelled too"])
def test_a_sub_network_learns_its_part_of_the_batch(double: netslim.SlimNet, others: Tensor | None) -> None:
    ga = gradaug.GradAug(double, round_to=1, seed=3)
    every = IMAGES if others is None else torch.cat([IMAGES, others])
    parts = [seen_by(ga, len(every), number) for number in range(3)]
    assert len({tuple(part) for part in parts}) == 3
    assert {len(part) for part in parts} == {round(len(every) / 2)}
    losses = ga.backward(IMAGES, LABELS, DRAWS, others)
    expected = written_out(copy.deepcopy(double), every, DRAWS, parts)
    torch.testing.assert_close([losses.full, *losses.subnets], [loss.detach() for loss in expected], **CLOSE)
    assert_gradients(double, written_out(double, every, DRAWS, parts))


def test_the_written_out_step_can_fail(double: netslim.SlimNet) -> None:
    losses = gradaug.GradAug(double, round_to=1, seed=3).backward(IMAGES, LABELS, DRAWS)
    wrong = written_out(double, IMAGES, DRAWS, [[0, 1, 2]] * 3)
    assert not any(torch.isclose(a, b) for a, b in zip(losses.subnets, wrong[1:], strict=True))


def test_a_share_reaches_every_sub_network_and_the_whole_is_the_step_as_it_is(net: netslim.SlimNet) -> None:
    assert {one.share for one in draw(gradaug.GradAug(net, subnet_share=0.25).space, 0, 7)} == {0.25}
    found = []
    for options in ({}, {"subnet_share": 1.0, "subnet_every": 1, "subnet_from": 0}):
        other = copy.deepcopy(net).double().train()
        gradaug.GradAug(other, round_to=1, **options).backward(IMAGES, LABELS)
        found.append(gradients(other))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_parts_are_a_function_of_seed_step_part_and_number(net: netslim.SlimNet) -> None:
    def seen(seed: int, step: int, part: int = 0, rank: int = 0) -> list[list[float]]:
        ga, met = gradaug.GradAug(net, subnet_share=0.5, seed=seed, rank=rank, accumulate=2, resolutions=()), []
        ga.seek(step, part)
        ga.transform = lambda images: met.append(images[:, 0, 0, 0].tolist()) or images  # type: ignore[func-returns-value]
        ga.backward(IMAGES.float(), LABELS)
        return met

    first = seen(0, 5)
    assert [len(part) for part in first] == [3, 3, 3]
    assert seen(0, 5) == first
    assert first not in (seen(1, 5), seen(0, 6), seen(0, 5, part=1), seen(0, 5, rank=1))
    assert len({tuple(part) for part in first}) > 1


def test_every_image_is_seen_as_often_as_the_share_says() -> None:
    counts = torch.zeros(8)
    for key in range(4000):
        counts[part_of(0.25, 8, str(key))] += 1
    assert counts.sum() == 8000
    assert (counts / 4000 - 0.25).abs().max() < 0.03


@pytest.mark.parametrize(
    ("share", "images", "least", "wanted"),
    [(1.0, 5, 2, 5), (0.5, 8, 1, 4), (0.1, 8, 2, 2), (0.1, 8, 1, 1), (0.5, 1, 2, 1), (0.99, 4, 1, 4), (0.3, 10, 1, 3)],
)
def test_parts_are_rounded_and_never_empty(share: float, images: int, least: int, wanted: int) -> None:
    assert part_size(share, images, least) == wanted


def test_a_view_mixes_the_part_and_its_target(double: netslim.SlimNet) -> None:
    mixed: list[tuple[int, int]] = []

    def view(images: Tensor, _: tuple[int, ...]) -> tuple[Tensor, Mix]:
        def mix(probabilities: Tensor) -> Tensor:
            mixed.append((len(images), len(probabilities)))
            return probabilities.flip(0)

        return images.flip(0), mix

    ga = gradaug.GradAug(double, round_to=1, num_subnets=1, resolutions=(), view=view, subnet_share=0.5)
    (part,) = [seen_by(ga, 6, 0)]
    losses = ga.backward(IMAGES, LABELS, (Draw(0.5, share=0.5),))
    assert mixed == [(3, 3)]
    torch.testing.assert_close(
        losses.subnets[0], written_out(double, IMAGES, (Draw(0.5),), [part])[1].detach(), **CLOSE
    )


def test_the_parts_of_an_accumulated_batch_have_parts_of_their_own(double: netslim.SlimNet) -> None:
    ga = gradaug.GradAug(double, round_to=1, accumulate=2)
    images, labels = torch.cat([IMAGES, IMAGES.flip(0)]), torch.cat([LABELS, LABELS.flip(0)])
    expected, other = [], copy.deepcopy(double)
    for part, half in enumerate((slice(0, 6), slice(6, 12))):
        numbers = [seen_by(ga, 6, number, part=part) for number in range(3)]
        full = other(images[half])
        own = [F.cross_entropy(full, labels[half])]
        own += written_out(other, images[half], DRAWS, numbers)[1:]
        expected += [loss / 2 for loss in own]
    for half in (slice(0, 6), slice(6, 12)):
        ga.backward(images[half], labels[half], DRAWS)
    found = gradients(double)
    torch.stack(expected).sum().backward()
    for name, value in gradients(other).items():
        torch.testing.assert_close(found[name], value, **CLOSE, msg=name)


@dataclass(frozen=True)
class Figures:
    """A target of a person's own task, of tensors in a dataclass."""

    logits: Tensor
    temperature: Tensor


class Own(gradaug.tasks.Classification):
    """Whose target has a part that belongs to no image."""

    def target(self, output: Any) -> Any:
        return Figures(output.detach(), torch.tensor(2.0))

    def require_target(self, *_: Any, **__: Any) -> None:
        """Anything goes."""

    def subnet_loss(self, output: Any, target: Any, mix: Any = None) -> Tensor:
        assert target.temperature == 2
        return F.mse_loss(output, target.logits)


def test_a_target_of_several_tensors_is_cut_like_the_images(net: netslim.SlimNet) -> None:
    ga = gradaug.GradAug(net, task=Own(), round_to=1, resolutions=(), num_subnets=1, subnet_share=0.5)
    images, part = IMAGES.float(), seen_by(ga, 6, 0)
    (loss,) = ga.backward(images, LABELS, (Draw(0.5, share=0.5),)).subnets
    with torch.no_grad():
        target = net(images)[part]
        with net.sub(0.5, round_to=None):
            torch.testing.assert_close(loss, F.mse_loss(net(images[part]), target))


def test_every_pixels_answer_is_cut_with_its_image() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1))
    net = netslim.convert(model, torch.randn(2, 1, 8, 8), prove=False)
    images, masks = torch.randn(6, 1, 8, 8), torch.randint(4, (6, 8, 8))
    ga = gradaug.GradAug(net, task=gradaug.Segmentation(), round_to=1, num_subnets=1)
    part = seen_by(ga, 6, 0)
    (loss,) = ga.backward(images, masks, (Draw(0.5, share=0.5),)).subnets
    with torch.no_grad():
        p = net(images)[part].log_softmax(1)
        with net.sub(0.5):
            torch.testing.assert_close(loss, (p.exp() * (p - net(images[part]).log_softmax(1))).sum(1).mean())


@pytest.mark.parametrize("subnet_target", ["truth", "full"])
def test_a_detectors_lists_are_cut_alike(subnet_target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net = converted("retina")
    images, targets = batch(4)
    one = Draw((("backbone.first", 0.5),), (), SIDE, 1, 0.5)
    seen: list[tuple[Any, Any]] = []
    scaled = Detection.scaled

    def spy(self: Detection, net: Any, images: Any, target: Any, side: int | None) -> Any:
        seen.append((images, target))
        return scaled(self, net, images, target, side)

    monkeypatch.setattr(Detection, "scaled", spy)
    ga = gradaug.GradAug(net, task=Detection(subnet_target), resolutions=())
    seen.clear()
    numbers = part_of(0.5, len(images), f"{(0, 0, 0, 0)}/0", 1)
    assert numbers is not None
    losses = ga.backward(images, targets, (one,))
    ((few, some),) = seen
    assert [id(image) for image in few] == [id(images[number]) for number in numbers]
    assert [id(target) for target in some] == [id(targets[number]) for number in numbers]
    if subnet_target == "truth":
        with torch.no_grad(), net.sub(**one.sub()):
            torch.testing.assert_close(losses.subnets[0], sum(net(few, some).values()).detach())  # type: ignore[union-attr]


def test_images_in_another_form_need_a_part_of_the_tasks_own(net: netslim.SlimNet) -> None:
    class Listed(gradaug.tasks.Classification):
        def batch(self, images: Any, unlabelled: Any) -> Any:
            return images, len(images), len(images)

        def answer(self, forward: Any, images: Any, labels: Any) -> Any:
            return forward(torch.stack(images))

    ga = gradaug.GradAug(net, task=Listed(), resolutions=(), subnet_share=0.5)
    with pytest.raises(InputError, match=r"subnet_share takes a part of images in one tensor .* and these are a list"):
        ga.backward(list(IMAGES.float()), LABELS)


# ----------------------------------------------------------------------------------------------- which steps have them


def test_every_so_many_steps_the_last_has_sub_networks() -> None:
    counts = [len(draw(Space(subnet_every=3), 0, step)) for step in range(7)]
    assert counts == [0, 0, 3, 0, 0, 3, 0]
    counts = [len(draw(Space(subnet_every=2, subnet_from=3), 0, step)) for step in range(8)]
    assert counts == [0, 0, 0, 0, 3, 0, 3, 0]
    assert draw(Space(subnet_every=3), 0, 2) == draw(Space(), 0, 2)


@pytest.mark.parametrize(("every", "first"), [(1, 0), (1, 5), (3, 0), (4, 6), (2, 40)])
def test_how_many_steps_have_sub_networks_is_known_before(every: int, first: int) -> None:
    space = Space(subnet_every=every, subnet_from=first)
    assert space.trained(31) == sum(bool(draw(space, 0, step)) for step in range(31))
    assert Space("none", subnet_every=every).trained(31) == 0
    assert not any(Space("none", subnet_every=every, subnet_from=first).plain(step) for step in range(31))


def test_the_other_steps_are_plain_ones(make_net: Callable[..., netslim.SlimNet], double: netslim.SlimNet) -> None:
    """Bit for bit, running statistics too; unlabelled images have no part in them."""
    plain = make_net().double().train()
    ga, gb = gradaug.GradAug(double, subnet_every=2, round_to=1), gradaug.GradAug(plain, "none")
    losses = ga.backward(IMAGES, LABELS, unlabelled=OTHERS)
    gb.backward(IMAGES, LABELS)
    assert losses.subnets == ()
    assert losses.total == losses.full
    for first, second in zip(double.parameters(), plain.parameters(), strict=True):
        assert torch.equal(first.grad, second.grad)
    assert all(torch.equal(a, b) for a, b in zip(double.buffers(), plain.buffers(), strict=True))
    assert len(ga.backward(IMAGES, LABELS, unlabelled=OTHERS).subnets) == 3


def test_parts_of_a_batch_belong_to_one_step(net: netslim.SlimNet) -> None:
    ga = gradaug.GradAug(net, subnet_every=2, accumulate=2)
    counts = [len(ga.backward(IMAGES.float(), LABELS).subnets) for _ in range(8)]
    assert counts == [0, 0, 3, 3, 0, 0, 3, 3]
    ga.seek(3, 1)
    assert len(ga.backward(IMAGES.float(), LABELS).subnets) == 3


def test_losses_of_a_plain_step_are_that_of_the_network_alone(net: netslim.SlimNet) -> None:
    ga = gradaug.GradAug(net, subnet_from=1)
    counts = [len(list(ga.losses(IMAGES.float(), LABELS))) for _ in range(3)]
    assert counts == [1, 4, 4]


def in_a_pair() -> list[Tensor]:
    """Weights after steps with an exchange by DDP, in this process's halves; they begin as the others'."""
    rank = sync.current().rank
    net = two_blocks()
    model = exchanging(net)
    ga = gradaug.GradAug(model, **SETTINGS, subnet_every=2, subnet_from=1, subnet_share=0.5)  # type: ignore[arg-type]
    optimizer = optimizer_of(net)
    for images, labels in batches():
        ga.step(images[rank::2], labels[rank::2], optimizer)
    return [parameter.detach() for parameter in net.parameters()]


def test_processes_agree_and_have_the_mean_of_their_parts(tmp_path: Any) -> None:
    net = two_blocks()
    ga, optimizer = gradaug.GradAug(net, **SETTINGS, subnet_every=2, subnet_from=1, subnet_share=0.5), optimizer_of(net)  # type: ignore[arg-type]
    for step, (images, labels) in enumerate(batches()):
        optimizer.zero_grad()
        for rank in range(2):
            ga.seek(step)
            for loss in ga.losses(images[rank::2], labels[rank::2]):
                (loss / 2).backward()
        optimizer.step()
    first, second = in_processes(2, tmp_path, in_a_pair)
    for one, other, alone in zip(first, second, net.parameters(), strict=True):
        assert torch.equal(one, other)
        torch.testing.assert_close(one, alone.detach())


# ------------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"subnet_share": 0}, r"subnet_share must be in \(0, 1\], not 0"),
        ({"subnet_share": 8}, r"subnet_share must be in \(0, 1\], not 8"),
        ({"subnet_share": "half"}, r"subnet_share must be a number \(in \(0, 1\]\), not 'half'"),
        ({"subnet_every": 0}, "subnet_every must be at least 1, not 0"),
        ({"subnet_every": 2.5}, r"subnet_every must be a whole number \(at least 1\), not 2\.5"),
        ({"subnet_from": 0.5}, r"subnet_from, in steps, must be a whole number, at least 0, not 0\.5"),
        ({"subnet_from": -1}, "subnet_from, in steps, must be a whole number, at least 0, not -1"),
    ],
)
def test_what_a_step_cannot_have_is_said(net: netslim.SlimNet, settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        gradaug.GradAug(net, **settings)


@pytest.mark.parametrize("sides", [(8,), (6, 8)])
def test_sub_networks_may_have_small_images_alone(net: netslim.SlimNet, sides: tuple[int, ...]) -> None:
    ga = gradaug.GradAug(net, resolutions=sides, seed=2)
    seen: list[int] = []
    net.get_submodule("stem").register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[-1]))
    for _ in range(4):
        ga.backward(IMAGES.float(), LABELS)
    assert [side for i, side in enumerate(seen) if i % 4 == 0] == [12] * 4
    assert {side for i, side in enumerate(seen) if i % 4} == set(sides)
