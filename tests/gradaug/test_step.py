"""One GradAug step against the paper's algorithm, written out with explicit slices and one summed loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gradaug
import netslim
from gradaug.config.settings import TrainConfig
from gradaug.regularizers.hooks import Regularizers
from gradaug.subnets.sampler import Draw
from netslim.errors import InputError
from netslim.versions import COMPILES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

IMAGES = torch.randn(6, 1, 12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
LABELS = torch.tensor([1, 0, 9, 4, 4, 7])
DRAWS = (Draw(0.91, resolution=9), Draw(0.77, resolution=12), Draw(0.5, resolution=10))
BLOCK = ("body1",)
BY_MODE = {
    "randwidth": DRAWS,
    "randdepth": (Draw(resolution=9), Draw(skip=BLOCK, resolution=12), Draw(skip=BLOCK, resolution=10)),
    "both": (Draw(0.91, BLOCK, 9), Draw(0.77, (), 12), Draw(0.5, BLOCK, 10)),
}


def sliced_forward(p: dict[str, Tensor], x: Tensor, width: float, skips: bool = False) -> Tensor:
    """conftest.Tiny on its first channels, in train mode, batch statistics everywhere; the residual body left out."""
    stem, body, top = (max(1, round(width * n)) for n in (8, 12, 16))

    def norm(name: str, x: Tensor, k: int) -> Tensor:
        mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), unbiased=False, keepdim=True)
        scale, shift = p[f"{name}.weight"][:k].view(1, -1, 1, 1), p[f"{name}.bias"][:k].view(1, -1, 1, 1)
        return (x - mean) / torch.sqrt(var + 1e-5) * scale + shift

    x = norm("stem_norm", F.conv2d(x, p["stem.weight"][:stem], padding=1), stem).relu()
    y = norm("body1_norm", F.conv2d(x, p["body1.weight"][:body, :stem], padding=1), body).relu()
    y = norm("body2_norm", F.conv2d(y, p["body2.weight"][:stem, :body], padding=1), stem)
    x = x.relu() if skips else (x + y).relu()
    x = F.conv2d(x, p["top.weight"][:top, :stem], p["top.bias"][:top], stride=2, padding=1)
    x = norm("top_norm", x, top).relu()
    return F.linear(x.mean((2, 3)), p["fc.weight"][:, :top], p["fc.bias"])


def paper_step(
    model: nn.Module, images: Tensor, labels: Tensor, draws: tuple[Draw, ...] = DRAWS
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """L = CE(full, labels) + sum_i KL(full, detached || sub_i on T_i(images)), one backward: losses and gradients."""
    p = {name: parameter.detach().clone().requires_grad_() for name, parameter in model.named_parameters()}
    full = sliced_forward(p, images, 1.0)
    one_hot = labels if labels.is_floating_point() else F.one_hot(labels, 10).double()
    losses = [-(one_hot * full.log_softmax(1)).sum(1).mean()]
    target = full.detach().softmax(1)
    for one in draws:
        small = F.interpolate(images, (one.resolution, one.resolution), mode="bilinear", align_corners=True)
        output = sliced_forward(p, small, one.width, bool(one.skip)).log_softmax(1)
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


@pytest.mark.parametrize("mixed", [False, True], ids=["hard labels", "CutMix"])
@pytest.mark.parametrize("mode", BY_MODE)
def test_losses_and_every_gradient_are_the_papers(
    net: netslim.SlimNet, tiny: nn.Module, mode: str, mixed: bool
) -> None:
    images, labels = IMAGES, LABELS
    if mixed:
        mix = Regularizers(TrainConfig(regularizers=("cutmix",)), 10).on_batch
        assert mix is not None
        images, labels = mix(images, labels, (0,))
        labels = labels.double()
    expected, gradients = paper_step(tiny.double(), images, labels, BY_MODE[mode])
    losses = gradaug.GradAug(net, mode, round_to=1).backward(images, labels, BY_MODE[mode])
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
    assert all(torch.equal(images, IMAGES) for images in seen)
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
    monkeypatch.setattr("gradaug.subnets.limits.hardware_grid", lambda _: 16)
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


def frozen(net: netslim.SlimNet) -> netslim.SlimNet:
    """Norms in eval mode: the network answers every image by itself."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return net


def gradients(net: nn.Module) -> list[Tensor]:
    return [parameter.grad.clone() for parameter in net.parameters()]


def test_parts_of_a_batch_add_up_to_its_step(make_net: Callable[..., netslim.SlimNet]) -> None:
    whole, parted = frozen(make_net().double().train()), frozen(make_net().double().train())
    gradaug.GradAug(whole, round_to=1).backward(IMAGES, LABELS)
    ga = gradaug.GradAug(parted, round_to=1, accumulate=2)
    ga.backward(IMAGES[:3], LABELS[:3])
    assert ga.steps == 0
    ga.backward(IMAGES[3:], LABELS[3:])
    assert ga.steps == 1
    torch.testing.assert_close(gradients(whole), gradients(parted), rtol=1e-9, atol=1e-11)


def test_unlabelled_images_take_part_in_the_sub_networks_losses_only(net: netslim.SlimNet) -> None:
    frozen(net)
    ga = gradaug.GradAug(net, round_to=1)
    losses = ga.backward(IMAGES[:4], LABELS[:4], DRAWS, unlabelled=IMAGES[4:])
    found = gradients(net)
    net.zero_grad()
    full = net(IMAGES)
    expected = [F.cross_entropy(full[:4], LABELS[:4])]
    for one in DRAWS:
        small = F.interpolate(IMAGES, (one.resolution, one.resolution), mode="bilinear", align_corners=True)
        with net.sub(one.width):
            expected.append(F.kl_div(net(small).log_softmax(1), full.detach().softmax(1), reduction="batchmean"))
    torch.stack(expected).sum().backward()
    torch.testing.assert_close(found, gradients(net), rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(losses.full, expected[0].detach())
    assert losses.output.shape == (4, 10)


def test_a_weight_scales_the_sub_networks_gradients(make_net: Callable[..., netslim.SlimNet]) -> None:
    found = []
    for weight in (0.0, 1.0, 3.0):
        net = make_net().double().train()
        losses = gradaug.GradAug(net, round_to=1, subnet_weight=weight).backward(IMAGES, LABELS, DRAWS)
        torch.testing.assert_close(losses.total, losses.full + weight * torch.stack(losses.subnets).sum())
        found.append(gradients(net))
    for none, one, three in zip(*found, strict=True):
        torch.testing.assert_close(three - none, 3 * (one - none))


def test_every_group_can_draw_its_own_width(net: netslim.SlimNet) -> None:
    ga = gradaug.GradAug(net, round_to=1, alpha=0.25, per_group=True)
    first, *_, smallest = gradaug.draw(ga.space, 0, 0)
    widths = dict(first.width)
    assert set(widths) == {group.name for group in net.groups}
    assert len(set(widths.values())) == len(widths)
    assert set(dict(smallest.width).values()) == {0.25}
    assert all(loss.isfinite() for loss in ga.backward(IMAGES, LABELS).subnets)


def test_running_statistics_of_sub_networks_on_request(net: netslim.SlimNet) -> None:
    gradaug.GradAug(net, round_to=1, track_stats=True).backward(IMAGES, LABELS, DRAWS)
    assert int(net.stem_norm.num_batches_tracked) == 4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision_keeps_the_gradients_direction(
    make_net: Callable[..., netslim.SlimNet], dtype: torch.dtype
) -> None:
    nets = [make_net().train() for _ in range(2)]
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    exact = gradaug.GradAug(nets[0], round_to=1).backward(IMAGES.float(), LABELS)
    mixed = gradaug.GradAug(nets[1], round_to=1, amp=dtype, scaler=scaler).backward(IMAGES.float(), LABELS)
    optimizer = torch.optim.SGD(nets[1].parameters(), lr=0.1)
    scaler.unscale_(optimizer)
    one, other = (torch.cat([g.flatten() for g in gradients(net)]) for net in nets)
    assert float(F.cosine_similarity(one, other, dim=0)) > 0.98
    torch.testing.assert_close(mixed.total.float(), exact.total, rtol=0.1, atol=0.05)
    assert mixed.output.dtype == dtype


@pytest.mark.skipif(not COMPILES, reason="this torch does not compile converted networks")
def test_a_compiled_forward_gives_the_same_gradients(make_net: Callable[..., netslim.SlimNet]) -> None:
    nets = [make_net().double().train() for _ in range(2)]
    gradaug.GradAug(nets[0], round_to=1).backward(IMAGES, LABELS, DRAWS)
    compiled = torch.compile(nets[1], dynamic=False, backend="eager")
    gradaug.GradAug(nets[1], round_to=1, forward=compiled).backward(IMAGES, LABELS, DRAWS)
    torch.testing.assert_close(gradients(nets[0]), gradients(nets[1]), rtol=1e-9, atol=1e-11)
