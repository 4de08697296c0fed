"""The lowest versions that pyproject.toml allows, as constraints for pip: python tests/lowest.py > build/lowest.txt.

Those of the tools that tests run with are left to pip.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

TOOLS = {"test", "notebooks", "all", "thirdparty", "ultralytics", "wandb", "mlflow", "browser"}
"""Extras whose packages the tests with the lowest versions do not ask for, or take as they come."""
WITH_THEM = ("protobuf<6.31",)
"""What the lowest versions need besides: onnxscript 0.2 gives newer ones truth values for numbers."""


def lowest() -> dict[str, str]:
    """Package -> the lowest version of it, of the core and of every extra but TOOLS."""
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *(line for name in extras if name not in TOOLS for line in extras[name])]
    return dict(line.split(">=") for line in asked if re.fullmatch(r"[\w-]+>=[\d.]+", line))


if __name__ == "__main__":
    print("\n".join([*(f"{name}=={version}" for name, version in lowest().items()), *WITH_THEM]))
