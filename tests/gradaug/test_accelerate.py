"""A step with Accelerate's prepared network is one over all processes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from . import accelerate_loops
from .loops import batches, by_hand
from .processes import in_processes

pytestmark = pytest.mark.filterwarnings("ignore")


def test_two_processes_are_one(tmp_path: Path) -> None:
    alone = by_hand(batches(), clip=0.5, accumulate=2)
    for found in in_processes(2, tmp_path, accelerate_loops.in_a_pair):
        torch.testing.assert_close(found, alone)
