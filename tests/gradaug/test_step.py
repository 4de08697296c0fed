"""One GradAug step against the paper's algorithm, written out with explicit slices and one summed loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gradaug
import netslim
from gradaug.sampler import Draw
from netslim.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

IMAGES = torch.randn(6, 1, 12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
LABELS = torch.tensor([1, 0, 9, 4, 4, 7])
DRAWS = (Draw(0.91, resolution=9), Draw(0.77, resolution=12), Draw(0.5, resolution=10))


def sliced_forward(p: dict[str, Tensor], x: Tensor, width: float) -> Tensor:
    """conftest.Tiny on its first channels, in train mode, batch statistics everywhere."""
    stem, body, top = (max(1, round(width * n)) for n in (8, 12, 16))

    def norm(name: str, x: Tensor, k: int) -> Tensor:
        mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), unbiased=False, keepdim=True)
        scale, shift = p[f"{name}.weight"][:k].view(1, -1, 1, 1), p[f"{name}.bias"][:k].view(1, -1, 1, 1)
        return (x - mean) / torch.sqrt(var + 1e-5) * scale + shift

    x = norm("stem_norm", F.conv2d(x, p["stem.weight"][:stem], padding=1), stem).relu()
    y = norm("body1_norm", F.conv2d(x, p["body1.weight"][:body, :stem], padding=1), body).relu()
    y = norm("body2_norm", F.conv2d(y, p["body2.weight"][:stem, :body], padding=1), stem)
    x = (x + y).relu()
    x = F.conv2d(x, p["top.weight"][:top, :stem], p["top.bias"][:top], stride=2, padding=1)
    x = norm("top_norm", x, top).relu()
    return F.linear(x.mean((2, 3)), p["fc.weight"][:, :top], p["fc.bias"])


def paper_step(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[list[Tensor], dict[str, Tensor]]:
    """L = CE(full, labels) + sum_i KL(full, detached || sub_i on T_i(images)), one backward: losses and gradients."""
    p = {name: parameter.detach().clone().requires_grad_() for name, parameter in model.named_parameters()}
    full = sliced_forward(p, images, 1.0)
    one_hot = labels if labels.is_floating_point() else F.one_hot(labels, 10).double()
    losses = [-(one_hot * full.log_softmax(1)).sum(1).mean()]
    target = full.detach().softmax(1)
    for one in DRAWS:
        small = F.interpolate(images, (one.resolution, one.resolution), mode="bilinear", align_corners=True)
        output = sliced_forward(p, small, one.width).log_softmax(1)
        losses.append((target * (target.log() - output)).sum() / len(images))
    gradients = torch.autograd.grad(torch.stack(losses).sum(), list(p.values()))
    return losses, dict(zip(p, gradients, strict=True))


@pytest.fixture
def net(make_net: Callable[..., netslim.SlimNet]) -> netslim.SlimNet:
    return make_net().double().train()


def named_gradients(net: nn.Module, tiny: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Gradients of `net` under the original model's names."""
    for (name, _), parameter in zip(tiny.named_parameters(), net.parameters(), strict=True):
        assert parameter.grad is not None, name
        yield name, parameter.grad


soft = 0.3 * F.one_hot(LABELS, 10).double() + 0.7 * F.one_hot(LABELS.flip(0), 10).double()


@pytest.mark.parametrize("labels", [LABELS, soft], ids=["hard", "mixed"])
def test_losses_and_every_gradient_are_the_papers(net: netslim.SlimNet, tiny: nn.Module, labels: Tensor) -> None:
    expected, gradients = paper_step(tiny.double(), IMAGES, labels)
    losses = gradaug.GradAug(net, round_to=1).backward(IMAGES, labels, DRAWS)
    close = {"rtol": 1e-10, "atol": 1e-10}
    torch.testing.assert_close([losses.full, *losses.subnets], [loss.detach() for loss in expected], **close)
    torch.testing.assert_close(losses.total, torch.stack(expected).sum().detach(), **close)
    for name, gradient in named_gradients(net, tiny):
        torch.testing.assert_close(gradient, gradients[name], **close)


def test_the_reference_can_fail(net: netslim.SlimNet, tiny: nn.Module) -> None:
    _, gradients = paper_step(tiny.double(), IMAGES, LABELS)
    gradaug.GradAug(net, round_to=1).backward(IMAGES, LABELS, DRAWS[:2])
    assert not all(torch.allclose(gradient, gradients[name]) for name, gradient in named_gradients(net, tiny))


def test_running_statistics_are_those_of_the_full_pass_alone(
    make_net: Callable[..., netslim.SlimNet], net: netslim.SlimNet
) -> None:
    plain = make_net().double().train()
    plain(IMAGES)
    gradaug.GradAug(net, round_to=1).backward(IMAGES, LABELS, DRAWS)
    for (name, buffer), (_, expected) in zip(net.named_buffers(), plain.named_buffers(), strict=True):
        assert torch.equal(buffer, expected), name


def test_a_frozen_norm_stays_frozen(net: netslim.SlimNet) -> None:
    net.stem_norm.eval()
    gradaug.GradAug(net, round_to=1).backward(IMAGES, LABELS)
    assert [name for name, module in net.named_modules() if not module.training] == ["stem_norm"]


def test_without_subnetworks_it_is_the_plain_step(
    make_net: Callable[..., netslim.SlimNet], net: netslim.SlimNet
) -> None:
    plain = make_net().double().train()
    F.cross_entropy(plain(IMAGES), LABELS).backward()
    losses = gradaug.GradAug(net, mode="none").backward(IMAGES, LABELS)
    assert losses.subnets == ()
    for parameter, expected in zip(net.parameters(), plain.parameters(), strict=True):
        assert torch.equal(parameter.grad, expected.grad)


def test_steps_count_and_choose_the_subnetworks(net: netslim.SlimNet) -> None:
    ga = gradaug.GradAug(net, seed=3, alpha=0.5, round_to=1)
    ga.backward(IMAGES, LABELS)
    net.eval()  # the same function each time
    second = ga.backward(IMAGES, LABELS)
    ga.steps = 1
    assert ga.backward(IMAGES, LABELS).subnets == second.subnets
    assert ga.steps == 2
    assert ga.backward(IMAGES, LABELS).subnets != second.subnets


def test_step_is_zero_grad_backward_and_one_optimizer_step(
    make_net: Callable[..., netslim.SlimNet], net: netslim.SlimNet
) -> None:
    other = make_net().double().train()
    by_hand, by_step = (torch.optim.SGD(n.parameters(), lr=0.1) for n in (net, other))
    ga, gb = gradaug.GradAug(net), gradaug.GradAug(other)
    for _ in range(2):
        by_hand.zero_grad()
        ga.backward(IMAGES, LABELS)
        by_hand.step()
        gb.step(IMAGES, LABELS, by_step)
    for a, b in zip(net.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_transform_of_ones_own_sees_the_batch_once_per_subnetwork(net: netslim.SlimNet) -> None:
    seen: list[Tensor] = []

    def flip(images: Tensor) -> Tensor:
        seen.append(images)
        return images.flip(-1)

    own = gradaug.GradAug(net, transform=flip, resolutions=(), round_to=1)
    flipped = own.backward(IMAGES, LABELS)
    assert len(seen) == 3
    assert all(images is IMAGES for images in seen)
    assert gradaug.GradAug(net, resolutions=(), round_to=1).backward(IMAGES, LABELS).subnets != flipped.subnets


def test_no_graph_outlives_its_pass(net: netslim.SlimNet) -> None:
    losses = gradaug.GradAug(net, round_to=1).backward(IMAGES, LABELS)
    assert not any(tensor.requires_grad for tensor in (losses.full, losses.output, losses.total, *losses.subnets))


def peak_saved_bytes(work: Callable[[], object]) -> int:
    """The most bytes that autograd holds for backward passes at any moment of `work`."""
    live = peak = 0

    class Held:
        def __init__(self, tensor: Tensor) -> None:
            nonlocal live, peak
            self.tensor = tensor
            live += tensor.nbytes
            peak = max(peak, live)

        def __del__(self) -> None:
            nonlocal live
            live -= self.tensor.nbytes

    with torch.autograd.graph.saved_tensors_hooks(Held, lambda held: held.tensor):
        work()
    assert live == 0
    return peak


def test_memory_is_that_of_plain_training(net: netslim.SlimNet) -> None:
    plain = peak_saved_bytes(lambda: F.cross_entropy(net(IMAGES), LABELS).backward())
    ga = gradaug.GradAug(net, round_to=1)
    assert 0 < peak_saved_bytes(lambda: ga.backward(IMAGES, LABELS)) <= 1.01 * plain


def test_the_grid_is_made_fine_enough_for_the_network(net: netslim.SlimNet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradaug.fit.hardware_grid", lambda _: 16)
    assert gradaug.GradAug(net).space.round_to == 8
    assert gradaug.GradAug(net, round_to=1).space.round_to == 1
    with pytest.raises(InputError, match=r"rounded to 16 channels the smallest sub-network .* is the whole network"):
        gradaug.GradAug(net, round_to=16)


def test_resolutions_that_the_network_cannot_take() -> None:
    model = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 12 * 12, 10))
    flat = netslim.convert(model, torch.randn(2, 1, 12, 12))
    assert gradaug.GradAug(flat, round_to=1).space.resolutions == (12,)
    with pytest.raises(InputError, match=r"cannot run on images of 8 pixels .*--resolutions 12 leaves"):
        gradaug.GradAug(flat, resolutions=(12, 8))


def test_depth_needs_blocks(net: netslim.SlimNet) -> None:
    if not net.blocks:
        with pytest.raises(InputError, match="use mode 'randwidth'"):
            gradaug.GradAug(net, mode="randdepth")
