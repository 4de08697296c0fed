"""Backward passes that forward defines itself are the converted network's too."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

import netslim
from netslim.errors import PlanError
from netslim.export import WRITERS
from netslim.ir.program import Program
from netslim.net.runtime import runtime
from netslim.net.tree import is_slim
from netslim.notes import NONE, Notes

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
        if self.form == "none":
            return h + self.run(h)
        return h + checkpoint(self.run, h, use_reentrant=self.form == "reentrant")


FORMS = ["reentrant", "other", "sequential", "named", "asked"]


def saved(network: nn.Module) -> int:
    """How many numbers a training step holds for its backward pass."""
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        sizes[tensor.data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        network.train()(IMAGES)
    return sum(sizes.values())


@pytest.mark.filterwarnings("ignore:None of the inputs")  # the model's own, where no gradient is wanted
@pytest.mark.parametrize("form", FORMS)
def test_what_is_computed_again_is_computed_again_in_the_converted_network(form: str) -> None:
    model = Network(Checkpointed(form))
    net = converted(model)
    assert saved(net) <= 1.1 * saved(model)
    assert len(net.groups) == 3
    assert not net.plan.refusal


@pytest.fixture(scope="module")
def again() -> netslim.SlimNet:
    return netslim.convert(Network(Checkpointed("other")), IMAGES)


def gradients(net: netslim.SlimNet, inside: bool, **point: Any) -> dict[str, Tensor | None]:
    """Of a sub-network, with the backward pass inside its context or after it."""
    net.zero_grad()
    torch.manual_seed(1)
    with net.sub(**point):
        loss = net.train()(IMAGES).square().sum()
        if inside:
            loss.backward()
    if not inside:
        loss.backward()
    return {name: parameter.grad for name, parameter in net.named_parameters()}


@pytest.mark.parametrize("point", [{"width": 0.5}, {"depth": {"middle.body": False}}], ids=str)
def test_a_sub_network_is_computed_again_as_it_was(again: netslim.SlimNet, point: Any) -> None:
    plain = netslim.convert(Network(Checkpointed("none")), IMAGES)
    plain.load_state_dict(again.state_dict())
    wanted = gradients(plain, True, **point)
    for inside in (True, False):
        torch.testing.assert_close(gradients(again, inside, **point), wanted)
    assert all(layer.kept is None for layer in again.modules() if is_slim(layer))


def test_a_file_and_an_extracted_network_keep_the_gradients(again: netslim.SlimNet, tmp_path: Path) -> None:
    netslim.save(again, tmp_path / "net.pt")
    loaded = netslim.load(tmp_path / "net.pt")
    assert saved(loaded) == saved(again)
    torch.testing.assert_close(gradients(loaded, True, width=0.5), gradients(again, True, width=0.5))
    small = again.extract(width=0.5)
    torch.manual_seed(1)
    small.train()(IMAGES).square().sum().backward()
    total = sum(float(p.grad.abs().sum()) for p in small.parameters() if p.grad is not None)
    assert total == pytest.approx(sum(float(g.abs().sum()) for g in gradients(again, True, width=0.5).values()), 1e-3)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.filterwarnings("ignore:None of the inputs")
def test_an_extracted_network_computes_again_what_the_model_does(form: str, tmp_path: Path) -> None:
    net, plain = converted(Network(Checkpointed(form))), converted(Network(Checkpointed("none")))
    small = net.extract(width=0.5)
    assert saved(small) < 0.9 * saved(plain.extract(width=0.5))
    for suffix in (".pt", ".pt2", ""):
        path = tmp_path / f"small{suffix}"
        WRITERS[suffix].write(small, net.plan.inputs, path, Notes(0.5, 1, (), True, (IMAGES.shape[1:],), NONE))
    again = torch.load(tmp_path / "small.pt", weights_only=False)
    assert saved(again) == saved(small)


def test_a_step_that_computes_nothing_cannot_be_computed_again(again: netslim.SlimNet) -> None:
    region = again.plan.regions[""]
    nodes = tuple(replace(node, again=1) for node in region.programs[True])
    programs = dict.fromkeys((True, False), Program(nodes))
    with pytest.raises(PlanError, match="computed again"):
        runtime(copy.deepcopy(again)).rebuilt(replace(again.plan, regions={"": replace(region, programs=programs)}))
