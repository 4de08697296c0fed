"""A converted network and its groups show themselves in terminals and notebooks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

import netslim
from netslim.net.runtime import runtime


@pytest.fixture
def net() -> netslim.SlimNet:
    layers = [nn.Conv2d(3 if i == 0 else 8, 8, 1) for i in range(12)]
    return netslim.convert(nn.Sequential(*layers, nn.Conv2d(8, 4, 1)), torch.zeros(1, 3, 4, 4), prove=False)


def test_a_network_is_a_few_lines_in_a_terminal(net: netslim.SlimNet) -> None:
    first, *lines = repr(net).splitlines()
    assert first == "SlimNet of Sequential"
    assert "  12 channel groups of 96 channels" in lines
    assert "  proof: not done" in lines
    assert lines[-1] == "  and 4 more"
    assert len(lines) < 20


def test_groups_are_still_a_tuple(net: netslim.SlimNet) -> None:
    assert net.groups == runtime(net).plan.groups
    assert isinstance(net.groups, tuple)
    first, second, *_ = repr(net.groups).splitlines()
    assert first == "12 channel groups of 96 channels"
    assert second.split() == ["0", "8", "3", "places"]


def test_a_notebook_shows_tables(net: netslim.SlimNet) -> None:
    for shown in (net._repr_html_(), net.groups._repr_html_()):  # type: ignore[attr-defined]
        assert shown.count("<tr>") == 13
        assert "<td>0</td><td>8</td><td>0.weight dim 0, 0.bias dim 0, 1.weight dim 1</td>" in shown


def test_names_are_text_in_a_notebook(net: netslim.SlimNet) -> None:
    plan = runtime(net).plan
    evil = "<script>alert(1)</script>"
    groups = (replace(plan.groups[0], name=evil), *plan.groups[1:])
    runtime(net).plan = replace(plan, groups=groups, model=evil)
    for shown in (net._repr_html_(), net.groups._repr_html_()):  # type: ignore[attr-defined]
        assert "<script>" not in shown
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown
