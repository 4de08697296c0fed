"""A process in which netslim does not exist, and what a network from a file does there.

A test asks `played_elsewhere`, this file run as a script answers: a line with a folder comes in, its network is loaded
and played, the outcome is put beside it.
"""

from __future__ import annotations

import atexit
import functools
import runpy
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

MODES = (False, True, True, False)
"""In which a network is played, one after the other: what training changes, and that it ends with training."""


def play(module: nn.Module, inputs: Sequence[Any], modes: Sequence[bool] = MODES) -> list[dict[str, Any]]:
    """Runs with the same random numbers in each mode: outputs, gradients of their squares, and buffers afterwards."""
    found = []
    for mode in modes:
        module.train(mode).zero_grad()
        torch.manual_seed(7)
        output = module(*inputs)
        learns = [out for out in tensors(output) if out.grad_fn is not None]
        if learns:
            torch.stack([out.abs().square().mean() for out in learns]).sum().backward()
        gradients = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
        buffers = {name: buffer.clone() for name, buffer in module.named_buffers() if buffer is not None}
        found.append({"output": detached(output), "gradients": gradients, "buffers": buffers})
    return found


def tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return [found for item in items for found in tensors(item)]


def detached(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, dict):
        return type(value)((key, detached(item)) for key, item in value.items())
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(detached, value))
    return type(value)(map(detached, value)) if isinstance(value, (list, tuple)) else value


def played_elsewhere(path: Path, inputs: Sequence[Any], modes: Sequence[bool] = MODES) -> list[dict[str, Any]]:
    """What the network in a .pt file, or in a folder with model.py, does where netslim cannot be imported."""
    asked, answer = path.with_name("asked.bin"), path.with_name("answer.bin")
    torch.save((str(path), list(inputs), list(modes), torch.get_num_threads()), asked)
    worker = _worker()
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write(f"{asked}\n")
    worker.stdin.flush()
    said = worker.stdout.readline().strip()
    assert said == "done", said
    found: list[dict[str, Any]] = torch.load(answer, weights_only=False)
    return found


@functools.cache
def _worker() -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "ignore", __file__]
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(_end, worker)
    return worker


def _end(worker: subprocess.Popen[str]) -> None:
    for stream in (worker.stdin, worker.stdout):
        assert stream is not None
        stream.close()
    worker.wait(30)


class _NoNetslim:
    """An import hook to which our packages do not exist."""

    @staticmethod
    def find_spec(name: str, *_: Any) -> None:
        if name.partition(".")[0] in ("netslim", "gradaug", "netslim_cli"):
            raise ModuleNotFoundError(f"No module named {name!r}, here")


def _load(path: Path) -> nn.Module:
    return runpy.run_path(str(path / "model.py"))["load"]() if path.is_dir() else torch.load(path, weights_only=False)


def _serve() -> None:
    sys.meta_path.insert(0, _NoNetslim)  # type: ignore[arg-type]
    for line in sys.stdin:
        asked = Path(line.strip())
        try:
            path, inputs, modes, threads = torch.load(asked, weights_only=False)
            torch.set_num_threads(threads)
            torch.save(play(_load(Path(path)), inputs, modes), asked.with_name("answer.bin"))
            assert not [name for name in sys.modules if name.partition(".")[0] in ("netslim", "gradaug")]
        except BaseException as error:
            print(f"{type(error).__name__}: {' '.join(str(error).split())}", flush=True)
        else:
            print("done", flush=True)


if __name__ == "__main__":
    _serve()
