"""Random expressions of the sizes of an image, worked out by Python in the middle of a forward.

The converted network is the model at every other size, or refuses it with the line. More, and other ones every time:

    NETSLIM_EXAMPLES=2000 make properties
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from hypothesis import event, given
from hypothesis import strategies as st
from torch import Tensor

import netslim
from netslim.errors import InputError
from netslim.net.runtime import runtime
from tests.zoo.catalogue.python_sizes import SizedNet

from .test_random_networks import drawn

EXAMPLE = (2, 3, 16, 24)
OTHERS = ((1, 3, 32, 16), (3, 3, 17, 29), (5, 3, 40, 40), (2, 3, 100, 8))

Expression = Callable[[Tensor], float]

_LEAVES: dict[str, Expression] = {
    "n": lambda h: h.shape[0],
    "len": lambda h: len(h),
    "height": lambda h: h.shape[2],
    "int(width)": lambda h: int(h.size(3)),
    "entries": lambda h: h[:, :1].numel(),
}
_OF_ONE: dict[str, Callable[[float], float]] = {
    "int(0.5 * x)": lambda x: int(0.5 * x),
    "x // 3": lambda x: x // 3,
    "x % 5": lambda x: x % 5,
    "-x % 8": lambda x: -x % 8,
    "round(x / 4)": lambda x: round(x / 4),
    "ceil(x / 3)": lambda x: math.ceil(x / 3),
    "sqrt": lambda x: math.sqrt(abs(x)),
    "isqrt": lambda x: math.isqrt(abs(int(x))),
    "float": float,
    "text": lambda x: float(f"{x}"),
    "2 * x + 1": lambda x: 2 * x + 1,
    "large": lambda x: 2.0 if x > 30 else 1.0,
    "odd": lambda x: 3 if int(x) % 2 else 1,
}
_OF_TWO: dict[str, Callable[[float, float], float]] = {
    "max": max,
    "min": min,
    "sum": lambda x, y: x + y,
    "product": lambda x, y: x * y,
    "difference": lambda x, y: x - y,
    "quotient": lambda x, y: x / (abs(y) + 1),
    "the larger decides": lambda x, y: 2 * x if x > y else y,
}


def _one(name: str, of: tuple[str, Expression]) -> tuple[str, Expression]:
    return f"{name} of ({of[0]})", lambda h: _OF_ONE[name](of[1](h))


def _two(name: str, a: tuple[str, Expression], b: tuple[str, Expression]) -> tuple[str, Expression]:
    return f"{name} of ({a[0]}) and ({b[0]})", lambda h: _OF_TWO[name](a[1](h), b[1](h))


def _more(inner: st.SearchStrategy[tuple[str, Expression]]) -> st.SearchStrategy[tuple[str, Expression]]:
    one = st.builds(_one, st.sampled_from(sorted(_OF_ONE)), inner)
    return one | st.builds(_two, st.sampled_from(sorted(_OF_TWO)), inner, inner)


EXPRESSIONS = st.recursive(st.sampled_from(sorted(_LEAVES.items())), _more, max_leaves=3)


@drawn(25)
@given(EXPRESSIONS)
def test_python_that_works_with_sizes_gives_what_it_gives_or_is_refused(drawn_one: tuple[str, Expression]) -> None:
    _, expression = drawn_one
    model = SizedNet(lambda h: h * (1 + expression(h) / 100)).eval()
    net = netslim.convert(model, torch.randn(EXAMPLE), prove=False).eval()
    event("in the program" if runtime(net).plan.whole is not None else "stays Python")
    assert net.groups
    refused: dict[tuple[int, ...], str] = {}
    for shape in (EXAMPLE, *OTHERS):
        images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        try:
            got = net(images)
        except InputError as refusal:
            refused[shape] = str(refusal)
        else:
            torch.testing.assert_close(got, model(images), rtol=1e-4, atol=1e-5)
    assert EXAMPLE not in refused
    assert all("test_random_sizes.py:" in refusal for refusal in refused.values())
    event("refuses sizes" if refused else "takes all sizes")
