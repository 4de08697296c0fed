"""What the site has beside the pages in docs/: a hook of mkdocs (mkdocs.yml).

Pages are made of files that lie elsewhere (notebooks with the outputs that they hold, changes, contributing), of the
docstrings of public names, and the page of commands is followed by all that the commands say of themselves. Links in
docs/ are those of the repository, so that they work on a forge too; here they lead to the pages that files became.
"""

from __future__ import annotations

import base64
import importlib
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
ELSEWHERE = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    **{f"notebooks/{path.name}": f"notebooks/{path.stem}.md" for path in (ROOT / "notebooks").glob("*.ipynb")},
}
"""Files of the repository -> their pages."""
SOURCES = {page: source for source, page in ELSEWHERE.items()}
PROGRAMS = ("netslim", "gradaug")
DIRECTIVE = """

::: mkdocs-click
    :module: netslim_cli.main
    :command: {name}
    :prog_name: {name}
    :depth: 1
"""
_LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """All pages that no file in docs/ is."""
    for source, page in ELSEWHERE.items():
        text, pictures = _notebook(source) if source.endswith(".ipynb") else ((ROOT / source).read_text(), {})
        files.append(File.generated(config, page, content=text))
        for name, content in pictures.items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    for package in PROGRAMS:
        files.append(File.generated(config, f"reference/{package}.md", content=_reference(package)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Links to files that have become pages, and what is written behind a page."""
    here = page.file.src_uri
    source = SOURCES.get(here, f"docs/{here}")
    text = _LINK.sub(lambda link: f"]({target(link[1], source, here)}{link[2] or ''})", markdown)
    return ADDED.get(here, str)(text)


def target(link: str, source: str, page: str) -> str:
    """The link from a page to what a link of its source means; a file without a page stays, and mkdocs complains."""
    if "://" in link or source.startswith("docs/reference/"):
        return link
    meant = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
    found = ELSEWHERE.get(meant) or (meant.removeprefix("docs/") if meant.startswith("docs/") else "")
    return posixpath.relpath(found, posixpath.dirname(page) or ".") if found else link


def _notebook(source: str) -> tuple[str, dict[str, bytes]]:
    """Cells and the outputs that are stored with them as Markdown, and the pictures among these by name."""
    cells = nbformat.read(ROOT / source, as_version=4).cells
    pictures: dict[str, bytes] = {}
    parts = [part for cell in cells for part in _cell(cell, f"{Path(source).stem}_", pictures)]
    return "\n\n".join(parts), pictures


def _cell(cell: nbformat.NotebookNode, stem: str, pictures: dict[str, bytes]) -> Iterator[str]:
    if cell.cell_type == "markdown":
        yield cell.source
        return
    yield f"```python\n{cell.source}\n```"
    for output in cell.outputs:
        data = output.get("data", {"text/plain": output.get("text", "")})
        if "image/png" in data:
            name = f"{stem}{len(pictures)}.png"
            pictures[name] = base64.b64decode(data["image/png"])
            yield f"![Output of the cell above]({name})"
        elif "text/html" in data:
            yield f"<div>{data['text/html']}</div>"
        else:
            yield f"```text\n{data['text/plain'].rstrip()}\n```"


def _reference(package: str) -> str:
    """The directives for a package's public names, then for its public modules, as docs/api.md lists them."""
    names = [f"{package}.{name}" for name in importlib.import_module(package).__all__]
    return f"# {package}\n\n" + "\n".join(f"::: {name}\n" for name in [*names, *modules(package)])


def modules(package: str) -> list[str]:
    return re.findall(rf"`({package}\.\w+)`", (ROOT / "docs" / "api.md").read_text().partition("## Modules")[2])


def _linked(page: str) -> str:
    """The page of public names, each of which leads to its docstring."""
    for package in PROGRAMS:
        for name in importlib.import_module(package).__all__:
            reference = rf"\1[`{name}`](reference/{package}.md#{package}.{name})"
            page = re.sub(rf"(?m)^(\|.*)`{name}`", reference, page)
        for module in modules(package):
            page = page.replace(f"`{module}`", f"[`{module}`](reference/{package}.md#{module})")
    return page


def _commands(page: str) -> str:
    """The page, and the directives for what click knows of the commands."""
    return page + "".join(DIRECTIVE.format(name=name) for name in PROGRAMS)


ADDED = {"commands.md": _commands, "api.md": _linked}
"""Page -> what becomes of its text."""
