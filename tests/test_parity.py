"""Full width is held to the original in a conversion: what would differ stays Python, or fails and says where."""

from __future__ import annotations

import copy
import random
from collections import UserList
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

import netslim
from netslim import conversion
from netslim.errors import ProofError
from netslim.ir.plan import Plan
from netslim.ir.program import Program
from netslim.net.runtime import runtime
from netslim.ops import MODULES
from netslim.proof import parity as parity_module
from netslim.proof.outcome import Call, run
from netslim.proof.parity import parity

IMAGES = torch.randn(2, 3, 8, 8)


class Body(nn.Module):
    """A residual body."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.conv, self.back = nn.BatchNorm2d(8), nn.Conv2d(8, 6, 3, padding=1), nn.Conv2d(6, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.back(self.conv(self.norm(x)).relu())


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body, self.later, self.head = nn.Conv2d(3, 8, 3), Body(), Body(), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.later(self.body(self.stem(x).relu())).mean((2, 3)))


def unproved(model: nn.Module) -> netslim.SlimNet:
    return netslim.convert(model, IMAGES, prove=False)


def changed(net: netslim.SlimNet, change: Callable[[Program], Program]) -> netslim.SlimNet:
    """A conversion whose programs are others."""
    regions = {
        path: replace(region, programs={mode: change(program) for mode, program in region.programs.items()})
        for path, region in runtime(net).plan.regions.items()
    }
    runtime(net).rebuilt(replace(runtime(net).plan, regions=regions))
    return net


def without_first_relu(program: Program) -> Program:
    """With a step that does something else in the place of the first activation."""
    first = next(node.name for node in program if node.target == "torch.Tensor.relu")
    return Program(tuple(replace(n, target="torch.Tensor.tanh") if n.name == first else n for n in program))


# ------------------------------------------------------------------------------------------------ it finds differences


def test_a_right_conversion_has_no_difference() -> None:
    model = Net()
    assert parity(model, unproved(model)) is None


def test_a_wrong_step_is_a_difference_of_the_output() -> None:
    model = Net()
    found = parity(model, changed(unproved(model), without_first_relu))
    assert found is not None
    assert str(found).startswith("the output in eval mode")
    assert set(found.parts) == {""}


def test_a_step_without_its_gradient_is_a_difference_of_gradients() -> None:
    def cut(program: Program) -> Program:
        name = next(node.name for node in program if node.target == "stem")
        return Program(tuple(replace(n, grad=False) if n.name == name else n for n in program))

    model = Net()
    found = parity(model, changed(unproved(model), cut))
    assert found is not None
    assert "the gradient of stem.weight" in str(found)


def layer(kind: type[nn.Module], forward: Callable[[Any, Tensor], Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    """Plants a fault in a slim layer."""
    monkeypatch.setattr(MODULES[kind][0], "forward", forward)


def test_a_layer_that_is_wrong_in_training_only_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = MODULES[nn.BatchNorm2d][0].forward
    layer(nn.BatchNorm2d, lambda self, x: right(self, x) * (1.01 if self.training else 1), monkeypatch)
    model = Net()
    found = parity(model, unproved(model))
    assert found is not None
    assert "the output in training mode" in str(found)


def test_a_buffer_that_stays_behind_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = MODULES[nn.BatchNorm2d][0].forward

    def forgets(self: nn.BatchNorm2d, x: Tensor) -> Tensor:
        assert self.running_mean is not None
        before = self.running_mean.clone()
        out = right(self, x)
        self.running_mean.data.copy_(before)
        return out

    layer(nn.BatchNorm2d, forgets, monkeypatch)
    model = Net()
    found = parity(model, unproved(model))
    assert found is not None
    assert found.what == "the buffer body.norm.running_mean"


def test_a_layer_that_is_wrong_at_other_sizes_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = MODULES[nn.Conv2d][0].forward
    layer(nn.Conv2d, lambda self, x: right(self, x) + (x.shape[-1] > 8), monkeypatch)
    model = Net()
    found = parity(model, unproved(model))
    assert found is not None
    assert "the output in eval mode" in str(found)
    assert found.call.inputs[1]["x"].shape != IMAGES.shape  # type: ignore[attr-defined]


def test_a_layer_that_is_wrong_under_autocast_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = MODULES[nn.Conv2d][0].forward

    def alone(self: nn.Conv2d, x: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return right(self, x.float())

    layer(nn.Conv2d, alone, monkeypatch)

    class Dense(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.stem(x)

    model = Dense()
    found = parity(model, unproved(model))
    assert found is not None
    assert "the type or shape of the output" in str(found)
    assert "under autocast" in str(found)


@pytest.mark.parametrize(
    ("wrap", "place"),
    [
        (lambda out: [out], "output"),
        (lambda out: {"a": out}, "output"),
        (lambda out: out.detach(), "output"),
        (lambda out: out.double(), "output"),
        (lambda out: out[None], "output"),
    ],
)
def test_another_form_of_the_output_is_found(wrap: Callable[[Tensor], object], place: str) -> None:
    class Other(Net):
        def forward(self, x: Tensor) -> Any:
            return wrap(super().forward(x))

    model = Net()
    other = Other()
    other.load_state_dict(model.state_dict())
    found = parity(model, unproved(other))
    assert found is not None
    assert f"the type or shape of the {place}" in str(found)


def test_random_numbers_are_no_difference() -> None:
    class Random(Net):
        def forward(self, x: Tensor) -> Any:
            x = nn.functional.dropout(x, 0.3, self.training)
            return super().forward(x + torch.randn_like(x) if self.training else x)

    model = Random()
    assert parity(model, unproved(model)) is None


def test_a_network_that_moves_with_every_run_is_compared_run_by_run() -> None:
    class Moving(Net):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("steps", torch.zeros(()))

        def forward(self, x: Tensor) -> Any:
            self.steps = self.steps + 1
            return super().forward(x) * self.steps

    model = Moving()
    assert parity(model, unproved(model)) is None


# ---------------------------------------------------------------------------------------------- what is done about them


class Straight(torch.autograd.Function):
    @staticmethod
    def forward(_context: Any, x: Tensor) -> Tensor:
        return x.sign()

    @staticmethod
    def backward(_context: Any, *grads: Tensor) -> Tensor:
        return grads[0]


class Signs(Body):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(Straight.apply(x))


def planted(kind: type[nn.Module], where: str, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """A model, and an analysis that follows its part of a kind wrongly: as if `tanh` were `relu`."""
    right = conversion.analyse

    def wrong(*args: Any, **kwargs: Any) -> tuple[Plan, dict[str, Tensor]]:
        plan, constants = right(*args, **kwargs)
        regions = dict(plan.regions)
        for path, region in regions.items():
            prefix = "" if path else where
            if path in ("", where):
                programs = {m: _tanh(program, prefix or path) for m, program in region.programs.items()}
                regions[path] = replace(region, programs=programs)
        return replace(plan, regions=regions), constants

    monkeypatch.setattr(conversion, "analyse", wrong)
    return kind()


def _tanh(program: Program, path: str) -> Program:
    """The activation of one body replaced, which comes after its convolution."""
    conv = next(node.name for node in program if node.target == f"{path}.conv")
    return Program(
        tuple(
            replace(n, target="torch.Tensor.tanh") if n.target == "torch.Tensor.relu" and conv in n.refs else n
            for n in program
        )
    )


def test_a_part_that_is_followed_wrongly_stays_python_and_the_others_are_programs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = planted(Net, "later", monkeypatch)
    net = netslim.convert(model, IMAGES)
    assert set(net.plan.regions) == {"body"}
    assert "later (Body, test_parity.py:" in net.plan.refusal
    assert "the output in eval mode" in net.plan.refusal
    assert torch.equal(net.eval()(IMAGES), model.eval()(IMAGES))
    assert net.proof is not None
    assert net.proof.passed
    assert net.groups


def test_a_fault_that_no_part_is_to_blame_for_fails_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    right = MODULES[nn.Linear][0].forward
    layer(nn.Linear, lambda self, x: right(self, x) * 1.01, monkeypatch)
    with pytest.raises(ProofError, match=r"at full width: the output in eval mode on 1x3x8x8, in head \(Linear, "):
        netslim.convert(Net(), IMAGES)


def test_python_that_counts_its_calls_goes_on_counting() -> None:
    class Counting(Net):
        calls = 5

        def forward(self, x: Tensor) -> Any:
            self.calls += 1
            return super().forward(x) * self.calls

    model = Counting().eval()
    net = netslim.convert(model, IMAGES)
    assert model.calls == 5
    for _ in range(3):
        assert torch.equal(net(IMAGES), model(IMAGES))


def test_random_numbers_of_the_models_own_do_not_fail_a_conversion() -> None:
    class Own(Body):
        def forward(self, x: Tensor) -> Tensor:
            scale = random.SystemRandom().random() if self.training else 1.0
            return super().forward(x) * scale

    class Random(Net):
        def __init__(self) -> None:
            super().__init__()
            self.body = Own()

    net = netslim.convert(Random(), IMAGES).train()
    assert not torch.equal(net(IMAGES), net(IMAGES))


def test_the_model_is_left_alone() -> None:
    class Remembers(Net):
        def __init__(self) -> None:
            super().__init__()
            self.seen = UserList[int]()

        def forward(self, x: Tensor) -> Any:
            self.seen.append(len(self.seen))
            return super().forward(x)

    model = Remembers().train()
    model.body.norm.eval()
    model(IMAGES).sum().backward()
    before, grads = copy.deepcopy(model.state_dict()), {n: p.grad for n, p in model.named_parameters()}
    values = {n: g.clone() for n, g in grads.items() if g is not None}
    numbers = torch.get_rng_state()
    netslim.convert(model, IMAGES)
    assert model.seen == [0]
    assert all(torch.equal(t, before[k]) for k, t in model.state_dict().items())
    assert all(p.grad is grads[n] for n, p in model.named_parameters())
    assert all(torch.equal(g, values[n]) for n, g in grads.items() if g is not None)
    assert model.training
    assert not model.body.norm.training
    assert torch.equal(torch.get_rng_state(), numbers)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_model_without_weights_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion, "parity", lambda *_: pytest.fail("it ran"))
    with torch.device("meta"):
        netslim.convert(Net(), torch.empty(2, 3, 8, 8))


# ------------------------------------------------------------------------------------------------ doubts


def test_another_order_of_additions_is_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    right = MODULES[nn.Linear][0].forward

    def rounded(self: nn.Linear, x: Tensor) -> Tensor:
        out = right(self, x)
        return out if not torch.is_grad_enabled() else out * (1 + 1e-3) / (1 + 1e-3)

    layer(nn.Linear, rounded, monkeypatch)
    model = Net()
    assert parity(model, unproved(model)) is None


def test_what_single_precision_cannot_tell_is_told_by_double(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parity_module, "SINGLE", parity_module.DOUBLE)
    monkeypatch.setattr(parity_module, "CAST", parity_module.CAST)
    right = MODULES[nn.Linear][0].forward

    def rounded(self: nn.Linear, x: Tensor) -> Tensor:
        out = right(self, x)
        return out if not torch.is_grad_enabled() else out * 3.7 / 3.7

    layer(nn.Linear, rounded, monkeypatch)
    model = Net()
    assert parity(model, unproved(model)) is None


def test_a_run_that_breaks_off_leaves_no_state_behind() -> None:
    class Square(Net):
        """Takes other batches only, and says so when its norms have moved."""

        def forward(self, x: Tensor) -> Any:
            out = super().forward(x)
            if x.shape[-1] != 8:
                raise ValueError("8 x 8, please")
            return out

    model = Square()
    assert parity(model, unproved(model)) is None


def test_a_gradient_that_the_model_does_not_have_is_no_test() -> None:
    class Overwrites(Net):
        def forward(self, x: Tensor) -> Any:
            out = super().forward(x).exp()
            out.data.mul_(2)
            with torch.no_grad():
                out.add_(1)
            return out

    call = Call("", True, (), {"x": IMAGES})
    assert run(Overwrites(), call).gradients is None
    model = Overwrites()
    assert parity(model, unproved(model)) is None


# ------------------------------------------------------------------------------------------------ by hand


def test_verify_holds_a_trained_network_to_its_model_whatever_weights_that_has() -> None:
    net = netslim.convert(Net(), IMAGES)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(1.1)
    assert netslim.verify(net, Net()).passed
    found = netslim.verify(changed(net, without_first_relu), Net())
    assert not found.passed
    assert "the full network differs from the model: the output in eval mode" in found.failures[0]
    with pytest.raises(netslim.errors.InputError, match="is not the model that was converted"):
        netslim.verify(net, nn.Linear(3, 4))


class Widened(nn.Module):
    """In single precision under autocast: followed, it rounds twice more, which is little by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(3.0))

    def forward(self, h: Tensor) -> Tensor:
        wide = h.float() if h.dtype == torch.bfloat16 else h
        return (wide * self.factor / self.factor).to(h.dtype)


class Amplified(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.widened, self.last = nn.Conv2d(3, 8, 3), Widened(), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        return self.last((self.widened(h) - h) * 64)


def test_a_part_that_differs_little_under_autocast_is_to_blame_for_what_comes_of_it() -> None:
    model, images = Amplified(), torch.randn(2, 3, 8, 8)
    net = netslim.convert(model, images)
    assert not {"", "widened"} & net.plan.regions.keys()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(net(images), model(images))


# ---------------------------------------------------------------------------------------- what a large network saves


class Seen(Net):
    """Notes every run: the size of its images, and whether it trains."""

    runs: ClassVar[list[tuple[tuple[int, ...], bool]]] = []

    def forward(self, x: Tensor) -> Any:
        self.runs.append((tuple(x.shape), self.training))
        return super().forward(x)


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every network counts as large."""
    for name in ("FLOPS_LARGE", "FLOPS_TINY"):
        monkeypatch.setattr(parity_module, name, 0)


SIDE = 128


def test_a_large_network_runs_on_its_own_size_once(large: None) -> None:
    model = Seen()
    net = netslim.convert(model, torch.randn(2, 3, SIDE, SIDE), prove=False)
    model.runs.clear()
    assert parity(model, net) is None
    (first, trained), *others = model.runs
    assert (first, trained) == ((1, 3, SIDE, SIDE), False)
    assert all(4 * shape[2] * shape[3] <= SIDE * SIDE for shape, _ in others)
    training = [shape for shape, trains in others if trains]
    assert len(set(training)) == 2, "training is seen on two sizes"
    assert training[0] != others[0][0] == training[1], "and comes back to the first"


def test_what_is_wrong_at_one_size_or_in_training_of_a_large_network_is_found(
    large: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, model = MODULES[nn.Conv2d][0].forward, Net()
    faults: dict[str, Callable[[Any, Tensor], object]] = {
        "in eval mode on 1x3x128x128": lambda m, x: x.shape[-2] > SIDE // 2 and not m.training,
        "in eval mode on 2x3x8x96": lambda m, x: x.shape[-1] < SIDE - 8 and not m.training,
        "in training mode on 2x3x16x112": lambda m, x: x.shape[-2] > 8 and m.training,
        "in training mode on 2x3x8x96": lambda m, x: x.shape[-2] < 12 and m.training,
    }
    for told, is_wrong in faults.items():
        net = netslim.convert(model, torch.randn(2, 3, SIDE, SIDE), prove=False)
        with monkeypatch.context() as planted:
            planted.setattr(MODULES[nn.Conv2d][0], "forward", lambda m, x, w=is_wrong: right(m, x) + bool(w(m, x)))
            assert told in str(parity(model, net))
