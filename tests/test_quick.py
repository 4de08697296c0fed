"""A quick conversion makes one check, says so wherever it goes, and leaves what the check doubts to the proof."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import netslim
from netslim import conversion
from netslim.errors import InputError, NotProved, ProofError
from netslim.ir.proof import Proof
from netslim.layouts.axes import Concat, Layout, Runs
from netslim.net import subnet
from netslim.net.runtime import runtime
from netslim.ops import MODULES
from netslim.proof import outcome

IMAGES = torch.randn(2, 3, 8, 8)


class Net(nn.Module):
    """A concatenation, batch norm, and a block to skip."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 8, 3, padding=1)
        self.norm, self.conv, self.head = nn.BatchNorm2d(16), nn.Conv2d(16, 16, 3, padding=1), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(torch.cat([self.left(x), self.right(x)], 1)).relu()
        return self.head((x + self.conv(x)).mean((2, 3)))


class Parted(Net):
    """Python picks by a value, so that only parts are followed."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if float(x.detach().sum()) < 1e9 else x * 2)


class Fixed(nn.Module):
    """Nothing in it can become narrower."""

    def __init__(self) -> None:
        super().__init__()
        self.only = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.only(x)


def proof_of(net: netslim.SlimNet) -> Proof:
    assert net.proof is not None
    return net.proof


@pytest.mark.parametrize(("kind", "cases"), [(Net, 1), (Parted, 1), (Fixed, 0)])
def test_one_check_is_made_and_named(kind: type[nn.Module], cases: int) -> None:
    net = netslim.convert(kind(), IMAGES, quick=True)
    assert net.plan == netslim.convert(kind(), IMAGES, prove=False).plan
    found = proof_of(net)
    assert (found.quick, found.passed, len(found.cases)) == (True, True, cases)
    assert found.to_data()["quick"] is True
    assert found.summary().startswith("NOT PROVED, only checked quickly: ")
    assert found.summary() in repr(net)
    assert not proof_of(netslim.convert(kind(), IMAGES)).quick


def test_every_opening_of_its_file_warns(tmp_path: Path) -> None:
    file, again, proved = (tmp_path / name for name in ("net.pt", "again.pt", "proved.pt"))
    netslim.save(netslim.convert(Net(), IMAGES, quick=True), file)
    with pytest.warns(NotProved, match="net.pt is NOT PROVED, only checked quickly") as found:
        loaded = netslim.load(file)
    assert found[0].filename == __file__
    assert proof_of(loaded).quick
    netslim.save(loaded, again)
    with pytest.warns(NotProved, match="netslim verify with --original"):
        netslim.load(again)
    assert netslim.verify(loaded, Net()) == netslim.verify(netslim.convert(Net(), IMAGES, prove=False), Net())
    netslim.save(netslim.convert(Net(), IMAGES), proved)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not proof_of(netslim.load(proved)).quick


def test_what_the_check_finds_wrong_is_left_to_the_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a concatenation the wrong channels are kept, and every shape is right."""
    right = subnet.runs

    def last(layout: Layout, kept: Mapping[int, Runs]) -> Runs:
        found = right(layout, kept)
        whole = not isinstance(layout, Concat) or sum(n for _, n in found) == layout.size
        return found if whole else ((layout.size - sum(n for _, n in found), sum(n for _, n in found)),)

    monkeypatch.setattr(subnet, "runs", last)
    net, whole = netslim.convert(Net(), IMAGES, quick=True), netslim.convert(Net(), IMAGES)
    assert net.plan == whole.plan
    assert proof_of(net) == proof_of(whole)
    assert any("frozen by the proof" in frozen.reason for frozen in net.frozen)


def test_another_output_than_the_models_is_left_to_the_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    right = MODULES[nn.BatchNorm2d][0].forward
    monkeypatch.setattr(MODULES[nn.BatchNorm2d][0], "forward", lambda self, x: right(self, x) * 1.01)
    with pytest.raises(ProofError, match="differs from the model at full width: the output in eval mode"):
        netslim.convert(Net(), IMAGES, quick=True)


def test_training_is_what_it_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    right = MODULES[nn.BatchNorm2d][0].forward

    def wrong(self: Any, x: Tensor) -> Tensor:
        return right(self, x) * (1.01 if self.training else 1)

    monkeypatch.setattr(MODULES[nn.BatchNorm2d][0], "forward", wrong)
    assert proof_of(netslim.convert(Net(), IMAGES, quick=True)).quick
    with pytest.raises(ProofError, match="in training mode"):
        netslim.convert(Net(), IMAGES)


def test_no_backward_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise AssertionError("a backward")

    monkeypatch.setattr(outcome, "_backward", refused)
    monkeypatch.setattr(torch.autograd, "grad", refused)
    assert proof_of(netslim.convert(Net(), IMAGES, quick=True)).quick


def test_widths_without_effect_are_left_to_the_proof() -> None:
    class Idle(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * 0

    found = proof_of(netslim.convert(Idle(), IMAGES, quick=True))
    assert not found.quick
    assert found.idle


def test_a_check_needs_a_proof_to_shorten_and_values(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="say one of them"):
        netslim.convert(Net(), IMAGES, prove=False, quick=True)
    assert netslim.convert(Net().to("meta"), IMAGES, quick=True).proof is None
    monkeypatch.setattr(conversion, "checked", lambda *_: None)
    assert not proof_of(netslim.convert(Net(), IMAGES, quick=True)).quick
    assert runtime(netslim.convert(Net(), IMAGES, prove=False)).proof is None
