"""How a forward is recorded: idioms of Python and torch, the lines that errors name, names that clash."""

from __future__ import annotations

import contextlib
import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.utils.checkpoint
from torch import Tensor, nn
from torch.nn import functional as F

import netslim
from netslim.errors import TraceError
from tests.zoo.catalogue.forms import Auxiliary, Nested, nested
from tests.zoo.specimen import images


def test_an_auxiliary_head_runs_in_training_only() -> None:
    net = netslim.convert(Auxiliary(), images(16))
    with net.sub(0.5):
        assert isinstance(net.train()(images(16)), tuple)
        assert isinstance(net.eval()(images(16)), Tensor)


def test_outputs_have_the_structure_of_the_original() -> None:
    inputs = nested(2, 16)
    out = netslim.convert(Nested(), inputs)(**inputs)
    assert list(out) == ["logits", "more"]
    assert isinstance(out["more"], tuple)
    assert isinstance(out["more"][1], list)


class With(nn.Module):
    """A convolution, a function, a linear head."""

    def __init__(self, fn: Any) -> None:
        super().__init__()
        self.conv, self.head, self.fn = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 4), fn
        self.extra = nn.Parameter(torch.randn(8))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.fn(self, self.conv(x)).mean((2, 3)))


def doubled_without_gradient(x: Tensor) -> Tensor:
    with torch.no_grad():
        return 2 * x


IDIOMS = {
    "relu6": lambda _, x: F.relu6(x),
    "a gate of its own": lambda _, x: x * torch.sigmoid(x),
    "a parameter by None": lambda m, x: x * m.extra[None, :, None, None],
    "a parameter by view": lambda m, x: x * m.extra.view(1, -1, 1, 1),
    "broadcast_to": lambda m, x: x + m.extra.view(-1, 1, 1).broadcast_to(8, 1, 1),
    "expand_as": lambda _, x: x * x.mean((2, 3), keepdim=True).sigmoid().expand_as(x),
    "interpolation to a size": lambda _, x: F.interpolate(F.max_pool2d(x, 2), size=x.shape[2:], mode="bilinear"),
    "padding by arithmetic": lambda _, x: F.pad(x, (0, -x.shape[3] % 7, 0, 0)),
    "flattened and restored": lambda _, x: x.reshape(x.shape[0], -1, x.shape[2] * x.shape[3]).view(x.shape),
    "no_grad": lambda _, x: doubled_without_gradient(x) + x,
    "checkpoint": lambda _, x: torch.utils.checkpoint.checkpoint(torch.tanh, x, use_reentrant=False) + x,
    "detach": lambda _, x: x.detach() + x,
    "branches of a stack": lambda _, x: (lambda s: (s * s.mean((3, 4), keepdim=True).softmax(1)).sum(1))(
        torch.stack([x, 2 * x], 1)
    ),
    "attention over places": lambda _, x: x * torch.cat([x.amax(1, True), x.mean(1, True)], 1).sum(1, True).sigmoid(),
    "coordinates": lambda _, x: x + torch.linspace(-1, 1, x.shape[-1], device=x.device, dtype=x.dtype),
    "a rolled window": lambda _, x: x.roll((1, 1), (2, 3)),
    "patches": lambda _, x: F.unfold(x, 3, padding=1).view(x.shape[0], 8, 9, -1),
    "new ones": lambda _, x: x * x.new_ones(x.shape[1], 1, 1),
    "stochastic depth by hand": lambda m, x: x * x.new_empty(x.shape[0], 1, 1, 1).bernoulli_(0.9) if m.training else x,
    "swapped axes": lambda _, x: x.flatten(2).swapaxes(1, 2).transpose(1, 2)[..., None],
    "generalised mean": lambda _, x: F.avg_pool2d(x.clamp(min=1e-6).pow(3), (x.size(-2), x.size(-1))).pow(1 / 3),
}


@pytest.mark.parametrize("name", IDIOMS)
def test_an_idiom_keeps_the_convolution_elastic(name: str) -> None:
    model = With(IDIOMS[name]).eval()
    net = netslim.convert(model, images(16))
    assert [g.name for g in net.groups] == ["conv"]
    assert net.proof is not None
    assert net.proof.passed
    other = images(20, batch=3) if name != "coordinates" else images(16, batch=3)
    with torch.no_grad():
        assert torch.equal(net(other), model(other))


@pytest.mark.parametrize("fn", [F.hardswish, F.hardsigmoid, torch.relu_, F.leaky_relu_, F.elu_, torch.rand_like])
def test_a_function_of_torch_is_recorded(fn: Any) -> None:
    assert netslim.convert(With(lambda _, x: x + fn(x)), images(16), prove=False).groups


@pytest.mark.parametrize("form", ["converted", "narrow", "loaded", "extracted"])
def test_a_stretch_without_autocast_keeps_its_precision(form: str, tmp_path: Path) -> None:
    class Careful(nn.Module):
        """Half precision but for one product, as linear attention wants it."""

        def __init__(self) -> None:
            super().__init__()
            self.conv, self.careful, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 4, 1)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            x = self.conv(x)
            with torch.autocast(device_type=x.device.type, enabled=False):
                y = self.careful(x.float())
            return x.amax(1), y.amax(1), self.head(y)

    net = netslim.convert(Careful(), images(16))
    netslim.save(net, tmp_path / "net.pt")
    forms = {"loaded": lambda: netslim.load(tmp_path / "net.pt"), "extracted": net.extract}
    ours: nn.Module = forms.get(form, lambda: net)()
    narrow = net.sub(0.5) if form == "narrow" else contextlib.nullcontext()
    with torch.autocast("cpu", torch.bfloat16), narrow:
        assert [out.dtype for out in ours(images(16))] == [torch.bfloat16, torch.float32, torch.bfloat16]


def test_a_forward_that_fails_is_said_with_its_line() -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 8, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x)

    with pytest.raises(TraceError, match=r"forward failed: RuntimeError.*\(test_trace\.py:\d+\)"):
        netslim.convert(Broken(), images(16))


def test_an_output_that_no_program_can_hold_leaves_the_forward_as_python() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1)

        def forward(self, x: Tensor) -> Any:
            return {self.head(self.conv(x))}

    net = netslim.convert(Odd(), images(16))
    assert "returns a set" in net.plan.refusal
    assert [g.name for g in net.groups] == ["conv"]


def test_branches_on_a_size_are_named() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 8, 1), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            if x.shape[-1] > 8:
                x = x[..., ::2]
            return self.head(self.conv(x).mean((2, 3)))

    net = netslim.convert(Branching(), images(16))
    assert any("test_trace.py" in line for line in net.plan.specialised)


OWN = sorted(n for n in {*dir(netslim.SlimNet), "plan", "proof"} - set(dir(nn.Module)) if not n.startswith("_"))


@pytest.mark.parametrize("kind", ["layer", "container", "parameter"])
@pytest.mark.parametrize("name", [*OWN, "code"])
def test_a_model_may_use_the_names_that_slimnet_uses(kind: str, name: str) -> None:
    class Namesake(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 8, 1), nn.Linear(8, 4)
            layer = nn.Conv2d(8, 8, 1)
            made = {"layer": layer, "container": nn.Sequential(layer), "parameter": nn.Parameter(torch.randn(8, 1, 1))}
            setattr(self, name, made[kind])

        def forward(self, x: Tensor) -> Tensor:
            x, own = self.conv(x), getattr(self, name)
            return self.head((x * own if kind == "parameter" else own(x)).mean((2, 3)))

    model = Namesake().eval()
    net = netslim.convert(model, images(16)).eval()
    assert list(net.state_dict()) == list(model.state_dict())
    assert torch.equal(net(images(16)), model(images(16)))
    assert len(net.groups) == (1 if kind == "parameter" else 2)
    with net.sub(0.5):
        half = net(images(16))
    torch.testing.assert_close(net.extract(0.5)(images(16)), half)
    assert torch.equal(copy.deepcopy(net)(images(16)), model(images(16)))


@pytest.mark.parametrize("error", [AssertionError, TypeError, KeyError, RecursionError, RuntimeError])
def test_a_rule_that_fails_freezes_what_it_touches_and_says_so(error: type[Exception], failed_rules: list[str]) -> None:
    def bad(call: Any) -> None:
        raise error("does not cover this")

    net = netslim.convert(With(lambda _, x: x.tanh() + x.tanh()), images(16), rules={"aten::tanh": bad})
    assert net.plan.unknown == {f"tanh: {error.__name__}: {error('does not cover this')}": 4, "tanh": 1}
    assert "no rule for this operator" in str(net.why("conv.weight"))
    assert net.proof is not None
    assert net.proof.passed
    assert len(failed_rules) >= 4
    failed_rules.clear()


def test_concatenations_of_very_many_parts_convert() -> None:
    net = netslim.convert(With(many), images(4))
    assert [group.name for group in net.groups] == ["conv"]
    with net.sub(0.5):
        assert net(images(4)).shape == (2, 4)


def many(_: Any, x: Tensor) -> Tensor:
    """1,200 parts, added to as many, and the first of them."""
    a, b = torch.cat([x] * 1200, 1), torch.cat([x.relu()] * 1200, 1)
    return (a + b)[:, :8]


class Box:
    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def test_tensors_inside_an_object_are_no_constants() -> None:
    class Boxed(With):
        def forward(self, x: Tensor, box: Any = None) -> Tensor:
            return super().forward(x + box.tensor)

    model = Boxed(lambda _, x: x.relu()).eval()
    net = netslim.convert(model, {"x": images(16), "box": Box(images(16))}).eval()
    assert "argument 'box' is a Box that holds tensors" in net.plan.refusal
    other = Box(2 * images(16))
    assert torch.equal(net(images(16), other), model(images(16), other))
