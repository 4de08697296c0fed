"""What converting draws is its own: the caller's random numbers go on as they were, and nobody's are drawn again."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import netslim
from netslim.trace.randomness import own_random_numbers

IMAGES = torch.ones(2, 3, 8, 8)
TORCH: dict[str, Callable[[Tensor], object]] = {
    "rand": lambda _: torch.rand(4),
    "rand_like": torch.rand_like,
    "randn": lambda _: torch.randn(2, 3, dtype=torch.float64),
    "randint": lambda _: (torch.randint(9, (3,)), torch.randint(2, 9, (3,))),
    "randperm": lambda _: torch.randperm(5),
    "in place": lambda x: (x.clone().uniform_(), x.clone().normal_(), x.clone().bernoulli_(0.5), x.clone().random_()),
    "distributions": lambda x: (torch.poisson(x), torch.multinomial(x[0, 0, 0], 3), torch.normal(x, 1.0)),
    "dropout": lambda x: (F.dropout(x), F.dropout2d(x), F.feature_alpha_dropout(x, training=True)),
    "rrelu": lambda x: F.rrelu(-x, training=True),
    "attention": lambda x: F.scaled_dot_product_attention(x, x, x, dropout_p=0.5),
    "recurrent": lambda x: nn.LSTM(8, 4, 2, dropout=0.5)(x[:, 0])[0],
    "layer": lambda _: nn.Linear(3, 3).weight,
    "seeds": lambda _: (torch.manual_seed(2), torch.rand(1), torch.seed(), torch.random.manual_seed(3)),
    "native": lambda x: torch.native_dropout(x, 0.5, True),
}
PYTHON: dict[str, Callable[[Tensor], object]] = {
    "random": lambda _: (random.random(), random.choice([1, 2, 3]), random.shuffle([1, 2])),
    "seed": lambda _: (random.seed(1), np.random.seed(1)),
    "numpy": lambda _: (np.random.rand(3), np.random.randint(9), np.random.permutation(5)),
}


def state() -> tuple[object, ...]:
    kind, words, *rest = np.random.get_state()
    return torch.get_rng_state().tolist(), random.getstate(), kind, words.tolist(), rest


@pytest.mark.parametrize("graded", [True, False], ids=["training", "inference"])
@pytest.mark.parametrize("name", [*TORCH, *PYTHON])
def test_the_global_generators_stay_where_they_are(name: str, graded: bool) -> None:
    before = state()
    with torch.inference_mode(not graded), own_random_numbers():
        (TORCH | PYTHON)[name](IMAGES)
    assert state() == before


def test_every_entry_starts_from_the_same_numbers_also_inside_another() -> None:
    def some() -> tuple[object, ...]:
        with own_random_numbers():
            return F.dropout(IMAGES).tolist(), torch.rand(2).tolist(), random.random(), np.random.rand()

    first = some()
    with own_random_numbers():
        torch.rand(3), random.random()
        assert some() == first
        outer = torch.rand(2).tolist(), random.random()
        some()
        assert (torch.rand(2).tolist(), random.random()) != outer


def test_a_model_may_seed_and_rewind_its_own_numbers() -> None:
    torch.manual_seed(5)
    wanted = torch.rand(3)
    with own_random_numbers():
        torch.manual_seed(5)
        with torch.random.fork_rng(devices=[]):
            assert torch.equal(torch.rand(3), wanted)
        assert torch.initial_seed() == 5
        assert torch.equal(torch.rand(3), wanted)


def test_a_generator_that_is_given_is_used() -> None:
    wanted = torch.rand(3, generator=torch.Generator().manual_seed(5))
    with own_random_numbers():
        assert torch.equal(torch.rand(3, generator=torch.Generator().manual_seed(5)), wanted)


def test_functions_are_back_when_the_last_is_out() -> None:
    functions = random.random, random.seed, np.random.rand, torch.manual_seed
    with own_random_numbers():
        assert random.random is not functions[0]
    assert (random.random, random.seed, np.random.rand, torch.manual_seed) == functions


class Drawing(nn.Module):
    """Draws in every way while it is followed and run, and lets another thread draw in the midst of it."""

    def __init__(self, meanwhile: Callable[[], object]) -> None:
        super().__init__()
        self.conv, self.head, self.meanwhile = nn.Conv2d(3, 8, 3), nn.Linear(8, 4), meanwhile

    def forward(self, x: Tensor) -> Tensor:
        torch.rand(2), random.random(), np.random.rand()
        self.meanwhile()
        return self.head(F.dropout(self.conv(x), training=self.training).mean((2, 3)))


def test_no_thread_draws_the_same_again_because_another_converts() -> None:
    found: list[tuple[float, float, float]] = []

    def draw() -> None:
        found.append((torch.rand(()).item(), random.random(), np.random.rand()))

    with ThreadPoolExecutor(1) as pool:
        model = Drawing(lambda: pool.submit(draw).result())
        torch.manual_seed(1), random.seed(1), np.random.seed(1)
        netslim.convert(model, IMAGES)
        drawn = len(found)
        draw()
        together = list(found)
        found.clear()
        torch.manual_seed(1), random.seed(1), np.random.seed(1)
        for _ in together:
            draw()
    assert drawn > 2
    assert together == found
