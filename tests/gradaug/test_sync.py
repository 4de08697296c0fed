"""Two processes are one run: the gradients of the joined batch, the same weights, one exchange a step."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from .processes import LAST_SKIPS, MODES, answers, in_processes, one_step


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return in_processes(2, tmp_path_factory.mktemp("processes"), answers)


def assert_close(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], rtol=1e-9, atol=1e-11, msg=name)


@pytest.mark.parametrize("mode", MODES)
def test_two_processes_have_the_gradients_of_the_joined_batch(found: list[dict[str, Any]], mode: str) -> None:
    for process in found:
        assert_close(process[f"gradients {mode}"], one_step(mode, frozen_norms=True))


def test_a_block_that_the_last_pass_skips_keeps_its_gradient(found: list[dict[str, Any]]) -> None:
    alone = one_step("randdepth", True, LAST_SKIPS)
    assert float(alone["bodies.1.0.weight"].norm()) > 0
    assert_close(found[0]["last pass skips"], alone)


def test_norms_over_all_processes_are_those_of_the_joined_batch(found: list[dict[str, Any]]) -> None:
    alone = one_step("randwidth", frozen_norms=False)
    assert_close(found[0]["norms"], alone)
    assert_close(found[1]["norms"], alone)


@pytest.mark.parametrize("name", [*(f"steps {mode}" for mode in MODES), "own sub-networks"])
def test_processes_keep_the_same_weights_with_one_exchange_a_step(found: list[dict[str, Any]], name: str) -> None:
    (first, exchanges), (second, _) = (process[name] for process in found)
    assert exchanges == 20
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_processes_with_sub_networks_of_their_own_train_others(found: list[dict[str, Any]]) -> None:
    shared, own = found[0]["steps both"][0], found[0]["own sub-networks"][0]
    assert not any(torch.equal(shared[key], own[key]) for key in shared if key.endswith("weight"))


def test_a_parameter_without_gradient_counts_as_zeros_where_another_process_has_one(
    found: list[dict[str, Any]],
) -> None:
    for process in found:
        assert process["unused"] == [[1.5, 1.5], [2.0, 2.0], None, [2.0, 10.0]]
