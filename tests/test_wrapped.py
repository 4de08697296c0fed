"""Models inside something else: unwrapped where there is a module inside, else a sentence that says how."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

import netslim
from netslim.errors import InputError

IMAGES = torch.randn(2, 3, 8, 8)


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(2), nn.Linear(36, 4)).eval()


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    """A process group of this process."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def assert_the_same(wrapped: nn.Module) -> None:
    net = netslim.convert(wrapped, IMAGES).eval()
    assert list(net.state_dict()) == list(model().state_dict())
    torch.testing.assert_close(net(IMAGES), model()(IMAGES), rtol=0, atol=0)
    with torch.no_grad():
        net.get_parameter("0.bias").add_(1)
    assert net.restore(wrapped) is wrapped
    bias = next(p for name, p in wrapped.named_parameters() if name.endswith("0.bias"))
    torch.testing.assert_close(bias, net.get_parameter("0.bias"))


@pytest.mark.parametrize("wrap", [DataParallel, torch.compile, lambda m: DataParallel(torch.compile(m))])
def test_a_wrapped_model_is_the_one_inside(wrap: Callable[[nn.Module], nn.Module]) -> None:
    assert_the_same(wrap(model()))


@pytest.mark.usefixtures("alone")
def test_a_model_in_distributed_training_is_the_one_inside() -> None:
    assert_the_same(DistributedDataParallel(model()))


def scripted(m: nn.Module) -> object:
    return torch.jit.script(m)


def followed(m: nn.Module) -> object:
    return torch.jit.trace(m, IMAGES)


def exported(m: nn.Module) -> object:
    return torch.export.export(m, (IMAGES,))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (scripted, "convert the module that was given to torch.jit"),
        (followed, "convert the module that was given to torch.jit"),
        (lambda m: nn.Sequential(torch.jit.script(m)), "^0 is scripted"),
        (exported, "convert the module that was exported"),
        (lambda m: m.state_dict(), "is a OrderedDict, and no torch.nn.Module"),
        (lambda m: type(m), "is a type, and no"),
    ],
)
def test_what_holds_no_python_is_said_in_a_sentence(make: Callable[[nn.Module], object], message: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        made = make(model())
    with pytest.raises(InputError, match=message):
        netslim.convert(made, IMAGES)  # type: ignore[arg-type]


def test_a_graph_is_a_module_like_any_other() -> None:
    assert_the_same(torch.fx.symbolic_trace(model()))


# ------------------------------------------------------------------------------------ a region called in another way


class Part(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)

    def forward(self, h: Tensor, double: bool = False, mask: Tensor | None = None) -> Tensor:
        h = self.two(torch.relu(self.one(h)))
        return (h if mask is None else h * mask) * (2 if double else 1)


class Caller(nn.Module):
    """In training it calls its part with other arguments than in evaluation."""

    def __init__(self, **others: object) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.part, self.others = nn.Conv2d(3, 8, 3), Part(), others

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(x)
        if float(h.detach().abs().sum()) < 0:
            return h
        return self.part(h, **(self.others if self.training else {})).mean((2, 3))


@pytest.mark.parametrize("others", [{"double": True}, {"mask": torch.full((1,), 3.0)}, {"mask": None}], ids=str)
def test_a_part_that_is_called_in_another_way_runs_its_own_python(others: dict[str, object]) -> None:
    net = netslim.convert(Caller(**others), IMAGES).train()
    assert list(net.plan.regions) == ["part"]
    torch.testing.assert_close(net(IMAGES), Caller(**others).train()(IMAGES))
    factor = 2 if "double" in others else 1 if others["mask"] is None else 3
    with net.sub(width=0.5):
        torch.testing.assert_close(net.train()(IMAGES), factor * net.eval()(IMAGES))
