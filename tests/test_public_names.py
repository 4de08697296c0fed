"""Public names are what they say, however often and by whatever import they are used."""

from __future__ import annotations

import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("netslim", "gradaug")
NAMES = [(package, name) for package in PACKAGES for name in importlib.import_module(package).__all__]


@pytest.mark.parametrize("package", PACKAGES)
def test_no_public_name_is_a_submodules(package: str) -> None:
    """Importing a submodule binds its name in the package, over whatever stood there."""
    module = importlib.import_module(package)
    files = {found.name for found in pkgutil.iter_modules(module.__path__)}
    assert not files & set(module.__all__)


def documented(package: str) -> list[str]:
    """The names in the table under a package's heading in docs/api.md."""
    (section,) = re.findall(rf"(?ms)^## {package}$(.*?)(?=^## |\Z)", (ROOT / "docs/api.md").read_text())
    return [name for cell in re.findall(r"(?m)^\| (`.+?) \|", section) for name in re.findall(r"`(\w+)`", cell)]


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_are_the_documented_ones(package: str) -> None:
    assert sorted(documented(package)) == sorted(importlib.import_module(package).__all__)


SCRIPT = """
import importlib, pkgutil, sys
package, name, first = sys.argv[1:]

def attribute():
    return getattr(importlib.import_module(package), name)

def statement():
    scope = {}
    exec(f"from {package} import {name} as found", scope)
    return scope["found"]

def star():
    scope = {}
    exec(f"from {package} import *", scope)
    return scope[name]

forms = [attribute, statement, star]
found = [form() for form in forms[int(first):] + forms[:int(first)]]
module = importlib.import_module(package)
for info in pkgutil.iter_modules(module.__path__):
    if info.name != "__main__":
        try:
            importlib.import_module(f"{package}.{info.name}")
        except ImportError:  # of an extra that is not installed
            pass
found += [form() for form in forms * 2]
assert all(value is found[0] for value in found), found
assert callable(found[0]), found[0]
assert found[0].__module__.split(".")[0] == package, found[0]
"""


@pytest.mark.parametrize(("package", "name", "first"), [("gradaug", "assess", 0), ("netslim", "analyse", 1)])
def test_a_name_stays_what_it_was_first(package: str, name: str, first: int) -> None:
    subprocess.run([sys.executable, "-W", "ignore", "-c", SCRIPT, package, name, str(first)], check=True)


@pytest.mark.parametrize(("package", "name"), NAMES, ids=[".".join(pair) for pair in NAMES])
def test_every_public_name_is_one_object(package: str, name: str) -> None:
    module = importlib.import_module(package)
    scope: dict[str, object] = {}
    exec(f"from {package} import {name} as once, {name} as again", scope)
    assert scope["once"] is scope["again"] is getattr(module, name) is vars(module)[name]
    assert callable(scope["once"])
    assert name in dir(module)


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("netslim.cost", ("count", "elastic_share")),
        ("netslim.errors", ("NetslimError", "InputError", "ArchiveError", "TraceError")),
        ("gradaug.losses", ("distillation", "task_loss")),
        ("gradaug.transforms", ("views",)),
        ("gradaug.data", ("load",)),
        ("gradaug.models", ()),
        ("gradaug.lightning", ("GradAugMixin",)),
        ("gradaug.transformers", ("GradAugTrainer",)),
        ("gradaug.recipes", ("load", "names")),
    ],
)
def test_modules_that_people_import_stay_where_they_are(module: str, names: tuple[str, ...]) -> None:
    found = importlib.import_module(module)
    assert all(hasattr(found, name) for name in names)
