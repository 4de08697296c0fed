"""What forward keeps in buffers: the full network keeps it as the model does, sub-networks leave it alone."""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import netslim

IMAGES = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
Update = Callable[[Any, Tensor], Any]


class Net(nn.Module):
    """Two convolutions and a head; what lies between may use the buffers."""

    def __init__(self, middle: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 12, 3), nn.Linear(12, 4)
        self.register_buffer("mean", torch.zeros(8))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("var", torch.ones(8))
        self.register_buffer("steps", torch.tensor(0))
        self.plain = torch.zeros(8)
        self.middle = middle

    def forward(self, x: Tensor) -> Tensor:
        h = self.middle(self, self.first(x).relu())
        return self.head(self.second(h).relu().mean((2, 3)))


def running(update: Update, use: str = "mean") -> Callable[[Any, Tensor], Tensor]:
    """A middle that updates in training, and then uses a buffer."""

    def middle(m: Any, h: Tensor) -> Tensor:
        if m.training:
            update(m, h.detach().mean((0, 2, 3)))
        return h * (1 + getattr(m, use).view(-1, 1, 1))

    return middle


def ema(m: Any, seen: Tensor) -> Tensor:
    return 0.9 * m.mean + 0.1 * seen


def assigned_twice(m: Any, seen: Tensor) -> None:
    m.mean = m.mean + seen
    m.mean = 0.5 * m.mean


def handed_on(m: Any, seen: Tensor) -> None:
    m.var, m.mean = m.mean, seen


def written_then_assigned(m: Any, seen: Tensor) -> None:
    m.mean.mul_(0.9)
    m.mean = m.mean + seen


def counted(m: Any, seen: Tensor) -> None:
    m.steps = m.steps + 1
    m.mean += seen / m.steps


UPDATES: dict[str, Update] = {
    "assigned": lambda m, seen: setattr(m, "mean", ema(m, seen)),
    "assigned twice": assigned_twice,
    "handed on": handed_on,
    "written, then assigned": written_then_assigned,
    "assigned and counted": counted,
    "added": lambda m, seen: m.mean.add_(seen),
    "augmented": lambda m, seen: m.mean.__iadd__(seen),
    "through data": lambda m, seen: m.mean.data.mul_(0.9).add_(seen),
    "data assigned": lambda m, seen: setattr(m.mean, "data", ema(m, seen)),
    "through detach": lambda m, seen: m.mean.detach().add_(seen),
    "through a view of a view": lambda m, seen: m.mean.view(2, 4).flatten().add_(seen),
    "through T": lambda m, seen: m.mean.view(8, 1).T[0].add_(seen),
    "through an unbound part": lambda m, seen: m.mean.view(1, 8).unbind()[0].lerp_(seen, 0.1),
    "as out": lambda m, seen: torch.add(m.mean, seen, out=m.mean),
    "as out, through a view": lambda m, seen: torch.add(m.mean, seen, out=m.mean.detach()),
    "items": lambda m, seen: m.mean.view(-1).__setitem__(slice(None), ema(m, seen)),
    "by a function with inplace": lambda m, seen: F.leaky_relu(m.mean.sub_(seen), 0.5, inplace=True),
    "by a function with inplace by place": lambda m, seen: F.relu(m.mean.sub_(seen), True),
}


def same(a: nn.Module, b: nn.Module) -> bool:
    theirs = dict(b.named_buffers())
    return all(torch.equal(tensor, theirs[name]) for name, tensor in a.named_buffers())


def check(middle: Callable[[Any, Tensor], Tensor], groups: int = 2) -> netslim.SlimNet:
    model = Net(middle).train()
    net = netslim.convert(model, IMAGES)
    assert len(net.groups) == groups
    assert not net.plan.refusal
    for _ in range(3):
        for either in (model, net):
            either.zero_grad()
            either(IMAGES).square().mean().backward()
        assert same(model, net)
        torch.testing.assert_close(net.first.weight.grad, model.first.weight.grad)  # type: ignore[union-attr]
    before = copy.deepcopy(net)
    with net.sub(0.5):
        net(IMAGES).sum().backward()
    assert same(net, before), "a sub-network has changed a buffer"
    assert torch.equal(net.eval()(IMAGES), model.eval()(IMAGES))
    return net


@pytest.mark.parametrize("name", UPDATES)
def test_a_buffer_moves_as_the_models_does_and_sub_networks_leave_it_alone(name: str) -> None:
    check(running(UPDATES[name]))


def test_a_sub_network_that_tracks_moves_its_part_of_an_assigned_buffer() -> None:
    net = check(running(UPDATES["assigned"]))
    before = net.state_dict()["mean"].clone()
    with net.train().sub(0.5, track_running_stats=True):
        net(IMAGES)
    assert (net.state_dict()["mean"] != before).tolist() == [True] * 4 + [False] * 4


def test_a_running_scalar_costs_no_groups() -> None:
    """It is written to by every run of the proof, which compares runs of one state."""
    check(running(lambda m, seen: m.scale.mul_(0.9).add_(seen.abs().mean()), "scale"))
    check(running(lambda m, seen: setattr(m, "scale", 2 * m.scale + seen.abs().mean()), "scale"))


def test_statistics_of_functions_are_left_alone() -> None:
    def middle(m: Any, h: Tensor) -> Tensor:
        h = F.batch_norm(h, m.mean, m.var, training=m.training)
        return F.instance_norm(h, m.plain, m.var.clone(), use_input_stats=m.training)

    check(middle)


def test_a_plain_tensor_that_forward_reads_and_replaces_is_kept() -> None:
    def middle(m: Any, h: Tensor) -> Tensor:
        if m.training:
            m.plain = 0.9 * m.plain + h.detach().mean((0, 2, 3))
        return h * (1 + m.plain.view(-1, 1, 1))

    model = Net(middle).train()
    net = netslim.convert(model, IMAGES)
    for _ in range(2):
        assert torch.equal(net(IMAGES), model(IMAGES))
    assert torch.equal(net.eval()(IMAGES), model.eval()(IMAGES))


def test_what_forward_only_leaves_on_its_modules_is_nobodys_matter() -> None:
    def middle(m: Any, h: Tensor) -> Tensor:
        m.plain, m.calls = h, getattr(m, "calls", 0) + 1
        return h

    check(middle)


def fuses(m: Any, h: Tensor) -> Tensor:
    """Two layers as one, whose weights are worked out anew in evaluation."""
    if m.training:
        return m.point(m.wide(h))
    m.fused.weight.data = torch.einsum("oc,cihw->oihw", m.point.weight.data[..., 0, 0], m.wide.weight.data)
    m.fused.bias.data = m.point.weight.data[..., 0, 0] @ m.wide.bias.data + m.point.bias.data
    return m.fused(h)


def decays(m: Any, h: Tensor) -> Tensor:
    """A layer whose weights are smaller with every call."""
    with torch.no_grad():
        m.wide.weight.mul_(0.9)
    return m.wide(h) + m.point(h) + m.fused(h)


def tells_a_layer_its_statistics(m: Any, h: Tensor) -> Tensor:
    if not m.training:
        m.norm.running_mean.copy_(h.detach().mean((0, 2, 3)))
    return m.wide(m.norm(h)) + m.point(h) + m.fused(h)


class Told(Net):
    """Layers that forward itself writes to before it calls them."""

    def __init__(self, middle: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__(middle)
        self.wide, self.fused = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.point, self.norm = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)


@pytest.mark.parametrize("middle", [fuses, decays, tells_a_layer_its_statistics], ids=lambda middle: middle.__name__)
def test_a_layer_sees_what_forward_has_written_to_it(middle: Callable[[Any, Tensor], Tensor]) -> None:
    model = Told(middle).eval()
    net = netslim.convert(model, IMAGES)
    assert net.plan.refusal == ""
    assert "first.weight" in {slot.param for group in net.groups for slot in group.slots}
    for training in (True, False):
        torch.testing.assert_close(net.train(training)(IMAGES), model.train(training)(IMAGES))
    before = copy.deepcopy(net)
    with net.sub(0.5):
        inside = net(IMAGES)
    assert same(net, before), "a sub-network has changed a tensor"
    torch.testing.assert_close(net.extract(0.5).eval()(IMAGES), inside)


def decides(m: Any, h: Tensor) -> Tensor:
    if m.steps == 0:
        h = h * 2
    m.steps += 1
    return h


def decides_by_a_list(m: Any, h: Tensor) -> Tensor:
    m.steps += 1
    return h * 2 if m.steps.tolist() > 3 else h


def decides_by_an_array(m: Any, h: Tensor) -> Tensor:
    m.steps += 1
    return h * 2 if m.steps.detach().numpy() > 3 else h


def decides_in_evaluation(m: Any, h: Tensor) -> Tensor:
    if m.training:
        m.steps = m.steps + 1
    return h if m.training or int(m.steps) == 0 else 2 * h


def grows(m: Any, h: Tensor) -> Tensor:
    m.mean = torch.cat([m.mean, h.detach().mean((0, 2, 3))])
    return h * m.mean.mean()


def another_parameter(m: Any, h: Tensor) -> Tensor:
    m.second.weight = nn.Parameter(m.second.weight * 0.5)
    return h


def reads_in_the_other_mode(m: Any, h: Tensor) -> Tensor:
    if m.training:
        m.plain = h.detach().mean((0, 2, 3))
        return h
    return h * m.plain.view(-1, 1, 1)


REFUSED: dict[Callable[[Any, Tensor], Tensor], str] = {
    decides: r"decides by the value of steps at test_state.py:\d+ in decides, and changes that value",
    decides_by_a_list: "decides by the value of steps at .*decides_by_a_list",
    decides_by_an_array: "decides by the value of steps at .*decides_by_an_array",
    decides_in_evaluation: "decides by the value of steps at .*decides_in_evaluation",
    grows: r"another form at test_state.py:\d+ in grows",
    another_parameter: "replaces the parameter second.weight",
    reads_in_the_other_mode: r"keeps a tensor in plain .*self.register_buffer\('plain'",
}


@pytest.mark.parametrize("middle", REFUSED, ids=lambda middle: middle.__name__)
def test_state_that_cannot_be_written_down_is_named_and_stays_python(middle: Callable[[Any, Tensor], Tensor]) -> None:
    plan, _ = netslim.analyse(Net(middle), IMAGES)
    assert re.search(REFUSED[middle], plan.refusal)


def test_a_constant_that_forward_makes_and_changes_is_the_same_at_every_call() -> None:
    def middle(m: Any, h: Tensor) -> Tensor:
        table = torch.linspace(-2, 2, 5)
        table[4] += 0.5
        return h * table.mul_(1.5)[4].to(h)

    check(middle)


def test_conversion_leaves_the_model_and_the_random_numbers_as_they_were() -> None:
    """Its counters, lists, buffers, modes, hooks and gradients; and the next random number is the same."""

    class Busy(Net):
        def __init__(self) -> None:
            super().__init__(lambda _, h: h)
            self.norm, self.seen, self.calls = nn.BatchNorm2d(12), [], 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls, self.steps = self.calls + 1, self.steps + 1
            self.seen.append(x.shape)
            return super().forward(F.dropout(x)) + self.norm(self.second(self.first(x))).mean()

    model = Busy().train()
    model.norm.eval()
    model.first.weight.grad = torch.ones_like(model.first.weight)
    before = copy.deepcopy(model.__dict__)
    torch.manual_seed(3)
    random.seed(3)
    wanted = torch.rand(1), random.random()
    torch.manual_seed(3)
    random.seed(3)
    net = netslim.convert(model, IMAGES)
    assert (torch.rand(1), random.random()) == wanted
    assert (model.calls, model.seen, model.training, model.norm.training) == (0, [], True, False)
    assert (net.training, net.norm.training) == (True, False)
    assert all(torch.equal(t, before["_buffers"][name]) for name, t in model._buffers.items() if t is not None)
    assert torch.equal(model.first.weight.grad, torch.ones_like(model.first.weight))


class Hooked(nn.Module):
    """Collects what its layers give by hooks that the first call installs, as transformers' models do."""

    def __init__(self, before: bool) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 12, 3), nn.Linear(20, 4)
        self.before, self.installed, self.seen = before, False, None

    def install(self) -> None:
        for layer in (self.first, self.second):
            if self.before:
                layer.register_forward_pre_hook(lambda _, args: (args[0] + 1,))
            layer.register_forward_hook(self.collect)
        self.installed = True

    def collect(self, module: nn.Module, args: Any, output: Tensor) -> None:
        self.seen = [*(self.seen or []), output]

    def forward(self, x: Tensor) -> Tensor:
        if not self.installed:
            self.install()
        self.seen = []
        self.second(self.first(x).relu())
        means = [each.mean((2, 3)) for each in self.seen]
        self.seen = None
        return self.head(torch.cat(means, 1))


@pytest.mark.parametrize("before", [False, True])
def test_hooks_that_the_first_call_installs_are_there_once(before: bool) -> None:
    torch.manual_seed(0)
    model = Hooked(before)
    net = netslim.convert(model, IMAGES)
    assert not model.installed
    torch.testing.assert_close(net.eval()(IMAGES), model.eval()(IMAGES))
    with net.sub(width=0.5):
        assert net(IMAGES).shape == (4, 4)


class Tables(nn.Module):
    """Keeps what it worked out of a parameter in a dict, or a list, from its first evaluation on, as LeViT does."""

    def __init__(self, kept: Any) -> None:
        super().__init__()
        self.conv, self.bias, self.head = nn.Conv2d(3, 6, 1), nn.Parameter(torch.randn(4)), nn.Conv2d(6, 2, 1)
        self.kept = kept

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            table = self.bias[torch.arange(x.shape[-1])]
        elif isinstance(self.kept, dict):
            table = self.kept.setdefault("table", self.bias[torch.arange(x.shape[-1])])
        else:
            self.kept[:] = self.kept or [self.bias[torch.arange(x.shape[-1])]]
            table = self.kept[0]
        return self.head(self.conv(x) + table)


@pytest.mark.parametrize("kept", [{}, []], ids=["dict", "list"])
def test_a_model_that_has_run_with_gradients_converts(kept: Any) -> None:
    model, images = Tables(kept).eval(), torch.randn(2, 3, 4, 4)
    wanted = model(images)
    net = netslim.convert(model, images).eval()
    assert torch.equal(net(images), wanted)
    assert net.groups


class Parents(nn.Module):
    """Holds dicts and lists that hold each other, as plain trees with links to their parents do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.tree: dict[str, Any] = {"children": [{"name": "leaf"}]}
        self.tree["children"][0]["parent"] = self.tree

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


def test_a_model_with_containers_that_hold_themselves_converts() -> None:
    model, images = Parents().eval(), torch.randn(2, 3, 4, 4)
    net = netslim.convert(model, images).eval()
    assert torch.equal(net(images), model(images))
    assert not hasattr(net, "tree")
