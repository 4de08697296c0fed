"""One list of sub-network settings: a run, a step and a space to draw from take it as it is."""

from __future__ import annotations

import inspect
import subprocess
import sys
from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import nn

import gradaug
import netslim
from gradaug import GradAug, Space, SubnetSettings, TrainConfig
from netslim.errors import InputError

NAMES = [field.name for field in fields(SubnetSettings)]
CHANGED: dict[str, Any] = {
    "mode": "none", "num_subnets": 2, "alpha": 0.4, "widths": "per-group", "round_to": 2, "survival": 0.5,
    "survival_first": 0.9, "skip_blocks": 0, "stage_limit": 1, "resolutions": (12,), "scope": "all",
    "subnet_share": 0.5, "subnet_every": 2,
}  # fmt: skip


def described(cls: type) -> list[tuple[Any, ...]]:
    return [(field.name, field.type, field.default, field.metadata) for field in fields(cls) if field.name in NAMES]


@pytest.mark.parametrize("user", [TrainConfig, Space])
def test_a_user_has_the_fields_of_the_list_as_they_are(user: type) -> None:
    assert described(user) == described(SubnetSettings)
    assert not set(NAMES) & set(vars(user).get("__annotations__", {}))


def test_a_step_writes_none_of_them_down_again() -> None:
    assert not set(NAMES) & set(inspect.signature(GradAug).parameters)


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_reaches_the_space_of_a_network(net: netslim.SlimNet, name: str) -> None:
    value = CHANGED[name]  # a new setting: give it a value here that is not its default
    for given in (SubnetSettings(**{name: value}), TrainConfig(**{name: value})):
        assert getattr(Space.for_network(net, given), name) == value
    assert getattr(GradAug(net, **{name: value}).space, name) == value


LONGER = """
import importlib.util, sys
spec = importlib.util.find_spec("gradaug.config.subnets")
source = open(spec.origin).read()
field = '    rotations: int = setting(0, "GradAug", "Quarter turns.", NATURAL)\\n'
module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
source = source.replace("    def __post_init__", field + "\\n    def __post_init__", 1)
exec(compile(source, spec.origin, "exec"), vars(module))

import torch
import netslim
from gradaug import GradAug, Space, TrainConfig
from netslim.errors import InputError
from netslim_cli.train import train

net = netslim.convert(torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2)), torch.zeros(2, 4))
assert Space.for_network(net, TrainConfig(rotations=2)).rotations == 2
assert GradAug(net, rotations=3).space.rotations == 3
assert "--rotations" in {name for option in train.params for name in option.opts}
try:
    Space(rotations=-1)
except InputError as error:
    assert "rotations must be zero or a positive integer" in str(error)
else:
    raise AssertionError("no error")
"""


def test_a_field_more_needs_no_other_place() -> None:
    """The list read with another field in it."""
    subprocess.run([sys.executable, "-W", "ignore", "-c", LONGER], check=True)


def test_a_space_a_mode_and_settings_by_name_are_the_same(net: netslim.SlimNet) -> None:
    settings = SubnetSettings("randwidth", alpha=0.5, round_to=1)
    space = Space.for_network(net, settings)
    assert GradAug(net, space).space == space
    assert GradAug(net, "randwidth", alpha=0.5, round_to=1).space == space
    assert GradAug(net, mode="randwidth", alpha=0.5, round_to=1).space == space
    assert gradaug.draw(space, 0, 0) == gradaug.draw(GradAug(net, space).space, 0, 0)


def test_a_space_of_ones_own_is_drawn_from_as_it_is(net: netslim.SlimNet) -> None:
    group = net.groups[0].name
    space = Space(alpha=0.5, num_subnets=1, groups=(group,))
    assert GradAug(net, space).space is space
    assert space.widths == "per-group"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((Space(), {"alpha": 0.5}), "alpha belongs to the space: give a Space, or its settings, not both"),
        ((Space(), {"per_group": True}), "widths belongs to the space"),
        (("both", {"mode": "none"}), "mode is given twice, as 'both' and as 'none'"),
        ((None, {"num_subnet": 2}), r"there is no argument 'num_subnet'; did you mean num_subnets\?"),
        ((Space(groups=("nowhere",)), {}), "has a group 'nowhere', and this network has none of that name"),
        ((Space("randdepth", blocks=("nowhere",)), {}), "has a block 'nowhere', and this network has none"),
        ((3, {}), "mode must be a text"),
    ],
)
def test_what_cannot_be_drawn_from_is_said(net: netslim.SlimNet, arguments: Any, words: str) -> None:
    space, settings = arguments
    with pytest.raises(InputError, match=words):
        GradAug(net, space, **settings)


@pytest.mark.parametrize("wrong", ["both", {"alpha": 0.5}, 3])
def test_settings_of_a_space_are_settings(net: netslim.SlimNet, wrong: Any) -> None:
    with pytest.raises(InputError, match=r"settings are to be a gradaug\.SubnetSettings or a TrainConfig, not "):
        Space.for_network(net, wrong)


def test_widths_of_groups_need_groups() -> None:
    with pytest.raises(InputError, match="widths 'per-group' need the groups"):
        Space(widths="per-group")


def test_a_network_without_groups_has_one_width() -> None:
    net = netslim.convert(nn.Linear(4, 2), torch.zeros(2, 4))
    assert Space.for_network(net, SubnetSettings("none", widths="per-group")).widths == "uniform"


def test_only_a_converted_network_has_a_space() -> None:
    with pytest.raises(InputError, match="Linear is no converted network"):
        Space.for_network(nn.Linear(2, 2))  # type: ignore[arg-type]
