"""What every test needs: one thread per worker (pytest-xdist runs one worker per core)."""

from __future__ import annotations

import os

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"  # also for the commands that tests start, whatever the machine says

import pytest
import torch

from netslim.engine import Engine

torch.set_num_threads(1)
Engine.strict = True  # a rule that does not cover a use is an error here, and a frozen axis for a user


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    """A test does not depend on the tests before it."""
    torch.manual_seed(0)
