"""Shapes that models and files offer, and the example inputs made from them."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

import netslim
from netslim.archive.literals import value_data, value_from
from netslim.errors import InputError
from netslim.export import WRITERS
from netslim.ir.inputs import Input, described, drawn
from netslim.notes import NONE, Notes
from netslim.source.shapes import example_inputs, offered_shapes, shown


def test_example_inputs_are_two_images_and_always_the_same() -> None:
    first, second = example_inputs(((3, 8, 8),)), example_inputs(((3, 8, 8),))
    assert isinstance(first, torch.Tensor)
    assert isinstance(second, torch.Tensor)
    assert first.shape == (2, 3, 8, 8)
    assert torch.equal(first, second)


def test_several_inputs_are_a_tuple() -> None:
    assert [tuple(t.shape) for t in example_inputs(((3, 8, 8), (5,)))] == [(2, 3, 8, 8), (2, 5)]


@pytest.mark.parametrize(
    ("value", "shapes"),
    [((1, 32, 32), ((1, 32, 32),)), ([3, 8], ((3, 8),)), (((3, 8, 8), (5,)), ((3, 8, 8), (5,)))],
)
def test_a_file_offers_one_shape_or_several(value: Any, shapes: Any) -> None:
    module = ModuleType("m")
    module.INPUT_SHAPE = value  # type: ignore[attr-defined]
    assert offered_shapes(module, nn.Linear(1, 1)) == shapes


def test_a_model_offers_its_own_or_timms() -> None:
    model = nn.Linear(1, 1)
    assert offered_shapes(None, model) is None
    model.default_cfg = {"input_size": (3, 96, 96)}  # type: ignore[assignment]
    assert offered_shapes(None, model) == ((3, 96, 96),)
    model.input_shape = (1, 8, 8)  # type: ignore[assignment]
    assert offered_shapes(None, model) == ((1, 8, 8),)


@pytest.mark.parametrize("value", ["3,8,8", (3, None), (0, 8), 32, ((3, 8), "x")])
def test_what_is_no_shape_is_said(value: Any) -> None:
    module = ModuleType("m")
    module.input_shape = value  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="write sizes without the batch dimension"):
        offered_shapes(module, nn.Linear(1, 1))


def test_shapes_are_shown_as_they_are_typed() -> None:
    assert shown(((3, 224, 224), (5,))) == "3,224,224 and 5"


COUNTING = {
    "lengths": torch.tensor([3, 9, 4, 9]),
    "lengths that fall": torch.tensor([12, 9, 4, 2]),
    "offsets": torch.tensor([0, 3, 5, 5]),
    "a mask of ones": torch.ones(2, 5, dtype=torch.bool),
    "padding on the right": torch.tensor([[1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1]]),
    "padding on the left": torch.tensor([[False, True, True], [False, False, True]]),
    "below zero": torch.tensor([[-7, -2], [-2, -5]]),
    "one number": torch.tensor(4),
    "the largest": torch.tensor([2**63 - 1, 0]),
}


@pytest.mark.parametrize("name", COUNTING)
def test_whole_numbers_are_drawn_as_the_example_could_be(name: str) -> None:
    example = COUNTING[name]
    form = described(example)
    seen = set()
    for seed in range(20):
        found = drawn({"x": form}, torch.Generator().manual_seed(seed))["x"]
        seen.add(tuple(found.flatten().tolist()))
        assert (found.shape, found.dtype) == (example.shape, example.dtype)
        assert int(found.min()) == int(example.min())
        assert int(found.max()) == int(example.max())
        steps = found.long().diff() if found.dim() else torch.zeros(1)
        assert bool((form.order * steps >= 0).all())
        assert not form.order or bool(found.long().amax(-1).eq(int(example.max())).all())
    assert len(seen) > 1 or example.unique().numel() < 3


@pytest.mark.parametrize("name", COUNTING)
def test_what_was_found_of_whole_numbers_is_in_the_file(name: str) -> None:
    form = described(COUNTING[name])
    assert value_from(value_data(form)) == form


def test_a_file_cannot_say_that_the_smallest_number_is_above_the_largest() -> None:
    with pytest.raises(ValueError, match="smallest value is above its largest"):
        value_from(value_data(Input((2,), torch.int64, high=1, low=2)))


# ---------------------------------------------------------------------------------- arguments that are left out


class Optional(nn.Module):
    """Arguments with defaults before and after the one that the example gives by name."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 4)

    def forward(self, x: Any, mask: Any = None, labels: Any = None, double: bool = False, *, scale: float = 1.0) -> Any:
        h = self.conv(x).relu()
        logits = self.head((h if mask is None else h * mask).mean((2, 3))) * scale
        logits = logits * 2 if double else logits
        return logits if labels is None else nn.functional.cross_entropy(logits, labels)


IMAGES, LABELS = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([1, 2])


@pytest.fixture(scope="module", params=["network", "loaded", "extracted"])
def forms(request: Any, tmp_path_factory: Any) -> Any:
    """The model, and what was made of it: from an example of images alone, and from one with labels by name."""
    model, path = Optional(), tmp_path_factory.mktemp("forms") / "net.pt"
    made = []
    for example in (IMAGES, {"x": IMAGES, "labels": LABELS}):
        net = netslim.convert(model, example)
        netslim.save(net, path)
        made.append({"network": net, "loaded": netslim.load(path), "extracted": net.extract(1.0)}[request.param])
    return model, *made


@pytest.mark.parametrize(
    ("args", "named"),
    [((), {}), ((None,), {}), ((), {"labels": None}), ((None, None, False), {}), ((), {"double": False, "scale": 1.0})],
)
def test_a_default_may_be_given_or_left_out(forms: Any, args: Any, named: Any) -> None:
    model, plain, labelled = forms
    assert torch.equal(plain(IMAGES, *args, **named), model(IMAGES, *args, **named))
    if len(args) < 2 and "labels" not in named:
        named = {**named, "labels": LABELS}
        assert torch.equal(labelled(IMAGES, *args, **named), model(IMAGES, *args, **named))


@pytest.mark.parametrize(
    ("args", "named"),
    [((torch.ones(1),), {}), ((LABELS,), {}), ((None, LABELS), {}), ((), {"double": True}), ((), {"scale": 2.0})],
)
def test_another_value_than_the_default_is_refused(forms: Any, args: Any, named: Any) -> None:
    with pytest.raises((InputError, TypeError), match=r"argument '?(mask|labels|double|scale)'? is "):
        forms[1](IMAGES, *args, **named)


@pytest.mark.parametrize(("args", "named"), [((), {}), ((LABELS,), {}), ((), {"labels": None})])
def test_what_the_example_gave_is_wanted_in_its_own_place(forms: Any, args: Any, named: Any) -> None:
    with pytest.raises((InputError, TypeError), match=r"argument '?(mask|labels)'? is "):
        forms[2](IMAGES, *args, **named)


def test_every_form_of_file_takes_arguments_in_the_models_places(tmp_path: Any) -> None:
    net = netslim.convert(Optional(), {"x": IMAGES, "labels": LABELS})
    for suffix, writer in WRITERS.items():
        path = tmp_path / f"small{suffix}"
        assert writer.write(net.extract(0.5), net.plan.inputs, path, Notes(0.5, 1, (), True, ((3, 8, 8), ()), NONE))
