"""What a person decides about an analysis: freeze, tie, rules of their own."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import netslim
from netslim.errors import ArchiveError, InputError


@torch.library.custom_op("netslim_tests::gate", mutates_args=())
def gate(x: Tensor, scale: Tensor) -> Tensor:
    return x * scale.view(1, -1, 1, 1).sigmoid()


class Chain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(self.a(x)).relu())


class Gated(Chain):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.randn(8))

    def forward(self, x: Tensor) -> Tensor:
        return self.c(gate(self.b(self.a(x)), self.scale))


@gate.register_fake
def _(x: Tensor, scale: Tensor) -> Tensor:
    return torch.empty_like(x)


IMAGES = torch.randn(2, 3, 6, 6)


def names(net: netslim.SlimNet) -> list[str]:
    return [group.name for group in net.groups]


@pytest.mark.parametrize("name", ["a", "a.weight", "b.weight.1", "a*"])
def test_a_frozen_name_keeps_its_width(name: str) -> None:
    net = netslim.convert(Chain(), IMAGES, freeze=[name])
    assert names(net) == ["b"]
    assert f"frozen on request ({name})" in str(net.why("a.weight"))


def test_tied_groups_become_one() -> None:
    net = netslim.convert(Chain(), IMAGES, tie=[("a", "b.bias")])
    assert names(net) == ["a"]
    assert net.proof is not None
    assert net.proof.passed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"freeze": ["d"]}, "no layer, parameter or group 'd'"),
        ({"tie": [("a", "c")]}, "a has 8 channels and c has 2"),
        ({"rules": {"gate": print}}, "name it as"),
        ({"rules": {"aten::gaet": print}}, "torch has no such operator"),
    ],
)
def test_names_that_fit_nothing_are_said(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        netslim.convert(Chain(), IMAGES, **options)


def right(call: Any) -> None:
    x, scale = call.arg("x"), call.arg("scale")
    call.unify(call.dims(x)[1], call.dims(scale)[0])
    call.set(call.outs[0], call.dims(x))


def test_an_operator_without_a_rule_freezes_what_it_touches() -> None:
    net = netslim.convert(Gated(), IMAGES)
    assert names(net) == ["a"]
    assert ("no rule for this operator", "netslim_tests.gate") in {(f.reason, f.op) for f in net.frozen}


def test_a_rule_makes_an_operator_elastic() -> None:
    assert names(netslim.convert(Gated(), IMAGES, rules={"netslim_tests::gate": right})) == ["a", "b"]


def test_rules_of_a_persons_own_are_pickled() -> None:
    net = netslim.convert(Gated(), IMAGES, rules={"netslim_tests::gate": right, "aten::tanh": right})
    assert dict(pickle.loads(pickle.dumps(net)).rules) == dict(net.rules)


def test_an_operator_of_a_persons_own_is_loaded_only_when_trusted(tmp_path: Path) -> None:
    net = netslim.convert(Gated(), IMAGES, rules={"netslim_tests::gate": right})
    assert net.plan.whole is not None
    netslim.save(net, tmp_path / "net.pt")
    with pytest.raises(ArchiveError, match=r"torch\.ops\.netslim_tests\.gate.*--trust"):
        netslim.load(tmp_path / "net.pt")
    loaded = netslim.load(tmp_path / "net.pt", trust=True)
    with torch.no_grad(), net.eval().sub(0.5), loaded.sub(0.5):
        assert torch.equal(net(IMAGES), loaded(IMAGES))
        torch.testing.assert_close(net.extract(0.5)(IMAGES), net(IMAGES))


def test_the_proof_catches_a_wrong_rule() -> None:
    def wrong(call: Any) -> None:
        call.set(call.outs[0], call.dims(call.arg("x")))  # forgets that the scale has the same channels

    net = netslim.convert(Gated(), IMAGES, rules={"netslim_tests::gate": wrong})
    assert names(net) == ["a"]
    assert any("proof" in frozen.reason for frozen in net.frozen)
