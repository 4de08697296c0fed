"""What operators give of tensors without values is remembered, and is what they give."""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import netslim
from netslim.errors import InputError
from netslim.ir.refusals import refused
from netslim.layouts import forms
from netslim.net.runtime import runtime

aten = torch.ops.aten
META = {"device": "meta"}


def form(tensor: object) -> tuple[object, ...]:
    assert isinstance(tensor, Tensor)
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device.type


@pytest.fixture
def counted() -> Callable[[], int]:
    """How many calls' results have been worked out anew."""
    forms._worked_out.cache_clear()
    return lambda: forms._worked_out.cache_info().misses


def test_results_have_the_form_that_torch_gives_them() -> None:
    x, w = torch.empty(2, 3, 8, 8, **META).to(memory_format=torch.channels_last), torch.empty(4, 3, 3, 3, **META)
    calls = [
        (aten.convolution.default, (x, w, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1)),
        (aten.add.Tensor, (x, 1)),
        (aten.add.Tensor, (torch.empty(3, dtype=torch.int64, **META), 1.5)),
        (aten.mul.Tensor, (x, x.transpose(2, 3))),
        (aten.sum.dim_IntList, (x, [2, 3], True)),
    ]
    for func, args in calls:
        for _ in range(2):
            assert form(forms.executed(func, args, {})) == form(func(*args))


def test_the_same_form_is_worked_out_once(counted: Callable[[], int]) -> None:
    for _ in range(3):
        forms.executed(aten.relu.default, (torch.empty(2, 5, **META),), {})
    assert counted() == 1
    forms.executed(aten.relu.default, (torch.empty(2, 6, **META),), {})
    assert counted() == 2


def test_what_is_written_in_place_is_worked_out_once_for_all_sizes(counted: Callable[[], int]) -> None:
    for size in (2, 5, 7):
        x = torch.empty(size, 3, **META)
        assert forms.executed(aten.hardswish_.default, (x,), {}) is x
        assert forms.executed(aten.hardtanh_.default, (x, 0.0, 6.0), {}) is x
        assert form(x)[:2] == ((size, 3), (3, 1))
    assert counted() == 2
    for size in (2, 5):
        x = torch.empty(size, 3, **META)
        assert forms.executed(aten.add_.Tensor, (x, torch.empty(3, **META)), {}) is x
    assert counted() == 4


def test_what_cannot_be_written_in_place_is_refused_at_its_size() -> None:
    whole, floats = torch.empty(3, dtype=torch.int64, **META), torch.empty(2, 3, **META)
    refused = [
        (aten.add_.Tensor, (torch.empty(3, **META), floats)),  # broadcasting would make it larger
        (aten.add_.Tensor, (whole, torch.empty(3, **META))),  # floats into whole numbers
        (aten.cumsum_.default, (floats, 2)),  # it has no such dimension
        (aten.tril_.default, (torch.empty(3, **META),)),
    ]
    for func, args in refused:
        forms.executed(aten.cumsum_.default, (floats, 1), {})
        forms.executed(aten.tril_.default, (floats,), {})
        with pytest.raises((RuntimeError, IndexError)):
            forms.executed(func, args, {})


def test_what_changes_the_size_of_its_argument_does_so_every_time() -> None:
    for _ in range(2):
        x = torch.empty(2, 1, 3, **META)
        assert forms.executed(aten.squeeze_.dim, (x, 1), {}) is x
        assert forms.executed(aten.t_.default, (x,), {}) is x
        assert form(x)[:2] == ((3, 2), (1, 3))


def test_one_and_true_and_one_point_zero_are_three_arguments() -> None:
    whole = torch.empty(3, dtype=torch.int64, **META)
    found = [forms.executed(aten.mul.Tensor, (whole, factor), {}) for factor in (1, True, 1.0)]
    assert [form(t)[2] for t in found] == [torch.int64, torch.int64, torch.float32]


def test_a_result_that_shares_memory_with_an_argument_goes_on_sharing_it() -> None:
    x = torch.empty(2, 3, **META)
    for func, args in ((aten.dropout.default, (x, 0.5, False)), (aten.contiguous.default, (x,))):
        for _ in range(2):
            out = forms.executed(func, args, {})
            assert isinstance(out, Tensor)
            assert out.untyped_storage()._cdata == x.untyped_storage()._cdata


def test_tensors_with_values_are_computed_with() -> None:
    out = forms.executed(aten.relu.default, (torch.tensor([-1.0, 2.0]),), {})
    assert isinstance(out, Tensor)
    assert out.tolist() == [0.0, 2.0]


def test_a_conversion_leaves_the_collector_as_it_was() -> None:
    netslim.convert(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)), torch.randn(2, 3, 8, 8))
    assert gc.get_freeze_count() == 0
    gc.freeze()
    try:
        netslim.convert(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)), torch.randn(2, 3, 8, 8))
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


class FixedRows(nn.Module):
    """Takes any number of columns, and one number of rows."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.rows = nn.Conv2d(3, 8, 3, padding=1), nn.Parameter(torch.randn(8, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + self.rows


def test_sizes_that_a_program_was_not_recorded_for_are_told_without_running_it() -> None:
    net = netslim.convert(FixedRows(), torch.randn(2, 3, 8, 16))
    whole = runtime(net).plan.whole
    assert whole is not None
    taken = {
        shape: not refused(whole.programs[False], [shape])
        for shape in ((2, 3, 8, 16), (5, 3, 8, 40), (2, 3, 16, 16), (1, 3, 4, 16))
    }
    for shape, expected in taken.items():
        try:
            net(torch.randn(shape))
            runs = True
        except InputError:
            runs = False
        assert runs == expected, shape
    assert set(taken.values()) == {True, False}


class OnlyInTraining(nn.Module):
    """In training, many images take another step than few."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(x).mean((2, 3))
        if self.training and len(list(x)) > 500:
            h = h * 2
        return self.head(h)


def test_a_step_that_training_takes_on_many_images_alone_is_met() -> None:
    torch.manual_seed(0)
    model = OnlyInTraining()
    net = netslim.convert(model, torch.randn(2, 3, 8, 8))
    for count in (2, 600):
        images = torch.randn(count, 3, 8, 8)
        for mode in (True, False):
            assert torch.allclose(net.train(mode)(images), model.train(mode)(images), atol=1e-5)


class Counting(nn.BatchNorm2d):
    """Written out in Python, as many libraries have it."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        return nn.functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, self.training)


class Shifted(Counting):
    """What it counts matters to what it gives."""

    def forward(self, x: Tensor) -> Tensor:
        counted = super().forward(x)
        return counted + self.num_batches_tracked if self.training else counted


@pytest.mark.parametrize(("norm", "expected"), [(Counting, True), (Shifted, False), (nn.BatchNorm2d, True)])
def test_counters_alone_do_not_make_training_another_computation(norm: type[nn.Module], expected: bool) -> None:
    body = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), norm(8))
    net = netslim.convert(nn.Sequential(nn.Conv2d(3, 8, 3), norm(8), Residual(body)), torch.randn(2, 3, 8, 8))
    whole = runtime(net).plan.whole
    assert whole is not None
    assert whole.alike is expected
    assert whole.same is (norm is nn.BatchNorm2d)


class Residual(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)
