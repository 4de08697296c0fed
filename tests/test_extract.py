"""Extracted networks do what the sub-network does, also when they are read back from a file."""

from __future__ import annotations

import io
import operator
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import netslim
from netslim.ir.functions import operator_of
from netslim.ir.program import is_listed

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
