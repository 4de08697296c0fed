"""Forwards whose Python is told dtypes: right in every precision, or refused there with the line."""

from __future__ import annotations

import copy
import math
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import netslim
from netslim.errors import InputError, TraceError
from netslim.net.runtime import runtime
from netslim.trace import precisions

FLOAT16, BFLOAT16, FLOAT64 = OTHERS = (torch.float16, torch.bfloat16, torch.float64)
LINE = r"test_dtypes\.py:\d+"

Middle = Callable[["PreciseNet", Tensor], Tensor]


class PreciseNet(nn.Module):
    """Convolution, something that is told a dtype, convolution."""

    def __init__(self, middle: Middle) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3)
        self.register_buffer("factor", torch.rand(8, 1, 1) + 1)
        self.middle = middle

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.middle(self, F.relu(self.first(x))))


def images(dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(2, 3, 10, 10, generator=torch.Generator().manual_seed(seed)).to(dtype)


def converted(middle: Middle, **options: Any) -> tuple[nn.Module, netslim.SlimNet]:
    torch.manual_seed(0)
    model = PreciseNet(middle).eval()
    return model, netslim.convert(copy.deepcopy(model), images(), prove=False, **options).eval()


def ran(model: nn.Module, net: nn.Module, dtype: torch.dtype) -> bool:
    """Whether both give the same in a precision; False where the network, or both, refuse it, with the line."""
    try:
        wanted = model.to(dtype)(images(dtype))
    except Exception:
        with pytest.raises((InputError, RuntimeError)):
            net.to(dtype)(images(dtype))
        return False
    try:
        got = net.to(dtype)(images(dtype))
    except InputError as refusal:
        if not re.search(LINE, str(refusal)):
            raise
        return False
    assert got.dtype == wanted.dtype
    assert torch.equal(got, wanted)
    return True


def names(model: PreciseNet, h: Tensor) -> Tensor:
    dtype = h.dtype
    first, second = h.sigmoid().to(dtype), (h.double() / 3).to(dtype)
    return first.to(dtype) + second


def masked(model: PreciseNet, h: Tensor) -> Tensor:
    return h.masked_fill(h > 1, torch.finfo(h.dtype).min / 1e4).relu()


def by_method(model: PreciseNet, h: Tensor) -> Tensor:
    match h.dtype:
        case torch.float16 | torch.bfloat16:
            return h.float().softmax(1).to(h.dtype)
        case _:
            return h.softmax(1)


def asserted(model: PreciseNet, h: Tensor) -> Tensor:
    assert h.dtype in (torch.float32, torch.float64)
    return h * 2


def made(model: PreciseNet, h: Tensor) -> Tensor:
    return h * torch.tensor([0.1, 0.7] * 4, dtype=h.dtype).view(8, 1, 1)


def sized(model: PreciseNet, h: Tensor) -> Tensor:
    return h * (h.shape[2] * h.element_size())


def bits(model: PreciseNet, h: Tensor) -> Tensor:
    return h + math.log2(torch.finfo(h.dtype).bits)


def any_parameter(model: PreciseNet, h: Tensor) -> Tensor:
    return h * 2 if any(p.dtype == BFLOAT16 for p in model.parameters()) else h


def looped(model: PreciseNet, h: Tensor) -> Tensor:
    for _ in range(h.element_size()):
        h = h * 1.01
    return h


EVERYWHERE: dict[str, Middle] = {
    "a name for the dtype": names,
    "the smallest number": masked,
    "a tolerance": lambda _, h: h / (h.abs() + torch.finfo(h.dtype).eps ** 0.5),
    "of a parameter": lambda m, h: (h.double() * 1.1).to(m.second.weight.dtype),
    "of a buffer": lambda m, h: (h.double() * m.factor.double()).to(m.factor.dtype),
    "the first parameter's": lambda m, h: h.sin().to(next(m.parameters()).dtype),
    "widened": lambda _, h: h.float().cumsum(2).to(h.dtype),
    "a constant of that dtype": made,
    "a table of fractions": lambda _, h: (
        h * dict(zip((*OTHERS, torch.float32), (0.5, 0.75, 2.0, 1.0), strict=True))[h.dtype]
    ),
    "log of bits": bits,
    "zeros of that dtype": lambda _, h: h + torch.zeros(h.shape, dtype=h.dtype) + torch.ones(1, dtype=h.dtype),
    "no consequence": lambda _, h: h * 2 if h.dtype.is_floating_point else h,
    "asked and forgotten": lambda _, h: (h * 2, h.dtype == torch.float64)[0],
    "an empty tensor's": lambda _, h: (h.double() * 0.3).to(h.new_empty(0).dtype),
    "result type": lambda m, h: (h.double() * 0.3).to(torch.result_type(h, m.factor)),
    "by its name": lambda _, h: h.double().mul(0.3).type(h.type()),
}
SOMEWHERE: dict[str, tuple[Middle, set[torch.dtype]]] = {
    "equal to": (lambda _, h: h.clamp(0, 0.1) if h.dtype == FLOAT64 else h, {FLOAT16, BFLOAT16}),
    "is": (lambda _, h: h.clamp(0, 0.1) if h.dtype is FLOAT16 else h, {BFLOAT16, FLOAT64}),
    "is not": (lambda _, h: h.double().clamp(0, 0.1).to(h.dtype) if h.dtype is not torch.float32 else h, set()),
    "one of": (lambda _, h: h.sin() if h.dtype in (FLOAT16, FLOAT64) else h, {BFLOAT16}),
    "element_size": (lambda _, h: h * h.element_size(), set()),
    "element_size and a size": (sized, set()),
    "itemsize": (lambda _, h: h * h.dtype.itemsize, set()),
    "itemsize of the tensor": (lambda _, h: h + 1 if h.itemsize == 8 else h, {FLOAT16, BFLOAT16}),
    "nbytes": (lambda _, h: h + 1 if h.nbytes // h.numel() < 4 else h, {FLOAT64}),
    "type": (lambda _, h: h * 2 if h.type() == "torch.DoubleTensor" else h, {FLOAT16, BFLOAT16}),
    "text": (lambda _, h: h * 2 if str(h.dtype).endswith("16") else h, {FLOAT64}),
    "hash": (lambda _, h: {torch.float32: h.sin, FLOAT64: h.cos, FLOAT16: h.sin}[h.dtype](), {FLOAT16}),
    "of a parameter": (lambda m, h: h * 2 if m.second.weight.dtype == FLOAT64 else h, OTHERS[:2]),
    "any parameter": (any_parameter, {FLOAT16, FLOAT64}),
    "match": (by_method, {FLOAT64}),
    "assert": (asserted, {FLOAT64}),
    "loop": (looped, set()),
    "finfo": (lambda _, h: h + 1 if torch.finfo(h.dtype).bits == 16 else h, {FLOAT64}),
    "flag of an argument": (lambda _, h: h + h.sum(1, keepdim=True) * (h.dtype == FLOAT64), {FLOAT16, BFLOAT16}),
    "its own class": (lambda _, h: h.half().to(h.dtype) if h.dtype == FLOAT64 else h, {FLOAT16, BFLOAT16}),
}  # fmt: skip


@pytest.mark.parametrize("spelling", EVERYWHERE)
def test_what_follows_from_a_dtype_is_right_in_every_precision(spelling: str) -> None:
    model, net = converted(EVERYWHERE[spelling])
    assert not runtime(net).plan.specialised
    assert {dtype for dtype in OTHERS if ran(model, net, dtype)} == set(OTHERS)
    assert ran(model, net, torch.float32)


@pytest.mark.parametrize("spelling", SOMEWHERE)
def test_a_decision_by_the_dtype_is_refused_where_it_is_another(spelling: str) -> None:
    middle, allowed = SOMEWHERE[spelling]
    model, net = converted(middle)
    assert {dtype for dtype in OTHERS if ran(model, net, dtype)} == set(allowed)
    assert ran(model, net, torch.float32)


def test_training_under_autocast_stays_as_the_model_is() -> None:
    model, net = converted(lambda _, h: h.clamp(0, 0.1) if h.dtype == FLOAT64 else h)
    with torch.autocast("cpu", dtype=BFLOAT16):
        ours, theirs = net.train()(images()), model.train()(images())
    assert torch.equal(ours, theirs)
    ours.float().square().mean().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_what_follows_from_the_dtype_of_a_tensor_does_so_under_autocast() -> None:
    model, net = converted(masked)
    with torch.autocast("cpu", dtype=BFLOAT16):
        assert torch.equal(net(images()), model(images()))


def test_weights_alone_in_another_precision_are_refused_too() -> None:
    class Casting(PreciseNet):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.to(self.first.weight.dtype))

    net = netslim.convert(Casting(lambda _, h: h.sin() if h.dtype == FLOAT16 else h), images(), prove=False).eval()
    assert net.bfloat16()(images()).dtype == BFLOAT16
    with pytest.raises(InputError, match=LINE):
        net.half()(images())


def test_extracted_networks_and_files_refuse_the_same(tmp_path: Path) -> None:
    model, net = converted(lambda _, h: h.clamp(0, 0.1) if h.dtype == FLOAT64 else h * torch.finfo(h.dtype).eps)
    netslim.save(net, tmp_path / "net.pt")
    loaded = netslim.load(tmp_path / "net.pt").eval()
    assert runtime(loaded).plan.specialised == runtime(net).plan.specialised
    small = net.extract(width=0.5)
    for other in (loaded, small):
        with pytest.raises((InputError, ValueError), match=LINE):
            other.double()(images(FLOAT64))
    wanted = model.bfloat16()(images(BFLOAT16))
    assert torch.equal(loaded.bfloat16()(images(BFLOAT16)), wanted)
    assert torch.equal(net.extract().bfloat16()(images(BFLOAT16)), wanted)


def test_a_refused_precision_is_shown() -> None:
    _, net = converted(lambda _, h: h.sin() if h.dtype == FLOAT16 else h)
    (line,) = runtime(net).plan.specialised
    assert re.fullmatch(LINE + r" in <lambda> \(float16\)", line)


def test_sub_networks_are_proved_where_double_precision_is_refused() -> None:
    net = netslim.convert(PreciseNet(lambda _, h: h.clamp(0, 0.1) if h.dtype == FLOAT64 else h), images())
    assert runtime(net).proof is not None
    assert runtime(net).proof.passed
    assert [group.size for group in net.groups] == [8]


def test_a_dtype_that_autocast_alone_gives_is_seen_by_the_comparison_with_the_model() -> None:
    net = netslim.convert(PreciseNet(lambda _, h: h * 2 if h.dtype == BFLOAT16 else h), images())
    with torch.autocast("cpu", dtype=BFLOAT16):
        assert runtime(net).plan.whole is None


def test_nothing_is_recorded_again_where_no_dtype_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precisions, "_other", None)
    converted(lambda _, h: h * 2 if h.is_floating_point() and h.dim() == 4 and h.is_contiguous() else h)


@pytest.mark.parametrize("where", ["attribute", "child.attribute"])
def test_a_model_that_cannot_be_copied_is_told_which_attribute_cannot(where: str) -> None:
    model = PreciseNet(lambda _, h: h)
    model.child = nn.Identity()
    path, _, name = where.rpartition(".")
    setattr(model.get_submodule(path), name, {"held": [threading.Lock()]})
    with pytest.raises(TraceError, match=rf"because of its attribute {where} of class dict"):
        netslim.convert(model, images())
