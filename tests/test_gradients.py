"""Backward passes that forward defines itself are the converted network's too."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

import netslim

IMAGES = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Network(nn.Module):
    """Convolution, what a test is about, another convolution."""

    def __init__(self, middle: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.middle = nn.Conv2d(3, 8, 3, padding=1), middle
        self.second, self.head = nn.Conv2d(8, 12, 3, padding=1), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.middle(torch.relu(self.first(x)))
        return self.head(torch.relu(self.second(h)).mean((2, 3)))


class Applied(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, h: Tensor) -> Tensor:
        return self.function(h)


def assert_same_training(model: nn.Module, net: netslim.SlimNet) -> None:
    """Outputs, gradients and buffers of two steps in each mode."""
    for mode in (True, False, True, False):
        found = []
        for network in (model.train(mode), net.train(mode)):
            network.zero_grad()
            torch.manual_seed(1)
            out = network(IMAGES)
            out.square().sum().backward()
            found.append({"output": out.detach(), **dict(network.state_dict())})
            found[-1] |= {f"gradient of {k}": p.grad for k, p in network.named_parameters()}
        for name, tensor in found[0].items():
            torch.testing.assert_close(found[1][name], tensor, msg=lambda text, name=name: f"{name}: {text}")


def converted(model: nn.Module) -> netslim.SlimNet:
    """The model's, and both have trained the same."""
    net = netslim.convert(copy.deepcopy(model), IMAGES)
    assert_same_training(model, net)
    return net


# ------------------------------------------------------------------------------------------- functions of one's own


class Rounded(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: Any, x: Tensor) -> Tensor:
        return (x * 4).round() / 4

    @staticmethod
    def backward(_ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


class Scaled(torch.autograd.Function):
    """Two results, in the newer style."""

    @staticmethod
    def forward(x: Tensor, factor: float) -> tuple[Tensor, Tensor]:
        return x.clone(), x * factor

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, _output: Any) -> None:
        ctx.factor = inputs[1]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.factor * gradients[0] + 3 * gradients[1], None


bound = Rounded.apply


def hooked(h: Tensor) -> Tensor:
    h = h * 2
    if h.requires_grad:
        h.register_hook(lambda gradient: -0.5 * gradient)
    return h


OWN_BACKWARDS: dict[str, Callable[[Tensor], Tensor]] = {
    "of one result": lambda h: Rounded.apply(h),
    "under another name": lambda h: bound(h),
    "of two results": lambda h: sum(Scaled.apply(h, 0.5)),
    "on a weight that is cut": lambda h: h * Rounded.apply(h.mean((2, 3), keepdim=True)),
    "a hook": hooked,
}


@pytest.mark.parametrize("what", OWN_BACKWARDS)
def test_a_backward_pass_of_ones_own_is_kept_and_all_else_is_elastic(what: str) -> None:
    net = converted(Network(Applied(OWN_BACKWARDS[what])))
    assert "test_gradients.py:" in net.plan.refusal
    assert [group.size for group in net.groups] == [8, 12]
    with net.sub(width=0.5):
        out = net(IMAGES)
        out.sum().backward()
    torch.testing.assert_close(net.extract(width=0.5)(IMAGES), out)


def test_the_parts_beside_it_run_programs() -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(8, 16, 1), nn.ReLU(), nn.Conv2d(16, 8, 1))
            self.reversal = Applied(Rounded.apply)

        def forward(self, h: Tensor) -> Tensor:
            return h + self.reversal(self.body(h))

    net = converted(Network(Outer()))
    assert list(net.plan.regions) == ["middle.body"]


# ------------------------------------------------------------------------------------------------- checkpointing


class Checkpointed(nn.Module):
    """A body with a norm and dropout whose values are computed again in the backward pass."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form
        self.body = nn.Sequential(
            nn.Conv2d(8, 16, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Dropout(0.3), nn.Conv2d(16, 8, 1)
        )

    def run(self, h: Tensor, scale: float = 1.0) -> Tensor:
        return self.body(h) * scale

    def forward(self, h: Tensor) -> Tensor:
        if self.form == "sequential":
            return h + checkpoint_sequential(self.body, 2, h, use_reentrant=False)
        if self.form == "asked":
            needed = h.requires_grad and torch.is_grad_enabled()
            return h + (checkpoint(self.body, h, use_reentrant=True) if needed else self.body(h))
        if self.form == "named":
            return h + checkpoint(self.run, h, scale=0.5, use_reentrant=False, preserve_rng_state=True)
        return h + checkpoint(self.run, h, use_reentrant=self.form == "reentrant")


FORMS = ["other", "sequential", "named", "asked"]


def saved(network: nn.Module) -> int:
    """How many numbers a training step holds for its backward pass."""
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        sizes[tensor.data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        network.train()(IMAGES)
    return sum(sizes.values())


@pytest.mark.parametrize("form", FORMS)
def test_what_is_computed_again_is_computed_again_in_the_converted_network(form: str) -> None:
    model = Network(Checkpointed(form))
    net = converted(model)
    assert saved(net) <= 1.1 * saved(model)
    assert len(net.groups) == 3
    with net.sub(width=0.5):
        net(IMAGES).sum().backward()
