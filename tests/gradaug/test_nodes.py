"""Two machines are one run: equal to one process; what a dead machine or a cut link leaves behind goes on exactly.

The machines are network namespaces of this one, which root may make: make nodes.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

import netslim
from gradaug.training.checkpoint import load

from .nodes import Nodes, UnavailableError, left_over, two_nodes
from .processes import Digitals
from .test_launch import wait_for_step

pytestmark = pytest.mark.nodes

SETTINGS = (
    "--mode both --alpha 0.5 --epochs 8 --batch-size 96 --round-to 1 --resolutions 8,6 --sync-bn --device cpu "
    "--checkpoint-every 1"
).split()
TIMEOUT = 15
"""Seconds that the machines wait for each other where one is going to be lost."""
PATIENCE = 300
"""Seconds after which a process counts as stuck: far more than the timeout, far less than its default."""

Said = list[str]


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    try:
        with two_nodes() as made:
            yield made
    except UnavailableError as error:
        pytest.skip(str(error))
    assert not left_over()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A converted network whose training does not depend on how a batch is cut: no dropout."""
    torch.manual_seed(3)
    model = Digitals()
    model.drop.p = 0.0
    path = tmp_path_factory.mktemp("plain") / "converted.pt"
    netslim.save(netslim.convert(model, torch.randn(2, 1, 8, 8)), path)
    return path


def training(model: Path, out: Path, *more: str) -> list[str]:
    return ["train", "--model", str(model), "--out", str(out), *SETTINGS, *more]


def ended(processes: Sequence[subprocess.Popen[str]]) -> Said:
    """What each of them said on stderr; fails where one is stuck."""
    return [" ".join(process.communicate(timeout=PATIENCE)[1].split()) for process in processes]


def weights(out: Path) -> dict[str, Tensor]:
    return load(out / "checkpoint.pt").model


@pytest.fixture(scope="module")
def undisturbed(nodes: Nodes, plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    with nodes.run(training(plain, out)) as both:
        said = ended(both)
    assert [process.returncode for process in both] == [0, 0], said
    return out


def test_two_machines_come_to_the_weights_of_one_process(nodes: Nodes, plain: Path, tmp_path: Path) -> None:
    """After an epoch: rounding, which is another where a sum is cut in two, grows with every step."""
    first, second = tmp_path / "first", tmp_path / "second"
    with nodes.run(training(plain, second, "--epochs", "1")) as both:
        said = ended(both)
    assert [process.returncode for process in both] == [0, 0], said
    assert "2 processes (cpu)" in said[0]
    command = [sys.executable, "-m", "gradaug", *training(plain, first, "--epochs", "1")]
    subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE)
    one, two, start = weights(first), weights(second), netslim.load(plain).state_dict()
    furthest = max(float((one[name] - two[name]).abs().max() / one[name].abs().max()) for name in one)
    print(f"\nequal: weights differ by at most {furthest:.1e} of the largest")
    assert not any(torch.allclose(one[name], start[name], rtol=0.01) for name in one if name.endswith("weight"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-4, atol=1e-5, msg=name)


def kill(node: int) -> Callable[[Nodes], None]:
    return lambda nodes: nodes.kill(node)


@pytest.mark.parametrize(
    ("fault", "left", "reason"),
    [
        pytest.param(kill(0), (1,), "", id="the first machine is dead"),
        pytest.param(kill(1), (0,), "", id="the second machine is dead"),
        pytest.param(Nodes.cut, (0, 1), f"Timed out waiting {TIMEOUT}000ms", id="the link is cut"),
    ],
)
def test_the_others_end_in_a_sentence_and_a_resume_goes_on_exactly(
    nodes: Nodes,
    plain: Path,
    undisturbed: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    fault: Callable[[Nodes], None],
    left: Sequence[int],
    reason: str,
) -> None:
    out = tmp_path / "run"
    with nodes.run(training(plain, out, "--dist-timeout", str(TIMEOUT))) as both:
        wait_for_step(out, 3)
        began = time.monotonic()
        fault(nodes)
        said = ended([both[node] for node in left])
        seconds = time.monotonic() - began
    nodes.join()
    print(f"\n{request.node.callspec.id}: ended after {seconds:.1f} s")
    for node, text in zip(left, said, strict=True):
        assert both[node].returncode == 1
        assert text.count(f"error: process {node} of 2: another process of this run has ended or does not answer") == 1
        assert reason in text
        assert "This is a bug" not in text
        assert "gradaug/distributed" not in text  # torchrun's own traceback alone
    assert 3 <= load(out / "checkpoint.pt").step < 8 * (1437 // 96)
    with nodes.run(training(plain, out, "--resume")) as both:
        said = ended(both)
    assert [process.returncode for process in both] == [0, 0], said
    first, second = weights(out), weights(undisturbed)
    assert all(torch.equal(first[name], second[name]) for name in first)
