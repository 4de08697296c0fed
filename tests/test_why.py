"""What ties places to each other, and what froze them, is told by operators and lines of the model."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import netslim
from netslim.errors import SubnetError
from netslim.ir import tie_checks
from netslim.ir.links import Links, Tie
from netslim.ir.plan import freeze_groups
from netslim.ir.tie_checks import explained
from netslim.ir.ties import Slot, Ties
from netslim.ir.why import Explainer, why
from netslim.layouts.axes import Reason

IMAGES = torch.zeros(2, 3, 8, 8)


def converted(model: nn.Module, **more: object) -> netslim.SlimNet:
    return netslim.convert(model, IMAGES, prove=False, **more)  # type: ignore[arg-type]


def line(model: type[nn.Module], code: str) -> str:
    """file:line of the only line of a class that holds this code."""
    lines, first = inspect.getsourcelines(model)
    (found,) = (first + i for i, text in enumerate(lines) if code in text)
    return f"test_why.py:{found}"


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.body = nn.Conv2d(8, 6, 1)
        self.norm = nn.BatchNorm2d(6)
        self.side = nn.Conv2d(8, 6, 1)
        self.deep = nn.Conv2d(6, 6, 1, groups=6)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.body(x)
        y = self.norm(y)
        z = self.side(x)
        x = y + z
        x = self.deep(x)
        return self.head(x.mean((2, 3)))


def test_a_sum_ties_its_operands() -> None:
    at = {part: line(Residual, part) for part in ("self.body(x)", "self.norm(y)", "self.side(x)", "y + z")}
    net = converted(Residual())
    assert str(net.why("body", "side.weight.0")) == (
        f"body.weight dim 0 — conv2d, {at['self.body(x)']} → add, {at['y + z']} → conv2d, {at['self.side(x)']} → "
        "side.weight dim 0"
    )
    assert str(net.why("norm.weight", "side.bias")) == (
        f"norm.weight dim 0 — batch_norm, {at['self.norm(y)']} → add, {at['y + z']} → conv2d, {at['self.side(x)']} → "
        "side.bias dim 0"
    )


def test_a_depthwise_convolution_ties_what_it_takes_to_what_it_gives() -> None:
    found = converted(Residual()).why("deep.weight", "head.weight")
    (chain,) = found.chains
    assert [step.op for step in chain.steps] == ["conv2d", "linear"]
    assert chain.steps[0].where.startswith(line(Residual, "self.deep(x)"))
    assert (chain.last.param, chain.last.dim, chain.last.part) == ("head.weight", 1, "")


def test_what_is_not_tied_is_said_to_be_so() -> None:
    text = str(converted(Residual()).why("stem.weight", "deep.weight"))
    assert text.startswith("stem.weight and deep.weight are not tied: stem.weight dim 0 is of group stem")


def test_frozen_places_have_the_way_from_what_froze_them() -> None:
    at = line(Residual, "self.head(x.mean")
    net = converted(Residual(), freeze=["side"])
    assert str(net.why("head.bias")) == f"head.bias dim 0 (5): frozen: model output, reached by linear, {at}"
    (part,) = net.why("norm.bias").parts
    assert part.reason == "frozen on request (side)"
    assert [step.op for step in part.steps] == ["batch_norm", "add", "conv2d"]


def test_what_the_proof_has_frozen_is_told_with_its_reason_alone() -> None:
    plan = converted(Residual()).plan
    (group,) = [i for i, group in enumerate(plan.groups) if ("norm.bias", 0) in group.slots]
    frozen = freeze_groups(plan, {group: Reason("frozen by the proof")})
    assert str(why(frozen, "norm.bias", [Slot("norm.bias", 0)])) == "norm.bias dim 0 (6): frozen: frozen by the proof"
    left = why(frozen, "stem.bias", [Slot("stem.bias", 0)])
    assert [part.group for part in left.parts] == ["stem"]
    assert all(chain.steps for chain in left.parts[0].ties)


class Sorted(Residual):
    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x.cumsum(1)
        return self.head(self.body(x).mean((2, 3)))


def test_an_operator_that_freezes_is_named_with_its_line() -> None:
    (part,) = converted(Sorted()).why("stem.bias").parts
    assert part.by == "cumsum"
    assert part.where.startswith(line(Sorted, "x.cumsum(1)"))
    assert [step.op for step in part.steps] == ["conv2d"]


class Joined(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 6, 1)
        self.c = nn.Conv2d(14, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.a(x), self.b(x)], 1)
        return self.c(x)


def test_a_concatenation_is_told_part_by_part() -> None:
    net, cat, use = converted(Joined()), line(Joined, "torch.cat"), line(Joined, "self.c(x)")
    assert str(net.why("c.weight.1", "b")) == (
        f"c.weight dim 1 [8:14] — conv2d, {use} → cat, {cat} → conv2d, {cat} → b.weight dim 0"
    )
    assert [part.group for part in net.why("c.weight.1").parts] == ["a", "b"]
    assert not net.why("a", "b").chains


class Shuffled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 6, 1), nn.Conv2d(3, 6, 1), nn.Conv2d(12, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.a(x), self.b(x)], 1)
        x = x.view(2, 2, 6, 8, 8).transpose(1, 2)
        x = x.reshape(2, 12, 8, 8)
        return self.c(x)


def test_a_shuffle_leads_to_both_of_its_halves() -> None:
    net = converted(Shuffled())
    for name in ("a", "b"):
        (chain,) = net.why("c.weight.1", name).chains
        lines = [step.where.partition(" in ")[0] for step in chain.steps]
        at = [line(Shuffled, code) for code in ("self.c(x)", "x.reshape", "x.view", "torch.cat", "torch.cat")]
        assert lines == at
        assert [chain.steps[i].op for i in (0, 2, 3, 4)] == ["conv2d", "view", "cat", "conv2d"]
        assert chain.first.part == "[6] × 2"


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 1)
        self.q, self.k, self.v, self.out = (nn.Linear(16, 16) for _ in range(4))

    def heads(self, x: Tensor) -> Tensor:
        return x.view(2, 64, 2, 8).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2)
        q, k, v = self.heads(self.q(x)), self.heads(self.k(x)), self.heads(self.v(x))
        x = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        return self.out(x.reshape(2, 64, 16))


def test_heads_and_channels_are_told_apart() -> None:
    net = converted(Attention())
    heads, channels = net.why("q.weight.0").parts
    assert (heads.place.part, heads.group, heads.reason) == (
        "[2 heads] × 8 channels per head", "", "another factor of the same dimension is elastic",
    )  # fmt: skip
    assert (channels.place.part, channels.group) == ("2 heads × [8 channels per head]", "q")
    (chain,) = net.why("q.weight.0", "k.bias").chains
    assert [step.op for step in chain.steps] == ["linear", "view", "scaled_dot_product_attention", "view", "linear"]
    (chain,) = net.why("v.weight.0", "out.weight.1").chains
    assert (chain.first.part, chain.last.part) == ("2 heads × [8 channels per head]",) * 2
    assert not net.why("q.weight.0", "v.weight.0").chains


class Packed(Attention):
    """One layer for queries, keys and values; the products are written out."""

    def __init__(self) -> None:
        super().__init__()
        self.q = nn.Linear(16, 48)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2)
        q, k, v = self.q(x).view(2, 64, 3, 2, 8).permute(2, 0, 3, 1, 4).unbind(0)
        x = (q @ k.transpose(2, 3)).softmax(-1) @ v
        return self.out(x.transpose(1, 2).reshape(2, 64, 16))


def test_heads_are_known_by_the_products_of_attention_too() -> None:
    heads, channels, _ = converted(Packed()).why("q.weight").parts
    assert heads.place.part == "[3 × 2 heads] × 8 channels per head"
    assert channels.place.part == "3 × 2 heads × [8 channels per head]"


class Grouped(Residual):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(8, 6, 1, groups=2)


def test_groups_of_a_layer_are_told_apart_from_their_channels() -> None:
    parts = {part.place.part for part in converted(Grouped()).why("body.bias").parts}
    assert parts == {"[2 groups] × 3 channels per group", "2 groups × [3 channels per group]"}


def test_a_module_is_told_by_its_groups() -> None:
    at = {part: line(Residual, part) for part in ("self.body(x)", "self.norm(y)", "self.side(x)", "y + z")}
    text = str(converted(Residual()).why("norm"))
    first, *ways = text.splitlines()
    assert first == (
        "group body (6): norm.weight dim 0, norm.bias dim 0, norm.running_mean dim 0, norm.running_var dim 0; tied to"
    )
    way = f"batch_norm, {at['self.norm(y)']} → conv2d, {at['self.body(x)']}"
    assert ways[0] == f"    — {way} → body.weight dim 0, body.bias dim 0"
    assert not any("norm." in way for way in ways)


def test_a_module_says_what_of_it_is_frozen() -> None:
    lines = str(converted(Residual()).why("head")).splitlines()
    assert lines[0].startswith("group body (6): head.weight dim 1; tied to")
    assert lines[-1] == "frozen: model output: head.weight dim 0, head.bias dim 0"


@pytest.mark.parametrize("kind", [Residual, Joined, Shuffled, Attention, Packed])
def test_a_brief_answer_reads_as_the_whole_one(kind: type[nn.Module]) -> None:
    plan = converted(kind()).plan
    explainer = Explainer(plan)
    for name, dims in plan.layouts.items():
        slots = [Slot(name, dim) for dim in range(len(dims))]
        assert str(explainer.brief(name, slots)) == str(why(plan, name, slots))


def test_the_nearest_are_told_and_the_others_counted() -> None:
    class Long(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Conv2d(3, 8, 1, bias=False) for _ in range(40))

        def forward(self, x: Tensor) -> Tensor:
            a, *more = [layer(x) for layer in self.layers]
            for i, each in enumerate(more):
                a = (a + each) if i % 2 else (a - each)
                a = torch.mul(a, 2) if i % 3 else torch.div(a, 2)
            return a.sum(1)

    plan = converted(Long()).plan
    (brief,) = Explainer(plan).brief("layers.0.weight", [Slot("layers.0.weight", 0)]).parts
    (whole,) = why(plan, "layers.0.weight", [Slot("layers.0.weight", 0)]).parts
    assert len(whole.ties) == 39
    assert not whole.more
    assert brief.ties == whole.ties[: len(brief.ties)]
    assert len(brief.ties) + brief.more == 39


def test_the_graph_is_made_once_for_a_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    net = converted(Residual())
    made: list[Tie] = []
    join = Links._join
    monkeypatch.setattr(Links, "_join", lambda self, tie: [made.append(tie), join(self, tie)][1])
    for name in net.state_dict():
        net.why(name)
    assert not made
    frozen = freeze_groups(net.plan, {0: Reason("frozen by the proof")})
    why(frozen, "norm.bias", [Slot("norm.bias", 0)])
    assert made == list(frozen.ties.ties)


def test_a_request_ties_as_an_operator_does() -> None:
    (chain,) = converted(Joined(), tie=[("a.bias", "a.weight")]).why("a.weight.0", "a.bias").chains
    assert [step.op for step in chain.steps] == ["conv2d"]
    net = converted(Residual(), tie=[("stem.weight.0", "side.weight.1")], freeze=["head"])
    assert net.why("stem.weight.0", "side.weight.1").chains


@pytest.mark.parametrize("kind", [Residual, Joined, Shuffled, Attention])
def test_a_file_tells_the_same(kind: type[nn.Module], tmp_path: Path) -> None:
    net = converted(kind())
    netslim.save(net, tmp_path / "net.pt")
    loaded = netslim.load(tmp_path / "net.pt")
    for name in net.state_dict():
        assert net.why(name) == loaded.why(name)


@pytest.mark.parametrize("prove", [False, True])
def test_a_network_with_too_many_ties_goes_without_them(
    prove: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tie_checks, "MOST_WORK", 3)
    net = netslim.convert(Residual(), IMAGES, prove=prove)
    assert [(group.name, group.size) for group in net.groups] == [("stem", 8), ("body", 6)]
    netslim.save(net, tmp_path / "net.pt")
    for each in (net, netslim.load(tmp_path / "net.pt")):
        assert str(each.why("stem.weight", "body.weight")) == (
            "stem.weight dim 0 — by what is not known → body.weight dim 1"
        )
        assert str(each.why("stem.bias")) == (
            "stem.bias dim 0 (8): group stem, tied to\n"
            "    — by what is not known → stem.weight dim 0, body.weight dim 1, side.weight dim 1"
        )
        assert str(each.why("stem.weight", "deep.weight")).startswith("stem.weight and deep.weight are not tied")
        assert str(each.why("head.bias")) == "head.bias dim 0 (5): frozen: model output"


def test_ties_that_the_proof_leaves_wrong_are_left_out() -> None:
    plan = converted(Residual()).plan
    other = next(i for i, layout in enumerate(plan.ties.layouts) if layout != plan.ties.layouts[0])
    wrong = replace(plan.ties, ties=(*plan.ties.ties, Tie(0, other, 0, 0, 0)))
    assert explained(plan) is plan
    assert explained(replace(plan, ties=wrong)) == replace(plan, ties=Ties())


def test_modules_groups_and_dimensions_have_answers() -> None:
    net = converted(Residual())
    assert {part.place.param for part in net.why("norm").parts} == {
        "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var",
    }  # fmt: skip
    assert len(net.why("body.weight.1").parts) == 1
    with pytest.raises(SubnetError, match=r"no parameter, module or group 'boddy'; did you mean body"):
        net.why("boddy")


def test_it_is_plain_data_too() -> None:
    found = converted(Residual()).why("norm.bias")
    data = found.to_data()
    assert data["text"] == str(found)
    assert data["parts"][0]["ties"][0]["last"]["param"] in {"norm.weight", "body.weight"}
