"""What the documents tell a person to type exists: commands, options, files, recipes, targets. Some of it is run."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from netslim_cli import main

from .commands import ROOT, WrongError, check, check_options, check_path, commands, inline, links


def docstring(path: Path) -> str:
    """Of a script, indented by four less in the blocks as a document has them."""
    return ast.get_docstring(ast.parse(path.read_text())) or ""


PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md")))
DOCUMENTS = {path.relative_to(ROOT): path.read_text() for path in PAGES}
SCRIPTS = [path for folder in ("benchmarks", "examples") for path in sorted((ROOT / folder).glob("*.py"))]
COMMANDS = sorted({(str(name), line) for name, text in DOCUMENTS.items() for line in commands(text)})


@pytest.mark.parametrize(("document", "command"), COMMANDS)
def test_a_command_of_a_document_can_be_typed(document: str, command: str) -> None:
    check(command)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_the_commands_of_a_script_can_be_typed(path: Path) -> None:
    for line in docstring(path).splitlines():
        if line.strip().startswith(("python benchmarks", "python examples")):
            check(line.strip())


STARTED = sorted({" ".join(line.split()[:2]) for _, line in COMMANDS if line.startswith("python benchmarks/")})


@pytest.mark.parametrize("command", [*STARTED, "netslim", "gradaug", "python -m gradaug"])
def test_a_program_that_a_document_names_starts(command: str, tmp_path: Path) -> None:
    """As a person starts it: in an interpreter of its own, from any folder. Examples are run by tests of their own."""
    program, *arguments = command.split()
    path = sys.executable if program == "python" else str(Path(sys.executable).with_name(program))
    where = [str(ROOT / word) if "/" in word else word for word in arguments]
    done = subprocess.run([path, *where, "--help"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Usage: " in done.stdout


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_options_and_files_that_a_document_names_exist(document: Path) -> None:
    text = DOCUMENTS[document]
    for code in inline(text):
        check_options(code) if code.startswith("--") else check_path(code)
    for link in links(text):
        assert (ROOT / document.parent / link).exists(), link


def test_the_commands_of_the_makefile_can_be_typed() -> None:
    targets = "demo test test-lowest test-lowest-wide zoo properties zoo-table evidence".split()
    make = ["make", "--dry-run", "PYTHON=python", *targets]
    said = subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    lines = [line.strip().removeprefix("OMP_NUM_THREADS=1 ") for line in said.replace("\\\n", " ").splitlines()]
    ours = [line.removeprefix(".venv/bin/") for line in lines if line.startswith(".venv/bin/")]
    ours = [line for line in ours if line.startswith(("netslim ", "gradaug ", "python benchmarks"))]
    assert len(ours) == 5
    for line in ours:
        check(line)


def test_many_commands_are_found() -> None:
    """Of every kind: a change of the documents' form must not hide them."""
    for start in (
        "netslim convert", "netslim extract", "gradaug train", "gradaug eval", "gradaug recipes", "python benchmarks/",
        "make ", "jupyter lab", "torchrun ", "pip install",
    ):  # fmt: skip
        assert any(line.startswith(start) for _, line in COMMANDS), start
    assert len(COMMANDS) > 30


@pytest.mark.parametrize(
    "wrong",
    [
        "netslim convert mymodel.py --input-size 1,32,32",
        "netslim convert mymodel.py --input-shape 1,x",
        "netslim convert",
        "netslim squeeze converted.pt",
        "netslim extract ... --widht 0.5",
        "gradaug train --model converted.pt --mode randheight",
        "gradaug train --model converted.pt --lr -1",
        "gradaug train --recipe cifar100_wrn28_11",
        "gradaug train --model converted.pt --data cifra10:DIR",
        "gradaug recipes cifar100_wrn28_11",
        "gradaug eval --model trained.pt --width 0.5",
        "python benchmarks/stride.py",
        "python benchmarks/step.py --round 3",
        "python benchmarks/zoo.py --markdown docs/zoos.md",
        "make demos",
        "python -m pytest tests/test_traces.py",
        "python -m pytest tests/test_trace.py::test_nothing",
        "jupyter lab notebooks/06_channel_groups.ipynb",
        "torchrun --nnode-s 4 -m gradaug train ...",
        "torchrun --nnodes 4 -m gradaug trian ...",
        "pip install '.[notebook]'",
    ],
)
def test_a_command_that_is_not_right_is_found(wrong: str) -> None:
    with pytest.raises(WrongError):
        check(wrong)


def test_names_that_are_not_right_are_found() -> None:
    with pytest.raises(WrongError, match="--num-subnet"):
        check_options("--num-subnet 3")
    with pytest.raises(WrongError, match=r"netslim/group\.py"):
        check_path("netslim/group.py")
    with pytest.raises(WrongError, match="netslm"):
        list(commands("text\n\n    netslm convert mymodel.py --input-shape 1,32,32\n"))
    assert list(
        commands("Run `gradaug\neval`:\n\n```\n$ make demo\nout\n```\n\n    gradaug recipes  # all\n    x = 1\n")
    ) == [
        "gradaug recipes  # all",
        "make demo",
        "gradaug eval ...",
    ]


def test_the_first_commands_of_the_readme_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the training, which writes what the third one reads."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "examples" / "mymodel.py", tmp_path)
    typed = [shlex.split(line, comments=True) for line in commands(DOCUMENTS[Path("README.md")])]
    convert, train, extract = [words for words in typed if words[0] in ("netslim", "gradaug")][:3]
    extract[2] = "converted.pt"
    for name, *arguments in (convert, [*train, "--dry-run"], extract, ["netslim", "inspect", "converted.pt"]):
        result = CliRunner().invoke(getattr(main, name), arguments)
        assert result.exit_code == 0, result.output


@pytest.mark.parametrize("page", ["README.md", "docs/start.md"])
def test_the_first_python_runs_in_an_interpreter_of_its_own(page: str, tmp_path: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", DOCUMENTS[Path(page)], re.DOTALL)
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "layer2.0.conv2" in done.stdout
