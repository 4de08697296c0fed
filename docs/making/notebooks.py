"""Runs notebooks from top to bottom and stores what they gave: python docs/making/notebooks.py [NOTEBOOK ...].

Nothing of the run is stored but outputs: no times, no colours of a terminal. What gives the same, stays.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def run(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, coalesce_streams=True, timeout=None, kernel_name="python3").execute()
    notebook.metadata = METADATA
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            tidy(output)
    nbformat.write(notebook, path)


def tidy(output: NotebookNode) -> None:
    """A picture needs no text beside it that names its class."""
    data = output.get("data", {})
    if "image/png" in data:
        data.pop("text/plain", None)
    elif "text/plain" in data:
        data["text/plain"] = COLOURS.sub("", data["text/plain"])


if __name__ == "__main__":
    for path in [Path(name) for name in sys.argv[1:]] or sorted(NOTEBOOKS.glob("*.ipynb")):
        print(path.name)
        run(path)
