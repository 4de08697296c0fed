"""The notebooks run from top to bottom, and show what they gave when they last did."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
MACHINE = re.compile(r"/(?:home|root|tmp|usr|Users)/|[A-Z]:\\\\|ipykernel")
"""What a path of the machine that ran a notebook begins with."""
LARGEST = 200_000


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_runs(path: Path) -> None:
    NotebookClient(nbformat.read(path, as_version=4), timeout=None, kernel_name="python3").execute()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_has_its_outputs_and_nothing_of_the_machine(path: Path) -> None:
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert outputs
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    assert not MACHINE.search(json.dumps(outputs))
    assert path.stat().st_size < LARGEST


def test_a_path_of_the_machine_would_be_noticed() -> None:
    for path in ("/tmp/ipykernel_31/4.py", "/home/me/x.py", "C:\\\\Users", "/root/.cache"):
        assert MACHINE.search(path)
    assert not MACHINE.search("mymodel.py:25 in forward, docs/rules.md")
