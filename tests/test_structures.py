"""Outputs of classes of the model's own come out of the converted network as they come out of the model."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import netslim
from netslim.errors import ArchiveError
from netslim.ir.program import Struct
from netslim.ir.structures import maker, plain

IMAGES = torch.randn(2, 3, 8, 8)


class Answering(nn.Module):
    def __init__(self, answer: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.conv, self.head, self.answer = nn.Conv2d(3, 8, 3), nn.Linear(8, 4), answer

    def forward(self, x: Tensor) -> Any:
        features = torch.relu(self.conv(x))
        return self.answer(features, self.head(features.mean((2, 3))))


@dataclasses.dataclass
class Scores:
    logits: Tensor
    name: str = "scores"

    def __post_init__(self) -> None:
        self.calls = 1


@dataclasses.dataclass(frozen=True)
class Frozen:
    logits: Tensor


class Pair(NamedTuple):
    logits: Tensor
    features: Tensor


class Attributed(OrderedDict):  # type: ignore[type-arg]
    """Entries are attributes too, of which some are None, and None is no entry."""

    def __init__(self, **entries: Any) -> None:
        super().__init__({k: v for k, v in entries.items() if v is not None})
        vars(self).update(entries)


class Table(dict):  # type: ignore[type-arg]
    pass


class Several(list):  # type: ignore[type-arg]
    pass


class Both(tuple):  # type: ignore[type-arg]
    pass


OUTPUTS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "dataclass": lambda _, y: Scores(y),
    "frozen dataclass": lambda _, y: Frozen(y),
    "named tuple": lambda x, y: Pair(y, x),
    "attributes of a mapping": lambda _, y: Attributed(loss=None, logits=y),
    "dict": lambda x, y: Table(logits=y, more=Several([x, 2 * y])),
    "list": lambda x, y: Several([x, y]),
    "tuple": lambda x, y: Both((x, y)),
}


def assert_same(got: Any, wanted: Any) -> None:
    """Of the same classes, with the same items and attributes."""
    assert type(got) is type(wanted)
    if isinstance(wanted, Tensor):
        return torch.testing.assert_close(got, wanted)
    if isinstance(wanted, (dict, list, tuple)):
        assert len(got) == len(wanted)
    pairs = [(got[key], wanted[key]) for key in wanted] if isinstance(wanted, dict) else []
    pairs += list(zip(got, wanted, strict=True)) if isinstance(wanted, (list, tuple)) else []
    mine, yours = (getattr(each, "__dict__", {}) for each in (got, wanted))
    assert mine.keys() == yours.keys()
    for a, b in [*pairs, *((mine[name], yours[name]) for name in yours)]:
        assert_same(a, b)
    assert isinstance(wanted, (dict, list, tuple)) or yours or got == wanted
    return None


@pytest.mark.parametrize("kind", OUTPUTS)
def test_an_output_keeps_its_class_in_memory_and_from_a_file(kind: str, tmp_path: Path) -> None:
    model = Answering(OUTPUTS[kind]).eval()
    net = netslim.convert(copy.deepcopy(model), IMAGES)
    assert not net.plan.refusal
    netslim.save(net, tmp_path / "net.pt")
    for each in (net, copy.deepcopy(net), pickle.loads(pickle.dumps(net)), netslim.load(tmp_path / "net.pt")):
        assert_same(each.eval()(IMAGES), model(IMAGES))
    assert netslim.ir.inputs.every_tensor(net.extract(width=0.5)(IMAGES))


def test_a_class_that_nobody_can_import_is_kept_in_memory(tmp_path: Path) -> None:
    @dataclasses.dataclass
    class Local:
        logits: Tensor

    net = netslim.convert(Answering(lambda _, y: Local(y)), IMAGES).eval()
    assert type(net(IMAGES)) is Local
    assert not net.plan.refusal
    netslim.save(net, tmp_path / "net.pt")
    for other in (netslim.load(tmp_path / "net.pt"), pickle.loads(pickle.dumps(net.plan)) and net.extract()):
        out = other.eval()(IMAGES)
        assert type(out).__name__ == "Local"
        torch.testing.assert_close(out.logits, net(IMAGES).logits)


class Slotted:
    __slots__ = ("logits",)

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits


def test_what_is_more_than_its_items_and_attributes_leaves_the_forward_as_python() -> None:
    net = netslim.convert(Answering(lambda _, y: Slotted(y)), IMAGES).eval()
    assert "returns a Slotted" in net.plan.refusal
    assert type(net(IMAGES)) is Slotted


def test_a_mode_that_answers_by_another_class_does_so() -> None:
    class Either(Answering):
        def forward(self, x: Tensor) -> Any:
            y = self.head(self.conv(x).mean((2, 3)))
            return Scores(y) if self.training else Pair(y, y)

    net = netslim.convert(Either(lambda x, _: x), IMAGES)
    assert type(net.train()(IMAGES)) is Scores
    assert type(net.eval()(IMAGES)) is Pair


# ------------------------------------------------------------------------------------------- classes that a file names

RUN: list[str] = []


class Loud(OrderedDict):  # type: ignore[type-arg]
    """Says when any code of its own runs."""

    def __new__(cls, *_: Any) -> Loud:
        RUN.append("new")
        return super().__new__(cls)

    def __init__(self, *_: Any) -> None:
        RUN.append("init")

    def __setitem__(self, *_: Any) -> None:
        RUN.append("setitem")

    def __setattr__(self, *_: Any) -> None:
        RUN.append("setattr")


@dataclasses.dataclass
class Closing:
    """Code of it runs when it goes."""

    logits: Tensor

    def __del__(self) -> None:
        RUN.append("del")


def named(kind: str, base: str, module: str = __name__) -> Struct:
    keys, names = (("logits",), ()) if base != "object" else ((), ("logits",))
    return Struct(kind, keys, (1,), module, base, names)


def test_no_code_of_a_class_is_run_for_an_object_of_it() -> None:
    made = maker(named("Loud", "OrderedDict"))([1])
    assert type(made) is Loud
    assert dict(made) == {"logits": 1}
    assert RUN == []


@pytest.mark.parametrize(
    "struct",
    [
        named("Closing", "object"), named("Popen", "object", "subprocess"), named("Scores", "OrderedDict"),
        named("Scores", "object", "nowhere"), named("Pair", "namedtuple"), named("Answering", "object"),
    ],
    ids=str,
)  # fmt: skip
def test_a_class_that_is_not_of_data_is_another_one(struct: Struct) -> None:
    made = maker(struct)([1])
    assert type(made).__module__ != struct.module
    assert made["logits"] == 1 if isinstance(made, OrderedDict) else made.logits == 1  # type: ignore[attr-defined]
    assert RUN == []


def test_no_module_is_imported_for_a_class_that_a_file_names() -> None:
    assert "this" not in sys.modules
    maker(named("Scores", "object", "this"))([1])
    assert "this" not in sys.modules


@pytest.mark.parametrize(
    "bad",
    [
        Struct("A", (), (1,), base="object", names=("x y",)), Struct("A", (), (1,), base="object", names=()),
        Struct("A", ("x",), (1,), base="set"), Struct("A", ("x", "x"), (1, 2), base="dict"),
        Struct("A b", ("x",), (1,)), Struct("A", ("_x",), (1,)),
    ],
    ids=str,
)  # fmt: skip
def test_a_file_with_a_structure_that_is_none_is_refused(bad: Struct, tmp_path: Path) -> None:
    net = netslim.convert(Answering(lambda _, y: y), IMAGES)
    region = net.plan.regions[""]
    nodes = region.programs[True].nodes
    output = dataclasses.replace(nodes[-1], args=(bad,))
    program = dataclasses.replace(region.programs[True], nodes=(*nodes[:-1], output))
    net.plan.regions[""] = dataclasses.replace(region, programs={True: program, False: program})  # type: ignore[index]
    netslim.save(net, tmp_path / "net.pt")
    with pytest.raises(ArchiveError, match="structure"):
        netslim.load(tmp_path / "net.pt")


def test_a_plain_form_has_the_same_items() -> None:
    assert plain(Struct("Several", (0, 1), (1, 2), __name__, "list")) == [1, 2]
    assert plain(Struct("Both", (0,), (1,), __name__, "tuple")) == (1,)
