"""What is built of the repository is complete: the wheel for who runs it, the sdist for who tests and changes it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LEFT = shutil.ignore_patterns(
    ".git", ".venv", "build", "dist", "runs", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis",
    ".ipynb_checkpoints", "*.pt", "*.onnx", "shared",
)  # fmt: skip
BUILD = "import setuptools.build_meta as meta; meta.build_sdist('dist'); meta.build_wheel('dist')"


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository, with what is built of it in dist."""
    pytest.importorskip("setuptools", minversion="77")
    folder = tmp_path_factory.mktemp("repository") / "copy"
    shutil.copytree(ROOT, folder, ignore=LEFT)
    files = [path for path in folder.rglob("*") if path.is_file()]
    (folder / "files").write_text("\n".join(str(path.relative_to(folder)) for path in files))
    done = subprocess.run([sys.executable, "-c", BUILD], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_sdist_has_every_file(copy: Path) -> None:
    (archive,) = (copy / "dist").glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        inside = {name.partition("/")[2] for name in opened.getnames()}
    missing = set((copy / "files").read_text().splitlines()) - inside
    assert missing <= {".gitignore"}
    for wanted in ("tests/conftest.py", "docs/training.md", "examples/mymodel.py", "benchmarks/step.py", "Makefile"):
        assert wanted in inside


def test_the_wheel_has_every_module_and_all_that_they_read(copy: Path) -> None:
    (wheel,) = (copy / "dist").glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    for folder, package in (("netslim", "netslim"), ("gradaug", "gradaug"), ("cli", "netslim_cli")):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".yaml") or path.name == "py.typed":
                assert str(package / path.relative_to(ROOT / folder)) in inside
    assert not [name for name in inside if name.startswith(("tests/", "cli/", "benchmarks/", "docs/"))]


def test_the_description_says_who_it_is_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["urls"]
    assert f"Programming Language :: Python :: {project['requires-python'][2:]}" in project["classifiers"]
