"""Two processes are one run: the gradients of the joined batch, the same weights, one exchange a step."""

from __future__ import annotations

import socket
from typing import Any

import pytest
import torch

from gradaug.distributed.processes import joined, peers
from gradaug.errors import TrainingError

from .processes import LAST_SKIPS, MODES, answers, in_processes, one_step, taught


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


def test_figures_are_summed_exactly_whatever_the_parameters_are(found: list[dict[str, Any]]) -> None:
    for process in found:
        many, none, frozen, half = process["figures"]
        assert many == [514.0, 33554434.0, 131008.0, 0.1 + 0.1, float("inf")]
        assert (none, frozen, half) == ([3.0], [6.0], [80000.0])


def test_gradients_are_averaged_without_overflow_in_any_dtype(found: list[dict[str, Any]]) -> None:
    for process in found:
        half, brain, pair, double = process["means"]
        assert half == [[60000.0, 0.5], [60000.0, 60000.0]]
        assert brain == [[256.0, 0.5], [256.0, 256.0]]
        assert pair == [[1 + 2j, 0.5], [1 + 2j, 1 + 2j]]
        assert double == [[0.1, 0.5], [0.1, 0.1]]


def test_gradients_in_several_dtypes_and_figures_are_one_exchange(found: list[dict[str, Any]]) -> None:
    assert [process["exchanges"] for process in found] == [1, 1]


def test_gradaugs_own_step_keeps_processes_equal(found: list[dict[str, Any]]) -> None:
    first, second = (process["steps by GradAug"] for process in found)
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_running_mean_is_one_network_in_all_processes(found: list[dict[str, Any]]) -> None:
    first, second = (process["running mean"] for process in found)
    assert all(torch.equal(first["buffers"][key], second["buffers"][key]) for key in first["buffers"])
    assert first["shared"] == second["shared"]
    assert first["shared"] == pytest.approx(first["alone"])


@pytest.mark.parametrize(
    "text",
    [
        "[gloo/transport/tcp/pair.cc:561] Connection closed by peer [127.0.0.1]:58504. This is typically ...",
        "[gloo/transport/tcp/unbound_buffer.cc:78] Timed out waiting 3000ms for recv operation to complete",
        "[gloo/transport/tcp/pair.cc:553] Read error [127.0.0.1]:1: Connection reset by peer",
    ],
)
def test_an_exchange_that_lost_a_process_says_so(text: str) -> None:
    with pytest.raises(TrainingError, match="another process of this run has ended or does not answer"), peers():
        raise RuntimeError(text)


def test_it_says_which_process_waited_and_what_to_do_on_several_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "3", "WORLD_SIZE": "4", "GROUP_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(TrainingError) as caught, peers():
        raise RuntimeError(
            "[/a/pair.cc:545] Read error [10.0.0.2]:58504: Connection reset by peer. This is typically caused by x."
        )
    assert str(caught.value) == (
        "process 3 of 4: another process of this run has ended or does not answer (Read error [10.0.0.2]:58504: "
        "Connection reset by peer); see its own message. Continue with --resume (on every machine), or let "
        "torchrun do it with --max-restarts"
    )


def test_processes_that_never_come_end_the_wait_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    world = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    for name, value in world.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(TrainingError, match="process 0 of 2: another process"), joined(cuda=False, patience=1):
        raise AssertionError("nobody else has come")


@pytest.mark.parametrize("error", [RuntimeError("Invalid scalar type"), ValueError("wrong"), RuntimeError("op.nbytes")])
def test_an_exchange_that_fails_for_another_reason_is_not_said_to_have_lost_one(error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)), peers():
        raise error


def test_two_processes_under_a_teacher_are_one_run(found: list[dict[str, Any]]) -> None:
    wanted, plain = taught(), taught(teacher=False)
    for process in found:
        for name, value in process["taught"].items():
            torch.testing.assert_close(value, wanted[name], rtol=1e-4, atol=1e-5, msg=name)
    away = (plain["head.weight"] - wanted["head.weight"]).abs().max()
    assert away > 100 * (found[0]["taught"]["head.weight"] - wanted["head.weight"]).abs().max()
