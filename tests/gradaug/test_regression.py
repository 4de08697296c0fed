"""Numbers of an image: losses, figures and runs against what they should be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score
from torch import Tensor

import gradaug
import netslim
from gradaug.errors import DataError
from gradaug.tasks.regression import Regression, squared_loss
from netslim.errors import InputError

from . import formats
from .written_out import assert_a_step_is, batch, tiny


@pytest.mark.parametrize("outputs", [1, 3])
def test_a_step_is_the_one_written_out(outputs: int) -> None:
    net = tiny(outputs).double().train()
    images, numbers = batch(outputs)[0].double(), torch.randn(6, outputs).double()

    def squares(found: Tensor, wanted: Tensor) -> Tensor:
        return ((found - wanted) ** 2).mean()

    assert_a_step_is(net, Regression(), images, numbers, lambda output: squares(output, numbers), squares)


def test_a_number_an_image_is_never_spread_over_the_batch() -> None:
    """(N, 1) - (N,) is (N, N) to torch."""
    output, labels = torch.randn(5, 1), torch.randn(5)
    expected = ((output[:, 0] - labels) ** 2).mean()
    for found, given in ((output, labels), (output[:, 0], labels), (output[:, 0], labels[:, None])):
        torch.testing.assert_close(squared_loss(found, given), expected)
    with pytest.raises(InputError, match=r"labels of shape \(4,\) do not fit an output of shape \(5, 1\)"):
        squared_loss(output, labels[:4])


class Squeezed(torch.nn.Module):
    """One number an image, (N,)."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(1, 8, 3, padding=1)
        self.last = torch.nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x).relu().mean((2, 3))).squeeze(1)


def test_a_network_may_return_a_number_an_image() -> None:
    net = netslim.convert(Squeezed(), torch.randn(2, 1, 8, 8), prove=False)
    losses = gradaug.GradAug(net, task=Regression(), round_to=1).backward(torch.randn(4, 1, 8, 8), torch.randn(4))
    assert all(float(one) > 0 for one in losses.subnets)


def test_what_is_not_known_counts_nowhere() -> None:
    output = torch.randn(4, 2, requires_grad=True)
    numbers = torch.randn(4, 2)
    hidden = numbers.clone()
    hidden[1, 0] = hidden[3] = float("nan")
    known = ~hidden.isnan()
    loss = squared_loss(output, hidden)
    torch.testing.assert_close(loss, ((output - numbers)[known] ** 2).mean())
    loss.backward()
    assert output.grad is not None
    assert torch.equal(output.grad != 0, known)


def test_figures_are_scikit_learns_over_any_batches() -> None:
    generator = np.random.default_rng(0)
    numbers = generator.normal(50, 3, size=(30, 3))
    numbers[:, 2] = 7.0  # which does not vary
    said = numbers + generator.normal(size=(30, 3))
    task = Regression()
    meter = task.meter()
    for part in (slice(0, 7), slice(7, 30)):
        meter.add(torch.tensor(said[part]), torch.tensor(numbers[part]))
    found = meter.score()
    assert found.r2 == pytest.approx(100 * r2_score(numbers[:, :2], said[:, :2]))
    assert found.mean_error == pytest.approx(mean_absolute_error(numbers, said))
    assert found.loss == pytest.approx(mean_squared_error(numbers, said))
    assert found.images == 30
    assert task.score({}).headline == 0


def test_what_a_regression_has_no_use_for_is_refused() -> None:
    for settings in ({"label_smoothing": 0.1}, {"temperature": 2.0}, {"divergence": "alpha"}):
        with pytest.raises(InputError, match="which a regression does not have"):
            Regression.of(gradaug.TrainConfig(**settings))
    with pytest.raises(InputError, match="regression has no temperature"):
        gradaug.GradAug(tiny(1), task=Regression(), temperature=2.0)


def test_a_run_learns_numbers_of_a_table(tmp_path: Path) -> None:
    root = formats.csv_values(tmp_path / "data", train=16, val=8)
    config = gradaug.TrainConfig(
        task="regression", data=f"csv-values:{root}", epochs=4, batch_size=8, lr=0.02, labels=8, semi="mean-teacher",
        num_subnets=2, regularizers=("cutmix",), views=("cutmix",), consistency=1.0,
    )  # fmt: skip
    result = gradaug.train(tiny(1, 3, 32), config, tmp_path / "run")
    assert result.after.loss < result.before.loss
    with pytest.raises(DataError, match=r"regression needs \(1, 1\)"):
        gradaug.train(tiny(4, 3, 32), config, tmp_path / "other")
