"""Extracted networks do what the sub-network does: in both modes, copied, and read back where there is no netslim."""

from __future__ import annotations

import copy
import io
import operator
import pickle
import traceback
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import netslim
from netslim.errors import InputError
from netslim.export import WRITERS
from netslim.ir.functions import operator_of
from netslim.ir.program import is_listed
from netslim.notes import NONE, Notes
from tests.elsewhere import MODES, play, played_elsewhere

IMAGES = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
Middle = Callable[[Tensor], Tensor]


class Net(nn.Module):
    def __init__(self, middle: Middle) -> None:
        super().__init__()
        self.first, self.head, self.middle = nn.Conv2d(3, 8, 1), nn.Linear(8, 4), middle

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.middle(self.first(x).abs() + 1).to(x).mean((2, 3)))


def assigned(h: Tensor) -> Tensor:
    h = h.clone()
    h[:, :, 0] = 0.5
    h[..., ::2] += 1
    h[h > 2] = h.mean()
    return h


def augmented(*names: str) -> Middle:
    def middle(h: Tensor) -> Tensor:
        seen = h.clone()
        whole = (4 * h).int()
        for name in names:
            where = whole if name in ("ilshift", "irshift", "iand", "ior", "ixor") else seen
            getattr(operator, name)(where, 2)
        return seen + whole  # what the operators have changed, not what they give back

    return middle


BINARY = {name: getattr(operator, name) for name in "add sub mul truediv floordiv mod pow lt le gt ge eq ne".split()}
WHOLE = {name: getattr(operator, name) for name in "and_ or_ xor lshift rshift floordiv mod".split()}
MIDDLES: dict[str, Middle] = {
    **{f"h {name} 2": lambda h, do=do: do(h, 2) for name, do in BINARY.items()},  # type: ignore[misc]
    **{f"2 {name} h": lambda h, do=do: do(2, h) for name, do in BINARY.items()},  # type: ignore[misc]
    **{f"h {name} h": lambda h, do=do: do(h, h.mT) for name, do in BINARY.items()},  # type: ignore[misc]
    **{f"whole {name} 2": lambda h, do=do: do((4 * h).int(), 2) for name, do in WHOLE.items()},  # type: ignore[misc]
    **{f"2 {name} whole": lambda h, do=do: do(2, h.int()) for name, do in WHOLE.items()},  # type: ignore[misc]
    "masks": lambda h: torch.where(~(h > 1.5) & (h < 2) | (h > 3) ^ (h == 1), h, -h),
    "matrix product": lambda h: h @ h.mT,
    "absolute value": lambda h: abs(-h) + (+h),
    "item assignment": assigned,
    "in place": augmented("iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow"),
    "in place, whole": augmented("ilshift", "irshift", "iand", "ior", "ixor", "iadd", "imul"),
}


def reloaded(net: nn.Module) -> Any:
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("name", MIDDLES)
def test_every_operator_is_extracted(name: str) -> None:
    net = netslim.convert(Net(MIDDLES[name]), IMAGES, prove=False).eval()
    small = net.extract(width=0.5)
    with net.sub(width=0.5):
        wanted = net(IMAGES)
    assert torch.equal(small(IMAGES), wanted)
    again = reloaded(small)
    assert torch.equal(again(IMAGES), wanted)
    assert torch.equal(reloaded(again)(IMAGES), wanted)


def test_every_method_that_python_calls_for_an_operator_is_known_as_one() -> None:
    """Each of Python's binary operators, and its reflected form, where a tensor has it."""
    for name in "add sub mul truediv floordiv mod pow matmul and or xor lshift rshift".split():
        for spelling, reflected in ((f"torch.Tensor.__{name}__", False), (f"torch.Tensor.__r{name}__", True)):
            assert is_listed(spelling)
            found = operator_of(spelling)
            assert found == (getattr(operator, name, None) or getattr(operator, f"{name}_"), reflected)
        assert operator_of(f"torch.Tensor.__i{name}__") is None


# ------------------------------------------------------------------------------------------- both modes, and files


class Block(nn.Module):
    """Residual, with a body that is dropped for some images, and a scale that learns."""

    def __init__(self, channels: int, kind: str) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)
        self.scale, self.kind = nn.Parameter(torch.ones(channels, 1, 1)), kind
        self.register_buffer("seen", torch.zeros(channels), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.conv(x)).relu() * self.scale
        if self.kind == "drop path" and self.training:
            h = h * torch.rand(len(h), 1, 1, 1).ge(0.5) * 2
        elif self.kind == "flag":
            h = h * (1 + torch.rand(1) * self.training)
        elif self.kind == "dropout":
            h = F.dropout2d(F.dropout(h, 0.3, self.training), 0.3, self.training)
        elif self.kind == "drop block" and self.training:
            h = h * (1 - F.max_pool2d((torch.rand(h.shape[0], 1, *h.shape[2:]) < 0.1).float(), 3, 1, 1))
        elif self.kind == "noise":
            h = h + torch.randn_like(h) if self.training else h
        elif self.kind == "mask":
            h = torch.where(~(h > 0.1) & (h < 2) | (h == 1), h, 0.5 * h**2)
        elif self.kind == "power":
            h = 2**h + (h + 1) ** 0.5 - (h + 2).pow_(2)
        elif self.kind == "assignment":
            h = assigned(h)
        elif self.kind == "constant":
            h = h * torch.linspace(0.5, 1, h.shape[-1]) + torch.tensor([[0.5], [1.5]])[0]
        elif self.kind == "infinity":
            h = h.masked_fill(h > 1, torch.inf).clamp(max=2)
        elif self.kind == "counter" and self.training:
            self.seen.add_(h.detach().mean((0, 2, 3)))  # type: ignore[operator]
        elif self.kind == "without gradients":
            with torch.no_grad():
                h = self.conv(h)
        return x + h


class Whole(nn.Module):
    """Two blocks and a head, and a head beside it that training alone has."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.stem, self.blocks = nn.Conv2d(3, 8, 1), nn.Sequential(Block(8, kind), Block(8, "none"))
        self.head, self.aux, self.kind = nn.Linear(8, 4), nn.Linear(8, 4), kind

    def forward(self, x: Tensor) -> Any:
        x = self.blocks(self.stem(x)).mean((2, 3))
        if self.kind == "auxiliary head" and self.training:
            return OrderedDict(out=self.head(x), aux=self.aux(x))
        return self.head(x)


KINDS = (
    "drop path", "flag", "dropout", "drop block", "noise", "mask", "power", "assignment", "constant", "infinity",
    "counter", "without gradients", "auxiliary head",
)  # fmt: skip
RANDOM = KINDS[:5]


def converted(kind: str) -> netslim.SlimNet:
    torch.manual_seed(3)
    return netslim.convert(Whole(kind), IMAGES, prove=False)


def narrow(net: netslim.SlimNet) -> list[Any]:
    """The outputs of half of the network, as it trains and evaluates."""
    net = copy.deepcopy(net)
    with net.sub(0.5, track_running_stats=True):
        return [found["output"] for found in play(net, [IMAGES])]


def same(got: Any, wanted: Any) -> None:
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("kind", KINDS)
def test_both_modes_are_the_sub_networks_in_whichever_it_was_extracted_and_read_back(kind: str, tmp_path: Path) -> None:
    net = converted(kind)
    wanted = narrow(net)
    if kind in RANDOM:
        assert not torch.equal(wanted[1], wanted[0])
    for mode in (True, False):
        small = net.train(mode).extract(0.5)
        assert all(module.training == mode for module in small.modules())
        torch.save(small, tmp_path / "slim.pt")
        WRITERS[""].write(small, net.plan.inputs, tmp_path / "slim", Notes(0.5, 1, (), True, ((3, 6, 6),), NONE))
        made = play(copy.deepcopy(small), [IMAGES])
        same([found["output"] for found in made], wanted)
        same(played_elsewhere(tmp_path / "slim.pt", [IMAGES]), made)
        same(played_elsewhere(tmp_path / "slim", [IMAGES]), made)


def test_without_the_modes_the_comparison_above_fails() -> None:
    """The oracle notices a network that stays as it was extracted."""
    net = converted("drop path")
    small = net.eval().extract(0.5)
    frozen = [found["output"] for found in play(small, [IMAGES], [False] * len(MODES))]
    with pytest.raises(AssertionError):
        same(frozen, narrow(net))


def test_it_is_as_the_model_is_named_and_built() -> None:
    small: Any = converted("constant").extract(0.5)
    assert type(small).__name__ == "Whole"
    assert isinstance(small.blocks, nn.Sequential)
    assert small.blocks[1].conv.out_channels == 4
    known = Whole("constant").state_dict()
    assert all(name in known for name in small.state_dict())
    assert all(name in known or name.startswith("constant_") for name, _ in small.named_buffers())


def test_what_is_kept_has_the_models_names() -> None:
    net = converted("constant")
    assert list(net.kept(0.5)) == [*dict(net.named_parameters()), *dict(Whole("constant").named_buffers())]
    assert not [name for name in net.kept_shapes(0.5) if "_lifted" in name]


def test_copies_pickles_and_copies_of_these_are_one_network() -> None:
    small = converted("drop path").extract(0.5)
    again = pickle.loads(pickle.dumps(copy.deepcopy(reloaded(small))))
    same(play(again, [IMAGES]), play(copy.deepcopy(small), [IMAGES]))
    assert type(copy.deepcopy(small)) is type(small)
    assert next(copy.deepcopy(small).parameters()) is not next(small.parameters())


def test_shared_and_frozen_weights_stay_so_in_every_form(tmp_path: Path) -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.twin, self.head = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 8, 1), nn.Linear(8, 4)
            self.twin.weight, self.again = self.conv.weight, self.conv
            self.head.requires_grad_(False)

        def forward(self, x: Tensor) -> Tensor:
            return self.head((self.conv(x) + self.twin(x) * self.again(x)).mean((2, 3)))

    net = netslim.convert(Shared(), IMAGES, prove=False)
    small: Any = net.extract(0.5)
    assert small.twin.weight is small.conv.weight
    torch.save(small, tmp_path / "slim.pt")
    WRITERS[""].write(small, net.plan.inputs, tmp_path / "slim", Notes(0.5, 1, (), True, ((3, 6, 6),), NONE))
    wanted = play(small, [IMAGES])
    assert wanted[0]["gradients"].keys() == {"conv.weight", "conv.bias", "twin.bias"}
    for name in ("slim.pt", "slim"):
        same(played_elsewhere(tmp_path / name, [IMAGES]), wanted)


def test_a_network_that_stays_python_follows_its_modes_too(tmp_path: Path) -> None:
    class Deciding(Whole):
        def forward(self, x: Tensor) -> Any:
            if float(x.sum()) == 0.5:
                raise ValueError
            return super().forward(x)

    net = netslim.convert(Deciding("drop path"), IMAGES, prove=False)
    assert net.plan.whole is None
    wanted = narrow(net)
    for mode in (True, False):
        small = net.train(mode).extract(0.5)
        same([found["output"] for found in play(copy.deepcopy(small), [IMAGES])], wanted)
        assert not [name for name in dict(small.named_buffers()) if "_lifted" in name]


class Answer(NamedTuple):
    logits: Tensor
    doubled: Tensor


def test_named_tuples_are_of_the_class_that_can_be_imported_else_of_its_name(tmp_path: Path) -> None:
    from torchvision.models import GoogLeNetOutputs

    class Local(NamedTuple):
        logits: Tensor

    class Three(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 1)

        def forward(self, x: Tensor) -> Any:
            x = self.conv(x).mean((2, 3))
            return GoogLeNetOutputs(x, 2 * x, None), Answer(x, x), Local(x)

    net = netslim.convert(Three(), IMAGES, prove=False)
    netslim.save(net, tmp_path / "net.pt")
    for made in (net, netslim.load(tmp_path / "net.pt"), net.extract(0.5), reloaded(net.extract(0.5))):
        first, second, third = made(IMAGES)
        assert isinstance(first, GoogLeNetOutputs)
        assert isinstance(second, Answer)
        assert type(third).__name__ in ("Local", "Output2")
        assert third._fields == ("logits",)


def test_a_named_tuple_of_torchvisions_comes_out_of_a_file_elsewhere(tmp_path: Path) -> None:
    from torchvision.models import GoogLeNetOutputs

    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 1)

        def forward(self, x: Tensor) -> Any:
            x = self.conv(x).mean((2, 3))
            return GoogLeNetOutputs(x, 2 * x, None)

    torch.save(netslim.convert(One(), IMAGES, prove=False).extract(0.5), tmp_path / "slim.pt")
    assert isinstance(played_elsewhere(tmp_path / "slim.pt", [IMAGES])[0]["output"], GoogLeNetOutputs)


class Picky(nn.Module):
    """Arguments of every kind."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)

    def forward(
        self,
        input: Tensor,  # noqa: A002
        maps: Any,
        slice: bool = False,  # noqa: A002
        mask: Tensor | None = None,
        scale: float = 1.0,
    ) -> Tensor:
        found = maps["a"][0] + maps["b"]
        h = self.conv(input + found)[:, 0:2, ..., ::2]
        h = h if mask is None else h * mask
        return (2 * h if slice else h) * scale


def test_arguments_are_taken_as_the_example_had_them_and_refused_otherwise() -> None:
    maps = {"a": (IMAGES,), "b": IMAGES}
    net = netslim.convert(Picky(), (IMAGES, maps, True, None, 3.0), prove=False).eval()
    small = net.extract(0.5)
    with net.sub(0.5):
        wanted = net(IMAGES, maps, True, None, 3.0)
    same(small(IMAGES, maps, True, None, 3.0), wanted)
    same(small(input=IMAGES, maps=maps, slice=True, scale=3.0), wanted)
    for wrong in (
        (IMAGES, maps, False, None, 3.0),
        (IMAGES, maps, True, IMAGES, 3.0),
        (IMAGES, maps, True, None, 2.0),
        (IMAGES, {**maps, "c": IMAGES}, True, None, 3.0),
        (IMAGES, {"a": [IMAGES], "b": IMAGES}, True, None, 3.0),
        (IMAGES, maps, 1, None, 3.0),
    ):
        with pytest.raises((TypeError, InputError), match="argument"):
            small(*wrong)


def test_sizes_that_the_network_was_not_followed_for_are_refused_and_exported_where_they_can_be(tmp_path: Path) -> None:
    class Choosing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 8, 1), nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            height, width = x.shape[-2:]
            x = F.interpolate(self.conv(x), size=(int(height * 0.5), max(height, width)))
            return self.head((2 * x if height > 4 else x).mean((2, 3)))

    net = netslim.convert(Choosing(), IMAGES, prove=False).eval()
    small = net.extract(0.5)
    for form in ("slim", "slim.pt", "slim.pt2"):
        path = tmp_path / form
        assert WRITERS[path.suffix].write(small, net.plan.inputs, path, Notes(0.5, 1, (), True, ((3, 6, 6),), NONE))
    other = torch.randn(3, 3, 8, 10)
    with net.sub(0.5):
        same(reloaded(small)(other), net(other))
    with pytest.raises(ValueError, match="take another way through forward"):
        reloaded(small)(torch.randn(2, 3, 4, 4))


def test_an_error_inside_shows_the_line_of_the_program() -> None:
    small = reloaded(converted("none").extract(0.5))
    with pytest.raises(RuntimeError) as caught:
        small(torch.zeros(1, 3, 6, 6, dtype=torch.float64))
    assert "= self.stem(x)" in "".join(traceback.format_exception(caught.value))


def test_torchs_own_tools_take_it() -> None:
    small = converted("auxiliary head").eval().extract(0.5)
    wanted = small(IMAGES)
    same(torch.export.export(small, (IMAGES,)).module()(IMAGES), wanted)
    same(torch.compile(small, backend="eager", fullgraph=True)(IMAGES), wanted)
    same(torch.func.functional_call(small, dict(small.named_parameters()), (IMAGES,)), wanted)
