"""What every test needs: one thread per worker (pytest-xdist runs one worker per core)."""

from __future__ import annotations

import functools
import inspect
import logging
import os
from collections.abc import Iterator

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"  # also for the commands that tests start, whatever the machine says

MORE = int(os.environ.get("NETSLIM_EXAMPLES", "0"))  # so many random examples, other ones every time

import pytest
import torch
from click.testing import CliRunner
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)

settings.register_profile("same", derandomize=True, database=None, deadline=None, suppress_health_check=HealthCheck)
settings.register_profile("others", max_examples=MORE or 100, database=None, deadline=None)
settings.load_profile("others" if MORE else "same")  # no test hangs on the luck of a draw

if "mix_stderr" in inspect.signature(CliRunner).parameters:  # click 8.1, which joins the streams unless it is asked
    CliRunner.__init__ = functools.partialmethod(CliRunner.__init__, mix_stderr=False)  # type: ignore[assignment]


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    """A test does not depend on the tests before it."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def failed_rules() -> Iterator[list[str]]:
    """No rule may fail, for which a user gets frozen axes and no error; a test that wants one to clears the list."""
    failed: list[str] = []
    log, handler = logging.getLogger("netslim.layouts.engine"), logging.Handler()
    handler.emit = lambda record: failed.append(handler.format(record))  # type: ignore[method-assign]
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    yield failed
    log.removeHandler(handler)
    assert not failed, failed[0]
