"""Running the commands as the shell would, in this process or in one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

Run = Callable[..., Result]

NET = """
import torch
import torch.nn.functional as F
from torch import nn


class Tiny(nn.Module):
    def __init__(self, classes=10):
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.body = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(16, classes)

    def forward(self, x):
        x = F.relu(self.norm(self.stem(x)))
        x = torch.cat([x, self.body(x)], 1)
        return self.head(x.mean((2, 3)))
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `netslim ARGUMENTS` in an empty folder."""
    from netslim_cli.main import netslim

    monkeypatch.chdir(tmp_path)

    def run_it(*arguments: str | Path) -> Result:
        return CliRunner().invoke(netslim, [str(argument) for argument in arguments])

    return run_it


@pytest.fixture
def source(tmp_path: Path) -> str:
    """A small model, for images 1x12x12."""
    (tmp_path / "mymodel.py").write_text(NET)
    return "mymodel.py"


@pytest.fixture
def converted(run: Run, source: str) -> str:
    """That model, converted."""
    assert run("convert", source, "--input-shape", "1,12,12").exit_code == 0
    return "converted.pt"


@pytest.fixture
def python() -> Callable[[str], str]:
    """Runs a program in a fresh interpreter and returns what it prints."""

    def run_it(program: str) -> str:
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=os.environ)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run_it
