"""What is drawn of a network is what is in it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import netslim
from netslim import SlimNet
from netslim.cost import count
from netslim.layouts.axes import Concat, Const, Elastic, Product
from netslim.net.runtime import runtime
from netslim.net.subnet import keep_counts
from netslim.pictures.drawing import WIDTHS, drawing, shortened
from netslim.pictures.scene import Scene, Step, coded

from .nets import Detector, Small, converted


@pytest.fixture(scope="module")
def net() -> SlimNet:
    return converted(Small())


@pytest.fixture(scope="module")
def scene(net: SlimNet) -> Scene:
    return drawing(net, "small")


def step(scene: Scene, target: str) -> Step:
    (found,) = [each for each in scene.steps if each.target == target and each.kind == "layer"]
    return found


def test_every_layer_is_a_step_in_its_module(net: SlimNet, scene: Scene) -> None:
    layers = {path for path, module in net.named_modules() if module._parameters}
    assert {each.target for each in scene.steps if each.kind == "layer"} == layers
    assert step(scene, "blocks.0.first").module == "blocks.0"
    assert set(scene.modules) == {"blocks", "blocks.0", "blocks.1"}


def test_every_parameter_and_group_is_there(net: SlimNet, scene: Scene) -> None:
    assert set(scene.tensors) == set(dict(net.named_parameters()))
    assert [(each.name, each.size) for each in scene.groups] == [(g.name, g.size) for g in net.groups]
    assert [each.name for each in scene.blocks] == [block.name for block in net.blocks]
    assert len(scene.frozen) == len(net.frozen)


def test_functions_are_drawn_where_their_neighbours_are(scene: Scene) -> None:
    homes = [(each.label, each.module) for each in scene.steps if each.kind == "call"]
    assert ("relu", "blocks.0") in homes
    assert ("relu", "blocks.1") in homes
    assert [home for label, home in homes if label == "add"] == ["blocks.0", "blocks.1"]
    assert homes[-2:] == [("cat", ""), ("mean", "")]


def test_numbers_are_not_drawn_and_parameters_are_no_steps_of_their_own(scene: Scene) -> None:
    assert not [each.label for each in scene.steps if each.label in ("size", "require", "eq")]
    assert {each.kind for each in scene.steps} == {"input", "layer", "call", "output"}


def test_a_step_reads_what_its_function_is_given(scene: Scene) -> None:
    number = {each.name: i for i, each in enumerate(scene.steps)}
    (cat,) = [each for each in scene.steps if each.label == "cat"]
    side = number[step(scene, "side").name]
    assert cat.reads == (scene.steps[side].reads[0], side)


def test_results_have_the_layouts_of_the_analysis(net: SlimNet, scene: Scene) -> None:
    (cat,) = [each for each in scene.steps if each.label == "cat"]
    ((batch, channels, height, width),) = cat.outs
    groups = [group.name for group in net.groups]
    assert coded(channels) == {"concat": [{"group": groups.index("stem")}, {"group": groups.index("side")}]}
    assert [coded(each) for each in (batch, height, width)] == [2, 12, 12]


def test_a_step_says_its_line_its_block_and_why(scene: Scene, net: SlimNet) -> None:
    first = step(scene, "blocks.1.first")
    assert first.where.startswith("nets.py:")
    assert [scene.blocks[i].name for i in first.blocks] == ["blocks.1"]
    assert scene.tensors["blocks.1.first.weight"].why == str(net.why("blocks.1.first.weight"))
    assert not step(scene, "head").blocks


def test_stops_of_the_slider_are_those_of_the_cost_model(net: SlimNet, scene: Scene) -> None:
    assert [stop.width for stop in scene.stops] == list(WIDTHS)
    for stop in scene.stops:
        cost = count(net, stop.width)
        assert (stop.params, stop.flops) == (cost.params, cost.flops)
        assert stop.kept == keep_counts(runtime(net).plan, stop.width)


def test_a_network_that_cannot_be_counted_is_drawn(net: SlimNet, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("no such operator on meta")

    monkeypatch.setattr("netslim.pictures.drawing.count", refuse)
    found = drawing(net, "small")
    assert {(stop.params, stop.flops) for stop in found.stops} == {(None, None)}
    assert found.stops[4].kept == keep_counts(runtime(net).plan, 0.5)


def test_a_network_followed_in_parts_shows_its_python() -> None:
    scene = drawing(converted(Detector()), "detector")
    python = {each.label: i for i, each in enumerate(scene.steps) if each.kind == "python"}
    assert python == {"Detector": 0, "Heads": 1}
    assert scene.steps[1].calls == (0,)
    inputs = {each.module: each for each in scene.steps if each.kind == "input"}
    assert inputs["backbone"].calls == (0,)
    assert inputs["heads.score"].calls == (1,)
    assert [i for i in scene.steps[1].after if scene.steps[i].module == "backbone"]
    assert any("Followed in parts" in note for note in scene.notes)


def test_what_only_training_computes_is_drawn_or_told() -> None:
    class Auxiliary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.aux = nn.Conv2d(1, 8, 1), nn.Conv2d(8, 4, 1), nn.Conv2d(8, 4, 1)

        def forward(self, x: torch.Tensor) -> object:
            x = self.a(x)
            return (self.b(x), self.aux(x)) if self.training else self.b(x)

    scene = drawing(converted(Auxiliary()), "auxiliary")
    assert step(scene, "aux").reads == step(scene, "b").reads
    assert any("something else in evaluation" in note for note in scene.notes)


def test_a_saved_network_is_drawn_as_the_one_that_was_converted(net: SlimNet, scene: Scene, tmp_path: object) -> None:
    netslim.save(net, f"{tmp_path}/converted.pt")
    again = drawing(netslim.load(f"{tmp_path}/converted.pt"), "small")
    assert [(each.name, each.outs) for each in again.steps] == [(each.name, each.outs) for each in scene.steps]
    assert again.tensors == scene.tensors


def test_layouts_as_data() -> None:
    layout = Concat((Product((Elastic(0, 4), Const(9))), Elastic(1, 3), Const(2)))
    assert coded(layout) == {"concat": [{"product": [{"group": 0}, 9]}, {"group": 1}, 2]}


def test_reasons_are_shortened_until_they_fit() -> None:
    reasons = {f"p{i}": "\n".join(f"{i} {line} {'x' * 40}" for line in range(30)) for i in range(10)}
    assert shortened(reasons) == reasons
    short = shortened(reasons, 4000)
    assert sum(map(len, short.values())) <= 4000
    assert short["p3"].splitlines()[0] == reasons["p3"].splitlines()[0]
    assert short["p3"].splitlines()[-1].endswith("more lines: netslim inspect --why")
    assert all(len(text.splitlines()) == 2 for text in shortened(reasons, 1).values())
