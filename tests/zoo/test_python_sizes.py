"""Forwards that compute with sizes: at every size, the converted network is the model, or refuses it with the line."""

from __future__ import annotations

import copy
import re

import pytest
import torch

import netslim
from netslim.errors import InputError
from netslim.net.runtime import runtime

from .catalogue.python_sizes import SPELLINGS, SizedNet

EXAMPLE = (2, 3, 32, 32)
OTHERS = ((1, 3, 24, 24), (3, 3, 48, 64), (3, 3, 64, 64), (2, 3, 45, 31), (5, 3, 100, 36), (130, 3, 16, 16))


@pytest.mark.parametrize("name", SPELLINGS)
def test_other_sizes_are_computed_as_the_model_computes_them_or_refused(name: str) -> None:
    spelling = SPELLINGS[name]
    model = SizedNet(spelling.middle).eval()
    net = netslim.convert(copy.deepcopy(model), torch.randn(EXAMPLE), prove=False).eval()
    assert {group.size for group in net.groups} == {8}
    assert (runtime(net).plan.whole is not None) == spelling.followed
    refused: dict[tuple[int, ...], str] = {}
    for shape in (EXAMPLE, *OTHERS):
        images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        try:
            wanted = model(images)
        except Exception:  # the model does not take this size
            continue
        try:
            got = net(images)
        except InputError as refusal:
            refused[shape] = str(refusal)
            continue
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)
        with net.sub(width=0.5):
            assert net(images).shape == wanted.shape
    assert EXAMPLE not in refused
    assert all(re.search(r"python_sizes\.py:\d+", refusal) for refusal in refused.values())


@pytest.mark.parametrize("name", [name for name, spelling in SPELLINGS.items() if not spelling.followed])
def test_with_fixed_size_the_example_size_is_followed_and_others_are_refused(name: str) -> None:
    model = SizedNet(SPELLINGS[name].middle).eval()
    images = torch.randn(EXAMPLE)
    net = netslim.convert(copy.deepcopy(model), images, fixed_size=True, prove=False).eval()
    assert runtime(net).plan.whole is not None
    torch.testing.assert_close(net(images), model(images))
    with pytest.raises(InputError, match=r"python_sizes\.py:\d+"):
        net(torch.randn(3, 3, 52, 60))
