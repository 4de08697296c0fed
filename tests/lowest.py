"""The lowest versions that pyproject.toml allows, and what tests run with: python tests/lowest.py > build/lowest.txt.

The tools that tests run with are left to the installer.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

NEWEST = {"hf", "accelerate", "transformers"}
"""Extras that are tried with their newest versions alone, which ask for newer ones of the core's packages."""
TOOLS = {"test", "notebooks", "all", "thirdparty", "ultralytics", "wandb", "mlflow", "browser"}
"""Extras whose packages the tests with the lowest versions do not ask for."""
WITH_THEM = ("protobuf<6.31",)
"""What the lowest versions need besides: onnxscript 0.2 gives newer ones truth values for numbers."""

PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def lowest() -> dict[str, str]:
    """Package -> the lowest version of it, of the core and of every extra but TOOLS and NEWEST."""
    extras = (line for name in EXTRAS if name not in TOOLS | NEWEST for line in EXTRAS[name])
    asked = [*PROJECT["dependencies"], *extras]
    return dict(line.split(">=") for line in asked if re.fullmatch(r"[\w-]+>=[\d.]+", line))


def tools() -> list[str]:
    """What the tests themselves ask for."""
    return [line for line in EXTRAS["test"] if not line.startswith(PROJECT["name"])]


if __name__ == "__main__":
    print("\n".join([*(f"{name}=={version}" for name, version in lowest().items()), *WITH_THEM, *tools()]))
