"""The site: it is built without a warning, needs nothing from elsewhere, and has what the code says of itself."""

from __future__ import annotations

import html
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml

import gradaug
import netslim

from .commands import ROOT, every_command

MAKING = ROOT / "docs" / "making"
LOADED = re.compile(r"<(?:script|img|iframe|source|link(?![^>]*rel=\"?canonical))\b[^>]*(?:src|href)=\"?(?:https?:)?//")


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"making_{name}", MAKING / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, env=quiet, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Building documentation" in done.stderr  # where it is told to be quiet, mkdocs counts no warnings
    return folder


@pytest.mark.parametrize(
    "fault", ["[x](../Makefile)", "[x](nothing.md)", "[x](#nothing)", "[x](/absolute.md)", "![x](none.svg)", ""]
)
def test_a_page_with_a_link_that_leads_nowhere_is_refused(fault: str, tmp_path: Path) -> None:
    """By the settings of mkdocs.yml, for a site of one page."""
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    kept = {key: settings[key] for key in ("site_name", "strict", "validation")}
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text(f"# Page\n\n{fault}\n")
    (tmp_path / "mkdocs.yml").write_text(yaml.safe_dump({**kept, "theme": None, "plugins": []}))
    build = [sys.executable, "-m", "mkdocs", "build"]
    done = subprocess.run(build, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode != 0) == bool(fault), done.stderr


def words(page: Path) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", page.read_text()))


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    assert not [page.name for page in pages if LOADED.search(page.read_text())]
    assert LOADED.search('<script src="https://unpkg.com/shim"></script>')
    assert not LOADED.search('<a href="https://arxiv.org/abs/2006.07989">')


def test_every_option_of_every_command_is_on_the_page(site: Path) -> None:
    said = words(site / "commands.html")
    ours = [command for command in every_command() if (command.callback or print).__module__.startswith("netslim_cli")]
    assert len(ours) >= 11
    options = {name for command in ours for p in command.params for name in p.opts if name.startswith("-")}
    assert {"--input-shape", "--survival", "-o"} <= options
    assert not [name for name in options if name not in said]


@pytest.mark.parametrize("package", [netslim, gradaug], ids=lambda package: package.__name__)
def test_every_public_name_has_its_docstring_on_the_page(site: Path, package: ModuleType) -> None:
    said = " ".join(words(site / "reference" / f"{package.__name__}.html").split())
    for name in package.__all__:
        first = (getattr(package, name).__doc__ or "").strip().split("\n")[0].split("`")[0].strip()
        assert name in said
        assert first in said, name
        assert f'href="reference/{package.__name__}.html#{package.__name__}.{name}"' in (site / "api.html").read_text()


def test_notebooks_are_pages_with_their_outputs(site: Path) -> None:
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        assert "import netslim" in words(site / "notebooks" / f"{path.stem}.html")
    assert list((site / "notebooks").glob("01_*.png"))
    assert "mymodel.py:25 in forward" in words(site / "notebooks" / "04_a_model_with_a_trap.html")


def test_links_of_the_repository_lead_to_pages() -> None:
    making = script("site")
    for link, source, page, target in [
        ("../CHANGELOG.md", "docs/versions.md", "versions.md", "changelog.md"),
        ("../notebooks/01_channel_groups.ipynb", "docs/axes.md", "axes.md", "notebooks/01_channel_groups.md"),
        ("docs/files.md", "CONTRIBUTING.md", "contributing.md", "files.md"),
        ("../docs/rules.md", "notebooks/01_channel_groups.ipynb", "notebooks/01_channel_groups.md", "../rules.md"),
        ("https://arxiv.org", "docs/axes.md", "axes.md", "https://arxiv.org"),
        ("../Makefile", "docs/axes.md", "axes.md", "../Makefile"),  # has no page: mkdocs complains
    ]:
        assert making.target(link, source, page) == target


@pytest.mark.parametrize("name", sorted(script("pictures").PICTURES))
def test_a_drawing_is_what_the_analysis_says_now(name: str) -> None:
    assert (ROOT / "docs/pictures" / name).read_text() == script("pictures").PICTURES[name]()
