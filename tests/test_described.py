"""A converted network says of itself what its model said: plain data, and what optimizer factories ask for."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import netslim
from netslim.source.described import described


class Told(nn.Module):
    """With attributes of all kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.num_classes, self.names = 4, ["a", "b"]
        self.pretrained_cfg = {"mean": (0.5, 0.5), "classifier": "head", "crop_pct": 0.9, "tags": {"x"}}
        self.groups = 7  # a name of the network's own
        self._secret, self.device, self.hook = 1, torch.device("cpu"), lambda: None
        self.body, self.scale, self.head = nn.Conv2d(1, 8, 3), nn.Parameter(torch.ones(8, 1, 1)), nn.Linear(8, 4)

    def no_weight_decay(self) -> set[str]:
        return {"scale"}

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        return {"stem": "^body"} if coarse else {"stem": "^body", "blocks": [("^head", (99999,))]}

    def forward(self, x: Tensor) -> Tensor:
        return self.head((self.body(x) * self.scale).relu().mean((2, 3)))


def copied(net: netslim.SlimNet) -> netslim.SlimNet:
    return copy.deepcopy(net)


def stored(net: netslim.SlimNet) -> netslim.SlimNet:
    held = io.BytesIO()
    torch.save(net, held)
    held.seek(0)
    found: netslim.SlimNet = torch.load(held, weights_only=False)
    return found


@pytest.mark.parametrize("form", [lambda net: net, copied, stored], ids=["itself", "copied", "stored"])
def test_a_network_has_what_its_model_said(form: Any) -> None:
    model = Told()
    net = form(netslim.convert(model, torch.randn(2, 1, 8, 8), prove=False))
    assert (net.num_classes, net.names, net.pretrained_cfg) == (4, ["a", "b"], model.pretrained_cfg)
    assert net.no_weight_decay() == {"scale"}
    assert net.group_matcher(coarse=True) == model.group_matcher(coarse=True)
    assert net.group_matcher() == model.group_matcher()
    assert list(net.state_dict()) == list(model.state_dict())


def test_it_is_a_copy_and_takes_no_name_of_the_network() -> None:
    model = Told()
    net = netslim.convert(model, torch.randn(2, 1, 8, 8), prove=False)
    model.pretrained_cfg["mean"] = None
    net.group_matcher().clear()  # type: ignore[operator]
    assert net.pretrained_cfg["mean"] == (0.5, 0.5)  # type: ignore[index]
    assert net.group_matcher() == model.group_matcher()  # type: ignore[operator]
    assert isinstance(net.groups, tuple)
    assert not {"_secret", "device", "hook"} & vars(net).keys()


class Raising(Told):
    def no_weight_decay(self) -> set[str]:
        raise ValueError("not now")

    def group_matcher(self, fine: bool = False) -> Any:  # type: ignore[override]
        return {"stem": nn.Identity()}


def test_a_method_of_another_kind_is_left_out() -> None:
    assert not {"no_weight_decay", "group_matcher"} & described(Raising()).keys()


def test_timms_layer_decay_and_parameters_without_decay() -> None:
    timm = pytest.importorskip("timm")
    from timm.optim import create_optimizer_v2

    model = timm.create_model("convnext_atto", num_classes=4, depths=(1, 1, 1, 1), dims=(8, 8, 16, 16))
    net = netslim.convert(model, torch.randn(2, 3, 32, 32), prove=False)
    assert (net.num_classes, net.default_cfg, net.pretrained_cfg) == (4, model.default_cfg, model.pretrained_cfg)

    def groups(of: nn.Module) -> list[tuple[list[str], float, float]]:
        named = {id(parameter): name for name, parameter in of.named_parameters()}
        made = create_optimizer_v2(of, opt="adamw", lr=0.1, weight_decay=0.05, layer_decay=0.7).param_groups
        return [([named[id(p)] for p in g["params"]], g["lr_scale"], g["weight_decay"]) for g in made]

    assert groups(net) == groups(model)
    assert len({scale for _, scale, _ in groups(net)}) > 3
