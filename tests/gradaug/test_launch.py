"""``gradaug train --gpus``: several processes as one run, which survives the loss of one of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from gradaug.distributed import launch
from gradaug.training.checkpoint import load

SETTINGS = "--mode both --alpha 0.5 --epochs 8 --batch-size 96 --round-to 1 --resolutions 8,6 --checkpoint-every 1"
TWO = "--gpus 2 --device cpu"


def start(model: Path, out: Path, options: str = TWO, fault: str = "") -> subprocess.Popen[str]:
    """`fault`: ACTION RANK STEP, as injected/sitecustomize.py takes it."""
    command = [sys.executable, "-m", "gradaug", "train", "--model", str(model), "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if fault:
        environment |= {"FAULT": f"{fault} {out}.happened", "PYTHONPATH": str(Path(__file__).parent / "injected")}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*command, *SETTINGS.split(), *options.split()], env=environment, **pipes)


def worker(out: Path, rank: int) -> int:
    """The process id of a rank of the run in `out`."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            ours = str(out).encode() in (path / "cmdline").read_bytes()
            if ours and f"\0RANK={rank}\0".encode() in (path / "environ").read_bytes():
                return int(path.name)
        except OSError:  # it has ended
            continue
    raise AssertionError(f"no process of rank {rank}")


def wait_for_step(out: Path, step: int) -> None:
    for _ in range(30_000):
        if (out / "checkpoint.pt").exists() and load(out / "checkpoint.pt").step >= step:
            return
        time.sleep(0.02)
    raise AssertionError(f"no checkpoint of step {step}")


@pytest.fixture(scope="module")
def undisturbed(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """The folder of a run in two processes, and what it said."""
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    with start(model, out) as run:
        result, progress = run.communicate()
    assert run.returncode == 0, progress
    return out, result, progress


def test_one_process_speaks_for_all(undisturbed: tuple[Path, str, str]) -> None:
    out, result, progress = undisturbed
    assert result.count("validation top-1") == 1
    assert progress.count("2 processes (cpu)") == 1
    assert progress.count("epoch 8/8") == 1
    assert json.loads((out / "result.json").read_text())["steps"] == 8 * (1437 // 96)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_run_that_loses_a_process_is_started_again_and_goes_on(
    model: Path, undisturbed: tuple[Path, str, str], tmp_path: Path, rank: int
) -> None:
    with start(model, tmp_path / "run", f"{TWO} --max-restarts 1", f"kill {rank} 4") as run:
        _, progress = run.communicate()
    assert run.returncode == 0, progress
    assert (tmp_path / "run.happened").exists()
    first, second = (load(out / "checkpoint.pt").model for out in (undisturbed[0], tmp_path / "run"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_without_restarts_the_loss_of_a_process_ends_the_run_with_a_sentence(model: Path, tmp_path: Path) -> None:
    with start(model, tmp_path / "run", TWO, "kill 1 4") as run:
        _, said = run.communicate()
    assert run.returncode == 1
    assert "process 1 of 2 ended with signal 9" in " ".join(said.split())
    assert "Traceback" not in said


def test_a_users_mistake_is_told_once(model: Path, tmp_path: Path) -> None:
    with start(model, tmp_path / "run", f"{TWO} --data cifra10") as run:
        _, said = run.communicate()
    assert run.returncode == 1
    assert said.count("unknown data 'cifra10'") == 1
    assert "Traceback" not in said


def test_sigterm_stops_all_processes_together(model: Path, undisturbed: tuple[Path, str, str], tmp_path: Path) -> None:
    out = tmp_path / "run"
    with start(model, out, TWO, "terminate 0 4") as run:
        _, said = run.communicate()
    assert run.returncode == 128 + signal.SIGTERM, said
    assert "go on with --resume" in " ".join(said.split())
    assert "Traceback" not in said
    assert 4 <= load(out / "checkpoint.pt").step <= 6
    with start(model, out, f"{TWO} --resume") as run:
        _, said = run.communicate()
    assert run.returncode == 0, said
    first, second = (load(folder / "checkpoint.pt").model for folder in (undisturbed[0], out))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_control_c_ends_all_processes_in_one_sentence(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with start(model, out, f"{TWO} --epochs 1000") as run:
        wait_for_step(out, 3)
        workers = [worker(out, rank) for rank in (0, 1)]
        run.send_signal(signal.SIGINT)
        _, said = run.communicate()
    assert run.returncode == 130
    assert said.splitlines()[-1] == "stopped"
    assert not any(word in said for word in ("Traceback", "error", "signal"))
    wait_for_end(workers)


def test_processes_end_with_their_launcher_and_the_folder_is_free_again(
    model: Path, undisturbed: tuple[Path, str, str], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with start(model, out, f"{TWO} --epochs 1000") as run:
        wait_for_step(out, 3)
        workers = [worker(out, rank) for rank in (0, 1)]
        with start(model, out, f"{TWO} --overwrite") as second:
            _, said = second.communicate()
        assert second.returncode == 1
        assert f"another run (process {workers[0]} on" in " ".join(said.split())
        run.kill()
        wait_for_end(workers)
        run.communicate()
    step = load(out / "checkpoint.pt").step
    with start(model, out, f"{TWO} --resume --epochs 1000") as run:
        wait_for_step(out, step + 1)
        run.send_signal(signal.SIGTERM)
        run.communicate()
    assert run.returncode == 128 + signal.SIGTERM


def wait_for_end(processes: list[int]) -> None:
    """Until none of them runs."""
    for _ in range(3000):
        if not any(is_running(process) for process in processes):
            return
        time.sleep(0.02)
    raise AssertionError("they go on")


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("codes", "rank"),
    [
        ({0: 1, 1: -9}, 1),
        ({0: -9, 1: 1}, 0),
        ({0: 1, 1: -6}, 0),
        ({0: -15, 1: 1}, 1),
        ({0: 1, 1: 1}, 0),
        ({0: 143, 1: 1}, 1),
    ],
)
def test_the_process_that_was_killed_is_named_not_one_that_missed_it(codes: dict[int, int], rank: int) -> None:
    """All failures seen at one look have the same time."""
    failures = {r: ProcessFailure(r, 100 + r, code, "") for r, code in codes.items()}
    for failure in failures.values():
        failure.timestamp = 7 if failure.exitcode != -15 else 8
    assert launch._cause(ChildFailedError("gradaug", failures))[0] == rank
